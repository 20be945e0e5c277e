//! The manifest: one file, two slots written alternately, never renamed (RELIABILITY R21). It says which logs
//! and checkpoints there are, which incarnation this is, and what of former incarnations counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::checksum::crc;
use crate::disk::{Disk, DiskFile, OpenMode, read_at, write_all_at};
use crate::planted::{Bug, is_planted};
use crate::segment::FORMAT_VERSION;
use crate::stats::add;
use crate::{DatabaseId, FileNumber, Incarnation, LogId, Lsn, SegmentNumber, Timestamp, WalError};

const MAGIC: u64 = u64::from_le_bytes(*b"ANABRMAN");
pub(crate) const SLOT_BYTES: usize = 128 << 10;
const HEADER_BYTES: usize = 32;
const BLOCK_BYTES: usize = 4096;
/// The most logs, that is shards, that a manifest has room for.
pub const LOGS_MAX: usize = 512;
/// With more fences than this, an open writes checkpoints before it serves, so that they can be dropped (L5).
pub(crate) const FENCES_MAX: usize = 256;

/// No engine counts so far. Numbers beyond are damage, or somebody's malice; counting on from them would overflow.
const NUMBER_MAX: u64 = 1 << 62;

// A log entry takes at most 180 bytes and a fence at most 60, field names included.
const _: () = assert!(LOGS_MAX * 180 + 2 * FENCES_MAX * 60 + 1024 < SLOT_BYTES - HEADER_BYTES);

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The database.
    pub database: DatabaseId,
    /// The incarnation that wrote this.
    pub incarnation: Incarnation,
    /// The name of the hash that routes keys.
    pub hash: String,
    /// The seed of that hash.
    pub hash_seed: u64,
    /// The logs, in the order of the shards.
    pub logs: Vec<LogEntry>,
    /// The next log's number; none is used twice (L3).
    pub next_log: LogId,
    /// The next checkpoint's number.
    pub next_file: FileNumber,
    /// Of an incarnation named here, only commits up to the cut count.
    pub fences: Vec<Fence>,
    /// Promise: everything up to here was synced when this was written (R3).
    pub synced: Timestamp,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The log.
    pub id: LogId,
    /// Its newest checkpoint.
    pub checkpoint: Option<CheckpointEntry>,
    /// The oldest segment that recovery needs.
    pub first_segment: SegmentNumber,
    /// Promise: the log was synced up to this batch when this was written (R3).
    pub durable_lsn: Lsn,
    /// So many segment files it had at the least. None is ever removed.
    pub files: u32,
    /// The log holds every record after this commit. `None` from versions that did not know: the checkpoint's
    /// timestamp is certain. To lose it is harmless.
    #[serde(default)]
    pub complete_after: Option<Timestamp>,
}

/// A published checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointEntry {
    /// The number in its file's name.
    pub file: FileNumber,
    /// It holds the shard's content at this commit.
    pub timestamp: Timestamp,
    /// How many entries it holds.
    pub entries: u64,
    /// How many bytes its file has.
    pub bytes: u64,
}

/// Where an incarnation was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// Its last commit that counts.
    pub cut: Timestamp,
}

impl Manifest {
    /// The last commit of `incarnation` that counts.
    #[must_use]
    pub fn cut_of(&self, incarnation: Incarnation) -> Timestamp {
        self.fences
            .iter()
            .find(|fence| fence.incarnation == incarnation)
            .map_or(Timestamp::MAX, |fence| fence.cut)
    }

    /// Whether the numbers make sense.
    fn check(&self) -> Result<(), &'static str> {
        let mut ids: Vec<_> = self.logs.iter().map(|log| log.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if self.logs.is_empty() || self.logs.len() > LOGS_MAX || ids.len() != self.logs.len() {
            return Err("the manifest names no logs, too many, or one twice");
        }
        if ids.last().is_some_and(|last| *last >= self.next_log) {
            return Err("the manifest names a log that was not begun");
        }
        let numbers = self.logs.iter().flat_map(|log| {
            let checkpoint = log.checkpoint.map(|checkpoint| [checkpoint.timestamp.0, checkpoint.file.0]);
            [log.first_segment.0, log.durable_lsn.0].into_iter().chain(checkpoint.into_iter().flatten())
        });
        let mut numbers = numbers.chain([self.incarnation.0, self.next_file.0, self.synced.0]);
        let logs_left = (u32::MAX - self.next_log.0) as usize;
        if numbers.any(|number| number > NUMBER_MAX) || logs_left < LOGS_MAX {
            return Err("the manifest holds a number that no engine reaches");
        }
        if self.logs.iter().any(|log| log.first_segment == SegmentNumber(0)) {
            return Err("the manifest names segment 0");
        }
        Ok(())
    }

    /// All logs together hold every record after this commit.
    #[must_use]
    pub fn complete_after(&self) -> Timestamp {
        let of = |log: &LogEntry| log.complete_after.unwrap_or_else(|| self.checkpointed(log.id));
        self.logs.iter().map(of).max().unwrap_or_default()
    }

    /// The timestamp up to which log `log` is covered by its checkpoint.
    #[must_use]
    pub fn checkpointed(&self, log: LogId) -> Timestamp {
        self.logs
            .iter()
            .find(|entry| entry.id == log)
            .and_then(|entry| entry.checkpoint)
            .map_or(Timestamp::ZERO, |checkpoint| checkpoint.timestamp)
    }
}

/// The file with its two slots.
pub(crate) struct ManifestFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// The number of the slot write that `current` came from.
    sequence: u64,
    current: Manifest,
    /// Bytes written to slots so far.
    written: Arc<AtomicU64>,
}

/// What stands in a slot.
pub(crate) enum Slot {
    Valid {
        sequence: u64,
        manifest: Manifest,
    },
    Unknown {
        format: u32,
    },
    /// Intact by its checksum, but not a manifest that makes sense.
    Malformed {
        reason: String,
    },
    Invalid,
}

impl ManifestFile {
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join("MANIFEST")
    }

    /// Makes the file, without content yet, and makes its name durable.
    pub(crate) async fn create(
        disk: &dyn Disk,
        directory: &Path,
        manifest: Manifest,
    ) -> Result<Self, WalError> {
        let path = Self::path(directory);
        let created = async {
            let file = disk.open(&path, OpenMode::Create).await?;
            file.zero_fill(2 * SLOT_BYTES as u64).await?;
            file.sync_all().await?;
            disk.sync_dir(directory).await?;
            Ok(file)
        };
        let file = created.await.map_err(|error| WalError::io("creating", &path, error))?;
        let mut created =
            Self { path, file, sequence: 1, current: manifest.clone(), written: Arc::default() };
        created.write(manifest).await?;
        Ok(created)
    }

    /// Reads the newest valid slot, or `None` if there is none.
    pub(crate) async fn open(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, WalError> {
        let path = Self::path(directory);
        let file = disk
            .open(&path, OpenMode::ReadWrite)
            .await
            .map_err(|error| WalError::io("opening", &path, error))?;
        let mut newest: Option<(u64, Manifest)> = None;
        for slot in 0..2 {
            let bytes = read_at(&*file, &path, slot * SLOT_BYTES as u64, SLOT_BYTES).await?;
            match parse_slot(&bytes) {
                Slot::Valid { sequence, manifest } => {
                    if newest.as_ref().is_none_or(|(newest, _)| sequence > *newest) {
                        newest = Some((sequence, manifest));
                    }
                }
                Slot::Unknown { format } => {
                    return Err(WalError::UnknownFormat {
                        file: path,
                        found: format,
                        supported: FORMAT_VERSION,
                    });
                }
                Slot::Malformed { reason } => {
                    return Err(WalError::corrupt(&path, slot * SLOT_BYTES as u64, reason));
                }
                Slot::Invalid => {}
            }
        }
        let written = Arc::default();
        Ok(newest.map(|(sequence, current)| Self { path, file, sequence, current, written }))
    }

    /// Whether the file is what a crash while creating a database leaves: zeros, and at most the first slot
    /// begun, once all zeros were written. Anything else is not ours to overwrite.
    pub(crate) async fn is_unfinished(disk: &dyn Disk, directory: &Path) -> Result<bool, WalError> {
        let path = Self::path(directory);
        let file =
            disk.open(&path, OpenMode::Read).await.map_err(|error| WalError::io("opening", &path, error))?;
        let bytes = read_at(&*file, &path, 0, 2 * SLOT_BYTES + 1).await?;
        let zeros_from = if bytes.len() == 2 * SLOT_BYTES { SLOT_BYTES } else { 0 };
        Ok(bytes.len() <= 2 * SLOT_BYTES && bytes[zeros_from..].iter().all(|byte| *byte == 0))
    }

    /// Counts the bytes that were and will be written.
    pub(crate) fn written_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    pub(crate) fn current(&self) -> &Manifest {
        &self.current
    }

    /// Writes the current content to its own slot again and syncs it: what was read may have stood in the page
    /// cache only (R13), and the next write goes to the other slot. Should the slot's bytes be on disk already,
    /// then writing them over themselves leaves them as they are, also when power fails meanwhile: a disk that
    /// garbles what it overwrites with the same bytes is not survived.
    pub(crate) async fn rewrite(&mut self) -> Result<(), WalError> {
        self.put(self.sequence, self.current.clone()).await
    }

    /// Writes a new content to the slot not in use, and syncs it. It counts when this returns.
    pub(crate) async fn write(&mut self, manifest: Manifest) -> Result<(), WalError> {
        let sequence = self.sequence + if is_planted(Bug::ManifestInPlace) { 2 } else { 1 };
        self.put(sequence, manifest).await
    }

    async fn put(&mut self, sequence: u64, manifest: Manifest) -> Result<(), WalError> {
        let slot = encode_slot(sequence, &manifest)?;
        let offset = (sequence % 2) * SLOT_BYTES as u64;
        add(&self.written, slot.len() as u64);
        write_all_at(&*self.file, &self.path, offset, slot).await?;
        self.file.sync_data().await.map_err(|error| WalError::io("syncing", &self.path, error))?;
        self.sequence = sequence;
        self.current = manifest;
        Ok(())
    }
}

pub(crate) fn encode_slot(sequence: u64, manifest: &Manifest) -> Result<Bytes, WalError> {
    let content = rmp_serde::to_vec_named(manifest)
        .map_err(|error| WalError::Config(format!("the manifest can't be encoded: {error}")))?;
    if HEADER_BYTES + content.len() > SLOT_BYTES {
        return Err(WalError::Config(format!(
            "the manifest takes {} bytes, and a slot has {SLOT_BYTES}; use fewer shards",
            content.len()
        )));
    }
    let mut slot = Vec::with_capacity((HEADER_BYTES + content.len()).next_multiple_of(BLOCK_BYTES));
    slot.put_u64_le(MAGIC);
    slot.put_u32_le(FORMAT_VERSION);
    slot.put_u32_le(0);
    slot.put_u64_le(sequence);
    slot.put_u32_le(content.len().try_into().expect("it fits the slot"));
    slot.put_u32_le(crc(&content));
    slot.extend_from_slice(&content);
    let header_crc = crc(&slot[16..HEADER_BYTES]);
    slot[12..16].copy_from_slice(&header_crc.to_le_bytes());
    slot.resize(slot.len().next_multiple_of(BLOCK_BYTES), 0);
    Ok(slot.into())
}

pub(crate) fn parse_slot(slot: &[u8]) -> Slot {
    let Some(header) = slot.get(..HEADER_BYTES) else { return Slot::Invalid };
    let mut fields = header;
    if fields.get_u64_le() != MAGIC {
        return Slot::Invalid;
    }
    let format = fields.get_u32_le();
    if fields.get_u32_le() != crc(&header[16..]) {
        return Slot::Invalid;
    }
    let sequence = fields.get_u64_le();
    let length = fields.get_u32_le() as usize;
    let content_crc = fields.get_u32_le();
    let Some(content) = slot.get(HEADER_BYTES..HEADER_BYTES + length) else { return Slot::Invalid };
    if crc(content) != content_crc {
        return Slot::Invalid;
    }
    if format != FORMAT_VERSION {
        return Slot::Unknown { format };
    }
    let mut rest = content;
    match Manifest::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)) {
        Ok(manifest) if rest.is_empty() => match manifest.check() {
            Ok(()) if sequence > NUMBER_MAX => {
                Slot::Malformed { reason: "the slot was written more often than any engine writes".into() }
            }
            Ok(()) => Slot::Valid { sequence, manifest },
            Err(reason) => Slot::Malformed { reason: reason.to_owned() },
        },
        Ok(_) => Slot::Malformed { reason: "bytes follow the manifest".into() },
        Err(error) => Slot::Malformed { reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of the highest number that there may be.
    const LAST_LOG: u32 = u32::MAX - 512;

    const _: () = assert!(LOGS_MAX == 512);

    fn manifest(logs: u32) -> Manifest {
        let max = NUMBER_MAX;
        Manifest {
            database: DatabaseId(max),
            incarnation: Incarnation(max),
            hash: "foldhash".into(),
            hash_seed: max,
            logs: (0..logs)
                .map(|id| LogEntry {
                    id: LogId(LAST_LOG - 1 - id),
                    checkpoint: Some(CheckpointEntry {
                        file: FileNumber(max),
                        timestamp: Timestamp(max),
                        entries: max,
                        bytes: max,
                    }),
                    first_segment: SegmentNumber(max),
                    durable_lsn: Lsn(max),
                    files: u32::MAX,
                    complete_after: Some(Timestamp(max)),
                })
                .collect(),
            next_log: LogId(LAST_LOG),
            next_file: FileNumber(max),
            fences: (0..2 * FENCES_MAX)
                .map(|_| Fence { incarnation: Incarnation(max), cut: Timestamp(max) })
                .collect(),
            synced: Timestamp(max),
        }
    }

    #[test]
    fn the_largest_manifest_fits_a_slot() {
        let largest = manifest(u32::try_from(LOGS_MAX).unwrap());
        let slot = encode_slot(3, &largest).unwrap();
        let Slot::Valid { sequence, manifest } = parse_slot(&slot) else { panic!("not valid") };
        assert_eq!((sequence, manifest), (3, largest));
    }

    #[test]
    fn a_number_that_no_engine_reaches_is_not_counted_on_from() {
        let is_valid = |sequence, change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest(2);
            change(&mut manifest);
            matches!(parse_slot(&encode_slot(sequence, &manifest).unwrap()), Slot::Valid { .. })
        };
        assert!(is_valid(NUMBER_MAX, &|_| {}));
        assert!(!is_valid(u64::MAX, &|_| {}));
        let changes: [&dyn Fn(&mut Manifest); 8] = [
            &|manifest| manifest.incarnation = Incarnation(u64::MAX),
            &|manifest| manifest.next_file = FileNumber(u64::MAX),
            &|manifest| manifest.synced = Timestamp(u64::MAX),
            &|manifest| manifest.next_log = LogId(u32::MAX),
            &|manifest| manifest.logs[1].first_segment = SegmentNumber(u64::MAX),
            &|manifest| manifest.logs[1].durable_lsn = Lsn(u64::MAX),
            &|manifest| manifest.logs[1].checkpoint.as_mut().unwrap().timestamp = Timestamp(u64::MAX),
            &|manifest| manifest.logs[1].checkpoint.as_mut().unwrap().file = FileNumber(u64::MAX),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert!(!is_valid(1, change), "change {index}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let slot = encode_slot(1, &manifest(2)).unwrap();
        let used = HEADER_BYTES + rmp_serde::to_vec_named(&manifest(2)).unwrap().len();
        for at in 0..used {
            for bit in 0..8 {
                let mut flipped = slot.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(!matches!(parse_slot(&flipped), Slot::Valid { .. }), "byte {at}, bit {bit}");
            }
        }
    }
}
