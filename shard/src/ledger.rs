//! The books of a shard's writer over what takes memory and what expires: bytes, the keys that may be evicted, and
//! expiries in order. An engine without a limit and without expiries keeps none.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::access::Access;
use crate::chain::{Chain, Version};
use crate::evict::{Candidate, Eviction, Policy};
use crate::expiry::Expiry;
use crate::map::{ShardMap, Watch};
use crate::meters::Meters;
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
const OLDER_BYTES: i64 = 40;
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
        let ledger = share.zip(map.meters()).map(|(share, meters)| Ledger::new(share, Arc::clone(meters)));
        let ledger = ledger.map(Box::new);
        let mut books = Self { expiring: BTreeSet::new(), ledger };
        if books.ledger.is_some() || map.clock().is_in_use() {
            map.for_each_loaded(|key, chain| {
                let newest = chain.newest();
                if newest.expires != Expiry::NEVER {
                    books.expiring.insert((newest.expires, key.clone()));
                }
                if let (Some(ledger), Some(value)) = (&mut books.ledger, newest.value.clone()) {
                    ledger.loaded(key, chain, &value);
                }
            });
        }
        books
    }

    /// Whether a limit lets these writes take place. Before anything is changed (T1).
    #[inline]
    pub(crate) fn check_room<'w>(
        &self,
        map: &ShardMap<K, V>,
        writes: impl Iterator<Item = (&'w K, Option<&'w Arc<V>>)>,
    ) -> Result<(), Reject> {
        let has_room = |ledger: &Ledger<K, V>| !ledger.refuses_writes() || ledger.has_room(map, writes);
        let has_room = self.ledger.as_deref().is_none_or(has_room);
        if has_room { Ok(()) } else { Err(Reject::MemoryLimit) }
    }

    /// Whether there is nothing to keep books of, until something is written that expires.
    pub(crate) fn are_closed(&self) -> bool {
        self.ledger.is_none() && self.expiring.is_empty()
    }

    /// Whether nothing expires, and what is in memory is within the limit with all that is to be reclaimed.
    pub(crate) fn are_settled(&self) -> bool {
        self.expiring.is_empty() && self.ledger.as_deref().is_none_or(Ledger::is_within)
    }

    /// Opens the entry of one write.
    pub(crate) const fn entry<'b>(&'b mut self, map: &'b ShardMap<K, V>) -> BookEntry<'b, K, V> {
        BookEntry { books: self, map }
    }

    /// Ends the entry of a removal, when the chain is let go: the key that took its slot is told.
    pub(crate) fn removed(&mut self, map: &ShardMap<K, V>) {
        if let Some((key, slot)) = self.ledger.as_mut().and_then(|ledger| ledger.moved.take()) {
            map.set_slot(&key, slot);
        }
    }
}

/// One write, as the books take it down while the chain is held.
pub(crate) struct BookEntry<'b, K, V> {
    books: &'b mut Books<K, V>,
    map: &'b ShardMap<K, V>,
}

impl<K: Key, V: Value> BookEntry<'_, K, V> {
    #[inline(never)]
    fn reschedule(&mut self, key: &K, before: Expiry, version: &Version<V>) {
        if before != Expiry::NEVER {
            self.books.expiring.remove(&(before, key.clone()));
        }
        if version.value.is_some() && version.expires != Expiry::NEVER {
            self.map.clock().note(version.expires);
            self.books.expiring.insert((version.expires, key.clone()));
        }
    }
}

impl<K: Key, V: Value> Watch<K, V> for BookEntry<'_, K, V> {
    #[inline]
    fn goes_on(&mut self, key: &K, chain: &mut Chain<V>, version: &Version<V>) {
        let newest = chain.newest();
        if newest.expires != Expiry::NEVER || version.expires != Expiry::NEVER {
            self.reschedule(key, newest.expires, version);
        }
        let Some(ledger) = self.books.ledger.as_deref_mut() else { return };
        ledger.count_write(self.map);
        match (&newest.value, &version.value) {
            (Some(old), Some(new)) => {
                let (before, now) = (ledger.value_bytes(old), ledger.value_bytes(new));
                let meters = &*ledger.meters;
                meters.hold(OLDER_BYTES + now);
                if now != before {
                    meters.live(now - before);
                }
                chain.touch(meters.now());
            }
            (Some(old), None) => {
                ledger.removed(key, old);
                ledger.give_up_slot(chain.slot());
            }
            (None, Some(new)) => {
                ledger.meters.hold(OLDER_BYTES);
                ledger.came(self.map, key, chain, new);
            }
            (None, None) => ledger.meters.hold(OLDER_BYTES),
        }
    }

    fn begins(&mut self, key: &K, chain: &mut Chain<V>) {
        if chain.newest().expires != Expiry::NEVER {
            self.reschedule(key, Expiry::NEVER, chain.newest());
        }
        let Some(ledger) = self.books.ledger.as_deref_mut() else { return };
        ledger.count_write(self.map);
        ledger.meters.hold(ledger.entry_bytes(key));
        if let Some(new) = chain.newest().value.clone() {
            ledger.came(self.map, key, chain, &new);
        }
    }
}

/// What a shard with a limit has in memory.
pub(crate) struct Ledger<K, V> {
    share: Share<K, V>,
    policy: Box<dyn Policy>,
    /// The share, and the live bytes beyond which entries go, if any do.
    limit: i64,
    evicts_beyond: i64,
    /// Every key with a live version, in any order, to draw from. Each chain knows its slot here.
    keys: Vec<K>,
    /// The key that took the slot of one that was removed, and which slot, until the chain of that is let go.
    moved: Option<(K, u32)>,
    random: u64,
    /// Where the bytes are counted, for others to see.
    meters: Arc<Meters>,
    policy_bytes: i64,
    writes_to_tick: usize,
}

impl<K: Key, V: Value> Ledger<K, V> {
    fn new(share: Share<K, V>, meters: Arc<Meters>) -> Self {
        let policy = share.eviction.policy();
        let limit = i64::try_from(share.bytes).unwrap_or(i64::MAX);
        meters.set_limit(share.bytes);
        Self {
            share,
            limit,
            evicts_beyond: if policy.refuses_writes() { i64::MAX } else { limit },
            policy,
            keys: Vec::new(),
            moved: None,
            random: share.seed | 1,
            meters,
            policy_bytes: 0,
            writes_to_tick: WRITES_PER_TICK_MIN,
        }
    }

    /// What a key takes that has one version, without that version's value.
    fn entry_bytes(&self, key: &K) -> i64 {
        let place = size_of::<K>() as u64;
        let heap = (self.share.measure.key)(key) as u64;
        let table = (size_of::<(K, Chain<V>)>() as u64 + 1) * TABLE_PERCENT;
        // In the hash table, in the ordered index, and here.
        ((table + place * (TREE_PERCENT + SLAB_PERCENT)) / 100 + TREE_BYTES + 3 * heap).cast_signed()
    }

    #[inline]
    fn value_bytes(&self, value: &V) -> i64 {
        (SHARED_BYTES + size_of::<V>() as u64 + (self.share.measure.value)(value) as u64).cast_signed()
    }

    fn live_bytes(&self, key: &K, value: Option<&Arc<V>>) -> i64 {
        value.map_or(0, |value| self.entry_bytes(key) + self.value_bytes(value))
    }

    /// A key comes that had no live version.
    #[inline(never)]
    fn came(&mut self, map: &ShardMap<K, V>, key: &K, chain: &mut Chain<V>, value: &V) {
        let accesses = self.policy.came(map.hash(key).0, self.keys.len());
        self.count_policy();
        chain.set_access(Access::new(self.meters.now(), accesses));
        let bytes = self.value_bytes(value);
        self.meters.hold(bytes);
        self.meters.live(self.entry_bytes(key) + bytes);
        self.take_slot(key, chain);
    }

    /// A key was there when the engine was opened.
    fn loaded(&mut self, key: &K, chain: &mut Chain<V>, value: &V) {
        let bytes = self.entry_bytes(key) + self.value_bytes(value);
        self.meters.hold(bytes);
        self.meters.live(bytes);
        self.take_slot(key, chain);
    }

    fn take_slot(&mut self, key: &K, chain: &mut Chain<V>) {
        let slot = u32::try_from(self.keys.len());
        chain.set_slot(slot.expect("keys of a shard are counted in 31 bits, as they fill more memory"));
        self.keys.push(key.clone());
    }

    /// A live value is an older version now, and the key is one without a live version.
    #[inline(never)]
    fn removed(&mut self, key: &K, old: &V) {
        self.meters.hold(OLDER_BYTES);
        self.meters.live(-self.entry_bytes(key) - self.value_bytes(old));
    }

    /// A removed key is gone altogether.
    pub(crate) fn forgotten(&mut self, key: &K) {
        self.meters.hold(-self.entry_bytes(key));
    }

    /// Takes a key off those to draw from. The last of them takes its slot.
    fn give_up_slot(&mut self, slot: u32) {
        self.keys.swap_remove(slot as usize);
        self.moved = self.keys.get(slot as usize).map(|moved| (moved.clone(), slot));
    }

    #[inline]
    fn count_write(&mut self, map: &ShardMap<K, V>) {
        self.writes_to_tick -= 1;
        if self.writes_to_tick == 0 {
            self.tick(map);
        }
    }

    #[inline(never)]
    fn tick(&mut self, map: &ShardMap<K, V>) {
        self.writes_to_tick = (self.keys.len() / TICKS_PER_TURNOVER).max(WRITES_PER_TICK_MIN);
        map.tick();
    }

    /// Whether entries have to go by evictions.
    #[inline]
    pub(crate) fn exceeds(&self) -> bool {
        self.meters.all_live() > self.evicts_beyond
    }

    /// Bytes that have to go by evictions.
    pub(crate) fn excess(&self) -> u64 {
        self.meters.all_live().saturating_sub(self.evicts_beyond).max(0).cast_unsigned()
    }

    const fn refuses_writes(&self) -> bool {
        self.evicts_beyond == i64::MAX
    }

    fn is_within(&self) -> bool {
        self.meters.all_held() <= self.limit
    }

    /// Whether more than a sixty-fourth of the share waits to be reclaimed beyond the limit.
    pub(crate) fn needs_reclamation(&self) -> bool {
        self.meters.all_held() > self.limit.saturating_add(self.limit / 64)
    }

    /// Older versions are gone.
    #[inline]
    pub(crate) fn reclaimed(&self, garbage: &[Version<V>]) {
        for version in garbage {
            let value = version.value.as_ref().map_or(0, |value| self.value_bytes(value));
            self.meters.hold(-OLDER_BYTES - value);
        }
    }

    fn count_policy(&mut self) {
        let bytes = self.policy.bytes().cast_signed();
        let more = bytes - self.policy_bytes;
        self.meters.hold(more);
        self.meters.live(more);
        self.policy_bytes = bytes;
    }

    /// Whether writes may take place that turn these values into those, under a policy that refuses.
    fn has_room<'w>(
        &self,
        map: &ShardMap<K, V>,
        writes: impl Iterator<Item = (&'w K, Option<&'w Arc<V>>)>,
    ) -> bool {
        let (mut more, mut less) = (0, 0);
        for (key, value) in writes {
            more += self.live_bytes(key, value);
            less += self.live_bytes(key, map.newest(key).and_then(|(_, value)| value).as_ref());
        }
        more <= less || self.meters.all_live() + more - less <= self.limit
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
        Some((key, candidates[chosen], freed.cast_unsigned()))
    }

    /// The victim goes.
    pub(crate) fn went(&mut self, victim: &Candidate) {
        self.policy.went(victim, self.keys.len());
        self.count_policy();
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
