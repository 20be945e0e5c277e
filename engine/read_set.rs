//! What a transaction has read: its commit must find all of it unchanged.

use std::borrow::Borrow;

use anabranch_shard::Bounds;

/// So many keys are looked through for one that is there already.
const LOOKED_THROUGH: usize = 16;
/// Keys that may repeat are sorted out for the first time when there are so many.
const FIRST_SORT: usize = 256;

/// Keys, present or absent, and ranges. Rolling back to a savepoint forgets none of them (PROTOCOL V7).
///
/// Most transactions read few keys, once each, so this is a row. A key that is read again and again may be in it
/// more than once, but the row is never longer than twice the keys that are in it, or [`FIRST_SORT`].
pub(crate) struct ReadSet<K> {
    keys: Vec<K>,
    /// Repeated keys are taken out when the row is so long.
    sort_at: usize,
    ranges: Vec<Bounds<K>>,
}

impl<K: Ord> ReadSet<K> {
    pub(crate) const fn new() -> Self {
        Self { keys: Vec::new(), sort_at: FIRST_SORT, ranges: Vec::new() }
    }

    pub(crate) fn key<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        if self.keys.iter().rev().take(LOOKED_THROUGH).any(|known| known.borrow() == key) {
            return;
        }
        if self.keys.len() >= self.sort_at {
            self.sort_out();
            self.sort_at = FIRST_SORT.max(2 * self.keys.len());
        }
        self.keys.push(key.to_owned());
    }

    fn sort_out(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
    }

    /// V6: the bounds that were asked for, however far they are consumed.
    pub(crate) fn range(&mut self, bounds: Bounds<K>) {
        if !self.ranges.contains(&bounds) {
            self.ranges.push(bounds);
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.iter()
    }

    pub(crate) fn into_parts(mut self) -> (Vec<K>, Vec<Bounds<K>>) {
        if self.keys.len() > LOOKED_THROUGH {
            self.sort_out();
        }
        (self.keys, self.ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_read_again_and_again_take_no_more_room() {
        let mut reads = ReadSet::new();
        for round in 0..100 {
            for key in 0..1_000_u64 {
                reads.key(&key);
                assert!(reads.keys.len() <= 2_000, "in round {round}");
            }
        }
        assert_eq!(reads.into_parts().0, (0..1_000).collect::<Vec<_>>());
    }
}
