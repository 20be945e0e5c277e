//! What the page gets twice a second: the engine's numbers, and rates over the time since the last.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch::{Distribution, Stats};
use serde::{Deserialize, Serialize};

use crate::Progress;

/// One reading.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Frame {
    /// Counts readings, so that the page knows one from the next.
    pub number: u64,
    /// Seconds since the server began.
    pub seconds: f64,
    /// Commits in a second.
    pub commits_per_second: f64,
    /// Reads in a second, of the load.
    pub reads_per_second: f64,
    /// Bytes logged in a second.
    pub logged_per_second: f64,
    /// What a commit of the load took on average, in milliseconds.
    pub commit_millis: f64,
    /// The slowest since the last reading.
    pub slowest_millis: f64,
    /// Half of the syncs since the last reading took no longer.
    pub sync_millis: f64,
    /// Ninety-nine of a hundred.
    pub sync_millis_p99: f64,
    /// Operations of the load that failed.
    pub errors: u64,
    /// Bytes of memory that the process has in use, where the system tells.
    pub resident_bytes: u64,
    /// The engine's own.
    pub stats: Stats,
}

/// Makes frames, each from what came since the last.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    last: Frame,
    reads: u64,
    commits: u64,
    commit_nanos: u64,
}

impl Frames {
    #[expect(clippy::cast_precision_loss, reason = "numbers for people")]
    pub(crate) fn next(&mut self, since_start: Duration, stats: Stats, progress: &Progress) -> Frame {
        let seconds = since_start.as_secs_f64();
        let passed = (seconds - self.last.seconds).max(1e-6);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let reads = read(&progress.reads);
        let (commits, commit_nanos) = (read(&progress.commits), read(&progress.commit_nanos));
        let (log, before) = (&stats.log, &self.last.stats.log);
        let syncs = since(&log.sync_nanos, &before.sync_nanos);
        let acknowledged = commits.saturating_sub(self.commits).max(1) as f64;
        let frame = Frame {
            number: self.last.number + 1,
            seconds,
            commits_per_second: rate(stats.commits, self.last.stats.commits),
            reads_per_second: rate(reads, self.reads),
            logged_per_second: rate(log.record_bytes, before.record_bytes),
            commit_millis: commit_nanos.saturating_sub(self.commit_nanos) as f64 / acknowledged / 1e6,
            slowest_millis: progress.take_slowest().as_secs_f64() * 1e3,
            sync_millis: quantile(&syncs, 0.5) / 1e6,
            sync_millis_p99: quantile(&syncs, 0.99) / 1e6,
            errors: read(&progress.errors),
            resident_bytes: resident_bytes(),
            stats,
        };
        (self.reads, self.commits, self.commit_nanos) = (reads, commits, commit_nanos);
        self.last = frame.clone();
        frame
    }
}

fn since(now: &Distribution, before: &Distribution) -> Vec<(u64, u64)> {
    now.since(before).map(|(bound, count)| (bound.min(now.max), count)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people")]
fn quantile(buckets: &[(u64, u64)], share: f64) -> f64 {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    for (bound, count) in buckets {
        seen += count;
        if seen as f64 >= total as f64 * share {
            return *bound as f64;
        }
    }
    0.0
}

/// Linux tells in pages of 4 KiB; elsewhere it is not known.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
