//! Where [`Stats`] come from: a look at every part of a running engine.

use std::sync::atomic::Ordering;

use anabranch_shard::{CommitKinds, Key, Level, Shard, Value};
use anabranch_wal::{Distribution, RingUsage, Wal};

use crate::Stats;
use crate::inner::Inner;
use crate::report::{OldestReader, ShardStats, Stalls};

impl<K: Key, V: Value, P> Inner<K, V, P> {
    /// All numbers but the keeper's.
    pub(crate) fn stats(&self, wal: Option<&Wal>) -> Stats {
        let rings = wal.map(Wal::usage).unwrap_or_default();
        let mut kinds = CommitKinds::default();
        let mut stalls = Stalls::default();
        let mut batch_messages = Distribution::default();
        for shard in &*self.shards {
            kinds += shard.commits();
            stalls += shard.stalls();
            batch_messages += &shard.batch_messages();
        }
        kinds.two_phase = self.coordinator.committed();
        stalls.bounds = self.sequencer.held_back();
        let shards: Vec<ShardStats> = self
            .shards
            .iter()
            .enumerate()
            .map(|(index, shard)| shard_stats(shard, rings.get(index).copied().unwrap_or_default()))
            .collect();
        let old_versions = shards.iter().map(|shard| shard.versions.saturating_sub(shard.live_keys)).sum();
        let (oldest, readers) = self.readers.oldest();
        let durable = self.sequencer.get(Level::Durable);
        let applied = self.sequencer.get(Level::Applied);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: self.sequencer.last().0 - self.recovered_to.0,
            kinds,
            two_phase: count(&self.counters.two_phase),
            two_phase_in_flight: self.coordinator.in_flight(),
            coordinator_mailbox: self.coordinator.mailbox(),
            conflicts: count(&self.counters.conflicts),
            reruns: count(&self.counters.reruns),
            applied,
            written: self.sequencer.written(),
            synced: self.sequencer.synced(),
            durable,
            lag: applied.0.saturating_sub(durable.0),
            horizon: self.readers.horizon(),
            readers,
            oldest_reader: oldest.map(|oldest| OldestReader::new(oldest, durable, old_versions)),
            readers_ended: self.readers.ended(),
            batch_messages,
            stalls,
            memory: self.memory_info(),
            log: wal.map(Wal::stats).unwrap_or_default(),
            checkpoint_error: None,
            shards,
        }
    }
}

fn shard_stats<K: Key, V: Value>(shard: &Shard<K, V>, ring: RingUsage) -> ShardStats {
    let (versions, keys) = shard.map().size();
    let (queues, to_sweep) = shard.queues();
    ShardStats {
        keys: usize::try_from(keys).expect("they are in memory"),
        live_keys: shard.map().live(),
        versions,
        to_sweep,
        in_flight: shard.in_flight(),
        queues,
        mailbox: shard.mailbox(),
        commits: shard.commits().sum(),
        ring,
    }
}
