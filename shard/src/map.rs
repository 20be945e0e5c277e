//! The multi-version map of one shard: one writer, many readers. A point read is a hash look-up and a short
//! walk; a scan takes a page of keys from the ordered index and looks each up. Readers send no message.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_wal::Timestamp;
use crossbeam_utils::CachePadded;
use smallvec::SmallVec;

use crate::chain::{Chain, Garbage, Version};
use crate::clock::Clock;
use crate::evict::Candidate;
use crate::expiry::Expiry;
use crate::index::OrderedIndex;
use crate::many::{AT_ONCE, Place, look_up};
use crate::meters::Meters;
use crate::offsets::Offsets;
use crate::pins::Bounds;
use crate::readers::Readers;
use crate::router::KeyHash;
use crate::sequencer::Sequencer;
use crate::table::{STRIPES, Slot, Table, stripe_of};
use crate::{Key, Value};

/// An entry that a scan found.
#[derive(Debug)]
pub struct PageEntry<K, V> {
    /// Its key.
    pub key: K,
    /// The commit that wrote it.
    pub timestamp: Timestamp,
    /// When it expires.
    pub expires: Expiry,
    /// Its value.
    pub value: Arc<V>,
}

/// Sees what a write does to a key, while its chain is held.
pub(crate) trait Watch<K, V> {
    /// The key has a chain already, of which this is to be the newest version.
    fn goes_on(&mut self, key: &K, chain: &mut Chain<V>, version: &Version<V>);

    /// The key had no chain, and now has this one.
    fn begins(&mut self, key: &K, chain: &mut Chain<V>);
}

/// Nobody looks.
impl<K, V> Watch<K, V> for () {
    fn goes_on(&mut self, _: &K, _: &mut Chain<V>, _: &Version<V>) {}

    fn begins(&mut self, _: &K, _: &mut Chain<V>) {}
}

/// A shard's content, shared by its one writer and all readers.
pub struct ShardMap<K, V> {
    entries: Table<K, V>,
    index: OrderedIndex<K>,
    offsets: Offsets,
    sizes: CachePadded<Sizes>,
    clock: Arc<Clock>,
    /// What there is only with a limit of memory.
    meters: Option<Arc<Meters>>,
}

/// On a cache line of its own, as readers look at the rest of the map.
#[derive(Default)]
struct Sizes {
    /// Versions over all keys. Only the writer changes these, once everything is loaded.
    versions: AtomicU64,
    /// Keys, with a value or not.
    keys: AtomicU64,
    /// Keys whose newest version is a value.
    live: AtomicU64,
}

impl Sizes {
    const fn each(&self) -> [&AtomicU64; 3] {
        [&self.versions, &self.keys, &self.live]
    }
}

/// What there is to know about old versions, for whoever adds one more.
pub(crate) struct Reclaim<'r> {
    /// What lies below this, nobody can ask for.
    pub(crate) horizon: Timestamp,
    pub(crate) readers: &'r Readers,
    /// If a write is all of its commit, and there is no log: where to report it at once. With the key still locked, and
    /// nobody registered, nobody can ask for what it replaces.
    pub(crate) publishes_to: Option<&'r Sequencer>,
}

/// Room for so many writes of each stripe is kept after a commit of more.
const BULK_KEPT: usize = 1024;
/// So that who reads there waits for a few microseconds at the most.
const WRITES_PER_LOCK: usize = 64;

/// Writes of one commit, by stripes. Empty in between, with room for the next.
pub(crate) struct Bulk<K, V> {
    stripes: [StripeWrites<K, V>; STRIPES],
    /// The hashes of keys that were not there.
    fresh: Vec<KeyHash>,
}

/// What one commit writes to one stripe.
struct StripeWrites<K, V> {
    hashes: Vec<KeyHash>,
    /// Each as the table will have it if the key is new. What was put together just before it is moved holds the move up
    /// until every write before it has reached the cache, and those to other slots are slow to.
    slots: Vec<Slot<K, V>>,
}

impl<K, V> Bulk<K, V> {
    pub(crate) const fn new() -> Self {
        let stripes = [const { StripeWrites { hashes: Vec::new(), slots: Vec::new() } }; STRIPES];
        Self { stripes, fresh: Vec::new() }
    }

    pub(crate) fn add(&mut self, key: K, hash: KeyHash, version: Version<V>) {
        let StripeWrites { hashes, slots } = &mut self.stripes[stripe_of(hash)];
        hashes.push(hash);
        slots.push(Slot { key, chain: Chain::new(version) });
    }
}

/// What became of a write, beside its place in the chain.
pub(crate) struct Written<K> {
    /// The key, if it is to be remembered for a sweep.
    pub(crate) remembered: Option<K>,
    pub(crate) published: bool,
}

/// A key that a sweep may find something at.
pub(crate) struct Remembered<K> {
    /// The commit after which it may.
    pub(crate) since: Timestamp,
    pub(crate) hash: KeyHash,
    pub(crate) key: K,
}

/// What a sweep leaves of a chain.
enum Left {
    Nothing,
    /// Something that goes after this commit.
    Leftovers {
        since: Timestamp,
    },
    Newest,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Versions that nobody can ask for any more.
    pub versions: u64,
    /// Keys whose removal everybody sees, and which were taken out altogether.
    pub keys: u64,
}

impl<K: Key, V: Value> ShardMap<K, V> {
    /// An empty map. The seed is that of the engine's hash.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, Arc::default(), false)
    }

    /// An empty map with an engine's clock. Whether there is a limit of memory, so that accesses are noted.
    #[must_use]
    pub fn with_clock(seed: u64, clock: Arc<Clock>, is_limited: bool) -> Self {
        Self {
            entries: Table::new(seed),
            index: OrderedIndex::new(),
            offsets: Offsets::default(),
            sizes: CachePadded::default(),
            clock,
            meters: is_limited.then(Arc::default),
        }
    }

    /// The value of `key` at the timestamp that `read_at` gives. It is asked while the chain is held, so that
    /// whatever was trimmed before lies below it (PROTOCOL H2).
    ///
    /// What has expired is not there. Without a `moment`, that is asked of the clock, and only of what can expire.
    #[inline]
    pub fn get<Q>(
        &self,
        key: &Q,
        hash: KeyHash,
        read_at: impl FnOnce() -> Timestamp,
        moment: Option<u64>,
    ) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.show(key, hash, read_at, moment, Arc::clone)
    }

    /// Shows the value that [`ShardMap::get`] gives, while its chain is held.
    #[inline]
    pub fn show<Q, T>(
        &self,
        key: &Q,
        hash: KeyHash,
        read_at: impl FnOnce() -> Timestamp,
        moment: Option<u64>,
        look: impl FnOnce(&Arc<V>) -> T,
    ) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let found = self.entries.read(key, hash, |_, chain| {
            self.accessed(chain);
            chain.at(read_at())?.live(|| moment.unwrap_or_else(|| self.clock.now())).map(look)
        });
        found.flatten()
    }

    /// Looks a key up, for whoever is to write it next and not to wait for memory then, while others wait for the turn.
    /// Not where that would have to wait for somebody.
    #[inline]
    pub(crate) fn prefetch(&self, key: &K, hash: KeyHash) {
        if let Some(held) = self.entries.try_hold(hash) {
            black_box(held.find(key, hash).map(|(_, chain)| chain.newest().timestamp));
        }
    }

    /// Notes an access, where that counts.
    #[inline]
    pub(crate) fn accessed(&self, chain: &Chain<V>) {
        if let Some(meters) = &self.meters {
            chain.touch(meters.now());
        }
    }

    pub(crate) const fn entries(&self) -> &Table<K, V> {
        &self.entries
    }

    /// The value of `key` at the timestamp and the moment, and when it expires. The caller is registered as a reader.
    pub fn get_expiring<Q>(&self, key: &Q, at: (Timestamp, u64)) -> Option<(Arc<V>, Expiry)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.look(key, at, |_, _, version| Some((version.value.clone()?, version.expires))).flatten()
    }

    /// The clock that entries expire by.
    #[must_use]
    pub const fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// What there is only with a limit of memory.
    pub(crate) const fn meters(&self) -> Option<&Arc<Meters>> {
        self.meters.as_ref()
    }

    /// How far sources have been taken in, by commits of this shard.
    pub const fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The newest value of `key` and the commit that wrote or removed it. For the shard's writer.
    pub(crate) fn newest(&self, key: &K) -> Option<(Timestamp, Option<Arc<V>>)> {
        let newest = |newest: &Version<V>| (newest.timestamp, newest.value.clone());
        self.with_newest(key, self.hash(key), newest)
    }

    fn with_newest<T>(&self, key: &K, hash: KeyHash, look: impl FnOnce(&Version<V>) -> T) -> Option<T> {
        self.entries.read(key, hash, |_, chain| look(chain.newest()))
    }

    /// [`ShardMap::newest`], where a value that has expired is none, and when it expires.
    pub(crate) fn newest_live(&self, key: &K, hash: KeyHash) -> Option<(Timestamp, Option<Arc<V>>, Expiry)> {
        self.with_newest_live(key, hash, |timestamp, live, expires| (timestamp, live.cloned(), expires))
    }

    /// Shows what [`ShardMap::newest_live`] gives, which readers may look at meanwhile, and nobody changes.
    pub(crate) fn with_newest_live<T>(
        &self,
        key: &K,
        hash: KeyHash,
        look: impl FnOnce(Timestamp, Option<&Arc<V>>, Expiry) -> T,
    ) -> Option<T> {
        self.with_newest(key, hash, |newest| {
            let live = newest.live(|| self.clock.now());
            let expires = if live.is_some() { newest.expires } else { Expiry::NEVER };
            look(newest.timestamp, live, expires)
        })
    }

    /// The commit that wrote `key`, if that was live at the one moment and has expired by the other.
    fn expired_between(&self, (key, hash): (&K, KeyHash), (moment, now): (u64, u64)) -> Option<Timestamp> {
        let expired = self.with_newest(key, hash, |newest| {
            let was_live = newest.value.is_some() && !newest.expires.is_past(moment);
            (was_live && newest.expires.is_past(now)).then_some(newest.timestamp)
        });
        expired.flatten()
    }

    /// [`ShardMap::expired_between`] for each of these keys, and for all within these bounds.
    pub(crate) fn any_expired_between<'k>(
        &self,
        mut keys: impl Iterator<Item = (&'k K, KeyHash)>,
        ranges: &[Bounds<K>],
        moments: (u64, u64),
    ) -> Option<Timestamp>
    where
        K: 'k,
    {
        let key = keys.find_map(|key| self.expired_between(key, moments));
        let expired = |key: &K| self.expired_between((key, self.hash(key)), moments);
        let within = |bounds| self.index.find_map(bounds, false, self.keys_of(), expired);
        key.or_else(|| ranges.iter().find_map(within))
    }

    pub(crate) fn newest_timestamp(&self, key: &K, hash: KeyHash) -> Option<Timestamp> {
        self.with_newest(key, hash, |newest| newest.timestamp)
    }

    /// A version newer than `timestamp` of a key within `bounds`, if there is one. New keys and removals
    /// count. For the shard's writer.
    pub(crate) fn newer_in(&self, bounds: &Bounds<K>, timestamp: Timestamp) -> Option<Timestamp> {
        let newer = |key: &K| self.newest_timestamp(key, self.hash(key)).filter(|newest| *newest > timestamp);
        self.index.find_map(bounds, false, self.keys_of(), newer)
    }

    /// Looks at up to `limit` keys within `bounds`, in order or from the back, and takes those of them that are live at
    /// the timestamp, and had not expired at the moment. The caller is registered as a reader at or below it. A scan is
    /// no access of what it finds. Returns the last key looked at, if there may be more behind it.
    ///
    /// `take` runs while keys can't leave the order: it must not come back to the shard.
    pub fn page(
        &self,
        bounds: &Bounds<K>,
        from_back: bool,
        limit: usize,
        at: (Timestamp, u64),
        mut take: impl FnMut(PageEntry<K, V>),
    ) -> Option<K> {
        self.index.with_range(bounds, from_back, self.keys_of(), |keys| {
            let mut left = limit;
            let mut last = None;
            while left > 0 {
                let places =
                    keys.take(left.min(AT_ONCE)).map(|key| Place { map: self, key, hash: self.hash(key) });
                let places: SmallVec<[_; AT_ONCE]> = places.collect();
                last = Some(places.last()?.key);
                left -= places.len();
                look_up(&places, at, |place, found| {
                    let entry = found.and_then(|found| found.version).and_then(|version| {
                        let (timestamp, expires) = (version.timestamp, version.expires);
                        Some(PageEntry {
                            key: place.key.clone(),
                            timestamp,
                            expires,
                            value: version.value.clone()?,
                        })
                    });
                    entry.into_iter().for_each(&mut take);
                });
            }
            last.cloned()
        })
    }

    /// Shows up to `limit` keys within `bounds`, in order or from the back, dead or alive. Returns the last of them, if
    /// there may be more behind it.
    pub(crate) fn walk(
        &self,
        bounds: &Bounds<K>,
        from_back: bool,
        limit: usize,
        mut show: impl FnMut(&K),
    ) -> Option<K> {
        let mut shown = 0;
        self.index.find_map(bounds, from_back, self.keys_of(), |key| {
            show(key);
            shown += 1;
            (shown >= limit).then(|| key.clone())
        })
    }

    /// Finds the keys with a hash.
    fn keys_of(&self) -> impl Fn(KeyHash, &mut Vec<K>) {
        |hash, keys| self.entries.with_keys_of(hash, |key| keys.push(key.clone()))
    }

    /// Shows up to `limit` entries, as they are now. Which ones depends on the hash only.
    pub fn sample(&self, limit: usize, show: impl FnMut(&K, &V)) {
        self.entries.sample(limit, show);
    }

    /// How many keys are live at the timestamp and the moment, counting no further than `limit`. Looks at every key.
    pub fn count(&self, (timestamp, moment): (Timestamp, u64), limit: usize) -> usize {
        let live = |chain: &Chain<V>| chain.at(timestamp).is_some_and(|at| at.live(|| moment).is_some());
        self.entries.count(limit, live)
    }

    /// Puts up to `limit` new keys where scans look for them, so that no scan has to. Returns whether there are more.
    pub fn settle(&self, limit: usize) -> bool {
        self.index.settle(limit, self.keys_of())
    }

    /// Versions over all keys, and keys.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let Sizes { versions, keys, .. } = &*self.sizes;
        (versions.load(Ordering::Relaxed), keys.load(Ordering::Relaxed))
    }

    /// Keys that have a value now, whatever is durable of that.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.sizes.live.load(Ordering::Relaxed)
    }

    fn count_live(&self, before: bool, now: bool) {
        count(&self.sizes.live, now.into(), before.into());
    }

    /// Loads an entry while the engine is being opened. Entries come in commit order for each key; several threads load.
    pub fn load(&self, key: K, timestamp: Timestamp, value: Option<Arc<V>>, expires: Expiry) {
        self.clock.note(expires);
        let hash = self.hash(&key);
        // Nobody reads yet, so only the newest version matters.
        match value {
            None => {
                if self.entries.remove_if(&key, hash, |_| true).is_some() {
                    self.index.sweep(std::iter::once(key), self.keys_of(), |_| true);
                    for size in self.sizes.each() {
                        size.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            }
            Some(value) => {
                let chain = Chain::new(Version { timestamp, expires, value: Some(value) });
                let mut stripe = self.entries.lock(stripe_of(hash));
                if let Some(known) = stripe.find_mut(&key, hash) {
                    *known = chain;
                    return;
                }
                self.index.add(hash);
                stripe.insert(Slot { key, chain }, hash);
                for size in self.sizes.each() {
                    size.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Adds a version, and trims the key's chain.
    pub(crate) fn apply(
        &self,
        key: K,
        hash: KeyHash,
        version: Version<V>,
        reclaim: &Reclaim<'_>,
        garbage: &mut Garbage<V>,
        watch: &mut impl Watch<K, V>,
    ) -> Written<K> {
        let mut stripe = self.entries.lock(stripe_of(hash));
        if let Some(chain) = stripe.find_mut(&key, hash) {
            watch.goes_on(&key, chain, &version);
            return self.goes_on(key, chain, version, reclaim, garbage);
        }
        let mut slot = Slot { key, chain: Chain::new(version) };
        watch.begins(&slot.key, &mut slot.chain);
        self.index.add(hash);
        let remembered = self.begins(&mut slot);
        stripe.insert(slot, hash);
        Written { remembered, published: false }
    }

    /// Adds versions of one commit, each of another key that nothing is noted of, by stripes: each is locked once for many,
    /// which wait for memory side by side. Gives back the keys that are to be remembered for a sweep.
    pub(crate) fn apply_all(
        &self,
        bulk: &mut Bulk<K, V>,
        reclaim: &Reclaim<'_>,
        garbage: &mut Garbage<V>,
        mut remember: impl FnMut(K, KeyHash),
    ) {
        let Bulk { stripes, fresh } = bulk;
        for (stripe, StripeWrites { hashes, slots }) in stripes.iter_mut().enumerate() {
            while !slots.is_empty() {
                let mut stripe = self.entries.lock(stripe);
                let from = slots.len().saturating_sub(WRITES_PER_LOCK);
                // Which of them are there is looked up first. Nothing is written meanwhile, so that they wait for memory
                // side by side.
                let written = slots[from..].iter().zip(&hashes[from..]);
                let known: SmallVec<[bool; WRITES_PER_LOCK]> =
                    written.map(|(slot, hash)| stripe.contains(&slot.key, *hash)).collect();
                for is_known in known.into_iter().rev() {
                    let (Some(hash), Some(slot)) = (hashes.pop(), slots.last_mut()) else { break };
                    let remembered = if is_known {
                        let Some(Slot { key, chain: begun }) = slots.pop() else { break };
                        let Some(chain) = stripe.find_mut(&key, hash) else { break };
                        self.goes_on(key, chain, begun.into_newest(), reclaim, garbage).remembered
                    } else {
                        fresh.push(hash);
                        let remembered = self.begins(slot);
                        if let Some(slot) = slots.pop() {
                            stripe.insert(slot, hash);
                        }
                        remembered
                    };
                    if let Some(key) = remembered {
                        remember(key, hash);
                    }
                }
            }
            slots.shrink_to(BULK_KEPT);
            hashes.shrink_to(BULK_KEPT);
        }
        self.index.add_all(fresh);
        fresh.shrink_to(BULK_KEPT);
    }

    /// A key that is there gets one more version.
    #[inline]
    fn goes_on(
        &self,
        key: K,
        chain: &mut Chain<V>,
        version: Version<V>,
        reclaim: &Reclaim<'_>,
        garbage: &mut Garbage<V>,
    ) -> Written<K> {
        let before = garbage.versions.len();
        self.count_live(chain.newest().value.is_some(), version.value.is_some());
        let timestamp = version.timestamp;
        let previous = chain.replace(version);
        let published = reclaim.publishes_to.is_some();
        let is_behind = reclaim.publishes_to.is_some_and(|sequencer| sequencer.publish(timestamp));
        // H6, in this order.
        let horizon = if is_behind && reclaim.readers.nobody_reads() {
            garbage.versions.push(previous);
            timestamp
        } else {
            chain.keep(previous, garbage);
            reclaim.horizon
        };
        chain.trim(horizon, garbage);
        if chain.is_long() {
            chain.thin(&reclaim.readers.read_at(), garbage);
        }
        let first_time = chain.has_leftovers() && !chain.is_remembered();
        if first_time {
            chain.set_remembered(true);
        }
        self.count_versions(1, (garbage.versions.len() - before) as u64);
        Written { remembered: first_time.then_some(key), published }
    }

    /// A key that was not there gets its first version. Returned, if it is to be remembered for a sweep.
    #[inline]
    fn begins(&self, Slot { key, chain }: &mut Slot<K, V>) -> Option<K> {
        self.count_live(false, chain.newest().value.is_some());
        self.count_versions(1, 0);
        self.count_keys(1, 0);
        chain.has_leftovers().then(|| {
            chain.set_remembered(true);
            key.clone()
        })
    }

    /// Lets the writer look at everything that was loaded, before anybody else can.
    pub(crate) fn for_each_loaded(&self, look: impl FnMut(&K, &mut Chain<V>)) {
        self.entries.for_each_mut(look);
    }

    /// The key is now kept in this slot among those to evict.
    pub(crate) fn set_slot(&self, key: &K, slot: u32) {
        self.entries.write(key, self.hash(key), |chain| chain.set_slot(slot));
    }

    /// What a policy wants to know about a key.
    pub(crate) fn candidate(&self, key: &K) -> Option<Candidate> {
        let tick = self.meters()?.now();
        let hash = self.hash(key);
        self.entries.read(key, hash, |_, chain| {
            let access = chain.access();
            Candidate {
                hash: hash.0,
                age: access.age(tick),
                accesses: access.count(),
                expires: chain.newest().expires,
            }
        })
    }

    /// The hash of a key, where it is not known yet.
    pub fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> KeyHash {
        self.entries.hash(key)
    }

    /// A tick passes. It is also when the clock is looked at, so that accesses can be told in time.
    pub(crate) fn tick(&self) {
        if let Some(meters) = &self.meters {
            meters.tick(self.clock.now());
        }
    }

    /// What is known about a key's version at the timestamp and the moment, besides its value.
    pub(crate) fn look<Q, T>(
        &self,
        key: &Q,
        (timestamp, moment): (Timestamp, u64),
        look: impl FnOnce(&K, &Chain<V>, &Version<V>) -> T,
    ) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.entries.read(key, self.hash(key), |key, chain| {
            let version = chain.at(timestamp).filter(|version| version.live(|| moment).is_some())?;
            Some(look(key, chain, version))
        });
        found.flatten()
    }

    /// Looks at up to `limit` keys that were remembered, and reclaims what lies below `horizon`. The cost is
    /// in proportion to garbage, not to data. `forget` is told of keys that are gone altogether.
    pub(crate) fn sweep(
        &self,
        remembered: &mut VecDeque<Remembered<K>>,
        horizon: Timestamp,
        limit: usize,
        garbage: &mut Garbage<V>,
        mut forget: impl FnMut(&K),
    ) -> Swept {
        let before = garbage.versions.len();
        let mut dead = Vec::new();
        for _ in 0..limit.min(remembered.len()) {
            let Some(Remembered { hash, key, .. }) = remembered.pop_front_if(|key| key.since <= horizon)
            else {
                break;
            };
            let left = self.entries.write(&key, hash, |chain| {
                chain.trim(horizon, garbage);
                if chain.is_dead(horizon) {
                    return Left::Nothing;
                }
                if chain.has_leftovers() {
                    return Left::Leftovers { since: chain.newest().timestamp };
                }
                chain.set_remembered(false);
                Left::Newest
            });
            match left {
                Some(Left::Nothing) => dead.push(key),
                Some(Left::Leftovers { since }) => remembered.push_back(Remembered { since, hash, key }),
                Some(Left::Newest) | None => {}
            }
        }
        let mut keys = 0;
        if !dead.is_empty() {
            self.index.sweep(dead.into_iter(), self.keys_of(), |key| {
                let removed = self.entries.remove_if(key, self.hash(key), |chain| chain.is_dead(horizon));
                if let Some(key) = &removed {
                    keys += 1;
                    forget(key);
                }
                removed.is_some()
            });
        }
        let versions = (garbage.versions.len() - before) as u64 + keys;
        self.count_versions(0, versions);
        self.count_keys(0, keys);
        Swept { versions, keys }
    }

    fn count_versions(&self, added: u64, removed: u64) {
        count(&self.sizes.versions, added, removed);
    }

    fn count_keys(&self, added: u64, removed: u64) {
        count(&self.sizes.keys, added, removed);
    }
}

/// Without a read-modify-write: there is one writer. Without a write, where the count stays.
fn count(counted: &AtomicU64, added: u64, removed: u64) {
    if added != removed {
        counted.store(counted.load(Ordering::Relaxed) + added - removed, Ordering::Relaxed);
    }
}
