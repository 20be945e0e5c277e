//! The builder.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch_shard::{Eviction, HASH_NAME, HashPartition, Key, Measure, Partition, Value};
use anabranch_wal::{
    Disk, Env, LOGS_MAX, RealDisk, Retention, RingLimits, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SystemEnv,
    WalError, WalOptions,
};

use crate::memory::{Limit, check_ttl};
use crate::{Durability, Engine, Error, GetSize};

/// Which anomalies a transaction may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// None: transactions behave as if run one at a time, in an order that agrees with real time.
    #[default]
    Serializable,
    /// Write skew: a transaction reads one snapshot, and of two that write the same key the first committer
    /// wins; what was only read is not checked.
    Snapshot,
}

/// When old versions are reclaimed beyond what a write of their key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacuum {
    /// A little with every batch of commits, and so often when a shard is idle.
    Automatic {
        /// How often idle shards are looked at.
        idle_interval: Duration,
    },
    /// Only by [`Engine::vacuum`].
    Manual,
}

impl Default for Vacuum {
    fn default() -> Self {
        Self::Automatic { idle_interval: Duration::from_secs(1) }
    }
}

/// A shard's share of a limit of memory has at least so many bytes, so that no entry of a usual size is evicted as
/// soon as it is written.
const SHARE_BYTES_MIN: u64 = 64 << 10;

/// Settings of an engine. Made by [`Engine::builder`]; each has a default that suits most.
#[must_use = "a builder does nothing before `open` or `in_memory`"]
pub struct EngineBuilder<K, V, P = HashPartition> {
    pub(crate) shards: Option<usize>,
    pub(crate) isolation: Isolation,
    pub(crate) durability: Option<Durability>,
    pub(crate) limits: RingLimits,
    pub(crate) checkpoint_logged_min: u64,
    pub(crate) checkpoint_interval: Option<Duration>,
    pub(crate) vacuum: Vacuum,
    pub(crate) retries_max: u32,
    pub(crate) lend_turns: bool,
    pub(crate) snapshot_age_max: Option<Duration>,
    pub(crate) slow: Duration,
    #[cfg(feature = "metrics")]
    pub(crate) metrics_name: String,
    #[cfg(feature = "metrics")]
    pub(crate) metrics_interval: Option<Duration>,
    pub(crate) memory: Option<Limit<K, V>>,
    pub(crate) partition: P,
    pub(crate) disk: Option<Arc<dyn Disk>>,
    pub(crate) env: Arc<dyn Env>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> EngineBuilder<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            shards: None,
            isolation: Isolation::default(),
            durability: None,
            limits: RingLimits { segment_bytes: 8 << 20, segments_max: 128, retention: Retention::default() },
            checkpoint_logged_min: 64 << 20,
            checkpoint_interval: None,
            vacuum: Vacuum::default(),
            retries_max: 10_000,
            lend_turns: true,
            snapshot_age_max: None,
            slow: Duration::from_secs(1),
            #[cfg(feature = "metrics")]
            metrics_name: "default".to_owned(),
            #[cfg(feature = "metrics")]
            metrics_interval: None,
            memory: None,
            partition: HashPartition,
            disk: None,
            env: Arc::new(SystemEnv),
            types: PhantomData,
        }
    }
}

impl<K, V, P> EngineBuilder<K, V, P> {
    /// How many shards, each with a log of its own. 1 to 512; by default [`default_shards`] for a new engine, and as many
    /// as there are for one that is opened again. A directory may be reopened with another number: keys are moved
    /// while it opens.
    pub fn shards(self, shards: usize) -> Self {
        Self { shards: Some(shards), ..self }
    }

    /// Which anomalies transactions may see. By default none.
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// What an acknowledged commit survives. By default, in a directory, power loss.
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    /// The size of a log segment in bytes, rounded up to 4 KiB; 16 KiB to 1 GiB, by default 8 MiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.limits.segment_bytes = bytes;
        self
    }

    /// How many segments a shard's log may grow to; 4 at the least, by default 128. At the limit, commits wait
    /// for a checkpoint.
    pub fn segments_max(mut self, segments: usize) -> Self {
        self.limits.segments_max = segments;
        self
    }

    /// Keeps so many bytes of each shard's log although a checkpoint covers them, for [`crate::Handle::changes`]; by
    /// default nothing. Whole segments are kept, and never more than a quarter of the ring
    /// ([`EngineBuilder::segments_max`]). What is kept is read when the directory is opened again.
    pub fn retain_log_bytes(mut self, bytes: u64) -> Self {
        self.limits.retention.bytes = Some(bytes);
        self
    }

    /// Keeps segments of the log that were written within so long although a checkpoint covers them. As
    /// [`EngineBuilder::retain_log_bytes`]; with both, both limits count.
    pub fn retain_log_for(mut self, age: Duration) -> Self {
        self.limits.retention.age = Some(age);
        self
    }

    /// A shard's checkpoint is not due before so many bytes were logged since the last; by default 64 MiB.
    /// Above that it is due when as much was logged as the last one took, or when the ring is half full, which is
    /// looked at whenever a segment is full. It is put off, until four times as much was logged, while most of what was
    /// logged is still there, as in a load: reopening would read no less then.
    pub fn checkpoint_after_bytes(self, bytes: u64) -> Self {
        Self { checkpoint_logged_min: bytes, ..self }
    }

    /// Also writes checkpoints so often, of shards that logged something. By default never.
    pub fn checkpoint_every(self, interval: Duration) -> Self {
        Self { checkpoint_interval: Some(interval), ..self }
    }

    /// When old versions are reclaimed. By default automatically.
    pub fn vacuum(self, vacuum: Vacuum) -> Self {
        Self { vacuum, ..self }
    }

    /// How often [`crate::Handle::transaction`] reruns a body before it gives up; by default 10,000 times.
    pub fn retries_max(self, retries: u32) -> Self {
        Self { retries_max: retries, ..self }
    }

    /// Whether an idle shard runs a commit on the caller's task instead of its own, which saves a message and
    /// a wake-up. By default it does; without, every commit is a message to its shard's actor.
    pub fn lend_turns(self, lend: bool) -> Self {
        Self { lend_turns: lend, ..self }
    }

    /// Ends snapshots, scans and transactions that are open for longer than this: what they do next is
    /// [`Error::SnapshotTooOld`], and what they held on to can be reclaimed. By default they live for as long as they
    /// like. Each of them then costs a look at the clock, when it begins and when it reads.
    pub fn max_snapshot_age(self, age: Duration) -> Self {
        Self { snapshot_age_max: Some(age), ..self }
    }

    /// What takes longer than this is told as an event of `tracing` (feature `tracing`; without it, this changes
    /// nothing): a flush, a sync, a checkpoint, a commit's wait for its acknowledgement. By default one second.
    pub fn slow_after(self, threshold: Duration) -> Self {
        Self { slow: threshold, ..self }
    }

    /// The value of the label `engine` that this engine's metrics have; by default `default`.
    #[cfg(feature = "metrics")]
    pub fn metrics_name(self, name: impl Into<String>) -> Self {
        Self { metrics_name: name.into(), ..self }
    }

    /// Records metrics so often ([`Engine::record_metrics`]). By default only when asked to.
    #[cfg(feature = "metrics")]
    pub fn metrics_every(self, interval: Duration) -> Self {
        Self { metrics_interval: Some(interval), ..self }
    }

    #[cfg_attr(not(feature = "metrics"), expect(clippy::unused_self, reason = "see the feature"))]
    pub(crate) fn metrics_interval(&self) -> Option<Duration> {
        #[cfg(feature = "metrics")]
        return self.metrics_interval;
        #[cfg(not(feature = "metrics"))]
        None
    }

    /// Which shard a key belongs to. By default the engine's seeded hash decides.
    pub fn partition<N>(self, partition: N) -> EngineBuilder<K, V, N> {
        EngineBuilder {
            partition,
            shards: self.shards,
            isolation: self.isolation,
            durability: self.durability,
            limits: self.limits,
            checkpoint_logged_min: self.checkpoint_logged_min,
            checkpoint_interval: self.checkpoint_interval,
            vacuum: self.vacuum,
            retries_max: self.retries_max,
            lend_turns: self.lend_turns,
            snapshot_age_max: self.snapshot_age_max,
            slow: self.slow,
            #[cfg(feature = "metrics")]
            metrics_name: self.metrics_name,
            #[cfg(feature = "metrics")]
            metrics_interval: self.metrics_interval,
            memory: self.memory,
            disk: self.disk,
            env: self.env,
            types: PhantomData,
        }
    }

    /// Where files go. By default the operating system's file system.
    pub fn disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk: Some(disk), ..self }
    }

    /// Where time and randomness come from. By default the operating system.
    pub fn env(self, env: Arc<dyn Env>) -> Self {
        Self { env, ..self }
    }

    /// How many shards a new engine gets.
    fn shards_to_create(&self, durability: Option<Durability>) -> Result<usize, Error> {
        let shards = self.shards.unwrap_or_else(|| default_shards(durability).min(self.shards_max()));
        self.check_memory(shards)?;
        if (1..=LOGS_MAX).contains(&shards) {
            Ok(shards)
        } else {
            Err(Error::config(format!("an engine has 1 to {LOGS_MAX} shards, not {shards}")))
        }
    }

    /// How many shards an engine gets that had so many; none is a new one.
    pub(crate) fn shards_to_open(&self, before: usize) -> Result<usize, Error> {
        match self.shards {
            None if before > 0 => Ok(before.min(self.shards_max())),
            _ => self.shards_to_create(Some(self.durability.unwrap_or(Durability::Full))),
        }
    }

    /// With more shards, their shares of a limit of memory were too small.
    fn shards_max(&self) -> usize {
        let shares = self.memory.as_ref().map(|limit| limit.bytes / SHARE_BYTES_MIN);
        shares
            .and_then(|shares| usize::try_from(shares).ok())
            .map_or(LOGS_MAX, |shares| shares.clamp(1, LOGS_MAX))
    }

    /// The shares of a limit of memory are large enough, and so is its time to live.
    fn check_memory(&self, shards: usize) -> Result<(), Error> {
        let Some(limit) = &self.memory else { return Ok(()) };
        let least = SHARE_BYTES_MIN * shards as u64;
        if limit.bytes < least {
            return Err(Error::config(format!(
                "a limit of memory of {} bytes is too small for {shards} shards, which need {least}; raise it, or \
                 take fewer shards",
                limit.bytes
            )));
        }
        limit.eviction.default_ttl().map_or(Ok(()), check_ttl)
    }

    fn check_intervals(&self) -> Result<(), Error> {
        let idle = match self.vacuum {
            Vacuum::Automatic { idle_interval } => Some(idle_interval),
            Vacuum::Manual => None,
        };
        if self.snapshot_age_max == Some(Duration::ZERO) {
            return Err(Error::config("with a maximum age of zero, no snapshot could be read from"));
        }
        if [idle, self.checkpoint_interval, self.metrics_interval()].contains(&Some(Duration::ZERO)) {
            return Err(Error::config(
                "an interval of zero between checkpoints, vacuums or metrics leaves no time for \
                 anything else",
            ));
        }
        Ok(())
    }

    fn ring_limits(&self) -> Result<RingLimits, Error> {
        let RingLimits { segment_bytes, segments_max, retention } = self.limits;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes) {
            return Err(Error::config(format!(
                "a segment has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX} bytes, not {segment_bytes}"
            )));
        }
        if segments_max < 4 {
            return Err(Error::config(format!(
                "a log needs 4 segments at the least, one to write, one to reclaim and two spare ones, not \
                 {segments_max}"
            )));
        }
        Ok(RingLimits { segment_bytes: segment_bytes.next_multiple_of(4096), segments_max, retention })
    }
}

impl<K: GetSize, V: GetSize, P> EngineBuilder<K, V, P> {
    /// The most memory that keys, values and what keeps them may take, and what happens when that is reached. By
    /// default there is no limit. At the least 64 KiB for each shard.
    ///
    /// Each shard has an even share. Keys and values must say what they hold on the heap, which is what
    /// [`GetSize`] is for; `#[derive(GetSize)]` does it for your own types. `docs/memory.md` in the repository says
    /// what is counted, how exactly, and which policy suits what.
    ///
    /// An eviction is a removal like any other: it has its place in the commit order, survives reopening, and is
    /// seen by validation and by [`crate::Handle::changes`]. Snapshots that began before still see the entry; what
    /// they hold on to comes on top of the limit.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), anabranch::Error> {
    /// use anabranch::{Engine, Eviction};
    ///
    /// let engine: Engine<String, Vec<u8>> =
    ///     Engine::builder().memory_limit(64 << 20, Eviction::Lru).in_memory().await?;
    /// assert_eq!(engine.memory_info().limit_bytes, Some(64 << 20));
    /// # engine.close().await
    /// # }
    /// ```
    ///
    /// There is no policy without a limit, and no time to live without a duration:
    ///
    /// ```compile_fail
    /// use anabranch::{Engine, Eviction};
    ///
    /// let builder = Engine::<String, String>::builder().memory_limit(Eviction::Lru);
    /// ```
    ///
    /// ```compile_fail
    /// use anabranch::{Engine, Eviction};
    ///
    /// let builder = Engine::<String, String>::builder().memory_limit(64 << 20, Eviction::Ttl);
    /// ```
    pub fn memory_limit(self, bytes: u64, eviction: Eviction) -> Self {
        let measure = Measure { key: K::get_heap_size, value: V::get_heap_size };
        Self { memory: Some(Limit { bytes, eviction, measure }), ..self }
    }
}

impl<K: Key, V: Value, P: Partition<K>> EngineBuilder<K, V, P> {
    /// Opens the engine in a directory: makes a new one if the directory is missing or empty, else recovers
    /// what is there. Waits for an engine in this process that was dropped and is about to give the directory
    /// back.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that can't work, and outside of a tokio runtime; [`Error::Locked`],
    /// [`Error::Corrupt`], [`Error::Decode`], [`Error::Unrecognized`], [`Error::DiskFull`], [`Error::Io`].
    pub async fn open(self, directory: impl AsRef<Path>) -> Result<Engine<K, V, P>, Error> {
        self.open_directory(directory.as_ref(), true).await
    }

    /// Opens the engine in a directory, and never makes a new one.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] if there is none; else as for [`EngineBuilder::open`].
    pub async fn open_existing(self, directory: impl AsRef<Path>) -> Result<Engine<K, V, P>, Error> {
        self.open_directory(directory.as_ref(), false).await
    }

    async fn open_directory(self, directory: &Path, create: bool) -> Result<Engine<K, V, P>, Error> {
        let runtime = runtime()?;
        self.check_intervals()?;
        let options = WalOptions {
            shards: self.shards_to_open(0)?,
            policy: self.durability.unwrap_or(Durability::Full).policy()?,
            limits: self.ring_limits()?,
            checkpoint_logged_min: self.checkpoint_logged_min,
            hash: HASH_NAME.to_owned(),
            create,
        };
        let disk = match &self.disk {
            Some(disk) => Arc::clone(disk),
            None => Arc::new(RealDisk::new().map_err(|error| WalError::io("opening", directory, error))?),
        };
        // Boxed, so that the caller's own future stays small.
        Box::pin(crate::open::open(self, runtime, &*disk, directory, options)).await
    }

    /// Makes an engine in memory, which survives nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that can't work, for a durability, and outside of a tokio runtime.
    #[expect(clippy::unused_async, reason = "it starts tasks, so it belongs into a runtime, as `open` does")]
    pub async fn in_memory(self) -> Result<Engine<K, V, P>, Error> {
        let runtime = runtime()?;
        self.check_intervals()?;
        if self.durability.is_some() {
            return Err(Error::config("an engine in memory can't be durable; use `open` with a directory"));
        }
        let shards = self.shards_to_create(None)?;
        Ok(crate::open::in_memory(self, runtime, shards))
    }
}

/// How many shards a new engine has that isn't told: in memory twice as many as the machine runs threads, so that they
/// seldom meet at one; with [`Durability::Relaxed`] as many; and with [`Durability::Full`] half as many, as each sync
/// costs a thread, and fewer syncs take more commits each. `docs/performance.md` has the measurements.
#[must_use]
pub fn default_shards(durability: Option<Durability>) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let shards = match durability {
        None => threads * 2,
        Some(Durability::Relaxed(_)) => threads,
        Some(Durability::Full) => threads / 2,
    };
    shards.clamp(1, LOGS_MAX)
}

fn runtime() -> Result<tokio::runtime::Handle, Error> {
    tokio::runtime::Handle::try_current()
        .map_err(|_| Error::config("an engine is opened within a tokio runtime, which then runs its tasks"))
}
