//! What a transaction has read: its commit must find all of it unchanged.

use std::borrow::Borrow;

use anabranch_shard::{Bounds, Few, KeyHash};

/// So many keys are looked through for one that is there already.
const LOOKED_THROUGH: usize = 16;
/// Keys that may repeat are sorted out for the first time when there are so many.
const FIRST_SORT: usize = 256;

/// Keys, present or absent, and ranges. Rolling back to a savepoint forgets none of them (PROTOCOL V7).
///
/// Most transactions read few keys, once each, so this is a row. A key that is read again and again may be in it
/// more than once, but the row is never longer than twice the keys that are in it, or [`FIRST_SORT`].
pub(crate) struct ReadSet<K> {
    keys: Few<Read<K>>,
    /// Repeated keys are taken out when the row is so long.
    sort_at: usize,
    ranges: Vec<Bounds<K>>,
}

/// A key, and where it is.
pub(crate) struct Read<K> {
    pub(crate) key: K,
    pub(crate) hash: KeyHash,
    pub(crate) shard: usize,
}

impl<K: Ord> ReadSet<K> {
    pub(crate) fn new() -> Self {
        Self { keys: Few::new(), sort_at: FIRST_SORT, ranges: Vec::new() }
    }

    pub(crate) fn key<Q>(&mut self, key: &Q, (shard, hash): (usize, KeyHash))
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let is_it = |known: &Read<K>| known.hash == hash && known.key.borrow() == key;
        if self.keys.iter().rev().take(LOOKED_THROUGH).any(is_it) {
            return;
        }
        if self.keys.len() >= self.sort_at {
            self.sort_out();
            self.sort_at = FIRST_SORT.max(2 * self.keys.len());
        }
        self.keys.push(Read { key: key.to_owned(), hash, shard });
    }

    fn sort_out(&mut self) {
        self.keys.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        self.keys.dedup_by(|one, other| one.key == other.key);
    }

    /// V6: the bounds that were asked for, however far they are consumed.
    pub(crate) fn range(&mut self, bounds: Bounds<K>) {
        if !self.ranges.contains(&bounds) {
            self.ranges.push(bounds);
        }
    }

    pub(crate) fn into_parts(mut self) -> (Few<Read<K>>, Vec<Bounds<K>>) {
        if self.keys.len() > LOOKED_THROUGH {
            self.sort_out();
        }
        (self.keys, self.ranges)
    }
}

#[cfg(test)]
mod tests {
    use anabranch_shard::{HashPartition, Router};

    use super::*;

    #[test]
    fn keys_that_are_read_again_and_again_take_no_more_room() {
        let (mut reads, router) = (ReadSet::new(), Router::new(7, HashPartition, 2));
        for round in 0..100 {
            for key in 0..1_000_u64 {
                reads.key(&key, router.place(&key));
                assert!(reads.keys.len() <= 2_000, "in round {round}");
            }
        }
        let keys: Vec<u64> = reads.into_parts().0.into_iter().map(|read| read.key).collect();
        assert_eq!(keys, (0..1_000).collect::<Vec<_>>());
    }
}
