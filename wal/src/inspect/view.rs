//! What an inspection shows, as plain data: for people and as JSON.

use serde::Serialize;

use crate::manifest::{Fence, LogEntry, Manifest};
use crate::{LogId, Lsn, Timestamp};

/// How much to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// So many batches of each segment.
    pub batches_max: usize,
    /// The records of each batch listed, too.
    pub records: bool,
}

/// A directory.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LayoutView {
    /// The two slots of the manifest; none if the file is missing.
    pub slots: Vec<SlotView>,
    /// The segment files, by name.
    pub segments: Vec<SegmentView>,
    /// The checkpoint files, by name.
    pub checkpoints: Vec<CheckpointView>,
    /// The name of some file that is none of anabranch's.
    pub other: Option<String>,
}

impl LayoutView {
    /// The manifest that counts.
    #[must_use]
    pub fn manifest(&self) -> Option<&ManifestView> {
        self.slots.iter().find(|slot| slot.chosen)?.manifest.as_ref()
    }
}

/// A slot of the manifest.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SlotView {
    /// Where it begins in the file.
    pub offset: u64,
    /// Whether this is the one that counts: the intact one written last.
    pub chosen: bool,
    /// "intact", "empty", or what is wrong.
    pub state: String,
    /// The number of the write.
    pub sequence: Option<u64>,
    /// What it says.
    pub manifest: Option<ManifestView>,
}

/// What a manifest says. Numbers that may use all 64 bits are text, for the sake of JSON.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ManifestView {
    /// The version of all files' formats.
    pub format: u32,
    /// The database, in hexadecimal.
    pub database: String,
    /// The incarnation that wrote it.
    pub incarnation: u64,
    /// The hash that routes keys.
    pub hash: String,
    /// The seed of that hash, in hexadecimal.
    pub hash_seed: String,
    /// Promise: the engine was synced up to this commit.
    pub synced: Timestamp,
    /// What counts of former incarnations.
    pub fences: Vec<Fence>,
    /// The logs, in the order of the shards.
    pub logs: Vec<LogView>,
    /// The next log's number.
    pub next_log: LogId,
    /// The next checkpoint's number.
    pub next_file: u64,
}

/// One log, as in the manifest.
pub type LogView = LogEntry;

impl ManifestView {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            format: crate::FORMAT_VERSION,
            database: hexadecimal(manifest.database.0),
            incarnation: manifest.incarnation.0,
            hash: manifest.hash.clone(),
            hash_seed: hexadecimal(manifest.hash_seed),
            synced: manifest.synced,
            fences: manifest.fences.clone(),
            logs: manifest.logs.clone(),
            next_log: manifest.next_log,
            next_file: manifest.next_file.0,
        }
    }
}

fn hexadecimal(number: u64) -> String {
    format!("{number:016x}")
}

/// What recovery would make of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentRole {
    /// It reads it.
    Needed,
    /// Its content is covered by a checkpoint; it will be written again.
    Free,
    /// It has no intact header: never used, torn at its first use, or damaged.
    Blank,
    /// The manifest does not name its log.
    Orphan,
    /// There is no intact manifest to tell.
    Unknown,
}

/// A segment file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SegmentView {
    /// Its name.
    pub file: String,
    /// The log of its name.
    pub log: LogId,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub role: SegmentRole,
    /// Its number.
    pub number: Option<u64>,
    /// The incarnation that wrote it.
    pub incarnation: Option<u64>,
    /// The last commit of that incarnation that counts, if it was cut.
    pub cut: Option<Timestamp>,
    /// The number of its first batch.
    pub first_lsn: Option<Lsn>,
    /// The number of the last batch in the chain.
    pub last_lsn: Option<Lsn>,
    /// Bytes up to the end of that batch.
    pub used_bytes: u64,
    /// Bytes behind it.
    pub free_bytes: u64,
    /// Batches in the chain.
    pub batch_count: u64,
    /// Records that start in them.
    pub record_count: u64,
    /// The lowest timestamp of a record.
    pub lowest: Option<Timestamp>,
    /// The highest timestamp of a record.
    pub highest: Option<Timestamp>,
    /// What stands behind the last batch.
    pub ends: String,
    /// What is wrong, as far as this file alone shows it.
    pub problem: Option<String>,
    /// The batches listed.
    pub batches: Vec<BatchView>,
}

/// A batch.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BatchView {
    /// Where it begins.
    pub offset: u64,
    /// Its number in the log.
    pub lsn: Lsn,
    /// "data", "seal", "watermark", or the number of a kind that this version does not know.
    pub kind: String,
    /// Bytes from its beginning to where the next may begin.
    pub bytes: u64,
    /// Bytes of records.
    pub payload_bytes: u32,
    /// Records that start in it.
    pub records: u32,
    /// The lowest timestamp of a record with bytes in it; 0 without records.
    pub lowest: Timestamp,
    /// The highest one.
    pub highest: Timestamp,
    /// Promise: the log was synced up to this batch.
    pub durable_lsn: Lsn,
    /// Promise: the engine was synced up to this commit.
    pub synced: Timestamp,
    /// The records that end in it, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<RecordView>,
}

/// A record.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RecordView {
    /// The commit.
    pub timestamp: Timestamp,
    /// All logs that hold a part of it.
    pub logs: Vec<LogId>,
    /// How many writes this part has.
    pub writes: u32,
    /// Bytes of these writes.
    pub bytes: usize,
}

/// A checkpoint file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckpointView {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Whether the manifest names it; it is removed with the next open if not.
    pub named: bool,
    /// The log of its header.
    pub log: Option<LogId>,
    /// It holds the shard's content at this commit.
    pub timestamp: Option<Timestamp>,
    /// Entries, by the manifest.
    pub entries: Option<u64>,
    /// What is wrong with its header or its length; the blocks are not read.
    pub problem: Option<String>,
}
