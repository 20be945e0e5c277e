//! Claims: how a transaction that keeps losing gets through.
//!
//! Optimistic validation alone promises nothing to a transaction that reads much under constant writes. So from
//! some run on, what its last runs touched is pinned before the body runs again. Others wait in line meanwhile,
//! so this run can only fail by touching something new, which the next claim then holds as well.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_shard::{Bounds, Key, Part, Validation, Value};
use anabranch_wal::Log;

use crate::parts::Parts;

/// What a transaction's runs have touched on each shard.
pub(crate) struct Footprint<K> {
    shards: BTreeMap<usize, Touched<K>>,
}

struct Touched<K> {
    reads: BTreeSet<K>,
    ranges: Vec<Bounds<K>>,
    writes: BTreeSet<K>,
    /// The most that a run wanted to log there.
    log_bytes: u64,
}

impl<K: Key> Footprint<K> {
    pub(crate) const fn new() -> Self {
        Self { shards: BTreeMap::new() }
    }

    /// Adds what one more run touched.
    pub(crate) fn add<V: Value>(&mut self, parts: &Parts<K, V>) {
        for (shard, part) in parts {
            let touched = self.shards.entry(*shard).or_insert_with(|| Touched {
                reads: BTreeSet::new(),
                ranges: Vec::new(),
                writes: BTreeSet::new(),
                log_bytes: 0,
            });
            touched.reads.extend(part.reads.iter().cloned());
            touched.writes.extend(part.writes.iter().cloned());
            for bounds in &part.ranges {
                if !touched.ranges.contains(bounds) {
                    touched.ranges.push(bounds.clone());
                }
            }
            let log_bytes = Log::reservation_bytes(&part.encoded, parts.len());
            touched.log_bytes = touched.log_bytes.max(log_bytes);
        }
    }

    /// What is to be pinned on each shard, and the bytes of log to be reserved there.
    pub(crate) fn to_claim<V: Value>(&self) -> Vec<(usize, Part<K, V>, u64)> {
        let part = |touched: &Touched<K>| Part {
            reads: touched.reads.iter().cloned().collect(),
            ranges: touched.ranges.clone(),
            writes: touched.writes.iter().cloned().collect(),
            ..Part::new(Validation::Blind)
        };
        self.shards.iter().map(|(shard, touched)| (*shard, part(touched), touched.log_bytes)).collect()
    }
}
