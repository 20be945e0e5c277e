//! Read-only snapshots.

use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::RangeBounds;
use std::sync::Arc;

use anabranch_shard::{Bounds, HashPartition, Key, Level, Partition, Place, Reader, Value, get_many};
use anabranch_wal::Timestamp;

use crate::Error;
use crate::inner::{Held, check_age, in_place};
use crate::scan::{Prefix, Scan, ScanStream, owned_bounds};

/// The whole engine at one timestamp, over all shards, for any number of reads. It never waits, never
/// conflicts, and shows only what is durable.
///
/// It holds on to the versions it may be asked for: drop it when it is no longer needed. With
/// [`crate::EngineBuilder::max_snapshot_age`] it ends by itself. Entries that had expired when it began are not there;
/// those that expire while it is open stay, as a snapshot does not change.
pub struct Snapshot<K: Key, V: Value, P = HashPartition> {
    inner: Held<K, V, P>,
    reader: Reader,
    /// When it began: what had expired by then is not there, and what expires later stays.
    moment: u64,
}

impl<K: Key, V: Value, P> Clone for Snapshot<K, V, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), reader: self.reader.clone(), moment: self.moment }
    }
}

impl<K: Key, V: Value, P> Snapshot<K, V, P> {
    pub(crate) fn new(inner: Held<K, V, P>) -> Self {
        let reader = inner.readers.register(Level::Durable);
        // After the timestamp: whatever gets an expiry before anybody had one is younger.
        let moment = inner.clock.moment();
        Self { inner, reader, moment }
    }

    /// The commit that the snapshot shows: that one and all before it.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.reader.timestamp()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::SnapshotTooOld`].
    pub fn get<Q>(&self, key: &Q) -> Result<Option<Arc<V>>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        self.show(key, Arc::clone)
    }

    /// Shows the value of a key to a closure, in its place. As [`crate::Handle::with_value`], at the snapshot's timestamp.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::SnapshotTooOld`], also after `look` was called.
    ///
    /// # Panics
    /// If `look` does.
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
        let timestamp = self.reader.timestamp();
        let (shard, hash) = self.inner.place(key);
        let shown = shard.map().show(key, hash, || timestamp, Some(self.moment), look);
        check_age(&self.reader)?;
        Ok(shown)
    }

    /// The values of several keys, in their order. Faster than one after the other, as they are looked for side by side.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::SnapshotTooOld`].
    pub fn get_many<'q, Q>(&self, keys: impl IntoIterator<Item = &'q Q>) -> Result<Vec<Option<Arc<V>>>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized + 'q,
    {
        self.inner.closed.check()?;
        let place = |key| {
            let (shard, hash) = self.inner.place(key);
            Place { map: shard.map(), key, hash }
        };
        let places: Vec<_> = keys.into_iter().map(place).collect();
        let values = get_many(&places, (self.reader.timestamp(), self.moment));
        check_age(&self.reader)?;
        Ok(values)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::SnapshotTooOld`].
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        Ok(self.show(key, |_| ())?.is_some())
    }

    /// How many keys have a value. Looks at every key.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::SnapshotTooOld`].
    pub fn len(&self) -> Result<usize, Error> {
        self.count(usize::MAX)
    }

    /// Whether no key has a value. Stops at the first that has.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::SnapshotTooOld`].
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.count(1)? == 0)
    }

    fn count(&self, limit: usize) -> Result<usize, Error> {
        self.inner.check_reader(&self.reader)?;
        let timestamp = self.reader.timestamp();
        let mut count = 0;
        for shard in &*self.inner.shards {
            if count < limit {
                count += shard.map().count((timestamp, self.moment), limit - count);
            }
        }
        check_age(&self.reader)?;
        Ok(count)
    }

    /// The entries within a range, in order, from either end. A range with its end before its start is empty.
    pub fn range(&self, range: impl RangeBounds<K>) -> Scan<K, V> {
        self.scan(&owned_bounds(&range))
    }

    /// The entries whose keys begin with `prefix`, in order, from either end.
    pub fn prefix<Q>(&self, prefix: &Q) -> Scan<K, V>
    where
        K: Borrow<Q>,
        Q: Prefix + ToOwned<Owned = K> + ?Sized,
    {
        self.scan(&prefix.prefix_bounds())
    }

    /// [`Snapshot::range`] as a stream.
    pub fn range_stream(&self, range: impl RangeBounds<K>) -> ScanStream<K, V> {
        ScanStream::new(self.range(range))
    }

    /// [`Snapshot::prefix`] as a stream.
    pub fn prefix_stream<Q>(&self, prefix: &Q) -> ScanStream<K, V>
    where
        K: Borrow<Q>,
        Q: Prefix + ToOwned<Owned = K> + ?Sized,
    {
        ScanStream::new(self.prefix(prefix))
    }

    fn scan(&self, bounds: &Bounds<K>) -> Scan<K, V> {
        let inner = &self.inner;
        let own = std::collections::VecDeque::new();
        let reader = (self.reader.clone(), self.moment);
        Scan::new(&inner.shards, bounds, own, reader, inner.closed.clone())
    }
}
