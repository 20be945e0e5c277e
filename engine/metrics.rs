//! The numbers of [`Stats`] through the facade of the crate `metrics`.
//!
//! They are pulled: by [`crate::Engine::record_metrics`], or so often as the builder says. Nothing is recorded where
//! commits run, so the hot path is the same with this feature and without it. Histograms are handed on bucket by
//! bucket, as what came on top since the last time.

use anabranch_wal::Distribution;
use metrics::{Label, Unit, counter, gauge, histogram};
use parking_lot::Mutex;

use crate::Stats;

const NANOS_PER_SECOND: f64 = 1e9;

/// What a metric is, for exporters that pass it on.
pub(crate) const DESCRIPTIONS: &[(Kind, &str, Unit, &str)] = &[
    (Kind::Counter, "anabranch_commits_total", Unit::Count, "Commits, by the way that they went"),
    (Kind::Counter, "anabranch_conflicts_total", Unit::Count, "Commits refused for a conflict"),
    (Kind::Counter, "anabranch_reruns_total", Unit::Count, "Reruns of transactions after a conflict"),
    (Kind::Counter, "anabranch_stalls_total", Unit::Count, "Commits that had to wait, by what for"),
    (
        Kind::Gauge,
        "anabranch_stall_seconds",
        Unit::Seconds,
        "How long commits waited for log space, taken together",
    ),
    (Kind::Gauge, "anabranch_queue_length", Unit::Count, "Jobs and messages that wait, by where"),
    (Kind::Histogram, "anabranch_batch_messages", Unit::Count, "Messages that a shard handled in one batch"),
    (
        Kind::Gauge,
        "anabranch_watermark",
        Unit::Count,
        "The last commit that is applied, written, synced, durable",
    ),
    (Kind::Gauge, "anabranch_watermark_lag", Unit::Count, "Commits applied and not durable yet"),
    (Kind::Counter, "anabranch_flushes_total", Unit::Count, "Flushes of logs"),
    (Kind::Counter, "anabranch_syncs_total", Unit::Count, "Syncs of logs"),
    (Kind::Histogram, "anabranch_flush_seconds", Unit::Seconds, "How long flushes took"),
    (Kind::Histogram, "anabranch_sync_seconds", Unit::Seconds, "How long syncs took"),
    (Kind::Histogram, "anabranch_flush_records", Unit::Count, "Records that a flush wrote"),
    (Kind::Counter, "anabranch_log_record_bytes_total", Unit::Bytes, "Bytes of records logged"),
    (Kind::Counter, "anabranch_log_written_bytes_total", Unit::Bytes, "Bytes written to logs"),
    (Kind::Counter, "anabranch_checkpoints_total", Unit::Count, "Checkpoints published"),
    (Kind::Counter, "anabranch_checkpoint_bytes_total", Unit::Bytes, "Bytes of those checkpoints"),
    (
        Kind::Gauge,
        "anabranch_ring_segments",
        Unit::Count,
        "Segments of the logs, in use, free, and at the most",
    ),
    (Kind::Gauge, "anabranch_ring_bytes", Unit::Bytes, "Bytes of all segments"),
    (Kind::Gauge, "anabranch_keys", Unit::Count, "Keys, with removed ones that are not reclaimed yet"),
    (Kind::Gauge, "anabranch_live_keys", Unit::Count, "Keys that have a value"),
    (Kind::Gauge, "anabranch_versions", Unit::Count, "Versions of all keys"),
    (
        Kind::Gauge,
        "anabranch_memory_bytes",
        Unit::Bytes,
        "What a limit of memory counts: all, what reclamation alone frees, and the limit",
    ),
    (
        Kind::Counter,
        "anabranch_evictions_total",
        Unit::Count,
        "Entries evicted because of the limit of memory",
    ),
    (Kind::Counter, "anabranch_expirations_total", Unit::Count, "Entries removed because they had expired"),
    (Kind::Gauge, "anabranch_readers", Unit::Count, "Snapshots, scans and transactions that are open"),
    (Kind::Counter, "anabranch_readers_ended_total", Unit::Count, "Readers ended for their age"),
    (
        Kind::Gauge,
        "anabranch_oldest_reader_age_seconds",
        Unit::Seconds,
        "How long the oldest reader has been open",
    ),
    (Kind::Gauge, "anabranch_oldest_reader_commits_behind", Unit::Count, "Durable commits it does not see"),
    (Kind::Gauge, "anabranch_oldest_reader_versions", Unit::Count, "Old versions kept while it is open"),
];

/// The kinds of metrics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Records an engine's numbers, and remembers what it has recorded.
pub(crate) struct MetricsRecorder {
    engine: String,
    recorded: Mutex<Option<Stats>>,
}

impl MetricsRecorder {
    /// For an engine of this name.
    pub(crate) fn new(engine: String) -> Self {
        Self { engine, recorded: Mutex::new(None) }
    }

    pub(crate) fn record(&self, stats: Stats) {
        let mut recorded = self.recorded.lock();
        let earlier = recorded.get_or_insert_with(|| {
            describe();
            Stats::default()
        });
        self.record_commits(&stats);
        self.record_log(&stats, earlier);
        self.record_memory(&stats);
        *earlier = stats;
    }

    fn labels(&self, more: Option<(&'static str, &'static str)>) -> Vec<Label> {
        let engine = Label::new("engine", self.engine.clone());
        std::iter::once(engine).chain(more.map(|(name, value)| Label::new(name, value))).collect()
    }

    fn counter(&self, name: &'static str, more: Option<(&'static str, &'static str)>, value: u64) {
        counter!(name, self.labels(more)).absolute(value);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn gauge(&self, name: &'static str, more: Option<(&'static str, &'static str)>, value: u64) {
        gauge!(name, self.labels(more)).set(value as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "a histogram takes floats")]
    fn histogram(&self, name: &'static str, unit: f64, now: &Distribution, earlier: &Distribution) {
        let histogram = histogram!(name, self.labels(None));
        for (bound, count) in now.since(earlier) {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            histogram.record_many(bound.min(now.max) as f64 / unit, count);
        }
    }

    fn record_commits(&self, stats: &Stats) {
        let kinds = stats.kinds;
        for (kind, commits) in [
            ("one_phase", kinds.one_phase),
            ("in_line", kinds.in_line),
            ("two_phase", kinds.two_phase),
            ("update", kinds.updates),
            ("batch", kinds.batches),
        ] {
            self.counter("anabranch_commits_total", Some(("kind", kind)), commits);
        }
        self.counter("anabranch_conflicts_total", None, stats.conflicts);
        self.counter("anabranch_reruns_total", None, stats.reruns);
        self.counter("anabranch_stalls_total", Some(("cause", "space")), stats.stalls.space);
        self.counter("anabranch_stalls_total", Some(("cause", "bounds")), stats.stalls.bounds);
        gauge!("anabranch_stall_seconds", self.labels(None)).set(stats.stalls.space_time.as_secs_f64());
        let sum =
            |length: fn(&crate::ShardStats) -> usize| stats.shards.iter().map(length).sum::<usize>() as u64;
        for (queue, length) in [
            ("pinned", sum(|shard| shard.queues.pinned)),
            ("in_line", sum(|shard| shard.queues.in_line)),
            ("for_space", sum(|shard| shard.queues.for_space)),
            ("mailboxes", sum(|shard| shard.mailbox)),
            ("coordinator", stats.coordinator_mailbox as u64),
            ("two_phase", stats.two_phase_in_flight as u64),
        ] {
            self.gauge("anabranch_queue_length", Some(("queue", queue)), length);
        }
        for (level, timestamp) in [
            ("applied", stats.applied),
            ("written", stats.written),
            ("synced", stats.synced),
            ("durable", stats.durable),
        ] {
            self.gauge("anabranch_watermark", Some(("level", level)), timestamp.0);
        }
        self.gauge("anabranch_watermark_lag", None, stats.lag);
    }

    fn record_log(&self, stats: &Stats, earlier: &Stats) {
        let (log, before) = (&stats.log, &earlier.log);
        self.histogram("anabranch_batch_messages", 1.0, &stats.batch_messages, &earlier.batch_messages);
        self.histogram("anabranch_flush_seconds", NANOS_PER_SECOND, &log.flush_nanos, &before.flush_nanos);
        self.histogram("anabranch_sync_seconds", NANOS_PER_SECOND, &log.sync_nanos, &before.sync_nanos);
        self.histogram("anabranch_flush_records", 1.0, &log.flush_records, &before.flush_records);
        for (name, value) in [
            ("anabranch_flushes_total", log.flushes),
            ("anabranch_syncs_total", log.syncs),
            ("anabranch_log_record_bytes_total", log.record_bytes),
            ("anabranch_log_written_bytes_total", log.written_bytes),
            ("anabranch_checkpoints_total", log.checkpoints),
            ("anabranch_checkpoint_bytes_total", log.checkpoint_bytes),
        ] {
            self.counter(name, None, value);
        }
        let sum = |count: fn(&crate::RingUsage) -> usize| {
            stats.shards.iter().map(|shard| count(&shard.ring)).sum::<usize>() as u64
        };
        for (state, segments) in [
            ("in_use", sum(|ring| ring.segments - ring.segments_free)),
            ("free", sum(|ring| ring.segments_free)),
            ("limit", sum(|ring| ring.segments_max)),
        ] {
            self.gauge("anabranch_ring_segments", Some(("state", state)), segments);
        }
        self.gauge("anabranch_ring_bytes", None, stats.shards.iter().map(|shard| shard.ring.bytes).sum());
    }

    fn record_memory(&self, stats: &Stats) {
        self.gauge("anabranch_keys", None, stats.keys() as u64);
        self.gauge("anabranch_live_keys", None, stats.live_keys());
        self.gauge("anabranch_versions", None, stats.versions());
        let memory = stats.memory;
        for (state, bytes) in [
            ("current", memory.current_bytes),
            ("reclaimable", memory.reclaimable_bytes),
            ("limit", memory.limit_bytes.unwrap_or(0)),
        ] {
            self.gauge("anabranch_memory_bytes", Some(("state", state)), bytes);
        }
        self.counter("anabranch_evictions_total", None, memory.evictions);
        self.counter("anabranch_expirations_total", None, memory.expirations);
        self.gauge("anabranch_readers", None, stats.readers as u64);
        self.counter("anabranch_readers_ended_total", None, stats.readers_ended);
        let oldest = stats.oldest_reader.unwrap_or_default();
        gauge!("anabranch_oldest_reader_age_seconds", self.labels(None)).set(oldest.age.as_secs_f64());
        self.gauge("anabranch_oldest_reader_commits_behind", None, oldest.commits_behind);
        self.gauge("anabranch_oldest_reader_versions", None, oldest.versions);
    }
}

fn describe() {
    for (kind, name, unit, meaning) in DESCRIPTIONS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *unit, *meaning),
            Kind::Gauge => metrics::describe_gauge!(*name, *unit, *meaning),
            Kind::Histogram => metrics::describe_histogram!(*name, *unit, *meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_name_every_metric() {
        let paper = include_str!("../docs/observability.md");
        for (_, name, ..) in DESCRIPTIONS {
            assert!(paper.contains(&format!("`{name}`")), "{name}");
        }
    }
}
