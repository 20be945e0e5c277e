//! What a shard has done. Written by whoever holds the turn, so no two write at once and nothing is contended: a
//! load, an addition and a store on a line that the turn's holder has anyway.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Live counters of one shard, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ShardCounters {
    pub(crate) one_phase: AtomicU64,
    pub(crate) in_line: AtomicU64,
    pub(crate) updates: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stalled_nanos: AtomicU64,
}

/// Adds to a counter. Only within the turn.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Commits by the way that they went. Each commit is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CommitKinds {
    /// Writes and transactions of one shard that went to it as a message.
    pub one_phase: u64,
    /// Writes and transactions, of any number of shards, that ran on the caller's task, as the shards were idle.
    pub in_line: u64,
    /// Transactions of several shards that the coordinator decided.
    pub two_phase: u64,
    /// Updates and removals of one key that changed something, whichever way they went.
    pub updates: u64,
    /// Batches of an ingest sink with updates in them. Batches of writes alone go as a write does: in line, or as a
    /// message.
    pub batches: u64,
}

impl CommitKinds {
    /// All commits.
    #[must_use]
    pub const fn sum(self) -> u64 {
        self.one_phase + self.in_line + self.two_phase + self.updates + self.batches
    }
}

impl std::ops::AddAssign for CommitKinds {
    fn add_assign(&mut self, other: Self) {
        self.one_phase += other.one_phase;
        self.in_line += other.in_line;
        self.two_phase += other.two_phase;
        self.updates += other.updates;
        self.batches += other.batches;
    }
}

/// What had to wait for space in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpaceStalls {
    /// How many commits.
    pub commits: u64,
    /// How long, taken together.
    pub time: Duration,
}

impl ShardCounters {
    /// Commits of this shard alone, and those in line of which it is the first shard.
    pub(crate) fn kinds(&self) -> CommitKinds {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CommitKinds {
            one_phase: read(&self.one_phase),
            in_line: read(&self.in_line),
            two_phase: 0,
            updates: read(&self.updates),
            batches: read(&self.batches),
        }
    }

    pub(crate) fn stalls(&self) -> SpaceStalls {
        let time = Duration::from_nanos(self.stalled_nanos.load(Ordering::Relaxed));
        SpaceStalls { commits: self.stalls.load(Ordering::Relaxed), time }
    }

    /// Something has got its space, after so long.
    pub(crate) fn stalled(&self, time: Duration) {
        add(&self.stalls, 1);
        add(&self.stalled_nanos, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}
