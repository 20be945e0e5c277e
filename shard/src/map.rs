//! The multi-version map of one shard: one writer, many readers. A point read is a hash look-up and a short
//! walk; a scan takes a page of keys from the ordered index and looks each up. Readers send no message.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_wal::Timestamp;
use dashmap::{DashMap, Entry};
use foldhash::quality::FixedState;

use crate::chain::{Chain, Version};
use crate::index::OrderedIndex;
use crate::offsets::Offsets;
use crate::pins::Bounds;
use crate::readers::Readers;
use crate::{Key, Value};

/// A page of a scan.
#[derive(Debug)]
pub struct Page<K, V> {
    /// Live entries, each with the commit that wrote it, in the direction of the scan.
    pub entries: Vec<(K, Timestamp, Arc<V>)>,
    /// The last key looked at, if there may be more behind it.
    pub resume_after: Option<K>,
}

/// A shard's content, shared by its one writer and all readers.
pub struct ShardMap<K, V> {
    entries: DashMap<K, Chain<V>, FixedState>,
    index: OrderedIndex<K>,
    offsets: Offsets,
    /// Versions over all keys. Only the writer changes it.
    versions: AtomicU64,
    /// Keys whose newest version is a value.
    live: AtomicU64,
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
        Self {
            // Not the router's hash: within one shard, the bits that chose the shard are all the same.
            entries: DashMap::with_hasher(FixedState::with_seed(seed.rotate_left(32))),
            index: OrderedIndex::new(),
            offsets: Offsets::default(),
            versions: AtomicU64::new(0),
            live: AtomicU64::new(0),
        }
    }

    /// The value of `key` at the timestamp that `read_at` gives. It is asked while the chain is held, so that
    /// whatever was trimmed before lies below it (PROTOCOL H2).
    pub fn get<Q>(&self, key: &Q, read_at: impl FnOnce() -> Timestamp) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let chain = self.entries.get(key)?;
        chain.at(read_at())?.value.clone()
    }

    /// How far sources have been taken in, by commits of this shard.
    pub const fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The newest value of `key` and the commit that wrote or removed it. For the shard's writer.
    pub(crate) fn newest(&self, key: &K) -> Option<(Timestamp, Option<Arc<V>>)> {
        let chain = self.entries.get(key)?;
        let newest = chain.newest();
        Some((newest.timestamp, newest.value.clone()))
    }

    pub(crate) fn newest_timestamp(&self, key: &K) -> Option<Timestamp> {
        Some(self.entries.get(key)?.newest().timestamp)
    }

    /// A version newer than `timestamp` of a key within `bounds`, if there is one. New keys and removals
    /// count. For the shard's writer.
    pub(crate) fn newer_in(&self, bounds: &Bounds<K>, timestamp: Timestamp) -> Option<Timestamp> {
        let newer = |key: &K| self.newest_timestamp(key).filter(|newest| *newest > timestamp);
        self.index.find_map(bounds, |key| self.entries.contains_key(key), newer)
    }

    /// Up to `limit` keys within `bounds`, and those of them that are live at `timestamp`. The caller is
    /// registered as a reader at or below it.
    pub fn page(
        &self,
        bounds: &Bounds<K>,
        from_back: bool,
        limit: usize,
        timestamp: Timestamp,
    ) -> Page<K, V> {
        let mut keys = self.index.page(bounds, from_back, limit, |key| self.entries.contains_key(key));
        let resume_after = if keys.len() == limit { keys.last().cloned() } else { None };
        let entries = keys.drain(..).filter_map(|key| {
            let (written, value) = {
                let chain = self.entries.get(&key)?;
                let version = chain.at(timestamp)?;
                (version.timestamp, version.value.clone()?)
            };
            Some((key, written, value))
        });
        Page { entries: entries.collect(), resume_after }
    }

    /// How many keys are live at `timestamp`, counting no further than `limit`. Looks at every key.
    pub fn count(&self, timestamp: Timestamp, limit: usize) -> usize {
        let live = |chain: &Chain<V>| chain.at(timestamp).is_some_and(|version| version.value.is_some());
        self.entries.iter().filter(|entry| live(entry.value())).take(limit).count()
    }

    /// Puts up to `limit` new keys where scans look for them, so that no scan has to. Returns whether there are more.
    pub fn settle(&self, limit: usize) -> bool {
        self.index.settle(limit, |key| self.entries.contains_key(key))
    }

    /// Versions over all keys, and keys.
    #[must_use]
    pub fn size(&self) -> (u64, usize) {
        (self.versions.load(Ordering::Relaxed), self.entries.len())
    }

    /// Keys that have a value now, whatever is durable of that.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Only writes when the count changes, so overwrites cost a comparison.
    fn count_live(&self, before: bool, now: bool) {
        match (before, now) {
            (false, true) => self.live.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.live.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// Loads an entry while the engine is being opened. Entries come in commit order for each key.
    pub fn load(&self, key: K, timestamp: Timestamp, value: Option<Arc<V>>) {
        // Nobody reads yet, so only the newest version matters.
        match value {
            None => {
                if self.entries.remove(&key).is_some() {
                    self.index.sweep(std::iter::once(key), |key| self.entries.contains_key(key), |_| true);
                    self.versions.fetch_sub(1, Ordering::Relaxed);
                    self.count_live(true, false);
                }
            }
            Some(value) => {
                let version = Version { timestamp, value: Some(value) };
                if self.entries.insert(key.clone(), Chain::new(version)).is_none() {
                    self.index.add(key);
                    self.versions.fetch_add(1, Ordering::Relaxed);
                    self.count_live(false, true);
                }
            }
        }
    }

    /// Adds a version, and trims the key's chain. Returns the key if it is to be remembered for a sweep.
    pub(crate) fn apply(
        &self,
        key: K,
        version: Version<V>,
        (horizon, readers): (Timestamp, &Readers),
        garbage: &mut Vec<Version<V>>,
    ) -> Option<K> {
        let before = garbage.len();
        let lives = version.value.is_some();
        let remembered = match self.entries.entry(key) {
            Entry::Occupied(mut entry) => {
                let chain = entry.get_mut();
                self.count_live(chain.newest().value.is_some(), lives);
                chain.push(version);
                chain.trim(horizon, garbage);
                if chain.is_long() {
                    chain.thin(&readers.read_at(), garbage);
                }
                let first_time = chain.has_leftovers() && !chain.remembered;
                chain.remembered |= first_time;
                first_time.then(|| entry.into_key())
            }
            Entry::Vacant(entry) => {
                self.count_live(false, lives);
                let mut chain = Chain::new(version);
                chain.remembered = chain.has_leftovers();
                let remembered = chain.remembered.then(|| entry.key().clone());
                let key = entry.key().clone();
                drop(entry.insert(chain));
                self.index.add(key);
                remembered
            }
        };
        self.count_versions(1, (garbage.len() - before) as u64);
        remembered
    }

    /// Looks at up to `limit` keys that were remembered, and reclaims what lies below `horizon`. The cost is
    /// in proportion to garbage, not to data.
    pub(crate) fn sweep(
        &self,
        remembered: &mut VecDeque<(Timestamp, K)>,
        horizon: Timestamp,
        limit: usize,
        garbage: &mut Vec<Version<V>>,
    ) -> Swept {
        let before = garbage.len();
        let mut dead = Vec::new();
        for _ in 0..limit.min(remembered.len()) {
            let Some((_, key)) = remembered.pop_front_if(|(timestamp, _)| *timestamp <= horizon) else {
                break;
            };
            let Some(mut chain) = self.entries.get_mut(&key) else { continue };
            chain.trim(horizon, garbage);
            if chain.is_dead(horizon) {
                drop(chain);
                dead.push(key);
            } else if chain.has_leftovers() {
                let newest = chain.newest().timestamp;
                drop(chain);
                remembered.push_back((newest, key));
            } else {
                chain.remembered = false;
            }
        }
        let mut keys = 0;
        if !dead.is_empty() {
            let exists = |key: &K| self.entries.contains_key(key);
            self.index.sweep(dead.into_iter(), exists, |key| {
                let removed = self.entries.remove_if(key, |_, chain| chain.is_dead(horizon));
                keys += u64::from(removed.is_some());
                removed.is_some()
            });
        }
        let versions = (garbage.len() - before) as u64 + keys;
        self.count_versions(0, versions);
        Swept { versions, keys }
    }

    /// Without a read-modify-write: there is one writer.
    fn count_versions(&self, added: u64, removed: u64) {
        self.versions.store(self.versions.load(Ordering::Relaxed) + added - removed, Ordering::Relaxed);
    }
}
