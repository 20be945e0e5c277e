//! What handles share: the way to the shards, and the way a commit goes.

use std::hash::Hash;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anabranch_coordinator::{Claimed, Coordinator};
use anabranch_shard::{
    Clock, Gone, Inline, Inside, Key, KeyHash, Level, Part, Partition, Reader, Readers, Refused, Reject,
    Router, STRIPES, Sequencer, Shard, Value, commit_inline, own_stripe, refused,
};
use anabranch_wal::{Env, Fault, Health, Timestamp, Wal};
use crossbeam_utils::CachePadded;

use crate::events;
use crate::memory::Limit;
use crate::parts::Parts;
use crate::retry::RetryGates;
use crate::{Error, Isolation};

/// Everything a handle needs. It holds no file: a directory is given back although handles live on.
pub(crate) struct Inner<K: Key, V: Value, P> {
    pub(crate) router: Router<P>,
    pub(crate) shards: Arc<[Shard<K, V>]>,
    pub(crate) coordinator: Coordinator<K, V>,
    pub(crate) sequencer: Arc<Sequencer>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) env: Arc<dyn Env>,
    /// What entries expire by.
    pub(crate) clock: Arc<Clock>,
    /// The limit of memory.
    pub(crate) memory: Option<Limit<K, V>>,
    /// How long an entry lives that is written without a time of its own.
    pub(crate) default_ttl: Option<Duration>,
    pub(crate) isolation: Isolation,
    /// Whether there is a log, so that writes must be encoded.
    pub(crate) durable: bool,
    /// The log, for readers of changes, for as long as it is open.
    pub(crate) wal: Option<Weak<Wal>>,
    pub(crate) retries_max: u32,
    pub(crate) gates: RetryGates,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) closed: Closed,
    pub(crate) counters: Counters,
    /// From here on, something slow is told of (feature `tracing`).
    pub(crate) slow: Duration,
    /// The last commit that was there when the engine opened.
    pub(crate) recovered_to: Timestamp,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: crate::metrics::MetricsRecorder,
}

/// [`Inner`], as a snapshot or a transaction holds it.
pub(crate) struct Held<K: Key, V: Value, P>(Arc<CachePadded<Arc<Inner<K, V, P>>>>);

impl<K: Key, V: Value, P> Clone for Held<K, V, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key, V: Value, P> Deref for Held<K, V, P> {
    type Target = Inner<K, V, P>;

    fn deref(&self) -> &Inner<K, V, P> {
        &self.0
    }
}

/// What is held by many for a short time is counted by each thread on a line of its own.
pub(crate) struct Holds<K: Key, V: Value, P>([Held<K, V, P>; STRIPES]);

impl<K: Key, V: Value, P> Holds<K, V, P> {
    pub(crate) fn new(inner: &Arc<Inner<K, V, P>>) -> Self {
        Self(std::array::from_fn(|_| Held(Arc::new(CachePadded::new(Arc::clone(inner))))))
    }

    pub(crate) fn hold(&self) -> Held<K, V, P> {
        self.0[own_stripe()].clone()
    }
}

/// Whether calls return [`Error::Closed`].
#[derive(Clone, Default)]
pub(crate) struct Closed(Arc<AtomicBool>);

impl Closed {
    pub(crate) fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether a call may go on: the engine is open, and this is no closure that must not call it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        if refused() == Refused::Calls { Err(Error::Nested) } else { Ok(()) }
    }

    /// Closes when the engine's health says so, as when its runtime ends.
    pub(crate) fn follow(&self, health: &Arc<Health>) {
        let (closed, followed) = (self.clone(), Arc::downgrade(health));
        health.on_fault(move || {
            if let Some(health) = followed.upgrade()
                && matches!(health.fault(), Some(Fault::Closed))
            {
                closed.close();
            }
        });
    }
}

/// What has happened since the engine was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) conflicts: AtomicU64,
    pub(crate) reruns: AtomicU64,
    pub(crate) two_phase: AtomicU64,
}

/// Shows a value to a user's closure, which must not call the engine meanwhile.
pub(crate) fn in_place<V, T>(look: impl FnOnce(&V) -> T) -> impl FnOnce(&Arc<V>) -> T {
    |value| {
        let _inside = Inside::enter(Refused::Calls);
        look(value)
    }
}

/// Whether a reader is not too old. A branch, where no maximum age is set.
pub(crate) fn check_age(reader: &Reader) -> Result<(), Error> {
    match reader.too_old() {
        None => Ok(()),
        Some(age) => Err(Error::SnapshotTooOld { age, timestamp: reader.timestamp() }),
    }
}

/// How one try to commit failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A rerun may succeed once this commit is visible.
    Conflict(Timestamp),
    /// A rerun would fail the same way.
    Error(Error),
}

impl Failed {
    /// How something failed that is not validated.
    fn without_conflict(self) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Conflict(_) => unreachable!("what is not validated has no conflicts"),
        }
    }
}

impl<K: Key, V: Value, P> Inner<K, V, P> {
    pub(crate) fn health(&self) -> &Arc<Health> {
        self.sequencer.health()
    }

    /// The shard of a key, and its hash, to look it up there.
    pub(crate) fn place<Q: Hash + ?Sized>(&self, key: &Q) -> (&Shard<K, V>, KeyHash)
    where
        P: Partition<Q>,
    {
        let (shard, hash) = self.router.place(key);
        (&self.shards[shard], hash)
    }

    /// Whether a commit may begin.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        self.closed.check()?;
        if refused() >= Refused::Commits {
            return Err(Error::Nested);
        }
        match self.health().fault() {
            None => Ok(()),
            Some(fault) => Err(Error::refused(fault.clone())),
        }
    }

    /// Commits a transaction's parts within a claim, and returns its timestamp.
    pub(crate) async fn submit_claimed(
        &self,
        claimed: Claimed,
        parts: Parts<K, V>,
        reader: Reader,
    ) -> Result<Timestamp, Failed> {
        self.check_writable().map_err(Failed::Error)?;
        let outcome = self.coordinator.commit_claimed(claimed, parts, Some(reader)).await;
        self.outcome(outcome)
    }

    /// Hands a transaction's parts over, to the one shard or to the coordinator, and returns its timestamp.
    pub(crate) async fn submit(
        &self,
        parts: Parts<K, V>,
        reader: Option<Reader>,
    ) -> Result<Timestamp, Failed> {
        self.check_writable().map_err(Failed::Error)?;
        let outcome = match commit_inline(&self.shards, &self.sequencer, parts) {
            Inline::Done(outcome) => Ok(outcome),
            Inline::Poisoned => Err(Gone),
            Inline::InTheWay(mut parts) => match (parts.len(), parts.pop()) {
                (1, Some((shard, part))) => self.shards[shard].commit(part, reader).await,
                (_, last) => {
                    parts.extend(last);
                    self.counters.two_phase.fetch_add(1, Ordering::Relaxed);
                    self.coordinator.commit(parts, reader).await
                }
            },
        };
        self.outcome(outcome)
    }

    /// [`Inner::submit`] for blind writes to one shard, which can't conflict.
    pub(crate) async fn submit_blind(&self, shard: usize, part: Part<K, V>) -> Result<Timestamp, Error> {
        self.submit(vec![(shard, part)], None).await.map_err(Failed::without_conflict)
    }

    /// What an answer of a shard, or its silence, means for the caller.
    pub(crate) fn outcome<T>(&self, outcome: Result<Result<T, Reject>, Gone>) -> Result<T, Failed> {
        match outcome {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(reject)) => Err(match Error::from_reject(reject) {
                Ok(error) => Failed::Error(error),
                Err(newer) => {
                    self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                    Failed::Conflict(newer)
                }
            }),
            Err(Gone) => Err(Failed::Error(self.gone())),
        }
    }

    /// What it means for a commit in flight that its shard has ended.
    #[cold]
    pub(crate) fn gone(&self) -> Error {
        Error::in_flight(self.health().fault().cloned().unwrap_or(Fault::Closed))
    }

    /// [`Inner::outcome`] of what is not validated.
    pub(crate) fn unvalidated<T>(&self, outcome: Result<Result<T, Reject>, Gone>) -> Result<T, Error> {
        self.outcome(outcome).map_err(Failed::without_conflict)
    }

    /// Waits until a commit is as durable as `level` says.
    pub(crate) async fn acknowledged(&self, level: Level, timestamp: Timestamp) -> Result<(), Error> {
        // A commit in line waits for nothing, so a loop of them would never let its thread's other tasks run.
        // Outside of tokio this does nothing.
        tokio::task::consume_budget().await;
        if self.sequencer.get(level) >= timestamp {
            return Ok(());
        }
        if self.sequencer.flush_if_alone() && self.sequencer.get(level) >= timestamp {
            return Ok(());
        }
        let reached = self.sequencer.reached(level, timestamp);
        #[cfg(feature = "tracing")]
        let reached = crate::events::slow_if_waited(&*self.env, self.slow, timestamp, reached);
        reached.await.map_err(Error::in_flight)
    }

    /// Forgets readers that are older than they may be, so that what they hold on to can be reclaimed.
    pub(crate) fn end_old_readers(&self) {
        let ended = self.readers.tick();
        if ended > 0 {
            events::readers_ended(ended, self.readers.age_max());
        }
    }

    /// Whether a reader may read on. Asked after each look-up too: what was found may lack what was reclaimed (V8).
    pub(crate) fn check_reader(&self, reader: &Reader) -> Result<(), Error> {
        self.closed.check()?;
        check_age(reader)
    }

    /// The level that a read-write transaction reads at. After a failure, what is applied may be lost (U2).
    pub(crate) fn transaction_level(&self) -> Level {
        if self.health().fault().is_some() { Level::Durable } else { Level::Applied }
    }
}
