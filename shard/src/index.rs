//! The ordered index: which keys there are, for scans. It learns of new keys late (PROTOCOL H4): the shard
//! collects their hashes, and the next scan, or the next quiet moment, looks the keys up and merges them in. So who never
//! scans never pays for order, nor for a second copy of each key, and a load of new keys doesn't pay for it key by key.
//!
//! Holds every key of the hash map, whether or not it has a live version. A key is here before its commit is
//! reported applied. It leaves the tree together with its entry in the hash map; one that left before it was merged
//! in is not found when it would be.

use std::collections::BTreeSet;
use std::ops::RangeBounds;

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::pins::{Bounds, holds_a_key};
use crate::router::KeyHash;

/// Fewer keys than this that have left the hash map are nothing to tidy up.
const STALE_MIN: usize = 64;
const ROW_KEYS: usize = 1024;

#[derive(Debug)]
pub(crate) struct OrderedIndex<K> {
    tree: RwLock<BTreeSet<K>>,
    /// Locked after `tree` where both are.
    pending: Mutex<Pending>,
}

/// The hashes of keys that are not in the tree.
#[derive(Debug)]
struct Pending {
    /// In rows of [`ROW_KEYS`], of which the last may be shorter: a long row that grows takes, for a while, three times its
    /// room.
    rows: Vec<Vec<KeyHash>>,
    len: usize,
    /// So many of them have left the hash map; some may have come back, and are here twice.
    stale: usize,
}

impl Pending {
    const fn new() -> Self {
        Self { rows: Vec::new(), len: 0, stale: 0 }
    }

    const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, hash: KeyHash) {
        self.len += 1;
        match self.rows.last_mut() {
            Some(row) if row.len() < ROW_KEYS => row.push(hash),
            Some(_) => {
                let mut row = Vec::with_capacity(ROW_KEYS);
                row.push(hash);
                self.rows.push(row);
            }
            None => self.rows.push(vec![hash]),
        }
    }

    /// [`Pending::push`] of several, which are taken.
    fn push_all(&mut self, hashes: &mut Vec<KeyHash>) {
        hashes.drain(..).for_each(|hash| self.push(hash));
    }

    /// Up to `limit` of them, the last ones.
    fn take(&mut self, limit: usize) -> Vec<KeyHash> {
        let mut left = self.len.min(limit);
        self.len -= left;
        let mut hashes = Vec::with_capacity(left);
        while left > 0 {
            let row = self.rows.last_mut().expect("there are as many keys as were counted");
            let rest = row.len().saturating_sub(left);
            left -= row.len() - rest;
            hashes.extend(row.drain(rest..));
            if row.is_empty() {
                self.rows.pop();
            }
        }
        if self.is_empty() {
            self.stale = 0;
        }
        hashes
    }

    /// So many keys have left the hash map. Returns whether that makes half of those that are here.
    fn left(&mut self, stale: usize) -> bool {
        self.stale += stale;
        self.stale >= STALE_MIN && self.stale * 2 >= self.len
    }
}

/// Hashes that are being merged. Those that are left go back, so that a panic of a user's `Clone` or `Ord` loses none.
struct Taken<'i> {
    hashes: Vec<KeyHash>,
    pending: &'i Mutex<Pending>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.hashes.is_empty() {
            self.pending.lock().push_all(&mut self.hashes);
        }
    }
}

impl<K: Ord> OrderedIndex<K> {
    pub(crate) const fn new() -> Self {
        Self { tree: RwLock::new(BTreeSet::new()), pending: Mutex::new(Pending::new()) }
    }

    /// Adds a key, by its hash, that is not in the hash map yet, or was put there just now.
    pub(crate) fn add(&self, hash: KeyHash) {
        self.pending.lock().push(hash);
    }

    /// [`OrderedIndex::add`] of several keys, whose hashes are taken.
    pub(crate) fn add_all(&self, hashes: &mut Vec<KeyHash>) {
        self.pending.lock().push_all(hashes);
    }

    /// Merges in up to `limit` of the keys that were added. `keys_of` tells which keys with a hash the hash map has.
    /// Returns whether there are more.
    pub(crate) fn settle(&self, limit: usize, keys_of: impl Fn(KeyHash, &mut Vec<K>)) -> bool {
        if self.pending.lock().is_empty() {
            return false;
        }
        drop(self.merge(limit, keys_of));
        !self.pending.lock().is_empty()
    }

    fn merge(
        &self,
        limit: usize,
        keys_of: impl Fn(KeyHash, &mut Vec<K>),
    ) -> RwLockWriteGuard<'_, BTreeSet<K>> {
        let mut tree = self.tree.write();
        // Taken under the lock of the tree, so that a key is always in one or the other.
        let mut taken = Taken { hashes: self.pending.lock().take(limit), pending: &self.pending };
        // One that comes back after this look is added once more.
        let mut keys = Vec::with_capacity(taken.hashes.len());
        for hash in &taken.hashes {
            keys_of(*hash, &mut keys);
        }
        keys.sort_unstable();
        if tree.is_empty() {
            *tree = keys.into_iter().collect();
        } else {
            tree.extend(keys);
        }
        taken.hashes.clear();
        tree
    }

    /// The first key within `bounds`, from the front or from the back, that `matches` gives something for.
    pub(crate) fn find_map<T>(
        &self,
        bounds: &Bounds<K>,
        from_back: bool,
        keys_of: impl Fn(KeyHash, &mut Vec<K>),
        matches: impl FnMut(&K) -> Option<T>,
    ) -> Option<T> {
        self.with_range(bounds, from_back, keys_of, |mut keys| Iterator::find_map(&mut keys, matches))
    }

    /// Shows the keys within `bounds`, from the front or from the back. None of them leaves meanwhile.
    pub(crate) fn with_range<T>(
        &self,
        bounds: &Bounds<K>,
        from_back: bool,
        keys_of: impl Fn(KeyHash, &mut Vec<K>),
        look: impl for<'k> FnOnce(&mut dyn Iterator<Item = &'k K>) -> Option<T>,
    ) -> Option<T> {
        if !holds_a_key(bounds) {
            return None;
        }
        let tree = self.tree.read();
        let tree = if self.pending.lock().is_empty() {
            tree
        } else {
            drop(tree);
            RwLockWriteGuard::downgrade(self.merge(usize::MAX, keys_of))
        };
        let mut keys = tree.range((bounds.start_bound(), bounds.end_bound()));
        if from_back { look(&mut keys.rev()) } else { look(&mut keys) }
    }

    /// Removes keys, each together with what `remove` does for it in the hash map; it says whether the key is
    /// to go. No scan runs meanwhile.
    pub(crate) fn sweep(
        &self,
        keys: impl Iterator<Item = K>,
        keys_of: impl Fn(KeyHash, &mut Vec<K>),
        mut remove: impl FnMut(&K) -> bool,
    ) {
        let mut stale = 0;
        {
            let mut tree = self.tree.write();
            for key in keys {
                stale += usize::from(remove(&key) && !tree.remove(&key));
            }
        }
        if stale > 0 && self.pending.lock().left(stale) {
            // Keys that come and go and are never scanned must not pile up. Each removal pays for two of them.
            drop(self.merge(usize::MAX, keys_of));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::ops::Bound;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    const ALL: Bounds<u8> = (Bound::Unbounded, Bound::Unbounded);

    /// Every other key has the hash of the one before it.
    fn hash(key: u8) -> KeyHash {
        KeyHash((key / 2).into())
    }

    fn keys_of(map: &BTreeSet<u8>) -> impl Fn(KeyHash, &mut Vec<u8>) {
        |of, keys| keys.extend(map.iter().filter(|key| hash(**key) == of))
    }

    /// What the hash map and the index of a shard go through.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u8),
        Remove(u8),
        Settle(usize),
        Scan,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..8).prop_map(Step::Insert),
            (0u8..8).prop_map(Step::Remove),
            (1usize..4).prop_map(Step::Settle),
            Just(Step::Scan),
        ]
    }

    proptest! {
        #[test]
        fn a_scan_finds_what_the_hash_map_has_whenever_keys_came_and_went(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let index = OrderedIndex::new();
            let mut map = BTreeSet::new();
            for step in steps.into_iter().chain([Step::Scan]) {
                match step {
                    Step::Insert(key) => {
                        if map.insert(key) {
                            index.add(hash(key));
                        }
                    }
                    Step::Remove(key) => {
                        let map = RefCell::new(&mut map);
                        let keys_of = |hash, keys: &mut Vec<u8>| keys_of(&map.borrow())(hash, keys);
                        index.sweep(std::iter::once(key), keys_of, |key| map.borrow_mut().remove(key));
                    }
                    Step::Settle(limit) => {
                        index.settle(limit, keys_of(&map));
                    }
                    Step::Scan => {
                        for from_back in [false, true] {
                            let mut found = Vec::new();
                            let _: Option<()> = index.find_map(&ALL, from_back, keys_of(&map), |key| {
                                found.push(*key);
                                None
                            });
                            if from_back {
                                found.reverse();
                            }
                            prop_assert_eq!(found, map.iter().copied().collect::<Vec<_>>());
                        }
                    }
                }
            }
            prop_assert!(index.pending.lock().is_empty(), "the last scan merged all");
        }
    }

    #[test]
    fn a_panic_while_keys_are_put_in_order_loses_none() {
        let (index, map) = (OrderedIndex::new(), BTreeSet::from([1, 2, 3]));
        for key in &map {
            index.add(hash(*key));
        }
        let panics = |of, keys: &mut Vec<u8>| {
            assert!(of != hash(2), "as planned");
            keys_of(&map)(of, keys);
        };
        let settled = catch_unwind(AssertUnwindSafe(|| index.settle(usize::MAX, panics)));
        assert!(settled.is_err());
        let mut found = Vec::new();
        let _: Option<()> = index.find_map(&ALL, false, keys_of(&map), |key| {
            found.push(*key);
            None
        });
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn keys_that_come_and_go_and_are_never_scanned_do_not_pile_up() {
        let index = OrderedIndex::new();
        for _ in 0..100 {
            for key in 0u8..100 {
                index.add(hash(key));
            }
            index.sweep(0u8..100, |_, _| {}, |_| true);
        }
        assert!(index.pending.lock().len <= 2 * STALE_MIN);
        assert!(index.find_map(&ALL, false, |_, _| {}, |key| Some(*key)).is_none());
    }
}
