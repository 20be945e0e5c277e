//! The hash table of one shard's keys, in stripes, so that readers seldom wait for the writer.
//!
//! As `DashMap` does it, whose hashes are its own; here whoever knows a key's hash gives it, so that a key is hashed once
//! on its way to its shard and to its chain.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use crossbeam_utils::CachePadded;
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::chain::Chain;
use crate::router::KeyHash;

/// Enough that two threads seldom meet at one, and few enough for a scan of all.
pub(crate) const STRIPES: usize = 16;
/// Where each stripe begins among 256 equal parts of all hashes. Each is 2^(1/16) times as large as the one before, so that
/// their tables, which double, do so one after the other: at any time they are two thirds full together, and what the one
/// gives back is of use to the next.
const BEGINNINGS: [u8; STRIPES] = [0, 11, 23, 36, 48, 62, 76, 91, 106, 122, 139, 156, 175, 194, 214, 235];
/// The stripe of each part.
static STRIPE_OF_PART: [u8; 256] = stripe_of_parts();
/// The bits of a hash that tell apart what is in neighbouring places of a table.
const TAG_BITS: u32 = 7;

/// On cache lines of its own, as its lock is written by readers too.
type Stripe<K, V> = CachePadded<RwLock<HashTable<Slot<K, V>>>>;

/// A key of up to 24 bytes, as a `String` is, and its chain share one cache line, so that a look-up waits for one.
#[repr(align(64))]
pub(crate) struct Slot<K, V> {
    pub(crate) key: K,
    pub(crate) chain: Chain<V>,
}

const _: () = assert!(size_of::<Slot<String, ()>>() == 64);

/// A stripe that does not change.
pub(crate) struct Held<'t, K, V>(RwLockReadGuard<'t, HashTable<Slot<K, V>>>);

impl<K, V> Held<'_, K, V> {
    /// A key and its chain, if it is in this stripe.
    #[inline]
    pub(crate) fn find<Q>(&self, key: &Q, hash: KeyHash) -> Option<(&K, &Chain<V>)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Slot { key, chain } = self.0.find(hash.within_shard(), |known| known.key.borrow() == key)?;
        Some((key, chain))
    }
}

pub(crate) struct Table<K, V> {
    stripes: Box<[Stripe<K, V>]>,
    hash: FixedState,
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// An empty table. The seed is that of the engine's hash.
    pub(crate) fn new(seed: u64) -> Self {
        let stripes = (0..STRIPES).map(|_| CachePadded::new(RwLock::new(HashTable::new()))).collect();
        Self { stripes, hash: FixedState::with_seed(seed) }
    }

    /// The hash of a key, as the router has it.
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> KeyHash {
        KeyHash(self.hash.hash_one(key))
    }

    /// Shows a key and its chain, which readers and the writer share meanwhile.
    #[inline]
    pub(crate) fn read<Q, T>(
        &self,
        key: &Q,
        hash: KeyHash,
        look: impl FnOnce(&K, &Chain<V>) -> T,
    ) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let held = self.hold(hash);
        let (key, chain) = held.find(key, hash)?;
        Some(look(key, chain))
    }

    /// Holds the stripe of this hash, which readers and the writer share meanwhile. Who holds one does not wait for another.
    #[inline]
    pub(crate) fn hold(&self, hash: KeyHash) -> Held<'_, K, V> {
        Held(self.stripe(hash).read())
    }

    /// [`Table::hold`], unless there is somebody to wait for.
    pub(crate) fn try_hold(&self, hash: KeyHash) -> Option<Held<'_, K, V>> {
        self.stripe(hash).try_read().map(Held)
    }

    /// Shows a key's chain, which nobody else sees meanwhile.
    pub(crate) fn write<T>(
        &self,
        key: &K,
        hash: KeyHash,
        change: impl FnOnce(&mut Chain<V>) -> T,
    ) -> Option<T> {
        self.lock(stripe_of(hash)).find_mut(key, hash).map(change)
    }

    /// Locks a stripe, for one write or several. Who has locked one does not wait for another.
    #[inline]
    pub(crate) fn lock(&self, stripe: usize) -> Locked<'_, K, V> {
        Locked { stripe: self.stripes[stripe].write(), table: self }
    }

    /// Takes a key out, if its chain is one that `goes`.
    pub(crate) fn remove_if(
        &self,
        key: &K,
        hash: KeyHash,
        goes: impl FnOnce(&Chain<V>) -> bool,
    ) -> Option<K> {
        let mut stripe = self.stripe(hash).write();
        let entry = stripe.find_entry(hash.within_shard(), |known| known.key == *key).ok()?;
        goes(&entry.get().chain).then(|| entry.remove().0.key)
    }

    /// Shows the keys with this hash: mostly the one.
    pub(crate) fn with_keys_of(&self, hash: KeyHash, mut show: impl FnMut(&K)) {
        let stripe = self.stripe(hash).read();
        // Others may have nearly the same hash, or the same within the shard.
        let alike = stripe.iter_hash(hash.within_shard());
        alike.filter(|known| self.hash(&known.key) == hash).for_each(|known| show(&known.key));
    }

    /// How many chains are such, counting no further than `limit`. Looks at every key.
    pub(crate) fn count(&self, limit: usize, is_such: impl Fn(&Chain<V>) -> bool) -> usize {
        let mut count = 0;
        for stripe in &self.stripes {
            let stripe = stripe.read();
            count += stripe.iter().filter(|known| is_such(&known.chain)).take(limit - count).count();
        }
        count
    }

    /// Shows up to `limit` keys and their newest values, from the beginning of one stripe after the other.
    pub(crate) fn sample(&self, limit: usize, mut show: impl FnMut(&K, &V)) {
        let mut left = limit;
        for stripe in &self.stripes {
            if left == 0 {
                return;
            }
            let stripe = stripe.read();
            let live =
                stripe.iter().filter_map(|known| Some((&known.key, known.chain.newest().value.as_ref()?)));
            for (key, value) in live.take(left) {
                show(key, value);
                left -= 1;
            }
        }
    }

    /// Shows everything.
    pub(crate) fn for_each_mut(&self, mut look: impl FnMut(&K, &mut Chain<V>)) {
        for stripe in &self.stripes {
            for Slot { key, chain } in stripe.write().iter_mut() {
                look(key, chain);
            }
        }
    }

    fn stripe(&self, hash: KeyHash) -> &Stripe<K, V> {
        &self.stripes[stripe_of(hash)]
    }
}

/// The stripe of this hash, less than [`STRIPES`].
#[inline]
pub(crate) fn stripe_of(hash: KeyHash) -> usize {
    let [.., part] = (hash.within_shard() << TAG_BITS).to_le_bytes();
    usize::from(STRIPE_OF_PART[usize::from(part)])
}

const fn stripe_of_parts() -> [u8; 256] {
    let mut stripes = [0; 256];
    let (mut part, mut stripe) = (0, 0);
    while part < stripes.len() {
        if (stripe as usize + 1) < STRIPES && part == BEGINNINGS[stripe as usize + 1] as usize {
            stripe += 1;
        }
        stripes[part] = stripe;
        part += 1;
    }
    stripes
}

/// A stripe that the writer has to itself.
pub(crate) struct Locked<'t, K, V> {
    stripe: RwLockWriteGuard<'t, HashTable<Slot<K, V>>>,
    table: &'t Table<K, V>,
}

impl<K: Eq + Hash, V> Locked<'_, K, V> {
    #[inline]
    pub(crate) fn contains(&self, key: &K, hash: KeyHash) -> bool {
        self.stripe.find(hash.within_shard(), |known| known.key == *key).is_some()
    }

    /// The chain of a key of this stripe, if it has one.
    #[inline]
    pub(crate) fn find_mut(&mut self, key: &K, hash: KeyHash) -> Option<&mut Chain<V>> {
        let known = self.stripe.find_mut(hash.within_shard(), |known| known.key == *key)?;
        Some(&mut known.chain)
    }

    /// Puts in a key of this stripe that is not there.
    #[inline]
    pub(crate) fn insert(&mut self, slot: Slot<K, V>, hash: KeyHash) {
        self.stripe
            .insert_unique(hash.within_shard(), slot, |known| self.table.hash(&known.key).within_shard());
    }
}
