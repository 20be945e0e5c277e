//! The books of a shard's writer over what takes memory and what expires: bytes, the keys that may be evicted, and
//! expiries in order. An engine without a limit and without expiries keeps none.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::chain::{Chain, Version};
use crate::evict::{Candidate, Eviction, Policy};
use crate::expiry::Expiry;
use crate::map::{Before, ShardMap};
use crate::reject::Reject;
use crate::{Key, Value};

/// How to measure what keys and values hold on the heap, without what is in them in place. Plain functions, so that
/// neither [`Key`] nor [`Value`] must be able to say it.
#[derive(Debug)]
pub struct Measure<K, V> {
    /// Of a key.
    pub key: fn(&K) -> usize,
    /// Of a value.
    pub value: fn(&V) -> usize,
}

impl<K, V> Clone for Measure<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Measure<K, V> {}

/// A shard's part of a limit of memory.
#[derive(Debug)]
pub struct Share<K, V> {
    /// In bytes.
    pub bytes: u64,
    /// How to count them.
    pub measure: Measure<K, V>,
    /// What happens when they are used.
    pub eviction: Eviction,
    /// Where the draws begin.
    pub seed: u64,
}

impl<K, V> Clone for Share<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Share<K, V> {}

/// A hash table doubles when 7 of 8 places are taken, so on average it has so many for each entry.
const TABLE_PERCENT: u64 = 165;
/// Nodes of a B-tree are filled by two thirds on average, and have a head.
const TREE_PERCENT: u64 = 155;
const TREE_BYTES: u64 = 4;
/// A vector that doubles.
const SLAB_PERCENT: u64 = 140;
/// The two counts in front of a shared value.
const SHARED_BYTES: u64 = 16;
/// An older version, with its part of the box and the queue.
const OLDER_BYTES: u64 = 40;
/// So many ticks pass while all keys are written once.
const TICKS_PER_TURNOVER: usize = 64;
/// Ticks of a small shard are no shorter than so many writes.
const WRITES_PER_TICK_MIN: usize = 16;

/// What the books say, for those who only want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The share, or 0 without a limit.
    pub limit: u64,
    /// Bytes of keys, of all their versions, and of what keeps them.
    pub bytes: u64,
    /// Bytes of them that nothing but reclamation frees: older versions, and entries removed or evicted.
    pub reclaimable: u64,
    /// Entries evicted because of the limit.
    pub evicted: u64,
    /// Entries removed because they had expired.
    pub expired: u64,
}

/// The writer's books.
pub(crate) struct Books<K, V> {
    /// All live entries that expire, soonest first.
    pub(crate) expiring: BTreeSet<(Expiry, K)>,
    pub(crate) ledger: Option<Box<Ledger<K, V>>>,
}

impl<K: Key, V: Value> Books<K, V> {
    /// Books over what was loaded.
    pub(crate) fn open(map: &ShardMap<K, V>, share: Option<Share<K, V>>) -> Self {
        let ledger = share.map(|share| Box::new(Ledger::new(share)));
        let mut books = Self { expiring: BTreeSet::new(), ledger };
        if books.ledger.is_some() || map.clock().is_in_use() {
            map.for_each_loaded(|key, chain| {
                let newest = chain.newest();
                if newest.expires != Expiry::NEVER {
                    books.expiring.insert((newest.expires, key.clone()));
                }
                if let (Some(ledger), Some(value)) = (&mut books.ledger, &newest.value) {
                    let slot = ledger.next_slot();
                    ledger.came(key, value);
                    chain.set_slot(slot);
                }
            });
        }
        books
    }

    /// Whether a limit lets these writes take place. Before anything is changed (T1).
    pub(crate) fn check_room<'w>(
        &self,
        map: &ShardMap<K, V>,
        writes: impl Iterator<Item = (&'w K, Option<&'w Arc<V>>)>,
    ) -> Result<(), Reject> {
        let has_room = self.ledger.as_ref().is_none_or(|ledger| ledger.has_room(map, writes));
        if has_room { Ok(()) } else { Err(Reject::MemoryLimit) }
    }

    /// A version was stored, and these are what it and the horizon left behind.
    pub(crate) fn stored(
        &mut self,
        map: &ShardMap<K, V>,
        key: &K,
        stored: (Option<&Arc<V>>, Expiry),
        before: Option<&Before<V>>,
        garbage: &[Version<V>],
    ) {
        let (value, expires) = stored;
        if let Some(before) = before
            && before.expires != Expiry::NEVER
        {
            self.expiring.remove(&(before.expires, key.clone()));
        }
        if value.is_some() && expires != Expiry::NEVER {
            self.expiring.insert((expires, key.clone()));
        }
        let Some(ledger) = &mut self.ledger else { return };
        ledger.stored(key, value, before, garbage);
        if value.is_none()
            && let Some(Before { value: Some(_), slot, .. }) = before
            && let Some(moved) = ledger.take_slot(*slot)
        {
            map.set_slot(moved, *slot);
        }
        ledger.tick(map);
    }
}

/// What a shard with a limit has in memory.
pub(crate) struct Ledger<K, V> {
    share: Share<K, V>,
    pub(crate) policy: Box<dyn Policy>,
    /// Every key with a live version, in any order, to draw from. Each chain knows its slot here.
    keys: Vec<K>,
    random: u64,
    /// All bytes, and those of live versions and their keys.
    held: u64,
    live: u64,
    writes_to_tick: usize,
    /// Entries written since evictions were last considered.
    pub(crate) written: usize,
}

impl<K: Key, V: Value> Ledger<K, V> {
    fn new(share: Share<K, V>) -> Self {
        Self {
            share,
            policy: share.eviction.policy(),
            keys: Vec::new(),
            random: share.seed | 1,
            held: 0,
            live: 0,
            writes_to_tick: WRITES_PER_TICK_MIN,
            written: 0,
        }
    }

    /// What a key takes that has one version, without that version's value.
    fn entry_bytes(&self, key: &K) -> u64 {
        let place = size_of::<K>() as u64;
        let heap = (self.share.measure.key)(key) as u64;
        let table = (size_of::<(K, Chain<V>)>() as u64 + 1) * TABLE_PERCENT;
        // In the hash table, in the ordered index, and here.
        (table + place * (TREE_PERCENT + SLAB_PERCENT)) / 100 + TREE_BYTES + 3 * heap
    }

    fn value_bytes(&self, value: &V) -> u64 {
        SHARED_BYTES + size_of::<V>() as u64 + (self.share.measure.value)(value) as u64
    }

    fn version_bytes(&self, value: Option<&Arc<V>>) -> u64 {
        value.map_or(0, |value| self.value_bytes(value))
    }

    fn live_bytes(&self, key: &K, value: Option<&Arc<V>>) -> u64 {
        value.map_or(0, |value| self.entry_bytes(key) + self.value_bytes(value))
    }

    /// The slot of the next key that comes.
    pub(crate) fn next_slot(&self) -> u32 {
        u32::try_from(self.keys.len())
            .expect("keys of a shard are counted in 31 bits, as they fill more memory")
    }

    fn came(&mut self, key: &K, value: &Arc<V>) {
        let bytes = self.live_bytes(key, Some(value));
        self.held += bytes;
        self.live += bytes;
        self.keys.push(key.clone());
    }

    fn stored(
        &mut self,
        key: &K,
        value: Option<&Arc<V>>,
        before: Option<&Before<V>>,
        garbage: &[Version<V>],
    ) {
        self.written += 1;
        self.held += self.version_bytes(value);
        self.held += if before.is_some() { OLDER_BYTES } else { self.entry_bytes(key) };
        self.reclaimed(garbage);
        let old = before.and_then(|before| before.value.as_ref());
        self.live += self.live_bytes(key, value);
        self.live = self.live.saturating_sub(self.live_bytes(key, old));
        if value.is_some() && old.is_none() {
            self.keys.push(key.clone());
        }
    }

    /// Older versions are gone.
    pub(crate) fn reclaimed(&mut self, garbage: &[Version<V>]) {
        for version in garbage {
            // A value that changed its size behind our back must not make the count run under.
            let bytes = OLDER_BYTES + self.version_bytes(version.value.as_ref());
            self.held = self.held.saturating_sub(bytes);
        }
    }

    /// A removed key is gone altogether.
    pub(crate) fn forgotten(&mut self, key: &K) {
        self.held = self.held.saturating_sub(self.entry_bytes(key));
    }

    /// Takes a key off those to draw from. Returns the one that took its slot.
    fn take_slot(&mut self, slot: u32) -> Option<&K> {
        self.keys.swap_remove(slot as usize);
        self.keys.get(slot as usize)
    }

    fn tick(&mut self, map: &ShardMap<K, V>) {
        self.writes_to_tick -= 1;
        if self.writes_to_tick == 0 {
            self.writes_to_tick = (self.keys.len() / TICKS_PER_TURNOVER).max(WRITES_PER_TICK_MIN);
            map.tick();
        }
    }

    /// Bytes that would have to go, of what can go by evictions.
    pub(crate) fn excess(&self) -> u64 {
        (self.live + self.policy.bytes()).saturating_sub(self.share.bytes)
    }

    /// Whether entries go at all.
    pub(crate) fn may_evict(&self) -> bool {
        !self.policy.refuses_writes()
    }

    /// Whether more than a sixty-fourth of the share waits to be reclaimed beyond the limit.
    pub(crate) fn needs_reclamation(&self) -> bool {
        self.held > self.share.bytes + self.share.bytes / 64
    }

    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let own = self.policy.bytes();
        (self.share.bytes, self.held + own, self.held.saturating_sub(self.live))
    }

    /// Whether writes may take place that turn these values into those, under a policy that refuses.
    pub(crate) fn has_room<'w>(
        &self,
        map: &ShardMap<K, V>,
        writes: impl Iterator<Item = (&'w K, Option<&'w Arc<V>>)>,
    ) -> bool {
        if !self.policy.refuses_writes() {
            return true;
        }
        let (mut more, mut less) = (0, 0);
        for (key, value) in writes {
            more += self.live_bytes(key, value);
            less += self.live_bytes(key, map.newest(key).and_then(|(_, value)| value).as_ref());
        }
        more <= less || self.live + more - less <= self.share.bytes
    }

    /// Draws keys and chooses one to go, with the bytes that this frees. `None` if all that were drawn are to stay.
    pub(crate) fn victim(
        &mut self,
        map: &ShardMap<K, V>,
        may_go: impl Fn(&K) -> bool,
    ) -> Option<(K, Candidate, u64)> {
        let drawn = self.policy.drawn().min(self.keys.len());
        let mut candidates = Vec::with_capacity(drawn);
        let mut keys = Vec::with_capacity(drawn);
        // A few more draws than needed, as some may have to stay.
        for _ in 0..drawn * 4 {
            if keys.len() == drawn {
                break;
            }
            let key = &self.keys[draw(&mut self.random, self.keys.len())];
            if let Some(candidate) = map.candidate(key).filter(|_| may_go(key)) {
                candidates.push(candidate);
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return None;
        }
        let chosen = self.policy.victim(&candidates);
        let key = keys[chosen].clone();
        let freed = self.live_bytes(&key, map.newest(&key).and_then(|(_, value)| value).as_ref());
        Some((key, candidates[chosen], freed))
    }

    /// The victim goes.
    pub(crate) fn went(&mut self, victim: &Candidate) {
        self.policy.went(victim, self.keys.len());
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }
}

/// Marsaglia's xorshift: draws need not be good, only cheap, and the same for a seed.
fn draw(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from((u128::from(*state) * below as u128) >> 64).expect("less than `below`")
}
