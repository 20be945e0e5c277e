//! A read-write transaction.

use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use anabranch_shard::{
    Bounds, Expiry, HashPartition, Key, Level, Partition, Reached, Reader, Validation, Value, encode_write,
};
use anabranch_wal::{EncodedWrites, SourceOffset, Timestamp};

use crate::inner::{Failed, Held, Inner, check_age};
use crate::parts::{Parts, part_of};
use crate::read_set::{Read, ReadSet};
use crate::retry::Retry;
use crate::scan::{Prefix, Scan, ScanStream, owned_bounds};
use crate::write_set::WriteSet;
use crate::{Error, Isolation};

/// A read-write transaction: reads one snapshot with its own writes on top, and writes nothing before
/// [`Transaction::commit`]. Dropping it rolls it back.
///
/// It reads what is applied, which may be a moment younger than what is durable; its commit waits until all of
/// that is durable too. What a transaction has read that is then dropped unfinished can, in that moment, be
/// of commits that a crash still takes back.
pub struct Transaction<K: Key, V: Value, P = HashPartition> {
    inner: Held<K, V, P>,
    level: Level,
    reader: Reader,
    /// When it began: what had expired by then is not there.
    moment: u64,
    reads: ReadSet<K>,
    writes: WriteSet<K, V>,
    offsets: Vec<SourceOffset>,
}

/// A commit that has been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    timestamp: Timestamp,
}

impl Commit {
    pub(crate) const fn at(timestamp: Timestamp) -> Self {
        Self { timestamp }
    }

    /// The commit's place in the commit order. For a transaction that wrote nothing, where it read.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

/// A commit that is applied, and will be durable in a while: see [`Transaction::submit`].
#[must_use = "the commit is not durable before `durable` says so"]
pub struct Ticket {
    timestamp: Timestamp,
    durable: Reached,
}

impl Ticket {
    /// The commit's place in the commit order.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Waits for the acknowledgement. Dropping the future, or the ticket, does not take the commit back.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] or [`Error::Closed`] when the engine failed or closed before.
    pub async fn durable(self) -> Result<Commit, Error> {
        self.durable.await.map_err(Error::in_flight)?;
        Ok(Commit::at(self.timestamp))
    }
}

impl<K: Key, V: Value, P: Partition<K>> Transaction<K, V, P> {
    pub(crate) fn begin(inner: Held<K, V, P>, level: Level) -> Self {
        let reader = inner.readers.register(inner.transaction_level());
        // After the timestamp, as for a snapshot.
        let moment = inner.clock.moment();
        let (reads, writes) = (ReadSet::new(), WriteSet::new());
        Self { inner, level, reader, moment, reads, writes, offsets: Vec::new() }
    }

    /// The commit that the transaction reads at: it sees that one and all before it.
    #[must_use]
    pub fn read_timestamp(&self) -> Timestamp {
        self.reader.timestamp()
    }

    /// The value of a key, as of the beginning of the transaction or as it wrote it itself.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::SnapshotTooOld`].
    pub fn get<Q>(&mut self, key: &Q) -> Result<Option<Arc<V>>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ToOwned<Owned = K> + ?Sized,
    {
        self.inner.check_reader(&self.reader)?;
        if let Some((own, _)) = self.writes.get(key) {
            return Ok(own.clone());
        }
        let (shard, hash) = self.inner.router.place(key);
        let timestamp = self.reader.timestamp();
        let value = self.inner.shards[shard].map().get(key, hash, || timestamp, Some(self.moment));
        check_age(&self.reader)?;
        if self.inner.isolation == Isolation::Serializable {
            self.reads.key(key, (shard, hash));
        }
        Ok(value)
    }

    /// Whether a key has a value. As [`Transaction::get`].
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn contains_key<Q>(&mut self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ToOwned<Owned = K> + ?Sized,
    {
        Ok(self.get(key)?.is_some())
    }

    /// Sets a key. Nobody else sees it before the commit. Reads nothing, so it conflicts with nothing in a
    /// serializable transaction.
    pub fn insert(&mut self, key: K, value: V) {
        let expires = self.inner.default_expiry();
        self.writes.set(key, Some(Arc::new(value)), expires);
    }

    /// Sets a key to a value that expires so long from now, not from the commit. As [`Transaction::insert`], which ends
    /// an earlier time; [`Transaction::update`] keeps it. See [`crate::Handle::insert_with_ttl`].
    ///
    /// # Errors
    /// [`Error::Config`] for a time of zero, or of more than a thousand years; nothing is set then.
    pub fn insert_with_ttl(&mut self, key: K, value: V, ttl: Duration) -> Result<(), Error> {
        let expires = self.inner.expiry_after(ttl)?;
        self.writes.set(key, Some(Arc::new(value)), expires);
        Ok(())
    }

    /// Removes a key. As [`Transaction::insert`]; removing what is not there is no error.
    pub fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
    {
        self.writes.set(key.to_owned(), None, Expiry::NEVER);
    }

    pub(crate) fn set(&mut self, key: K, value: Option<Arc<V>>) {
        let expires = if value.is_some() { self.inner.default_expiry() } else { Expiry::NEVER };
        self.writes.set(key, value, expires);
    }

    /// How far sources are in with this transaction.
    pub(crate) fn set_offsets(&mut self, offsets: Vec<SourceOffset>) {
        self.offsets = offsets;
    }

    /// When a key expires that was read, or what is written newly if it was not there.
    fn expiry_of(&self, key: &K) -> Expiry {
        if let Some((own, expires)) = self.writes.get(key) {
            return if own.is_some() { *expires } else { self.inner.default_expiry() };
        }
        if !self.inner.clock.is_in_use() {
            return self.inner.default_expiry();
        }
        let map = self.inner.shards[self.inner.router.shard(key)].map();
        let found = map.get_expiring(key, (self.reader.timestamp(), self.moment));
        found.map_or_else(|| self.inner.default_expiry(), |(_, expires)| expires)
    }

    /// Reads a key, sets it to what the closure makes of it (`None` removes), and returns that. What expires keeps its
    /// time.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn update(
        &mut self,
        key: K,
        change: impl FnOnce(Option<&V>) -> Option<V>,
    ) -> Result<Option<Arc<V>>, Error> {
        let old = self.get(&key)?;
        let new = change(old.as_deref()).map(Arc::new);
        if old.is_some() || new.is_some() {
            let expires = if new.is_some() { self.expiry_of(&key) } else { Expiry::NEVER };
            self.writes.set(key, new.clone(), expires);
        }
        Ok(new)
    }

    /// The entries within a range, in order, from either end, with the transaction's own writes as they are
    /// now. A range with its end before its start is empty. The whole range counts as read, however far it is
    /// consumed.
    pub fn range(&mut self, range: impl RangeBounds<K>) -> Scan<K, V> {
        self.scan(owned_bounds(&range))
    }

    /// The entries whose keys begin with `prefix`. As [`Transaction::range`].
    pub fn prefix<Q>(&mut self, prefix: &Q) -> Scan<K, V>
    where
        K: Borrow<Q>,
        Q: Prefix + ToOwned<Owned = K> + ?Sized,
    {
        self.scan(prefix.prefix_bounds())
    }

    /// [`Transaction::range`] as a stream.
    pub fn range_stream(&mut self, range: impl RangeBounds<K>) -> ScanStream<K, V> {
        ScanStream::new(self.range(range))
    }

    /// [`Transaction::prefix`] as a stream.
    pub fn prefix_stream<Q>(&mut self, prefix: &Q) -> ScanStream<K, V>
    where
        K: Borrow<Q>,
        Q: Prefix + ToOwned<Owned = K> + ?Sized,
    {
        ScanStream::new(self.prefix(prefix))
    }

    fn scan(&mut self, bounds: Bounds<K>) -> Scan<K, V> {
        let own = self.writes.range(&bounds);
        let inner = &self.inner;
        let reader = (self.reader.clone(), self.moment);
        let scan = Scan::new(&inner.shards, &bounds, own, reader, inner.closed.clone());
        if self.inner.isolation == Isolation::Serializable {
            self.reads.range(bounds);
        }
        scan
    }

    /// Remembers where the transaction's writes stand, under a name. Names may repeat; the newest counts.
    pub fn savepoint(&mut self, name: impl Into<String>) {
        self.writes.savepoint(name.into());
    }

    /// Undoes all writes since the newest savepoint of this name, and forgets that savepoint and those after
    /// it. What was read stays read.
    ///
    /// # Errors
    /// [`Error::UnknownSavepoint`]; nothing is undone then.
    pub fn rollback_to(&mut self, name: &str) -> Result<(), Error> {
        if self.writes.rollback_to(name) {
            Ok(())
        } else {
            Err(Error::UnknownSavepoint { name: name.to_owned() })
        }
    }

    /// Drops all writes. The same as dropping the transaction.
    pub fn rollback(self) {}

    /// Commits, and waits for the acknowledgement. Whoever has seen it sees the commit in every later read.
    ///
    /// A transaction that wrote nothing waits until what it read is durable, which in `Full` costs up to one
    /// sync; take a snapshot where that is too much.
    ///
    /// Cancel safety: the commit is handed over as a whole or not at all. Dropping the future after that does
    /// not take it back.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::SnapshotTooOld`], [`Error::Encode`], [`Error::DiskFull`],
    /// [`Error::MemoryLimit`], [`Error::ReadOnly`],
    /// [`Error::Nested`]: nothing was changed. [`Error::Indeterminate`], [`Error::Closed`]: it may survive.
    pub async fn commit(self) -> Result<Commit, Error> {
        self.submit().await?.durable().await
    }

    /// Commits without waiting for the acknowledgement: the commit has its place and is visible to
    /// transactions; the ticket tells when it is durable.
    ///
    /// # Errors
    /// As for [`Transaction::commit`].
    pub async fn submit(self) -> Result<Ticket, Error> {
        let (inner, level) = (self.inner.clone(), self.level);
        let timestamp = self.try_commit(None).await.map_err(|failed| match failed {
            Failed::Conflict(_) => Error::Conflict { attempts: 1 },
            Failed::Error(error) => error,
        })?;
        // The coordinator answers when it has decided; a shard may still have to apply its part.
        inner.acknowledged(Level::Applied, timestamp).await?;
        Ok(Ticket { timestamp, durable: inner.sequencer.reached_later(level, timestamp) })
    }

    /// One try, on the way that its reruns have prepared. Returns the timestamp whose durability confirms it.
    pub(crate) async fn try_commit(self, retry: Option<&mut Retry<K>>) -> Result<Timestamp, Failed> {
        let Self { inner, reader, moment, reads, writes, offsets, .. } = self;
        inner.check_reader(&reader).map_err(Failed::Error)?;
        let read_at = reader.timestamp();
        if writes.is_empty() && offsets.is_empty() {
            return Ok(read_at);
        }
        let mut parts = split(&inner, (read_at, moment), reads, writes).map_err(Failed::Error)?;
        if !offsets.is_empty() {
            add_offsets(&inner, &mut parts, offsets);
        }
        match retry.and_then(|retry| retry.claimed_for(&parts)) {
            Some(claimed) => inner.submit_claimed(claimed, parts, reader).await,
            None => inner.submit(parts, Some(reader)).await,
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.level
    }
}

/// The part of each shard that was read or is written (PROTOCOL V1), with its writes encoded, here on the
/// caller's task.
fn split<K: Key, V: Value, P: Partition<K>>(
    inner: &Inner<K, V, P>,
    (read_at, moment): (Timestamp, u64),
    reads: ReadSet<K>,
    writes: WriteSet<K, V>,
) -> Result<Parts<K, V>, Error> {
    let validation = match inner.isolation {
        Isolation::Serializable => Validation::Reads(read_at),
        Isolation::Snapshot => Validation::Writes(read_at),
    };
    let mut parts = Parts::with_capacity(2);
    writes.try_for_each(|key, (value, expires)| {
        let (shard, hash) = inner.router.place(&key);
        let part = part_of(&mut parts, shard, validation);
        if inner.durable {
            encode(&mut part.encoded, &key, value.as_deref(), expires)?;
        }
        part.write((key, hash), value, expires);
        Ok::<_, Error>(())
    })?;
    let (keys, ranges) = reads.into_parts();
    for Read { key, hash, shard } in keys {
        part_of(&mut parts, shard, validation).read((key, hash));
    }
    if !ranges.is_empty() {
        for shard in 0..inner.router.shards() {
            let part = part_of(&mut parts, shard, validation);
            part.ranges.clone_from(&ranges);
        }
    }
    for (_, part) in &mut parts {
        part.moment = moment;
    }
    Ok(parts)
}

/// Offsets go where something is written anyway: the newest over all shards counts.
fn add_offsets<K: Key, V: Value, P>(
    inner: &Inner<K, V, P>,
    parts: &mut Parts<K, V>,
    offsets: Vec<SourceOffset>,
) {
    let written = parts.iter().find(|(_, part)| !part.is_read_only()).map(|(shard, _)| *shard);
    let shard = written.or_else(|| parts.first().map(|(shard, _)| *shard)).unwrap_or(0);
    let part = part_of(parts, shard, Validation::Blind);
    for SourceOffset { source, offset } in offsets.iter().filter(|_| inner.durable) {
        part.encoded.put_offset(source, *offset);
    }
    part.offsets = offsets;
}

/// Appends a write to a part's record. Never a conflict, so the error is one for the caller.
pub(crate) fn encode<K: Key, V: Value>(
    encoded: &mut EncodedWrites,
    key: &K,
    value: Option<&V>,
    expires: Expiry,
) -> Result<(), Error> {
    encode_write(encoded, key, value, expires).map_err(|reject| {
        Error::from_reject(reject).unwrap_or_else(|_| unreachable!("encoding has no conflicts"))
    })
}
