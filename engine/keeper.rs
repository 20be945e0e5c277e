//! The keeper: the task that looks after an engine. It writes checkpoints, sweeps idle shards, and closes the
//! engine in an orderly way. It owns the log's tasks: they end with it.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use anabranch_shard::{Key, Level, PageEntry, ShardMap, Value, encode};
use anabranch_wal::{CheckpointWriter, Fault, FinishedCheckpoint, SourceOffset, Timestamp, Wal};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::events;
use crate::inner::Inner;
use crate::{Error, Vacuum};

/// Keys of a checkpoint read at a time.
const CHECKPOINT_PAGE_KEYS: usize = 512;
/// Enough to tell how long entries are.
const SAMPLED_ENTRIES: usize = 64;
/// What the log and checkpoints add to an entry, about.
const ENTRY_OVERHEAD_BYTES: u64 = 16;
/// After a failed checkpoint, the next try by itself waits so long.
const CHECKPOINT_BACKOFF: Duration = Duration::from_secs(1);
const REQUESTS_MAX: usize = 64;
/// So many new keys are put in order before other tasks run.
const SETTLED_AT_ONCE_MAX: usize = 4096;
const READERS_INTERVAL_MIN: Duration = Duration::from_millis(10);
const READERS_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How often the ages of readers are looked at: so that one is noticed within a quarter of the maximum age.
fn readers_interval(age_max: Option<Duration>) -> Duration {
    age_max.map_or(READERS_INTERVAL_MAX, |age| (age / 4).clamp(READERS_INTERVAL_MIN, READERS_INTERVAL_MAX))
}

/// What an [`crate::Engine`] asks of its keeper.
pub(crate) enum Request {
    /// Write checkpoints of all shards that logged something.
    Checkpoint(oneshot::Sender<Result<(), Error>>),
    /// Close. Dropping the sender of requests asks for the same.
    Close(oneshot::Sender<Result<(), Error>>),
}

/// The engine's end of the line to its keeper.
pub(crate) struct Requests {
    pub(crate) sender: mpsc::Sender<Request>,
    pub(crate) checkpoint_error: Arc<Mutex<Option<String>>>,
}

pub(crate) struct Keeper<K: Key, V: Value, P> {
    inner: Arc<Inner<K, V, P>>,
    wal: Option<Arc<Wal>>,
    log_tasks: JoinSet<()>,
    requests: mpsc::Receiver<Request>,
    intervals: Intervals,
    checkpoint_error: Arc<Mutex<Option<String>>>,
    /// When a checkpoint that failed is tried again. The keeper attends to other things meanwhile.
    retry_checkpoints_at: Option<Instant>,
    /// The last commit, when it last looked.
    last_seen: Timestamp,
}

/// Why the keeper woke up.
enum Event {
    Request(Option<Request>),
    LogGrew,
    CheckpointTime,
    VacuumTime,
    ReadersTime,
    MetricsTime,
}

/// How often the keeper does what by itself.
pub(crate) struct Intervals {
    pub(crate) checkpoint: Option<Duration>,
    pub(crate) metrics: Option<Duration>,
    pub(crate) vacuum: Vacuum,
}

impl<K: Key, V: Value, P: Send + Sync + 'static> Keeper<K, V, P> {
    pub(crate) fn new(
        inner: Arc<Inner<K, V, P>>,
        log: Option<(Arc<Wal>, JoinSet<()>)>,
        intervals: Intervals,
    ) -> (Self, Requests) {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let checkpoint_error = Arc::new(Mutex::new(None));
        let (wal, log_tasks) = log.map_or((None, JoinSet::new()), |(wal, tasks)| (Some(wal), tasks));
        let (error, sent) = (Arc::clone(&checkpoint_error), sender);
        let keeper = Self {
            inner,
            wal,
            log_tasks,
            requests,
            intervals,
            checkpoint_error,
            retry_checkpoints_at: None,
            last_seen: Timestamp::ZERO,
        };
        (keeper, Requests { sender: sent, checkpoint_error: error })
    }

    pub(crate) async fn run(mut self) {
        let vacuum = match self.intervals.vacuum {
            Vacuum::Automatic { idle_interval } => Some(idle_interval),
            Vacuum::Manual => None,
        };
        let mut clocks = Clocks {
            checkpoint: Clock::new(self.intervals.checkpoint),
            vacuum: Clock::new(vacuum),
            readers: Clock::new(Some(readers_interval(self.inner.readers.age_max()))),
            metrics: Clock::new(self.intervals.metrics),
        };
        let reply = loop {
            match self.wait(&mut clocks).await {
                Event::Request(Some(Request::Checkpoint(reply))) => {
                    let _ = reply.send(self.checkpoint_all().await);
                }
                Event::Request(Some(Request::Close(reply))) => break Some(reply),
                Event::Request(None) => break None,
                Event::LogGrew => self.checkpoint_due().await,
                Event::CheckpointTime => {
                    let _ = self.checkpoint_all().await;
                }
                Event::VacuumTime => self.sweep_idle().await,
                Event::ReadersTime => self.inner.end_old_readers(),
                Event::MetricsTime => self.record_metrics(),
            }
        };
        let closed = self.close().await;
        events::closed(&closed);
        // The directory is given back before whoever closes is told.
        let inner = Arc::clone(&self.inner);
        drop(self);
        inner.health().fail(Fault::Closed);
        if let Some(reply) = reply {
            let _ = reply.send(closed);
        }
    }

    async fn wait(&mut self, clocks: &mut Clocks) -> Event {
        let (wal, retry_at) = (self.wal.clone(), self.retry_checkpoints_at);
        let grown = async {
            match (&wal, retry_at) {
                (Some(_), Some(retry_at)) => tokio::time::sleep_until(retry_at).await,
                (Some(wal), None) => wal.control().checkpoint_may_be_due().await,
                (None, _) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            request = self.requests.recv() => Event::Request(request),
            () = grown => Event::LogGrew,
            () = clocks.checkpoint.tick() => Event::CheckpointTime,
            () = clocks.vacuum.tick() => Event::VacuumTime,
            () = clocks.readers.tick() => Event::ReadersTime,
            () = clocks.metrics.tick() => Event::MetricsTime,
        }
    }

    #[cfg_attr(not(feature = "metrics"), expect(clippy::unused_self, reason = "see the feature"))]
    fn record_metrics(&self) {
        #[cfg(feature = "metrics")]
        self.inner.metrics.record(self.inner.stats(self.wal.as_deref()));
    }

    async fn sweep_idle(&mut self) {
        for shard in &*self.inner.shards {
            if self.inner.memory.is_some() {
                shard.tick();
            }
            if shard.queues().1 > 0 || shard.is_to_be_governed() {
                let _ = shard.sweep().await;
            }
        }
        // A load of new keys is left alone until it is over.
        let last = self.inner.sequencer.last();
        if std::mem::replace(&mut self.last_seen, last) == last {
            for shard in &*self.inner.shards {
                while shard.map().settle(SETTLED_AT_ONCE_MAX) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    async fn checkpoint_due(&mut self) {
        self.retry_checkpoints_at = None;
        let Some(wal) = self.wal.clone() else { return };
        for shard in wal.checkpoints_due(|shard| live_bytes(self.inner.shards[shard].map())) {
            if self.checkpoint(&wal, shard).await.is_err() {
                // The log keeps everything; a full ring makes commits wait.
                self.retry_checkpoints_at = Some(Instant::now() + CHECKPOINT_BACKOFF);
            }
        }
    }

    async fn checkpoint_all(&self) -> Result<(), Error> {
        let Some(wal) = &self.wal else {
            return Err(Error::config("an engine in memory has no checkpoints; open it in a directory"));
        };
        for shard in 0..self.inner.shards.len() {
            if wal.logged_since_checkpoint(shard) > 0 {
                self.checkpoint(wal, shard).await?;
            }
        }
        Ok(())
    }

    /// Writes and publishes the checkpoint of one shard.
    async fn checkpoint(&self, wal: &Wal, shard: usize) -> Result<(), Error> {
        let started = self.inner.env.now();
        events::checkpoint_begun(shard);
        let outcome = self.try_checkpoint(wal, shard).await;
        let elapsed = self.inner.env.now().saturating_sub(started);
        events::checkpoint_ended(shard, &outcome, elapsed, self.inner.slow);
        *self.checkpoint_error.lock() = outcome.as_ref().err().map(ToString::to_string);
        // Also after a failure: what waits for space may be too large for any recycling.
        let relieved = wal.relieve(shard).await.map_err(Error::from);
        outcome.and(relieved)
    }

    async fn try_checkpoint(&self, wal: &Wal, shard: usize) -> Result<(), Error> {
        let inner = &self.inner;
        inner.health().check().map_err(Error::refused)?;
        // A registered reader: its versions stay while the writer goes on.
        let reader = inner.readers.register_exempt(Level::Applied);
        let timestamp = reader.timestamp();
        if timestamp == Timestamp::ZERO {
            return Ok(());
        }
        // R32: nothing undecided goes into a checkpoint, so the logs are synced up to it first (T5).
        if !wal.skips_sync_before_checkpoint() {
            inner.sequencer.reached(Level::Synced, timestamp).await.map_err(Error::refused)?;
        }
        let finished = write_checkpoint(wal, shard, inner.shards[shard].map(), timestamp).await?;
        drop(reader);
        wal.publish(&[finished]).await.map_err(|error| {
            inner.health().fail(Fault::Log(error.clone()));
            Error::from(error)
        })
    }

    /// Lets what is under way end, syncs everything, and says so in the manifest.
    async fn close(&mut self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        inner.closed.close();
        inner.coordinator.close();
        for shard in &*inner.shards {
            shard.close();
        }
        let drained = async {
            inner.coordinator.idle().await?;
            for shard in &*inner.shards {
                shard.barrier().await?;
            }
            Ok::<_, anabranch_shard::Gone>(())
        };
        let mut outcome = Ok(());
        if drained.await.is_ok()
            && let Some(wal) = &self.wal
        {
            outcome = self.sync_and_seal(wal).await;
        } else if let Some(fault) = inner.health().fault() {
            outcome = Err(Error::refused(fault.clone()));
        }
        inner.coordinator.stop().await;
        for shard in &*inner.shards {
            shard.stop().await;
        }
        self.log_tasks.shutdown().await;
        if let Some(wal) = &self.wal {
            wal.settle().await;
        }
        outcome
    }

    async fn sync_and_seal(&self, wal: &Wal) -> Result<(), Error> {
        let sequencer = &self.inner.sequencer;
        let last = sequencer.last();
        sequencer.reached(Level::Synced, last).await.map_err(Error::refused)?;
        Ok(wal.seal_promises().await?)
    }
}

/// The times at which the keeper wakes up by itself. They go on while it attends to other things.
struct Clocks {
    checkpoint: Clock,
    vacuum: Clock,
    readers: Clock,
    metrics: Clock,
}

struct Clock(Option<Interval>);

impl Clock {
    fn new(period: Option<Duration>) -> Self {
        Self(period.map(|period| {
            let mut interval = interval_at(Instant::now() + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn tick(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// About so many bytes a checkpoint of the shard would take, by a few of its entries.
fn live_bytes<K: Key, V: Value>(map: &ShardMap<K, V>) -> u64 {
    let (mut bytes, mut entries) = (Vec::new(), 0);
    map.sample(SAMPLED_ENTRIES, |key, value| {
        // What does not encode was not logged either.
        let encoded = encode(&mut bytes, key).and_then(|()| encode(&mut bytes, value));
        entries += u64::from(encoded.is_ok());
    });
    let encoded = (bytes.len() as u64).checked_div(entries).unwrap_or(0);
    map.live() * (encoded + ENTRY_OVERHEAD_BYTES)
}

/// Writes a shard's content at a timestamp to a new file, and makes that durable. The manifest does not name
/// it yet.
pub(crate) async fn write_checkpoint<K: Key, V: Value>(
    wal: &Wal,
    shard: usize,
    map: &ShardMap<K, V>,
    timestamp: Timestamp,
) -> Result<FinishedCheckpoint, Error> {
    let mut checkpoint = wal.begin_checkpoint(shard, timestamp).await?;
    match write_entries(&mut checkpoint.writer, map, timestamp).await {
        Ok(()) => Ok(wal.finish_checkpoint(checkpoint).await?),
        Err(error) => {
            wal.abandon_checkpoint(checkpoint).await;
            Err(error)
        }
    }
}

/// Writes all entries of a shard at a timestamp, page by page. The caller is registered as a reader.
pub(crate) async fn write_entries<K: Key, V: Value>(
    writer: &mut CheckpointWriter,
    map: &ShardMap<K, V>,
    timestamp: Timestamp,
) -> Result<(), Error> {
    for (written, SourceOffset { source, offset }) in map.offsets().at(timestamp) {
        writer.push_offset(written, &source, offset);
        if writer.block_is_full() {
            writer.write_block().await?;
        }
    }
    let mut unread = Some((Bound::Unbounded, Bound::Unbounded));
    while let Some(bounds) = unread.take() {
        // What has expired is in it, with its expiry: its removal is logged later.
        let mut page = Vec::new();
        let last = map.page(&bounds, false, CHECKPOINT_PAGE_KEYS, (timestamp, 0), |entry| page.push(entry));
        for PageEntry { key, timestamp, expires, value } in &page {
            writer
                .push(
                    *timestamp,
                    expires.unix_millis(),
                    |bytes| encode(bytes, key),
                    |bytes| encode(bytes, &**value),
                )
                .map_err(|reason| Error::Encode { reason })?;
            if writer.block_is_full() {
                writer.write_block().await?;
            }
        }
        unread = last.map(|last| (Bound::Excluded(last), Bound::Unbounded));
        tokio::task::yield_now().await;
    }
    Ok(())
}
