//! The ordered index: which keys there are, for scans. It learns of new keys late (PROTOCOL H4): the shard
//! collects them unsorted, and the next scan merges them in.
//!
//! Holds every key of the hash map, whether or not it has a live version. A key is here before its commit is
//! reported applied, and leaves together with its entry in the hash map.

use std::collections::BTreeSet;
use std::ops::RangeBounds;

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::pins::{Bounds, holds_a_key};

/// So many new keys are collected before the shard itself merges them in.
const PENDING_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct OrderedIndex<K> {
    tree: RwLock<BTreeSet<K>>,
    /// Locked after `tree` where both are.
    pending: Mutex<Vec<K>>,
}

impl<K: Clone + Ord> OrderedIndex<K> {
    pub(crate) const fn new() -> Self {
        Self { tree: RwLock::new(BTreeSet::new()), pending: Mutex::new(Vec::new()) }
    }

    /// Adds a key that is not here yet.
    pub(crate) fn add(&self, key: K) {
        let mut pending = self.pending.lock();
        pending.push(key);
        if pending.len() >= PENDING_MAX {
            drop(pending);
            drop(self.merge());
        }
    }

    fn merge(&self) -> RwLockWriteGuard<'_, BTreeSet<K>> {
        let mut tree = self.tree.write();
        // Taken under the lock of the tree, so that a key is always in one or the other.
        let mut pending = std::mem::take(&mut *self.pending.lock());
        pending.sort_unstable();
        if tree.is_empty() {
            *tree = pending.into_iter().collect();
        } else {
            tree.extend(pending);
        }
        tree
    }

    /// Up to `limit` keys within `bounds`, from the front or from the back.
    pub(crate) fn page(&self, bounds: &Bounds<K>, from_back: bool, limit: usize) -> Vec<K> {
        if !holds_a_key(bounds) {
            return Vec::new();
        }
        self.with_range(bounds, |keys| {
            if from_back {
                keys.rev().take(limit).cloned().collect()
            } else {
                keys.take(limit).cloned().collect()
            }
        })
    }

    /// The first key within `bounds` that `matches` gives something for.
    pub(crate) fn find_map<T>(&self, bounds: &Bounds<K>, matches: impl FnMut(&K) -> Option<T>) -> Option<T> {
        if !holds_a_key(bounds) {
            return None;
        }
        self.with_range(bounds, |mut keys| keys.find_map(matches))
    }

    fn with_range<T>(
        &self,
        bounds: &Bounds<K>,
        visit: impl FnOnce(std::collections::btree_set::Range<'_, K>) -> T,
    ) -> T {
        let tree = self.tree.read();
        let tree = if self.pending.lock().is_empty() {
            tree
        } else {
            drop(tree);
            RwLockWriteGuard::downgrade(self.merge())
        };
        visit(tree.range((bounds.start_bound(), bounds.end_bound())))
    }

    /// Removes keys, each together with what `remove` does for it in the hash map; it says whether the key is
    /// to go. No scan runs meanwhile.
    pub(crate) fn sweep(&self, keys: impl Iterator<Item = K>, mut remove: impl FnMut(&K) -> bool) {
        let mut tree = self.merge();
        for key in keys {
            if remove(&key) {
                tree.remove(&key);
            }
        }
    }
}
