//! Batches: what one flush writes. `FORMAT.md` gives the bytes.
//!
//! A batch header has its own checksum, so that no length in it is trusted unchecked (RELIABILITY R4), names
//! its place (database, log, segment, incarnation, number, previous batch: R1), and carries two *promises*
//! about what was on disk when it was written (R3). A promise is a fact about the past: it stays true wherever
//! and whenever its header is found.

use bytes::{Buf, BufMut, Bytes};

use crate::checksum::{crc, put_table, table_bytes};
use crate::planted::{Bug, is_planted};
use crate::{DatabaseId, Incarnation, LogId, Lsn, SegmentNumber, Timestamp};

/// Batches start on multiples of this, so that a sector with acknowledged data is never rewritten (R8).
pub(crate) const SECTOR_BYTES: usize = 512;
/// The fixed part of a batch.
pub(crate) const BATCH_HEADER_BYTES: usize = 112;
const MAGIC: u32 = u32::from_le_bytes(*b"ABAT");
/// `first_record` of a batch in which no record starts.
pub(crate) const NO_RECORD: u32 = u32::MAX;

const _: () = assert!(BATCH_HEADER_BYTES < SECTOR_BYTES);

/// What a batch is for. 0 is reserved as invalid (R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Records.
    Data,
    /// The end of a full segment; without it the next segment is not read (R15).
    Seal,
    /// Nothing but promises, written when a log falls idle.
    Watermark,
    /// Something that a newer version may know.
    Unknown(u8),
}

impl BatchKind {
    const fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Seal => 2,
            Self::Watermark => 3,
            Self::Unknown(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Data,
            2 => Self::Seal,
            3 => Self::Watermark,
            unknown => Self::Unknown(unknown),
        }
    }
}

/// The header of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the batch is for.
    pub kind: BatchKind,
    /// The database it belongs to.
    pub database: DatabaseId,
    /// The log it belongs to.
    pub log: LogId,
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
    /// The segment it was written to.
    pub segment: SegmentNumber,
    /// Its number in the log.
    pub lsn: Lsn,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// How many records start in the payload.
    pub records: u32,
    /// Where in the payload the first record starts, or `u32::MAX`.
    pub first_record: u32,
    /// The checksum of the previous batch's header: the chain.
    pub previous_crc: u32,
    /// Promise: this log was synced up to this batch.
    pub durable_lsn: Lsn,
    /// Promise: the whole engine was synced up to this commit.
    pub synced: Timestamp,
    /// The lowest timestamp of a record with bytes in the payload.
    pub lowest: Timestamp,
    /// The highest timestamp of a record with bytes in the payload.
    pub highest: Timestamp,
    /// The checksum of the table of payload checksums.
    pub table_crc: u32,
}

impl BatchHeader {
    /// The checksum of the header, which is also the link of the chain.
    pub(crate) fn put(&self, buffer: &mut Vec<u8>) -> u32 {
        let start = buffer.len();
        buffer.put_u32_le(MAGIC);
        buffer.put_u32_le(0);
        buffer.put_u64_le(self.database.0);
        buffer.put_u32_le(self.log.0);
        buffer.put_u8(self.kind.code());
        buffer.put_bytes(0, 3);
        buffer.put_u64_le(self.incarnation.0);
        buffer.put_u64_le(self.segment.0);
        buffer.put_u64_le(self.lsn.0);
        buffer.put_u32_le(self.payload_bytes);
        buffer.put_u32_le(self.records);
        buffer.put_u32_le(self.first_record);
        buffer.put_u32_le(self.previous_crc);
        buffer.put_u64_le(self.durable_lsn.0);
        buffer.put_u64_le(self.synced.0);
        buffer.put_u64_le(self.lowest.0);
        buffer.put_u64_le(self.highest.0);
        buffer.put_u32_le(self.table_crc);
        buffer.put_bytes(0, BATCH_HEADER_BYTES - (buffer.len() - start));
        let header_crc = crc(&buffer[start + 8..]);
        buffer[start + 4..start + 8].copy_from_slice(&header_crc.to_le_bytes());
        header_crc
    }

    /// The header at the front of `bytes` with its checksum, or `None` if there is no intact one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, u32)> {
        let header = bytes.get(..BATCH_HEADER_BYTES)?;
        let mut fields = header;
        if fields.get_u32_le() != MAGIC {
            return None;
        }
        let header_crc = fields.get_u32_le();
        if header_crc != crc(&header[8..]) && !is_planted(Bug::LengthTrusted) {
            return None;
        }
        let database = DatabaseId(fields.get_u64_le());
        let log = LogId(fields.get_u32_le());
        let kind = BatchKind::from_code(fields.get_u8());
        fields.advance(3);
        let parsed = Self {
            kind,
            database,
            log,
            incarnation: Incarnation(fields.get_u64_le()),
            segment: SegmentNumber(fields.get_u64_le()),
            lsn: Lsn(fields.get_u64_le()),
            payload_bytes: fields.get_u32_le(),
            records: fields.get_u32_le(),
            first_record: fields.get_u32_le(),
            previous_crc: fields.get_u32_le(),
            durable_lsn: Lsn(fields.get_u64_le()),
            synced: Timestamp(fields.get_u64_le()),
            lowest: Timestamp(fields.get_u64_le()),
            highest: Timestamp(fields.get_u64_le()),
            table_crc: fields.get_u32_le(),
        };
        Some((parsed, header_crc))
    }

    /// Bytes from the start of the header to the end of the payload.
    pub(crate) const fn unpadded_bytes(&self) -> usize {
        let payload = self.payload_bytes as usize;
        BATCH_HEADER_BYTES + table_bytes(payload) + payload
    }

    /// Bytes from the start of this batch to where the next one may start.
    pub(crate) const fn occupied_bytes(&self) -> usize {
        self.unpadded_bytes().next_multiple_of(SECTOR_BYTES)
    }
}

/// Bytes that a batch with this payload takes in a segment.
pub(crate) const fn batch_bytes(payload_bytes: usize) -> usize {
    (BATCH_HEADER_BYTES + table_bytes(payload_bytes) + payload_bytes).next_multiple_of(SECTOR_BYTES)
}

/// The largest payload of a batch that takes at most `room` bytes, or `None` if not even one byte fits.
pub(crate) fn payload_that_fits(room: usize) -> Option<usize> {
    let room = room / SECTOR_BYTES * SECTOR_BYTES;
    let after_header = room.checked_sub(BATCH_HEADER_BYTES)?;
    // One checksum for each chunk begun; the last chunk may be short.
    let chunks = after_header.div_ceil(crate::checksum::CHUNK_BYTES + 4);
    after_header.checked_sub(4 * chunks).filter(|payload| *payload > 0)
}

/// Appends a whole batch, padded to a sector, and returns its header's checksum. `header.payload_bytes` and
/// `header.table_crc` are filled in here.
pub(crate) fn put_batch(buffer: &mut Vec<u8>, mut header: BatchHeader, payload: &[u8]) -> u32 {
    let start = buffer.len();
    let mut table = Vec::with_capacity(table_bytes(payload.len()));
    put_table(&mut table, payload);
    header.payload_bytes = payload.len().try_into().expect("a batch fits a segment, and a segment fits u32");
    header.table_crc = crc(&table);
    buffer.reserve(batch_bytes(payload.len()));
    let header_crc = header.put(buffer);
    buffer.extend_from_slice(&table);
    buffer.extend_from_slice(payload);
    let padding = header.occupied_bytes() - (buffer.len() - start);
    buffer.put_bytes(0, padding);
    header_crc
}

/// What stands at a place in a segment where a batch may start.
#[derive(Debug)]
pub(crate) enum Found {
    /// An intact batch.
    Batch { header: BatchHeader, header_crc: u32, payload: Bytes },
    /// An intact header, with a payload that does not match it.
    Damaged,
    /// No intact header.
    Nothing,
}

/// Reads the batch at `offset` of a segment.
pub(crate) fn read_batch(segment: &Bytes, offset: usize) -> Found {
    let Some((header, header_crc)) = segment.get(offset..).and_then(BatchHeader::parse) else {
        return Found::Nothing;
    };
    let payload_bytes = header.payload_bytes as usize;
    let table_start = offset + BATCH_HEADER_BYTES;
    let payload_start = table_start + table_bytes(payload_bytes);
    if is_planted(Bug::LengthTrusted) {
        drop(segment.slice(payload_start..payload_start + payload_bytes));
    }
    let Some(table) = segment.get(table_start..payload_start) else {
        return Found::Damaged;
    };
    let table_is_damaged = crc(table) != header.table_crc && !is_planted(Bug::PayloadUnchecked);
    if table_is_damaged || payload_start + payload_bytes > segment.len() {
        return Found::Damaged;
    }
    // R5: only seals and watermarks may be empty.
    let may_be_empty = header.kind != BatchKind::Data;
    if header.kind.code() == 0 || (payload_bytes == 0 && !may_be_empty) {
        return Found::Damaged;
    }
    let payload = segment.slice(payload_start..payload_start + payload_bytes);
    match crate::checksum::check(table, &payload) {
        Err(_) if is_planted(Bug::PayloadUnchecked) => Found::Batch { header, header_crc, payload },
        Ok(()) => Found::Batch { header, header_crc, payload },
        Err(_) => Found::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(kind: BatchKind) -> BatchHeader {
        BatchHeader {
            kind,
            database: DatabaseId(1),
            log: LogId(2),
            incarnation: Incarnation(3),
            segment: SegmentNumber(4),
            lsn: Lsn(5),
            payload_bytes: 0,
            records: 1,
            first_record: 0,
            previous_crc: 6,
            durable_lsn: Lsn(7),
            synced: Timestamp(8),
            lowest: Timestamp(9),
            highest: Timestamp(10),
            table_crc: 0,
        }
    }

    #[test]
    fn zeros_are_no_batch() {
        assert!(matches!(read_batch(&Bytes::from(vec![0; 4096]), 0), Found::Nothing));
    }

    #[test]
    fn a_length_beyond_the_segment_is_damage_and_not_a_panic() {
        let mut bytes = Vec::new();
        let mut long = header(BatchKind::Data);
        long.payload_bytes = u32::MAX;
        long.put(&mut bytes);
        assert!(matches!(read_batch(&Bytes::from(bytes), 0), Found::Damaged));
    }

    proptest! {
        #[test]
        fn a_batch_comes_back_and_every_flipped_bit_is_seen(
            payload in prop::collection::vec(any::<u8>(), 1..20_000),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut bytes = Vec::new();
            put_batch(&mut bytes, header(BatchKind::Data), &payload);
            prop_assert_eq!(bytes.len(), batch_bytes(payload.len()));
            let Found::Batch { header: found, payload: read, .. } = read_batch(&Bytes::from(bytes.clone()), 0)
            else { panic!("an intact batch was not found") };
            prop_assert_eq!(&read[..], &payload[..]);
            prop_assert_eq!(found.lsn, Lsn(5));
            let at = at.index(found.unpadded_bytes());
            bytes[at] ^= 1_u8 << bit;
            let intact = matches!(read_batch(&Bytes::from(bytes), 0), Found::Batch { .. });
            prop_assert!(!intact);
        }

        #[test]
        fn the_payload_that_fits_fits_and_one_more_byte_does_not(room in 0usize..200_000) {
            match payload_that_fits(room) {
                Some(payload) => {
                    prop_assert!(batch_bytes(payload) <= room);
                    prop_assert!(batch_bytes(payload + 1) > room / SECTOR_BYTES * SECTOR_BYTES);
                }
                None => prop_assert!(batch_bytes(1) > room),
            }
        }
    }
}
