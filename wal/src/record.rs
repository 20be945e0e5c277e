//! Records: what one commit wrote to one log. Bytes and timestamps only; what keys and values mean is known
//! above.
//!
//! A record is length, kind, timestamp, participants and writes. The log is a stream of records that batches
//! cut anywhere, so a record may be larger than a segment. Writes carry a keyspace number, an expiry if they have
//! one, and room for metadata.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, TryGetError};

use crate::offset::OFFSETS_KEYSPACE;
use crate::{LogId, Timestamp, WalError};

/// The kind of an ordinary commit. 0 is reserved as invalid (RELIABILITY R5).
const KIND_COMMIT: u8 = 1;
const OPERATION_PUT: u8 = 1;
const OPERATION_REMOVE: u8 = 2;
const FLAG_EXPIRY: u8 = 1;
const FLAG_METADATA: u8 = 2;
/// Length field, kind, flags, timestamp, participant count and write count.
const HEADER_BYTES: usize = 4 + 1 + 1 + 8 + 2 + 4;

/// The keyspace of the users' entries.
const DEFAULT_KEYSPACE: u32 = 0;

/// The writes of one commit to one log, encoded on the caller's task before anything else happens.
#[derive(Clone, Debug, Default)]
pub struct EncodedWrites {
    bytes: Vec<u8>,
    count: u32,
}

/// Few writes are longer, so few buffers of one have to grow.
const WRITE_BYTES: usize = 128;

impl EncodedWrites {
    /// No writes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0 }
    }

    /// No writes yet, and room for so many bytes of them.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), count: 0 }
    }

    /// Whether there is nothing to log.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes the record of these writes takes in the stream, with `participants` logs named.
    #[must_use]
    pub const fn record_bytes(&self, participants: usize) -> usize {
        HEADER_BYTES + 4 * participants + self.bytes.len()
    }

    /// Appends a put. The closures append the encoded key and value; on an error nothing is appended.
    pub fn put<E>(
        &mut self,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.put_expiring(None, key, value)
    }

    /// [`EncodedWrites::put`] of an entry that expires, in milliseconds since the Unix epoch.
    pub fn put_expiring<E>(
        &mut self,
        expires_unix_millis: Option<u64>,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.append(DEFAULT_KEYSPACE, OPERATION_PUT, expires_unix_millis, |bytes| {
            put_prefixed(bytes, key)?;
            put_prefixed(bytes, value)
        })
    }

    /// Appends how far a source has been taken in.
    pub fn put_offset(&mut self, source: &str, offset: u64) {
        let appended = self.append(OFFSETS_KEYSPACE, OPERATION_PUT, None, |bytes| {
            let field = |content: &[u8], bytes: &mut Vec<u8>| {
                put_prefixed(bytes, |bytes| {
                    bytes.extend_from_slice(content);
                    Ok::<_, std::convert::Infallible>(())
                })
            };
            field(source.as_bytes(), bytes)?;
            field(&offset.to_le_bytes(), bytes)
        });
        appended.unwrap_or_else(|never| match never {});
    }

    /// Appends all of these behind those that are there.
    pub fn extend(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }

    /// How many bytes the writes take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all writes and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Appends a removal. The closure appends the encoded key; on an error nothing is appended.
    pub fn remove<E>(&mut self, key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        self.append(DEFAULT_KEYSPACE, OPERATION_REMOVE, None, |bytes| put_prefixed(bytes, key))
    }

    /// The encoded writes alone.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn append<E>(
        &mut self,
        keyspace: u32,
        operation: u8,
        expires_unix_millis: Option<u64>,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.reserve(WRITE_BYTES);
        self.bytes.put_u8(operation);
        self.bytes.put_u8(if expires_unix_millis.is_some() { FLAG_EXPIRY } else { 0 });
        self.bytes.put_u32_le(keyspace);
        if let Some(expires) = expires_unix_millis {
            self.bytes.put_u64_le(expires);
        }
        let outcome = body(&mut self.bytes);
        if outcome.is_err() {
            self.bytes.truncate(start);
        } else {
            self.count += 1;
        }
        outcome
    }

    /// Appends the whole record to `buffer`.
    #[inline]
    pub(crate) fn put_record(&self, buffer: &mut Vec<u8>, timestamp: Timestamp, participants: &[LogId]) {
        put_record(buffer, timestamp, participants, self.count, &self.bytes);
    }

    /// Whether the length fields can hold the record of one commit.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.bytes.len() < RECORD_BYTES_MAX
    }
}

#[inline]
fn put_record(buffer: &mut Vec<u8>, timestamp: Timestamp, logs: &[LogId], count: u32, writes: &[u8]) {
    let length = HEADER_BYTES + 4 * logs.len() + writes.len() - 4;
    buffer.put_u32_le(length.try_into().expect("`fits` was asked before the commit was accepted"));
    buffer.put_u8(KIND_COMMIT);
    buffer.put_u8(0);
    buffer.put_u64_le(timestamp.0);
    buffer.put_u16_le(logs.len().try_into().expect("there are at most 512 shards"));
    for log in logs {
        buffer.put_u32_le(log.0);
    }
    buffer.put_u32_le(count);
    buffer.extend_from_slice(writes);
}

/// The most bytes that the writes of one commit may take in one log.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// Whether a record can have such a length field.
pub(crate) fn is_length_of_a_record(length: usize) -> bool {
    (HEADER_BYTES - 4..=RECORD_BYTES_MAX + (64 << 10)).contains(&length)
}

fn put_prefixed<E>(
    bytes: &mut Vec<u8>,
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let at = bytes.len();
    bytes.put_u32_le(0);
    content(bytes)?;
    let length = u32::try_from(bytes.len() - at - 4).unwrap_or(u32::MAX);
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// One write, as found in a log or in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The keyspace: 0 for entries, 1 for the offsets of sources ([`Write::as_offset`]).
    pub keyspace: u32,
    /// When the entry expires, in milliseconds since the Unix epoch.
    pub expires_unix_millis: Option<u64>,
    /// Metadata that travels with the entry.
    pub metadata: Option<Bytes>,
    /// The encoded key.
    pub key: Bytes,
    /// The encoded value, or `None` for a removal.
    pub value: Option<Bytes>,
}

/// One commit's part in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The commit's place in the commit order.
    pub timestamp: Timestamp,
    /// The logs that hold a part of the commit.
    pub participants: Vec<LogId>,
    /// How many writes follow.
    pub write_count: u32,
    /// The encoded writes; see [`Record::writes`].
    pub body: Bytes,
}

/// Why bytes are not a record. They passed their checksum, so this is not a torn write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A kind or an operation that a newer version may know.
    UnknownKind(u8),
    /// The fields contradict each other.
    Shape(&'static str),
}

impl Malformed {
    /// The error of whoever finds this in the record of a commit, in a file.
    #[must_use]
    pub fn in_commit(&self, file: &Path, timestamp: Timestamp) -> WalError {
        match self {
            Self::UnknownKind(kind) => {
                WalError::Unsupported(format!("commit {timestamp} has a write of unknown kind {kind}"))
            }
            Self::Shape(detail) => WalError::Corrupt {
                file: file.to_owned(),
                offset: 0,
                detail: format!("the record of commit {timestamp} is malformed: {detail}"),
                commits: Some((timestamp, timestamp)),
            },
        }
    }
}

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self::Shape("a field reaches beyond the record")
    }
}

impl Record {
    /// Appends the record as it was read.
    pub(crate) fn put(&self, buffer: &mut Vec<u8>) {
        put_record(buffer, self.timestamp, &self.participants, self.write_count, &self.body);
    }

    /// Takes the next record off the front of a stream, or `None` if the stream ends within it.
    pub(crate) fn take(stream: &mut Bytes) -> Result<Option<Self>, Malformed> {
        let Some(length) = stream.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if !is_length_of_a_record(length) {
            return Err(Malformed::Shape("a record shorter than its header, or longer than any is written"));
        }
        if stream.len() < 4 + length {
            return Ok(None);
        }
        stream.advance(4);
        let mut record = stream.split_to(length);
        let kind = record.try_get_u8()?;
        let flags = record.try_get_u8()?;
        if kind != KIND_COMMIT {
            return Err(Malformed::UnknownKind(kind));
        }
        if flags != 0 {
            return Err(Malformed::UnknownKind(flags));
        }
        let timestamp = Timestamp(record.try_get_u64_le()?);
        let participants = record.try_get_u16_le()?;
        let participants =
            (0..participants).map(|_| record.try_get_u32_le().map(LogId)).collect::<Result<_, _>>()?;
        let write_count = record.try_get_u32_le()?;
        Ok(Some(Self { timestamp, participants, write_count, body: record }))
    }

    /// Decodes the writes one by one.
    pub fn writes(&self) -> impl Iterator<Item = Result<Write, Malformed>> + use<> {
        let mut body = self.body.clone();
        let mut left = self.write_count;
        std::iter::from_fn(move || {
            if left == 0 {
                return (!body.is_empty()).then(|| {
                    body.clear();
                    Err(Malformed::Shape("bytes follow the last write"))
                });
            }
            left -= 1;
            let write = Write::take(&mut body);
            if write.is_err() {
                left = 0;
                body.clear();
            }
            Some(write)
        })
    }
}

impl Write {
    /// Takes the next write off the front of `bytes`.
    pub(crate) fn take(bytes: &mut Bytes) -> Result<Self, Malformed> {
        let operation = bytes.try_get_u8()?;
        if !matches!(operation, OPERATION_PUT | OPERATION_REMOVE) {
            return Err(Malformed::UnknownKind(operation));
        }
        let flags = bytes.try_get_u8()?;
        if flags & !(FLAG_EXPIRY | FLAG_METADATA) != 0 {
            return Err(Malformed::UnknownKind(flags));
        }
        let keyspace = bytes.try_get_u32_le()?;
        let expires_unix_millis = if flags & FLAG_EXPIRY != 0 { Some(bytes.try_get_u64_le()?) } else { None };
        let metadata = if flags & FLAG_METADATA != 0 { Some(take_prefixed(bytes)?) } else { None };
        let key = take_prefixed(bytes)?;
        let value = if operation == OPERATION_PUT { Some(take_prefixed(bytes)?) } else { None };
        Ok(Self { keyspace, expires_unix_millis, metadata, key, value })
    }
}

fn take_prefixed(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = bytes.try_get_u32_le()? as usize;
    if length > bytes.len() {
        return Err(Malformed::Shape("a field reaches beyond the record"));
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn field(content: &[u8]) -> impl FnOnce(&mut Vec<u8>) -> Result<(), Infallible> {
        |bytes| {
            bytes.extend_from_slice(content);
            Ok(())
        }
    }

    fn encode(writes: &[(Vec<u8>, Option<Vec<u8>>)], timestamp: u64, logs: &[u32]) -> Vec<u8> {
        let mut encoded = EncodedWrites::new();
        for (key, value) in writes {
            match value {
                Some(value) => encoded.put(field(key), field(value)),
                None => encoded.remove(field(key)),
            }
            .unwrap_or_else(|never| match never {});
        }
        let logs: Vec<_> = logs.iter().copied().map(LogId).collect();
        let mut bytes = Vec::new();
        encoded.put_record(&mut bytes, Timestamp(timestamp), &logs);
        assert_eq!(bytes.len(), encoded.record_bytes(logs.len()));
        bytes
    }

    #[test]
    fn an_unknown_kind_is_named() {
        let mut bytes = encode(&[(b"k".to_vec(), None)], 7, &[0]);
        bytes[4] = 9;
        assert_eq!(Record::take(&mut Bytes::from(bytes)), Err(Malformed::UnknownKind(9)));
    }

    #[test]
    fn an_expiry_travels_with_its_write_and_only_with_that() {
        let mut encoded = EncodedWrites::new();
        for expires in [Some(7), None, Some(u64::MAX)] {
            encoded.put_expiring(expires, field(b"k"), field(b"v")).unwrap_or_else(|never| match never {});
        }
        let mut bytes = Vec::new();
        encoded.put_record(&mut bytes, Timestamp(1), &[]);
        let record = Record::take(&mut Bytes::from(bytes)).unwrap().unwrap();
        let writes: Result<Vec<_>, _> = record.writes().collect();
        let expiries: Vec<_> = writes.unwrap().iter().map(|write| write.expires_unix_millis).collect();
        assert_eq!(expiries, [Some(7), None, Some(u64::MAX)]);
    }

    #[test]
    fn a_failed_encoding_leaves_nothing_behind() {
        let mut writes = EncodedWrites::new();
        let failed = writes.put(
            |bytes| {
                bytes.push(1);
                Ok(())
            },
            |_| Err("no"),
        );
        assert_eq!(failed, Err("no"));
        assert!(writes.is_empty());
        assert_eq!(writes.record_bytes(0), HEADER_BYTES);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            writes in prop::collection::vec((any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..8),
            timestamp in any::<u64>(),
            logs in prop::collection::vec(any::<u32>(), 0..5),
        ) {
            let mut stream = Bytes::from(encode(&writes, timestamp, &logs));
            let record = Record::take(&mut stream).unwrap().unwrap();
            prop_assert!(stream.is_empty());
            prop_assert_eq!(record.timestamp, Timestamp(timestamp));
            prop_assert_eq!(record.participants.iter().map(|log| log.0).collect::<Vec<_>>(), logs);
            let decoded: Result<Vec<_>, _> = record.writes().collect();
            let decoded: Vec<_> = decoded.unwrap().into_iter()
                .map(|write| (write.key.to_vec(), write.value.map(|value| value.to_vec()))).collect();
            prop_assert_eq!(decoded, writes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let mut stream = Bytes::from(bytes);
            while let Ok(Some(record)) = Record::take(&mut stream) {
                let _ = record.writes().count();
            }
        }

        #[test]
        fn a_cut_record_is_incomplete_and_never_wrong(cut in 0usize..40) {
            let bytes = encode(&[(b"key".to_vec(), Some(b"value".to_vec()))], 3, &[1, 2]);
            let cut = cut.min(bytes.len() - 1);
            prop_assert_eq!(Record::take(&mut Bytes::copy_from_slice(&bytes[..cut])), Ok(None));
        }
    }
}
