//! What the engine tells about itself.

use std::time::Duration;

use anabranch_shard::{Queues, Swept};
use anabranch_wal::{RecoverySummary, RingUsage, Timestamp, WalStats};

/// What opening a directory found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether there was no database, and one was made.
    pub created: bool,
    /// What the log's recovery found: how far it reaches, and what a crash had left unfinished.
    pub log: RecoverySummary,
    /// Entries loaded from checkpoints.
    pub checkpoint_entries: u64,
    /// Bytes of those checkpoints.
    pub checkpoint_bytes: u64,
    /// Commits' parts replayed from logs.
    pub records: u64,
    /// Writes in them.
    pub writes: u64,
    /// The number of shards before, if keys were moved to other shards.
    pub moved_from_shards: Option<usize>,
    /// How long opening took.
    pub elapsed: Duration,
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// It holds everything up to this commit, and nothing after it.
    pub timestamp: Timestamp,
    /// Its entries.
    pub entries: u64,
    /// Bytes of the files that hold them.
    pub bytes: u64,
}

/// What a vacuum removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VacuumReport {
    /// Versions that nobody could ask for any more, those of removed keys included.
    pub versions: u64,
    /// Removed keys that were taken out altogether.
    pub keys: u64,
}

impl std::ops::AddAssign<Swept> for VacuumReport {
    fn add_assign(&mut self, swept: Swept) {
        self.versions += swept.versions;
        self.keys += swept.keys;
    }
}

/// The engine's state and counters. Each is exact by itself; together they are not one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Commits since the engine was opened.
    pub commits: u64,
    /// Transactions that went through the coordinator; those whose shards were idle are committed in line.
    pub two_phase: u64,
    /// Commits refused for a conflict.
    pub conflicts: u64,
    /// Reruns by [`crate::Handle::transaction`].
    pub reruns: u64,
    /// The last commit that is applied on all its shards.
    pub applied: Timestamp,
    /// The last commit that was handed to the operating system on all its shards.
    pub written: Timestamp,
    /// The last commit that survives power loss.
    pub synced: Timestamp,
    /// The last commit that is as durable as the engine promises.
    pub durable: Timestamp,
    /// Below this, versions are reclaimed.
    pub horizon: Timestamp,
    /// Snapshots, scans and transactions that are open.
    pub readers: usize,
    /// The oldest timestamp that one of them reads at.
    pub oldest_reader: Option<Timestamp>,
    /// What the log did. Zero in memory.
    pub log: WalStats,
    /// The last failure to write a checkpoint. The log keeps everything meanwhile.
    pub checkpoint_error: Option<String>,
    /// Each shard.
    pub shards: Vec<ShardStats>,
}

impl Stats {
    /// Keys over all shards, those included whose removal is not reclaimed yet.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.keys).sum()
    }

    /// Versions over all shards.
    #[must_use]
    pub fn versions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.versions).sum()
    }

    /// Jobs that are pinned, in line or waiting for log space, over all shards.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.queues.pinned + shard.queues.in_line + shard.queues.for_space)
            .sum()
    }

    /// Commits per sync of a log: how well group commit works. `None` before the first sync.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn commits_per_sync(&self) -> Option<f64> {
        (self.log.syncs > 0).then(|| self.log.records as f64 / self.log.syncs as f64)
    }
}

/// One shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardStats {
    /// Keys, those included whose removal is not reclaimed yet.
    pub keys: usize,
    /// Versions of them.
    pub versions: u64,
    /// Keys that a sweep may find something at.
    pub to_sweep: usize,
    /// Commits of this shard alone that are under way.
    pub in_flight: usize,
    /// Where they, and parts of transactions, wait.
    pub queues: Queues,
    /// Its log's segments. Zero in memory.
    pub ring: RingUsage,
}
