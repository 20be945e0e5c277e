//! A transaction's part on one shard.

use std::ops::RangeBounds;
use std::sync::Arc;

use anabranch_wal::{EncodedWrites, LogId, SourceOffset, Timestamp};
use smallvec::SmallVec;

use crate::expiry::Expiry;
use crate::pins::{Bounds, Footprint};
use crate::router::KeyHash;

/// A short row without an allocation: most transactions touch few shards, and few keys of each.
pub type Few<T> = SmallVec<[T; 2]>;

/// What a transaction read and writes on one shard.
#[derive(Debug)]
pub struct Part<K, V> {
    /// Keys read, present or absent.
    pub reads: Few<K>,
    /// For each of them its hash, as far as they are known.
    pub read_hashes: Few<KeyHash>,
    /// Ranges read, by the bounds that were asked for (PROTOCOL V6).
    pub ranges: Vec<Bounds<K>>,
    /// Keys written.
    pub writes: Few<K>,
    /// For each of them its hash, as far as they are known.
    pub write_hashes: Few<KeyHash>,
    /// For each key written, the value, or `None` to remove it.
    pub values: Few<Option<Arc<V>>>,
    /// For each value, when it expires. Those behind the last are of values that don't.
    pub expires: Vec<Expiry>,
    /// When it began to read, by the engine's clock: what had expired then was not there.
    pub moment: u64,
    /// How far sources are in with this commit.
    pub offsets: Vec<SourceOffset>,
    /// The writes, offsets included, as the log will have them. Empty without a log.
    pub encoded: EncodedWrites,
    /// What to validate.
    pub validation: Validation,
}

/// What a part must be checked for before it commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Nothing: a blind write conflicts with nothing.
    Blind,
    /// Serializable: nothing that was read has a version newer than this.
    Reads(Timestamp),
    /// Snapshot: nothing that is written has a version newer than this.
    Writes(Timestamp),
}

impl<K, V> Part<K, V> {
    /// Nothing read, nothing written.
    #[must_use]
    pub fn new(validation: Validation) -> Self {
        Self {
            reads: Few::new(),
            read_hashes: Few::new(),
            ranges: Vec::new(),
            writes: Few::new(),
            write_hashes: Few::new(),
            values: Few::new(),
            expires: Vec::new(),
            moment: 0,
            offsets: Vec::new(),
            encoded: EncodedWrites::new(),
            validation,
        }
    }

    /// Whether the shard is only read from.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.writes.is_empty() && self.offsets.is_empty()
    }

    /// Makes room for so many writes.
    pub fn reserve(&mut self, writes: usize) {
        self.writes.reserve(writes);
        self.write_hashes.reserve(writes);
        self.values.reserve(writes);
    }

    /// Adds a write. Most values don't expire, and then nothing is noted of that.
    pub fn write(&mut self, (key, hash): (K, KeyHash), value: Option<Arc<V>>, expires: Expiry) {
        if expires != Expiry::NEVER {
            self.expires.resize(self.writes.len(), Expiry::NEVER);
            self.expires.push(expires);
        }
        self.writes.push(key);
        self.write_hashes.push(hash);
        self.values.push(value);
    }

    /// Adds a key that was read.
    pub fn read(&mut self, (key, hash): (K, KeyHash)) {
        self.reads.push(key);
        self.read_hashes.push(hash);
    }

    /// The keys read, each with its hash, which `hash` finds where it is not known.
    pub(crate) fn hashed_reads(&self, hash: impl Fn(&K) -> KeyHash) -> impl Iterator<Item = (&K, KeyHash)> {
        hashed(&self.reads, &self.read_hashes, hash)
    }

    /// The keys written. As [`Part::hashed_reads`].
    pub(crate) fn hashed_writes(&self, hash: impl Fn(&K) -> KeyHash) -> impl Iterator<Item = (&K, KeyHash)> {
        hashed(&self.writes, &self.write_hashes, hash)
    }

    /// The keys written, each with its value.
    pub(crate) fn writes_with_values(&self) -> impl Iterator<Item = (&K, Option<&Arc<V>>)> {
        self.writes.iter().zip(self.values.iter().map(Option::as_ref))
    }

    /// Whether everything that `other` reads and writes is named here. A written key covers a read of it; a
    /// read does not cover a write.
    pub(crate) fn covers(&self, other: &Self) -> bool
    where
        K: Ord,
    {
        let (writes, reads) = (sorted(&self.writes), sorted(&self.reads));
        let in_a_range = |key: &K| self.ranges.iter().any(|bounds| bounds.contains(key));
        let writes_it = |key: &K| writes.binary_search(&key).is_ok();
        let reads_it = |key: &K| reads.binary_search(&key).is_ok() || in_a_range(key);
        other.writes.iter().all(writes_it)
            && other.reads.iter().all(|key| writes_it(key) || reads_it(key))
            && other.ranges.iter().all(|bounds| self.ranges.contains(bounds))
    }

    pub(crate) fn footprint(&self) -> Footprint<'_, K> {
        Footprint { reads: &self.reads, ranges: &self.ranges, writes: &self.writes }
    }
}

fn hashed<'k, K>(
    keys: &'k [K],
    hashes: &'k [KeyHash],
    hash: impl Fn(&K) -> KeyHash,
) -> impl Iterator<Item = (&'k K, KeyHash)> {
    let mut hashes = hashes.iter().copied();
    keys.iter().map(move |key| (key, hashes.next().unwrap_or_else(|| hash(key))))
}

/// Keys to look through. One allocation and, as written keys and many read ones come in order, one pass.
fn sorted<K: Ord>(keys: &[K]) -> Vec<&K> {
    let mut row: Vec<_> = keys.iter().collect();
    row.sort_unstable();
    row
}

/// The logs that hold a part of a commit.
pub type Participants = Arc<[LogId]>;
