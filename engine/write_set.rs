//! What a transaction has written so far: nobody else sees it before the commit.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use anabranch_shard::{Bounds, Expiry, holds_a_key};

/// A value and when it expires; no value removes.
pub(crate) type Written<V> = (Option<Arc<V>>, Expiry);

/// What a write took the place of.
enum Replaced<V> {
    Nothing,
    Write(Written<V>),
}

/// A transaction's writes, the last one of each key, and how to go back to a savepoint.
pub(crate) struct WriteSet<K, V> {
    writes: BTreeMap<K, Written<V>>,
    /// What each write since the first savepoint replaced.
    undo: Vec<(K, Replaced<V>)>,
    /// Names, and where in `undo` they stand.
    savepoints: Vec<(String, usize)>,
}

impl<K: Clone + Ord, V> WriteSet<K, V> {
    pub(crate) const fn new() -> Self {
        Self { writes: BTreeMap::new(), undo: Vec::new(), savepoints: Vec::new() }
    }

    pub(crate) fn set(&mut self, key: K, value: Option<Arc<V>>, expires: Expiry) {
        let write = (value, expires);
        if self.savepoints.is_empty() {
            self.writes.insert(key, write);
        } else {
            let replaced = self.writes.insert(key.clone(), write);
            self.undo.push((key, replaced.map_or(Replaced::Nothing, Replaced::Write)));
        }
    }

    /// The transaction's own write of a key: outer `None` if there is none.
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Written<V>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.writes.get(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes within a range, in order.
    pub(crate) fn range(&self, bounds: &Bounds<K>) -> impl Iterator<Item = (K, Option<Arc<V>>)> {
        let range =
            holds_a_key(bounds).then(|| self.writes.range((bounds.start_bound(), bounds.end_bound())));
        range.into_iter().flatten().map(|(key, (value, _))| (key.clone(), value.clone()))
    }

    pub(crate) fn savepoint(&mut self, name: String) {
        self.savepoints.push((name, self.undo.len()));
    }

    /// Undoes everything since the newest savepoint of this name, which is consumed with those after it.
    /// `false` if there is none.
    pub(crate) fn rollback_to(&mut self, name: &str) -> bool {
        let Some(index) = self.savepoints.iter().rposition(|(savepoint, _)| savepoint == name) else {
            return false;
        };
        let (_, length) = self.savepoints[index];
        self.savepoints.truncate(index);
        for (key, replaced) in self.undo.drain(length..).rev() {
            match replaced {
                Replaced::Write(write) => self.writes.insert(key, write),
                Replaced::Nothing => self.writes.remove(&key),
            };
        }
        true
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.writes.keys()
    }

    pub(crate) fn into_writes(self) -> BTreeMap<K, Written<V>> {
        self.writes
    }
}
