//! Counters of the log, kept as relaxed atomics: each is exact by itself, together they are not one moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::LogId;
use crate::histogram::{Distribution, Histogram};

/// Live counters.
#[derive(Debug, Default)]
pub(crate) struct WalCounters {
    pub(crate) flushes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) segments_made: AtomicU64,
    pub(crate) segments_recycled: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoint_bytes: AtomicU64,
    pub(crate) flush_nanos: Histogram,
    pub(crate) sync_nanos: Histogram,
    pub(crate) flush_records: Histogram,
    /// From here on a flush or a sync is slow; `u64::MAX` until somebody wants to hear of it.
    pub(crate) slow_nanos: SlowNanos,
}

/// From how many nanoseconds on an operation is slow.
#[derive(Debug)]
pub(crate) struct SlowNanos(AtomicU64);

impl Default for SlowNanos {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl WalCounters {
    pub(crate) fn set_slow(&self, slow: Duration) {
        let nanos = u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX);
        self.slow_nanos.0.store(nanos, Ordering::Relaxed);
    }

    /// A flush has taken so long.
    pub(crate) fn flushed(&self, elapsed: Duration, log: LogId) {
        self.flush_nanos.record_elapsed(elapsed);
        self.note_if_slow("flush", elapsed, log);
    }

    /// A write with its sync, or a sync alone, has taken so long.
    pub(crate) fn synced(&self, elapsed: Duration, log: LogId) {
        self.sync_nanos.record_elapsed(elapsed);
        self.note_if_slow("sync", elapsed, log);
    }

    #[cfg_attr(
        not(feature = "tracing"),
        expect(unused_variables, clippy::unused_self, reason = "see the feature")
    )]
    fn note_if_slow(&self, operation: &'static str, elapsed: Duration, log: LogId) {
        #[cfg(feature = "tracing")]
        if elapsed.as_nanos() >= u128::from(self.slow_nanos.0.load(Ordering::Relaxed)) {
            tracing::warn!(target: "anabranch", operation, ?elapsed, log = log.0, "slow");
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// What the log has done since the engine was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WalStats {
    /// Flushes: each writes all that had gathered in one log.
    pub flushes: u64,
    /// Calls of `fdatasync` on logs.
    pub syncs: u64,
    /// Records: one for each log that a commit wrote to.
    pub records: u64,
    /// Bytes of those records.
    pub record_bytes: u64,
    /// Bytes written to segments, with headers, checksums and padding.
    pub written_bytes: u64,
    /// Segment files made.
    pub segments_made: u64,
    /// Segments given back to the ring.
    pub segments_recycled: u64,
    /// Checkpoints published.
    pub checkpoints: u64,
    /// Bytes of those checkpoints.
    pub checkpoint_bytes: u64,
    /// How long it took to write what a flush had, in nanoseconds; in `Full`, with its sync.
    pub flush_nanos: Distribution,
    /// How long syncs took, with the writes that they came with, in nanoseconds.
    pub sync_nanos: Distribution,
    /// How many records a flush wrote: how well group commit works.
    pub flush_records: Distribution,
    /// Bytes written to the manifest, those of opening included.
    pub manifest_bytes: u64,
}

impl WalCounters {
    pub(crate) fn read(&self) -> WalStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalStats {
            flushes: read(&self.flushes),
            syncs: read(&self.syncs),
            records: read(&self.records),
            record_bytes: read(&self.record_bytes),
            written_bytes: read(&self.written_bytes),
            segments_made: read(&self.segments_made),
            segments_recycled: read(&self.segments_recycled),
            checkpoints: read(&self.checkpoints),
            checkpoint_bytes: read(&self.checkpoint_bytes),
            flush_nanos: self.flush_nanos.read(),
            sync_nanos: self.sync_nanos.read(),
            flush_records: self.flush_records.read(),
            // The manifest counts for itself: it is there before the rest.
            manifest_bytes: 0,
        }
    }
}
