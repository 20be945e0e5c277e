//! What a transaction has read: its commit must find all of it unchanged.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;

use anabranch_shard::Bounds;
use foldhash::fast::FixedState;

/// Keys, present or absent, and ranges. Rolling back to a savepoint forgets none of them (PROTOCOL V7).
pub(crate) struct ReadSet<K> {
    keys: HashSet<K, FixedState>,
    ranges: Vec<Bounds<K>>,
}

impl<K: Eq + Hash> ReadSet<K> {
    pub(crate) fn new() -> Self {
        Self { keys: HashSet::with_hasher(FixedState::default()), ranges: Vec::new() }
    }

    pub(crate) fn key<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if !self.keys.contains(key) {
            self.keys.insert(key.to_owned());
        }
    }

    /// V6: the bounds that were asked for, however far they are consumed.
    pub(crate) fn range(&mut self, bounds: Bounds<K>)
    where
        K: PartialEq,
    {
        if !self.ranges.contains(&bounds) {
            self.ranges.push(bounds);
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.iter()
    }

    pub(crate) fn into_parts(self) -> (HashSet<K, FixedState>, Vec<Bounds<K>>) {
        (self.keys, self.ranges)
    }
}
