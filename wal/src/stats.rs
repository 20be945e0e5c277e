//! Counters of the log, kept as relaxed atomics: each is exact by itself, together they are not one moment.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// What the log has done since the engine was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
            // The manifest counts for itself: it is there before the rest.
            manifest_bytes: 0,
        }
    }
}
