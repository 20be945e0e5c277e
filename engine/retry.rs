//! Running a transaction again after a conflict.
//!
//! A rerun waits until the commit that won is visible, and holds *gates* for the keys that the last run
//! touched, so that reruns over the same keys go one after the other and do not defeat each other for ever.
//! Gates are a courtesy, not a lock: validation alone decides. From some run on, what the last runs touched is
//! claimed before the next (see `claim.rs`), which is what ends it. A body that may await something gets neither
//! gates nor claims, as it might wait for whoever needs them; it backs off instead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_coordinator::Claimed;
use anabranch_shard::{Key, KeyHash, Level, Value};
use anabranch_wal::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::Error;
use crate::claim::Footprint;
use crate::inner::{Failed, Inner};
use crate::parts::Parts;

const GATES: usize = 256;
/// From this run on, or without gates from the first, a rerun waits for a random time first.
const BACKOFF_FROM_RUN: u32 = 4;
/// From this run on, a rerun claims what the last ones touched.
const CLAIM_FROM_RUN: u32 = 9;
/// How long the first claim holds up others at the most; each further one twice as long.
const LEASE: Duration = Duration::from_secs(1);
const LEASE_DOUBLINGS_MAX: u32 = 4;
const BACKOFF_MIN: Duration = Duration::from_micros(50);
const BACKOFF_DOUBLINGS_MAX: u32 = 8;

/// One gate for each 256th of all keys.
pub(crate) struct RetryGates(Vec<Arc<Mutex<()>>>);

impl RetryGates {
    pub(crate) fn new() -> Self {
        Self((0..GATES).map(|_| Arc::default()).collect())
    }
}

/// A set of gates, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct GateSet([u64; GATES / 64]);

impl GateSet {
    /// The gates of all keys that are read or written.
    fn of<K, V>(parts: &Parts<K, V>) -> Self {
        let mut set = Self::default();
        for (_, part) in parts {
            part.read_hashes.iter().for_each(|hash| set.add(*hash));
            part.write_hashes.iter().for_each(|hash| set.add(*hash));
        }
        set
    }

    fn add(&mut self, hash: KeyHash) {
        let [word, .., bit] = hash.within_shard().to_le_bytes();
        self.0[usize::from(word % 4)] |= 1 << (bit % 64);
    }

    fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The gates' numbers, ascending.
    fn numbers(self) -> impl Iterator<Item = usize> {
        (0..GATES).filter(move |gate| self.0[gate / 64] >> (gate % 64) & 1 == 1)
    }
}

/// The runs of one transaction.
pub(crate) struct Retry<K> {
    runs: u32,
    held: Vec<OwnedMutexGuard<()>>,
    held_gates: GateSet,
    /// The gates of what the last run touched.
    last_gates: GateSet,
    /// Whether others may be made to wait for the body.
    holds_up_others: bool,
    touched: Footprint<K>,
    claimed: Option<Claimed>,
}

impl<K: Key> Retry<K> {
    pub(crate) const fn new() -> Self {
        Self {
            runs: 1,
            held: Vec::new(),
            held_gates: GateSet([0; GATES / 64]),
            last_gates: GateSet([0; GATES / 64]),
            holds_up_others: true,
            touched: Footprint::new(),
            claimed: None,
        }
    }

    /// For a body that may wait for others: holding anything meanwhile could make them wait for each other.
    pub(crate) fn holding_nothing() -> Self {
        Self { holds_up_others: false, ..Self::new() }
    }

    /// Whether the next run has its keys pinned.
    pub(crate) const fn is_claimed(&self) -> bool {
        self.claimed.is_some()
    }

    /// Ends a claim that is not needed.
    pub(crate) fn let_go(&mut self) {
        self.claimed = None;
    }

    /// The claim within which these parts are to be committed, if there is one. Remembers them for the next.
    pub(crate) fn claimed_for<V: Value>(&mut self, parts: &Parts<K, V>) -> Option<Claimed> {
        self.last_gates = GateSet::of(parts);
        if self.holds_up_others && self.runs + 1 >= CLAIM_FROM_RUN {
            self.touched.add(parts);
        }
        self.claimed.take()
    }

    /// Prepares the next run, or gives up at the limit.
    pub(crate) async fn again<V: Value, P>(
        &mut self,
        inner: &Inner<K, V, P>,
        newer: Timestamp,
    ) -> Result<(), Error> {
        if self.runs > inner.retries_max {
            return Err(Error::Conflict { attempts: self.runs });
        }
        self.runs += 1;
        inner.counters.reruns.fetch_add(1, Ordering::Relaxed);
        let needed = self.held_gates.union(self.last_gates);
        if self.holds_up_others && needed != self.held_gates {
            // All of them anew, in ascending order, so that two reruns can't wait for each other.
            self.held.clear();
            self.held_gates = needed;
            for gate in needed.numbers() {
                self.held.push(Arc::clone(&inner.gates.0[gate]).lock_owned().await);
            }
        }
        inner.acknowledged(Level::Applied, newer).await?;
        if self.holds_up_others && self.runs >= CLAIM_FROM_RUN {
            return self.claim(inner).await;
        }
        if self.runs >= BACKOFF_FROM_RUN || !self.holds_up_others {
            self.back_off(inner).await?;
        }
        Ok(())
    }

    /// Pins what the last runs touched. Then nobody else changes it, and the next run sees all who did.
    async fn claim<V: Value, P>(&mut self, inner: &Inner<K, V, P>) -> Result<(), Error> {
        inner.check_writable()?;
        let doublings = (self.runs - CLAIM_FROM_RUN).min(LEASE_DOUBLINGS_MAX);
        let claimed = inner.coordinator.claim(self.touched.to_claim(), LEASE * (1 << doublings)).await;
        match inner.outcome(claimed) {
            Ok(claimed) => self.claimed = Some(claimed),
            Err(Failed::Error(error)) => return Err(error),
            Err(Failed::Conflict(_)) => unreachable!("a claim is not validated"),
        }
        // What was committed to these keys before is applied on other shards, too.
        inner.acknowledged(Level::Applied, inner.sequencer.last()).await
    }

    /// Sleeps on the engine's runtime: the caller may be on another, or on none.
    async fn back_off<V: Value, P>(&self, inner: &Inner<K, V, P>) -> Result<(), Error> {
        let doublings = self.runs.saturating_sub(BACKOFF_FROM_RUN).min(BACKOFF_DOUBLINGS_MAX);
        let limit = BACKOFF_MIN * (1 << doublings);
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let pause = Duration::from_nanos(inner.env.random() % limit);
        // Within the task, as a timer can only be made on a runtime.
        inner.runtime.spawn(async move { tokio::time::sleep(pause).await }).await.map_err(|_| Error::Closed)
    }
}
