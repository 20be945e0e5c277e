//! What an engine must do to be measured under contention.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anabranch::{Engine, Error, Transaction};
use tokio::task::yield_now;

use crate::keys::{Key, Keys};
use crate::store::{Outcome, missing};

/// How often transactions were begun, and how many committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tries {
    pub(super) begun: u64,
    pub(super) committed: u64,
}

impl AddAssign for Tries {
    fn add_assign(&mut self, other: Self) {
        self.begun += other.begun;
        self.committed += other.committed;
    }
}

pub(super) trait Contender: Clone + Send + Sync + Sized + 'static {
    /// In memory, with a count of 0 for each key.
    fn open(keys: usize) -> impl Future<Output = Outcome<Self>> + Send;

    /// Counts up all keys in one transaction, with a chance for others after each, until it commits or is stopped.
    fn count_up(&self, keys: &[usize], stop: &AtomicBool) -> impl Future<Output = Outcome<Tries>> + Send;

    fn sum(&self, keys: usize) -> Outcome<u64>;
}

/// anabranch, with its own reruns, which wait for the commit that won and back off, or with reruns at once.
#[derive(Clone)]
pub(super) struct Anabranch<const BACKS_OFF: bool> {
    engine: Arc<Engine<Key, u64>>,
    keys: Arc<Keys>,
}

impl<const BACKS_OFF: bool> Contender for Anabranch<BACKS_OFF> {
    async fn open(keys: usize) -> Outcome<Self> {
        let engine = Engine::builder().in_memory().await?;
        let (db, keys) = (engine.handle(), Arc::new(Keys::new(keys)));
        for key in 0..keys.len() {
            db.insert(keys.get(key).clone(), 0).await?;
        }
        Ok(Self { engine: Arc::new(engine), keys })
    }

    async fn count_up(&self, keys: &[usize], stop: &AtomicBool) -> Outcome<Tries> {
        if BACKS_OFF { self.transaction(keys).await } else { self.by_hand(keys, stop).await }
    }

    fn sum(&self, keys: usize) -> Outcome<u64> {
        let snapshot = self.engine.handle().snapshot();
        let one = |key| snapshot.get(self.keys.get(key))?.map(|count| *count).ok_or_else(|| missing("a key"));
        (0..keys).map(one).sum()
    }
}

impl<const BACKS_OFF: bool> Anabranch<BACKS_OFF> {
    async fn transaction(&self, keys: &[usize]) -> Outcome<Tries> {
        let begun = Arc::new(AtomicU64::new(0));
        let (counted, own, keys) = (Arc::clone(&begun), Arc::clone(&self.keys), keys.to_vec());
        let body = async move |transaction: &mut Transaction<Key, u64>| {
            counted.fetch_add(1, Ordering::Relaxed);
            for key in &keys {
                count(transaction, own.get(*key))?;
                yield_now().await;
            }
            Ok::<_, Error>(())
        };
        let committed = match self.engine.handle().transaction_async(body).await {
            Ok(()) => 1,
            Err(Error::Conflict { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(Tries { begun: begun.load(Ordering::Relaxed), committed })
    }

    async fn by_hand(&self, keys: &[usize], stop: &AtomicBool) -> Outcome<Tries> {
        let (db, mut tries) = (self.engine.handle(), Tries::default());
        while tries.committed == 0 && !stop.load(Ordering::Relaxed) {
            tries.begun += 1;
            let mut transaction = db.begin();
            for key in keys {
                count(&mut transaction, self.keys.get(*key))?;
                yield_now().await;
            }
            match transaction.commit().await {
                Ok(_) => tries.committed = 1,
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(tries)
    }
}

fn count(transaction: &mut Transaction<Key, u64>, key: &Key) -> Result<(), Error> {
    let count = transaction.get(key)?.map_or(0, |count| *count);
    transaction.insert(key.clone(), count + 1);
    Ok(())
}

/// surrealmx, whose reruns are up to its user. Its transactions are serializable by default.
#[cfg(feature = "surrealmx")]
#[derive(Clone)]
pub(super) struct SurrealMx {
    database: Arc<surrealmx::Database>,
    keys: Arc<Keys>,
}

#[cfg(feature = "surrealmx")]
impl Contender for SurrealMx {
    async fn open(keys: usize) -> Outcome<Self> {
        let database = surrealmx::Database::new_with_options(surrealmx::DatabaseOptions::default());
        let keys = Arc::new(Keys::new(keys));
        let mut transaction = database.transaction(true);
        for key in 0..keys.len() {
            transaction.set(keys.get(key).as_str(), 0_u64.to_le_bytes().to_vec())?;
        }
        transaction.commit()?;
        Ok(Self { database: Arc::new(database), keys })
    }

    async fn count_up(&self, keys: &[usize], stop: &AtomicBool) -> Outcome<Tries> {
        let mut tries = Tries::default();
        while tries.committed == 0 && !stop.load(Ordering::Relaxed) {
            tries.begun += 1;
            let mut transaction = self.database.transaction(true);
            for key in keys {
                let key = self.keys.get(*key).as_str();
                let count = transaction.with_value(key, le_number)?.ok_or_else(|| missing(key))?;
                transaction.set(key, (count + 1).to_le_bytes().to_vec())?;
                yield_now().await;
            }
            match transaction.commit() {
                Ok(()) => tries.committed = 1,
                Err(surrealmx::Error::KeyReadConflict | surrealmx::Error::KeyWriteConflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(tries)
    }

    fn sum(&self, keys: usize) -> Outcome<u64> {
        let mut transaction = self.database.transaction(false);
        let one = |key| {
            let count = transaction.with_value(self.keys.get(key).as_str(), le_number)?;
            count.ok_or_else(|| missing("a key"))
        };
        let sum = (0..keys).map(one).sum();
        transaction.cancel()?;
        sum
    }
}

#[cfg(feature = "surrealmx")]
fn le_number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
