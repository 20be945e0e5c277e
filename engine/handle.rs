//! The handle: what a user's tasks hold.

use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::{AsyncFnMut, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use anabranch_shard::{
    Changed, HashPartition, Inline, Inside, Key, Level, Part, Partition, Refused, Updated, Validation, Value,
};
use anabranch_wal::EncodedWrites;

use crate::ingest::{Ingest, IngestOptions};
use crate::inner::{Failed, Holds, Inner, in_place};
use crate::retry::Retry;
use crate::scan::{Prefix, Scan, ScanStream};
use crate::transaction::encode;
use crate::{Durability, Error, Snapshot, Transaction};

/// A way into the engine. Cheap to clone, works from any thread and any executor, and outlives the engine:
/// its calls then return [`Error::Closed`].
pub struct Handle<K: Key, V: Value, P = HashPartition> {
    inner: Arc<Inner<K, V, P>>,
    holds: Arc<Holds<K, V, P>>,
    /// What its commits wait for.
    level: Level,
}

impl<K: Key, V: Value, P> Clone for Handle<K, V, P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), holds: Arc::clone(&self.holds), level: self.level }
    }
}

impl<K: Key, V: Value, P> Handle<K, V, P> {
    pub(crate) const fn inner(&self) -> &Arc<Inner<K, V, P>> {
        &self.inner
    }
}

impl<K: Key, V: Value, P: Partition<K>> Handle<K, V, P> {
    pub(crate) const fn new(inner: Arc<Inner<K, V, P>>, holds: Arc<Holds<K, V, P>>) -> Self {
        Self { inner, holds, level: Level::Durable }
    }

    /// A handle whose commits are acknowledged at this level, if it is stronger than the engine's: `Full` in a
    /// relaxed engine. A weaker one changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] in an engine in memory, where nothing can be durable.
    pub fn with_durability(&self, durability: Durability) -> Result<Self, Error> {
        if !self.inner.durable {
            return Err(Error::config(
                "an engine in memory can't make commits durable; open it in a directory",
            ));
        }
        let level = match durability {
            Durability::Full => Level::Synced,
            Durability::Relaxed(_) => self.level,
        };
        Ok(Self { level, ..self.clone() })
    }

    /// The value of a key. Synchronous: a memory read, which shows only what is durable.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn get<Q>(&self, key: &Q) -> Result<Option<Arc<V>>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        self.show(key, Arc::clone)
    }

    /// Shows the value of a key to a closure, in its place: without a share of it, whose count is a write to memory that
    /// all who read this key contend for. Otherwise as [`Handle::get`]. `None` if there is no value; `look` is not called
    /// then.
    ///
    /// Whoever would write this key, or one of its neighbours in the table, waits meanwhile, so `look` should be short, and
    /// must not wait for anybody. It must not call the engine: what it asks for, it is refused with [`Error::Nested`].
    ///
    /// # Errors
    /// [`Error::Closed`].
    ///
    /// # Panics
    /// If `look` does; nothing is changed by that.
    pub fn with_value<Q, T>(&self, key: &Q, look: impl FnOnce(&V) -> T) -> Result<Option<T>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        self.show(key, in_place(look))
    }

    fn show<Q, T>(&self, key: &Q, look: impl FnOnce(&Arc<V>) -> T) -> Result<Option<T>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        self.inner.closed.check()?;
        let (shard, hash) = self.inner.place(key);
        Ok(shard.map().show(key, hash, || self.inner.sequencer.get(Level::Durable), None, look))
    }

    /// The values of several keys, in their order, all at one timestamp.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Result<Vec<Option<Arc<V>>>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized + 'q,
    {
        self.snapshot().get_many(keys)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        Ok(self.show(key, |_| ())?.is_some())
    }

    /// How many keys have a value, all at one timestamp. Looks at every key.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn len(&self) -> Result<usize, Error> {
        self.snapshot().len()
    }

    /// Whether no key has a value.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.snapshot().is_empty()
    }

    /// The entries within a range, in order, from either end, at one timestamp. A range with its end before
    /// its start is empty.
    pub fn range(&self, range: impl RangeBounds<K>) -> Scan<K, V> {
        self.snapshot().range(range)
    }

    /// The entries whose keys begin with `prefix`, in order, from either end, at one timestamp.
    pub fn prefix<Q>(&self, prefix: &Q) -> Scan<K, V>
    where
        K: Borrow<Q>,
        Q: Prefix + ToOwned<Owned = K> + ?Sized,
    {
        self.snapshot().prefix(prefix)
    }

    /// [`Handle::range`] as a stream.
    pub fn range_stream(&self, range: impl RangeBounds<K>) -> ScanStream<K, V> {
        self.snapshot().range_stream(range)
    }

    /// [`Handle::prefix`] as a stream.
    pub fn prefix_stream<Q>(&self, prefix: &Q) -> ScanStream<K, V>
    where
        K: Borrow<Q>,
        Q: Prefix + ToOwned<Owned = K> + ?Sized,
    {
        self.snapshot().prefix_stream(prefix)
    }

    /// A read-only view of the whole engine at one timestamp.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K, V, P> {
        Snapshot::new(self.holds.hold())
    }

    /// Sets a key, and waits for the acknowledgement. Never a conflict.
    ///
    /// Cancel safety: the write is handed over as a whole or not at all. Dropping the future after that does
    /// not take it back.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::DiskFull`], [`Error::MemoryLimit`], [`Error::ReadOnly`], [`Error::Nested`]: nothing
    /// was changed.
    /// [`Error::Indeterminate`], [`Error::Closed`]: it may survive.
    // The future itself, not one within another, from which key and value would be copied once more.
    pub fn insert(&self, key: K, value: V) -> impl Future<Output = Result<(), Error>> {
        self.insert_expiring(key, value, None)
    }

    /// Sets a key to a value that expires: so long from now it is as good as removed. As [`Handle::insert`], which
    /// ends an earlier time; [`Handle::update`] keeps it.
    ///
    /// An expired entry is not returned by any read that begins later, also after reopening. Soon after, it is
    /// removed by a commit of the shard's own.
    ///
    /// # Errors
    /// As for [`Handle::insert`]; [`Error::Config`] for a time of zero, or of more than a thousand years.
    pub fn insert_with_ttl(
        &self,
        key: K,
        value: V,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), Error>> {
        self.insert_expiring(key, value, Some(ttl))
    }

    async fn insert_expiring(&self, key: K, value: V, ttl: Option<Duration>) -> Result<(), Error> {
        let expires = match ttl {
            None => self.inner.default_expiry(),
            Some(ttl) => self.inner.expiry_after(ttl)?,
        };
        self.inner.check_writable()?;
        let mut encoded = EncodedWrites::new();
        if self.inner.durable {
            encode(&mut encoded, &key, Some(&value), expires)?;
        }
        let (shard, hash) = self.inner.place(&key);
        let timestamp = match shard.write_at_once(key, hash, Some(Arc::new(value)), expires, &encoded) {
            Inline::Done(timestamp) => timestamp,
            Inline::Poisoned => return Err(self.inner.gone()),
            Inline::InTheWay((key, value)) => {
                let mut part = Part { encoded, ..Part::new(Validation::Blind) };
                part.write((key, hash), value, expires);
                self.inner.unvalidated(shard.commit(part, None).await)?
            }
        };
        self.inner.acknowledged(self.level, timestamp).await
    }

    /// Removes a key, waits for the acknowledgement, and returns the value it had. Never a conflict.
    ///
    /// # Errors
    /// As for [`Handle::insert`].
    pub async fn remove<Q>(&self, key: &Q) -> Result<Option<Arc<V>>, Error>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
    {
        let mut removed = Updated::default();
        self.change(key.to_owned(), |_| Changed::Remove, &mut removed).await?;
        Ok(removed.old)
    }

    /// Removes a key as an eviction does, and says whether it was there. The same as [`Handle::remove`], without
    /// the value: logged, with its place in the commit order.
    ///
    /// # Errors
    /// As for [`Handle::insert`], without [`Error::MemoryLimit`].
    pub async fn evict<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
    {
        Ok(self.remove(key).await?.is_some())
    }

    /// Changes a key on its shard, next to its value, waits for the acknowledgement, and returns the new
    /// value. `change` gets the current value, `None` if there is none, and returns the next; `None` removes.
    /// Never a conflict: this is how to count, append or merge without reruns.
    ///
    /// `change` runs on the shard's task and holds up its other commits, so it should be short. It may run
    /// again if the log has no room for its result at once. An entry that expires keeps its time. It must not call back into the engine's commits;
    /// that is [`Error::Nested`].
    ///
    /// # Errors
    /// As for [`Handle::insert`]; [`Error::Panicked`] if `change` panics.
    pub async fn update(
        &self,
        key: K,
        mut change: impl FnMut(Option<&V>) -> Option<V> + Send + 'static,
    ) -> Result<Option<Arc<V>>, Error> {
        let change = move |old: Option<&V>| match change(old) {
            Some(new) => Changed::Put(Arc::new(new)),
            None => Changed::Remove,
        };
        let mut updated = Updated::default();
        self.change(key, change, &mut updated).await?;
        Ok(updated.new)
    }

    async fn change(
        &self,
        key: K,
        mut change: impl FnMut(Option<&V>) -> Changed<V> + Send + 'static,
        updated: &mut Updated<V>,
    ) -> Result<(), Error> {
        self.inner.check_writable()?;
        let (shard, hash) = self.inner.place(&key);
        match shard.change_at_once(key, hash, &mut change, updated) {
            Inline::Done(Ok(())) => {}
            Inline::Done(Err(reject)) => return self.inner.unvalidated(Ok(Err(reject))),
            Inline::Poisoned => return Err(self.inner.gone()),
            Inline::InTheWay(key) => {
                *updated = self.inner.unvalidated(shard.update(key, Box::new(change)).await)?;
            }
        }
        self.inner.acknowledged(self.level, updated.timestamp).await
    }

    /// Begins a read-write transaction, to be committed by hand.
    #[must_use]
    pub fn begin(&self) -> Transaction<K, V, P> {
        Transaction::begin(self.holds.hold(), self.level)
    }

    /// Runs `body` in a transaction and commits it; on a conflict, runs it again. The error type is the
    /// caller's own; a body that returns an error is rolled back and not run again.
    ///
    /// The body is synchronous: its reads are memory reads, and short transactions conflict less. It may run
    /// several times, so its effects besides the transaction should bear that.
    ///
    /// A body that touches the same keys in each run commits in its ninth run at the latest, if that takes less than
    /// a second: before that run, what it has touched is pinned, and other commits to it wait. In such a run the body must not commit
    /// anything outside of the transaction; that is [`Error::Nested`].
    ///
    /// Cancel safety: dropping the future rolls back, or, once the commit was handed over, leaves it to take
    /// place.
    ///
    /// # Errors
    /// The body's own; or, made into the caller's type, those of [`Transaction::commit`], with
    /// [`Error::Conflict`] only once the limit of retries is reached.
    pub async fn transaction<T, E, F>(&self, mut body: F) -> Result<T, E>
    where
        F: FnMut(&mut Transaction<K, V, P>) -> Result<T, E>,
        E: From<Error>,
    {
        let mut retry = Retry::new();
        loop {
            let mut transaction = self.begin();
            let result = {
                // Others may wait for this run.
                let _refused = retry.is_claimed().then(|| Inside::enter(Refused::Commits));
                body(&mut transaction)
            };
            if let Some(done) = self.finish(transaction, result, &mut retry).await {
                return done;
            }
        }
    }

    /// [`Handle::transaction`] for a body that must await something. Within a spawned task write it as
    /// `async move |transaction| { .. }`: of a closure that borrows, the compiler can't tell that it may be sent.
    ///
    /// # Errors
    /// As for [`Handle::transaction`].
    pub async fn transaction_async<T, E, F>(&self, mut body: F) -> Result<T, E>
    where
        F: AsyncFnMut(&mut Transaction<K, V, P>) -> Result<T, E>,
        E: From<Error>,
    {
        // The body may wait for somebody who needs the same gates.
        let mut retry = Retry::holding_nothing();
        loop {
            let mut transaction = self.begin();
            let result = body(&mut transaction).await;
            if let Some(done) = self.finish(transaction, result, &mut retry).await {
                return done;
            }
        }
    }

    /// Ends one run of a transaction's body. `None` means: run it again.
    async fn finish<T, E: From<Error>>(
        &self,
        transaction: Transaction<K, V, P>,
        result: Result<T, E>,
        retry: &mut Retry<K>,
    ) -> Option<Result<T, E>> {
        let inner = &self.inner;
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                // U1: the error may rest on what was read, so that must be durable before it is told.
                let (level, read_at) = (transaction.level(), transaction.read_timestamp());
                drop(transaction);
                retry.let_go();
                let confirmed = inner.acknowledged(level, read_at).await;
                return Some(Err(confirmed.err().map_or(error, E::from)));
            }
        };
        let committed = transaction.try_commit(Some(retry)).await;
        // A run that wrote nothing has no use for its claim.
        retry.let_go();
        let outcome = match committed {
            Ok(timestamp) => inner.acknowledged(self.level, timestamp).await,
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Conflict(newer)) => match retry.again(inner, newer).await {
                Ok(()) => return None,
                Err(error) => Err(error),
            },
        };
        Some(outcome.map(|()| value).map_err(E::from))
    }

    /// A sink for many writes: gathers them per shard, keeps a bounded number of batches in flight, and slows
    /// its producers when the engine is behind. With [`Ingest::offset`], a source can go on after any crash where
    /// it was.
    pub fn ingest(&self, options: IngestOptions) -> Ingest<K, V, P> {
        Ingest::new(self.clone(), options)
    }

    /// What commits wait for.
    pub(crate) const fn level(&self) -> Level {
        self.level
    }
}
