//! What a transaction has written so far: nobody else sees it before the commit.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

use anabranch_shard::{Bounds, Expiry, Few, holds_a_key};

/// More keys than this are in a tree.
const FEW: usize = 16;

/// A value and when it expires; no value removes.
pub(crate) type Written<V> = (Option<Arc<V>>, Expiry);

/// What a write took the place of.
enum Replaced<V> {
    Nothing,
    Write(Written<V>),
}

/// A transaction's writes, the last one of each key, and how to go back to a savepoint.
pub(crate) struct WriteSet<K, V> {
    writes: Writes<K, V>,
    /// What each write since the first savepoint replaced.
    undo: Vec<(K, Replaced<V>)>,
    /// Names, and where in `undo` they stand.
    savepoints: Vec<(String, usize)>,
}

impl<K: Clone + Ord, V> WriteSet<K, V> {
    pub(crate) fn new() -> Self {
        Self { writes: Writes::Few(Few::new()), undo: Vec::new(), savepoints: Vec::new() }
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
        K: Borrow<Q>,
    {
        self.writes.get(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The writes within a range, in order.
    pub(crate) fn range<C: Extend<(K, Option<Arc<V>>)> + Default>(&self, bounds: &Bounds<K>) -> C {
        let own = |(key, (value, _)): (&K, &Written<V>)| (key.clone(), value.clone());
        let mut found = C::default();
        match &self.writes {
            Writes::Few(row) => {
                let within = row.iter().filter(|(key, _)| bounds.contains(key));
                found.extend(within.map(|(key, write)| own((key, write))));
            }
            // A tree's range panics where the end is before the start.
            Writes::Many(tree) if holds_a_key(bounds) => {
                found.extend(tree.range((bounds.start_bound(), bounds.end_bound())).map(own));
            }
            Writes::Many(_) => {}
        }
        found
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

    /// Gives the writes away, in the order of their keys, until one is not taken.
    pub(crate) fn try_for_each<E>(
        self,
        mut take: impl FnMut(K, Written<V>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.writes {
            Writes::Few(row) => row.into_iter().try_for_each(|(key, write)| take(key, write)),
            Writes::Many(tree) => tree.into_iter().try_for_each(|(key, write)| take(key, write)),
        }
    }
}

/// By key: a row in order, as most transactions write few keys, or a tree.
enum Writes<K, V> {
    Few(Few<(K, Written<V>)>),
    Many(BTreeMap<K, Written<V>>),
}

impl<K: Ord, V> Writes<K, V> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(row) => row.is_empty(),
            Self::Many(tree) => tree.is_empty(),
        }
    }

    fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Written<V>>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Few(row) => place(row, key).ok().map(|at| &row[at].1),
            Self::Many(tree) => tree.get(key),
        }
    }

    fn insert(&mut self, key: K, write: Written<V>) -> Option<Written<V>> {
        match self {
            Self::Few(row) => match place(row, &key) {
                Ok(at) => return Some(std::mem::replace(&mut row[at].1, write)),
                Err(at) => row.insert(at, (key, write)),
            },
            Self::Many(tree) => return tree.insert(key, write),
        }
        if let Self::Few(row) = self
            && row.len() > FEW
        {
            *self = Self::Many(std::mem::take(row).into_iter().collect());
        }
        None
    }

    fn remove(&mut self, key: &K) -> Option<Written<V>> {
        match self {
            Self::Few(row) => place(row, key).ok().map(|at| row.remove(at).1),
            Self::Many(tree) => tree.remove(key),
        }
    }
}

/// Where a key is in a row, or would be.
fn place<K: Borrow<Q> + Ord, Q: Ord + ?Sized, W>(row: &[(K, W)], key: &Q) -> Result<usize, usize> {
    row.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Set(u8, Option<u64>),
        Savepoint,
        Rollback,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..40, any::<Option<u64>>()).prop_map(|(key, value)| Step::Set(key, value)),
            1 => Just(Step::Savepoint),
            1 => Just(Step::Rollback),
        ]
    }

    proptest! {
        #[test]
        fn a_row_and_a_tree_hold_the_last_write_of_each_key(
            steps in prop::collection::vec(step(), 1..80),
            from in 0u8..40,
            to in 0u8..40,
        ) {
            let mut set = WriteSet::new();
            let mut model = BTreeMap::new();
            let mut saved = Vec::new();
            for step in steps {
                match step {
                    Step::Set(key, value) => {
                        set.set(key, value.map(Arc::new), Expiry::NEVER);
                        model.insert(key, value);
                    }
                    Step::Savepoint => {
                        set.savepoint("here".to_owned());
                        saved.push(model.clone());
                    }
                    Step::Rollback => {
                        prop_assert_eq!(set.rollback_to("here"), !saved.is_empty());
                        model = saved.pop().unwrap_or(model);
                    }
                }
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
            for key in 0..40 {
                let own = set.get(&key).map(|(value, _)| value.as_deref().copied());
                prop_assert_eq!(own, model.get(&key).copied());
            }
            let bounds = (Bound::Included(from), Bound::Excluded(to));
            let within: Vec<(u8, Option<Arc<u64>>)> = set.range(&bounds);
            let within: Vec<_> = within.into_iter().map(|(key, value)| (key, value.as_deref().copied())).collect();
            let expected: Vec<_> =
                model.iter().filter(|(key, _)| (from..to).contains(key)).map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(within, expected);
            let mut all = Vec::new();
            let taken: Result<(), ()> = set.try_for_each(|key, (value, _)| {
                all.push((key, value.as_deref().copied()));
                Ok(())
            });
            prop_assert!(taken.is_ok());
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
