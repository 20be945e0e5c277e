//! Putting an engine together: recover the log, load the shards, start the actors.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch_coordinator::Coordinator;
use anabranch_shard::{
    Clock, Expiry, Key, Partition, Readers, Router, Sequencer, Shard, ShardMap, ShardOptions, Share, Value,
    decode_key, decode_value,
};
use anabranch_wal::{
    CheckpointReader, Disk, Health, Opened, RecoveredLog, SyncControl, Timestamp, Wal, WalError, WalOptions,
    Write,
};
use tokio::task::JoinSet;

use crate::builder::EngineBuilder;
use crate::events;
use crate::inner::{Closed, Counters, Inner};
use crate::keeper::{Intervals, Keeper, write_checkpoint};
use crate::retry::RetryGates;
use crate::{Engine, Error, RecoveryReport, Vacuum};

/// A load lets other tasks run after so many records.
const RECORDS_PER_YIELD: usize = 512;

pub(crate) async fn open<K: Key, V: Value, P: Partition<K>>(
    builder: EngineBuilder<K, V, P>,
    runtime: tokio::runtime::Handle,
    disk: &dyn Disk,
    directory: &Path,
    options: WalOptions,
) -> Result<Engine<K, V, P>, Error> {
    let started = builder.env.now();
    let opened = Wal::open(disk, directory, options, &*builder.env).await?;
    let session = opened.wal.disk();
    let engine = open_log(builder, runtime, opened, started).await;
    if engine.is_err() {
        // The lock ends with the last task that loads; who opens next waits for that.
        session.closing();
    }
    engine
}

async fn open_log<K: Key, V: Value, P: Partition<K>>(
    builder: EngineBuilder<K, V, P>,
    runtime: tokio::runtime::Handle,
    opened: Opened,
    started: Duration,
) -> Result<Engine<K, V, P>, Error> {
    let Opened { mut wal, logs, summary } = opened;
    let shards = builder.shards_to_open(logs.len())?;
    let router = Router::new(wal.hash_seed(), builder.partition.clone(), shards);
    let clock = Arc::new(Clock::new(Arc::clone(&builder.env)));
    let maps = maps_of(&builder, shards, wal.hash_seed(), &clock);
    let recovered_to = summary.recovered_to;
    let mut report = RecoveryReport { created: logs.is_empty(), log: summary, ..RecoveryReport::default() };

    let shards_before = logs.len();
    let moved = load(&wal, &router, &maps, logs, &mut report).await?;
    let replaced = !report.created && (moved || shards_before != shards || wal.hash_changed().await);
    if replaced {
        report.moved_from_shards = Some(shards_before);
        wal.replace_logs(shards).await?;
    }

    let health = Arc::<Health>::default();
    let sequencer = Sequencer::new(recovered_to, Some(Arc::clone(wal.control())), &health);
    let readers = Readers::new(Arc::clone(&sequencer), Arc::clone(&builder.env), builder.snapshot_age_max);
    if replaced || wal.needs_checkpoints_to_open().await {
        checkpoint_all(&wal, &maps, recovered_to).await?;
    }
    let advanced = Arc::clone(&sequencer);
    let tasks = wal.start(&health, &(Arc::new(move || advanced.advance()) as _)).await?;
    wal.control().set_slow(builder.slow);
    let wal = Arc::new(wal);
    report.elapsed = builder.env.now().saturating_sub(started);
    let parts = Parts { router, maps, sequencer, readers, clock, runtime };
    let engine = assemble(builder, parts, Some((wal, tasks)), report);
    engine.govern().await;
    Ok(engine)
}

pub(crate) fn in_memory<K: Key, V: Value, P: Partition<K>>(
    builder: EngineBuilder<K, V, P>,
    runtime: tokio::runtime::Handle,
    shards: usize,
) -> Engine<K, V, P> {
    let seed = builder.env.random();
    let clock = Arc::new(Clock::new(Arc::clone(&builder.env)));
    let sequencer = Sequencer::new(Timestamp::ZERO, None::<Arc<SyncControl>>, &Arc::default());
    let parts = Parts {
        router: Router::new(seed, builder.partition.clone(), shards),
        maps: maps_of(&builder, shards, seed, &clock),
        clock,
        readers: Readers::new(Arc::clone(&sequencer), Arc::clone(&builder.env), builder.snapshot_age_max),
        sequencer,
        runtime,
    };
    let report = RecoveryReport { created: true, ..RecoveryReport::default() };
    assemble(builder, parts, None, report)
}

struct Parts<K, V, P> {
    router: Router<P>,
    maps: Vec<Arc<ShardMap<K, V>>>,
    sequencer: Arc<Sequencer>,
    readers: Arc<Readers>,
    clock: Arc<Clock>,
    runtime: tokio::runtime::Handle,
}

fn maps_of<K: Key, V: Value, P>(
    builder: &EngineBuilder<K, V, P>,
    shards: usize,
    seed: u64,
    clock: &Arc<Clock>,
) -> Vec<Arc<ShardMap<K, V>>> {
    let is_limited = builder.memory.is_some();
    (0..shards).map(|_| Arc::new(ShardMap::with_clock(seed, Arc::clone(clock), is_limited))).collect()
}

fn assemble<K: Key, V: Value, P: Partition<K>>(
    builder: EngineBuilder<K, V, P>,
    parts: Parts<K, V, P>,
    log: Option<(Arc<Wal>, JoinSet<()>)>,
    report: RecoveryReport,
) -> Engine<K, V, P> {
    let Parts { router, maps, sequencer, readers, clock, runtime } = parts;
    let options = ShardOptions { sweeps: builder.vacuum != Vacuum::Manual, lends_turn: builder.lend_turns };
    let logs = log.as_ref().map(|(wal, _)| wal.logs());
    let count = maps.len() as u64;
    let start = |(index, map): (usize, Arc<ShardMap<K, V>>)| {
        let log = logs.as_ref().map(|logs| Arc::clone(&logs[index]));
        let share = builder.memory.as_ref().map(|limit| Share {
            bytes: limit.bytes / count,
            measure: limit.measure,
            eviction: limit.eviction,
            seed: builder.env.random(),
        });
        Shard::start(map, Arc::clone(&readers), Arc::clone(&sequencer), log, options, share)
    };
    let shards: Arc<[Shard<K, V>]> = maps.into_iter().enumerate().map(start).collect();
    let closed = Closed::default();
    closed.follow(sequencer.health());
    events::follow(sequencer.health());
    events::opened(&report, shards.len(), log.is_some());
    let intervals = Intervals {
        checkpoint: builder.checkpoint_interval,
        metrics: builder.metrics_interval(),
        vacuum: builder.vacuum,
    };
    let inner = Arc::new(Inner {
        router,
        coordinator: Coordinator::start(Arc::clone(&shards), &sequencer),
        shards,
        sequencer,
        readers,
        clock,
        default_ttl: builder.memory.as_ref().and_then(|limit| limit.eviction.default_ttl()),
        memory: builder.memory,
        env: builder.env,
        isolation: builder.isolation,
        durable: log.is_some(),
        wal: log.as_ref().map(|(wal, _)| Arc::downgrade(wal)),
        retries_max: builder.retries_max,
        gates: RetryGates::new(),
        runtime: runtime.clone(),
        closed,
        counters: Counters::default(),
        slow: builder.slow,
        recovered_to: report.log.recovered_to,
        #[cfg(feature = "metrics")]
        metrics: crate::metrics::MetricsRecorder::new(builder.metrics_name),
    });
    let wal = log.as_ref().map(|(wal, _)| Arc::clone(wal));
    let disk = builder.disk;
    let (keeper, requests) = Keeper::new(Arc::clone(&inner), log, intervals);
    runtime.spawn(keeper.run());
    Engine::new(inner, wal, disk, requests, report)
}

/// What the tasks that load have counted.
#[derive(Default)]
struct Loaded {
    entries: AtomicU64,
    records: AtomicU64,
    writes: AtomicU64,
    /// A key routes to another shard than that of the log that had it.
    moved: AtomicBool,
}

/// Loads all logs at once. `true` if keys have moved between shards.
async fn load<K: Key, V: Value, P: Partition<K>>(
    wal: &Wal,
    router: &Router<P>,
    maps: &[Arc<ShardMap<K, V>>],
    logs: Vec<RecoveredLog>,
    report: &mut RecoveryReport,
) -> Result<bool, Error> {
    let loaded = Arc::<Loaded>::default();
    let mut tasks = JoinSet::new();
    for (index, log) in logs.into_iter().enumerate() {
        report.checkpoint_bytes += log.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.entry.bytes);
        let (disk, loaded) = (wal.disk(), Arc::clone(&loaded));
        let task = Loader { index, router: router.clone(), maps: maps.to_vec(), loaded };
        tasks.spawn(async move { task.load(&*disk, log).await });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(|error| match error.try_into_panic() {
            Ok(_) => Error::config("a key's `Ord` or `Hash`, or the partitioner, panicked while loading"),
            Err(_) => Error::Closed,
        })??;
    }
    report.checkpoint_entries = loaded.entries.load(Ordering::Relaxed);
    report.records = loaded.records.load(Ordering::Relaxed);
    report.writes = loaded.writes.load(Ordering::Relaxed);
    Ok(loaded.moved.load(Ordering::Relaxed))
}

/// Loads one log. Keys go where they route today, whatever the log's number (L4).
struct Loader<K, V, P> {
    index: usize,
    router: Router<P>,
    maps: Vec<Arc<ShardMap<K, V>>>,
    loaded: Arc<Loaded>,
}

impl<K: Key, V: Value, P: Partition<K>> Loader<K, V, P> {
    async fn load(self, disk: &dyn Disk, log: RecoveredLog) -> Result<(), Error> {
        if let Some(checkpoint) = log.checkpoint {
            let mut reader = CheckpointReader::open(disk, &checkpoint).await?;
            while let Some(entries) = reader.next_block().await? {
                self.loaded.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
                for (timestamp, write) in entries {
                    self.put(&checkpoint.path, timestamp, &write)?;
                }
                tokio::task::yield_now().await;
            }
        }
        for (count, record) in log.records.into_iter().enumerate() {
            self.loaded.records.fetch_add(1, Ordering::Relaxed);
            for write in record.writes() {
                let write = write.map_err(|malformed| malformed.in_commit(&log.file, record.timestamp))?;
                self.loaded.writes.fetch_add(1, Ordering::Relaxed);
                self.put(&log.file, record.timestamp, &write)?;
            }
            if count % RECORDS_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn put(&self, file: &Path, timestamp: Timestamp, write: &Write) -> Result<(), Error> {
        if !write.is_plain() {
            return Err(Error::Unrecognized(WalError::Unsupported(format!(
                "commit {timestamp} uses a keyspace or metadata, or an expiry in an unknown way"
            ))));
        }
        if let Some(offset) = write.as_offset().map_err(|malformed| malformed.in_commit(file, timestamp))? {
            // Any shard will do, as the newest over all of them counts; one that is there.
            let map = &self.maps[self.index.min(self.maps.len() - 1)];
            map.offsets().set(timestamp, offset, timestamp);
            return Ok(());
        }
        let expires = Expiry::new(write.expires_unix_millis);
        let key: K = decode_key(&write.key)?;
        let value = match &write.value {
            Some(value) => Some(Arc::new(decode_value(&write.key, value)?)),
            None => None,
        };
        let shard = self.router.shard(&key);
        if shard != self.index {
            self.loaded.moved.store(true, Ordering::Relaxed);
        }
        self.maps[shard].load(key, timestamp, value, expires);
        Ok(())
    }
}

/// Before anything is served: a checkpoint of every shard, and one manifest that names them all (L4).
async fn checkpoint_all<K: Key, V: Value>(
    wal: &Wal,
    maps: &[Arc<ShardMap<K, V>>],
    timestamp: Timestamp,
) -> Result<(), Error> {
    let mut finished = Vec::new();
    for (shard, map) in maps.iter().enumerate() {
        finished.push(write_checkpoint(wal, shard, map, timestamp).await?);
    }
    wal.publish(&finished).await.map_err(|error: WalError| error.into())
}
