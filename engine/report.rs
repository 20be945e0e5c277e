//! What the engine tells about itself.

use std::time::Duration;

use anabranch_shard::{CommitKinds, OldestRegistered, Queues, SpaceStalls, Swept};
use anabranch_wal::{Distribution, RecoverySummary, RingUsage, Timestamp, WalStats};
use serde::{Deserialize, Serialize};

use crate::memory::MemoryInfo;

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

/// The engine's state and counters, as one plain struct that serialises. Each number is exact by itself; together they
/// are not one moment. Counters begin with the opening of the engine.
///
/// `docs/observability.md` lists them with the names that they have as metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stats {
    /// Commits: timestamps taken.
    pub commits: u64,
    /// The same by the way that they went.
    pub kinds: CommitKinds,
    /// Transactions that were handed to the coordinator; those whose shards were idle are committed in line.
    pub two_phase: u64,
    /// Those of them that are under way.
    pub two_phase_in_flight: usize,
    /// Messages that wait for the coordinator.
    pub coordinator_mailbox: usize,
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
    /// How many commits are applied and not durable yet.
    pub lag: u64,
    /// Below this, versions are reclaimed.
    pub horizon: Timestamp,
    /// Snapshots, scans and transactions that are open.
    pub readers: usize,
    /// The one that reads at the oldest timestamp.
    pub oldest_reader: Option<OldestReader>,
    /// Readers that were ended for their age: see [`crate::EngineBuilder::max_snapshot_age`].
    pub readers_ended: u64,
    /// Messages that a shard handled in one batch.
    pub batch_messages: Distribution,
    /// What had to wait.
    pub stalls: Stalls,
    /// What a limit of memory counts, and what went because of it. All zero without one.
    pub memory: MemoryInfo,
    /// What the log did. Zero in memory.
    pub log: WalStats,
    /// The last failure to write a checkpoint. The log keeps everything meanwhile.
    pub checkpoint_error: Option<String>,
    /// Each shard.
    pub shards: Vec<ShardStats>,
}

/// The reader that reads at the oldest timestamp, and what it holds on to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OldestReader {
    /// The commit that it reads at.
    pub timestamp: Timestamp,
    /// How long it has been open. To within a second, or exactly with a
    /// [maximum age](crate::EngineBuilder::max_snapshot_age).
    pub age: Duration,
    /// Durable commits that it does not see.
    pub commits_behind: u64,
    /// Old versions that are kept: those it pins, and at the most a few for each key that are not reclaimed yet.
    pub versions: u64,
}

impl OldestReader {
    pub(crate) fn new(registered: OldestRegistered, durable: Timestamp, versions: u64) -> Self {
        let OldestRegistered { timestamp, age } = registered;
        Self { timestamp, age, commits_behind: durable.0.saturating_sub(timestamp.0), versions }
    }
}

/// What had to wait for more than its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stalls {
    /// Commits, and parts of transactions, that waited for space in the log.
    pub space: u64,
    /// How long, taken together.
    pub space_time: Duration,
    /// Commits that were written and then waited for a sync, as a crash could have lost more than
    /// [`crate::Flush`] allows.
    pub bounds: u64,
}

impl std::ops::AddAssign<SpaceStalls> for Stalls {
    fn add_assign(&mut self, stalls: SpaceStalls) {
        self.space += stalls.commits;
        self.space_time += stalls.time;
    }
}

impl Stats {
    /// Keys over all shards, those included whose removal is not reclaimed yet.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.keys).sum()
    }

    /// Keys that have a value, over all shards.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.shards.iter().map(|shard| shard.live_keys).sum()
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ShardStats {
    /// Keys, those included whose removal is not reclaimed yet.
    pub keys: usize,
    /// Keys that have a value.
    pub live_keys: u64,
    /// Versions of them.
    pub versions: u64,
    /// Keys that a sweep may find something at.
    pub to_sweep: usize,
    /// Commits of this shard alone that are under way.
    pub in_flight: usize,
    /// Where they, and parts of transactions, wait.
    pub queues: Queues,
    /// Messages that wait for the shard.
    pub mailbox: usize,
    /// Commits that it ran, those in line of several shards with the first of them. Without two-phase commits.
    pub commits: u64,
    /// Its log's segments. Zero in memory.
    pub ring: RingUsage,
}
