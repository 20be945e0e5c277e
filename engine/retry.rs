//! Running a transaction again after a conflict.
//!
//! A rerun waits until the commit that won is visible, and holds *gates* for the keys that the last run
//! touched, so that reruns over the same keys go one after the other and do not defeat each other for ever.
//! Gates are a courtesy, not a lock: validation alone decides. A body that may await something gets none, as
//! it might wait for whoever needs one of them; it backs off instead.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch_shard::{Key, Level, Value};
use anabranch_wal::Timestamp;
use foldhash::fast::FixedState;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::Error;
use crate::inner::Inner;

const GATES: usize = 256;
/// From this run on, or without gates from the first, a rerun waits for a random time first.
const BACKOFF_FROM_RUN: u32 = 4;
const BACKOFF_MIN: Duration = Duration::from_micros(50);
const BACKOFF_DOUBLINGS_MAX: u32 = 8;

/// One gate for each 256th of all keys.
pub(crate) struct RetryGates {
    gates: Vec<Arc<Mutex<()>>>,
    hash: FixedState,
}

impl RetryGates {
    pub(crate) fn new() -> Self {
        let gates = (0..GATES).map(|_| Arc::default()).collect();
        Self { gates, hash: FixedState::default() }
    }

    /// The gates of some keys.
    pub(crate) fn gates_of<'k, K: Hash + 'k>(&self, keys: impl Iterator<Item = &'k K>) -> GateSet {
        let mut set = GateSet::default();
        for key in keys {
            let [word, .., bit] = self.hash.hash_one(key).to_le_bytes();
            set.0[usize::from(word % 4)] |= 1 << (bit % 64);
        }
        set
    }
}

/// A set of gates, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GateSet([u64; GATES / 64]);

impl GateSet {
    fn union(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The gates' numbers, ascending.
    fn numbers(self) -> impl Iterator<Item = usize> {
        (0..GATES).filter(move |gate| self.0[gate / 64] >> (gate % 64) & 1 == 1)
    }
}

/// The runs of one transaction.
pub(crate) struct Retry {
    runs: u32,
    held: Vec<OwnedMutexGuard<()>>,
    held_gates: GateSet,
    uses_gates: bool,
}

impl Retry {
    pub(crate) fn new() -> Self {
        Self { runs: 1, held: Vec::new(), held_gates: GateSet::default(), uses_gates: true }
    }

    /// For a body that may wait for others: holding gates meanwhile could make them wait for each other.
    pub(crate) fn without_gates() -> Self {
        Self { uses_gates: false, ..Self::new() }
    }

    /// Prepares the next run, or gives up at the limit.
    pub(crate) async fn again<K: Key, V: Value, P>(
        &mut self,
        inner: &Inner<K, V, P>,
        newer: Timestamp,
        gates: GateSet,
    ) -> Result<(), Error> {
        if self.runs > inner.retries_max {
            return Err(Error::Conflict { attempts: self.runs });
        }
        self.runs += 1;
        inner.counters.reruns.fetch_add(1, Ordering::Relaxed);
        let needed = self.held_gates.union(gates);
        if self.uses_gates && needed != self.held_gates {
            // All of them anew, in ascending order, so that two reruns can't wait for each other.
            self.held.clear();
            self.held_gates = needed;
            for gate in needed.numbers() {
                self.held.push(Arc::clone(&inner.gates.gates[gate]).lock_owned().await);
            }
        }
        inner.acknowledged(Level::Applied, newer).await?;
        if self.runs >= BACKOFF_FROM_RUN || !self.uses_gates {
            self.back_off(inner).await?;
        }
        Ok(())
    }

    /// Sleeps on the engine's runtime: the caller may be on another, or on none.
    async fn back_off<K: Key, V: Value, P>(&self, inner: &Inner<K, V, P>) -> Result<(), Error> {
        let doublings = self.runs.saturating_sub(BACKOFF_FROM_RUN).min(BACKOFF_DOUBLINGS_MAX);
        let limit = BACKOFF_MIN * (1 << doublings);
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let pause = Duration::from_nanos(inner.env.random() % limit);
        inner.runtime.spawn(tokio::time::sleep(pause)).await.map_err(|_| Error::Closed)
    }
}
