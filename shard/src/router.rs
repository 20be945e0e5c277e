//! Which shard a key belongs to.

use std::hash::{BuildHasher, Hash};

use foldhash::quality::FixedState;

/// Assigns keys to shards.
///
/// A borrowed form of a key must go where the key goes. The assignment may change between two opens of a
/// directory (the engine then moves what is stored), but not while an engine is open.
///
/// Implement it for your own type to keep keys that are used together on one shard: a transaction whose keys
/// all live on one shard commits without a second phase.
pub trait Partition<Q: ?Sized>: Clone + Send + Sync + 'static {
    /// The shard of `key`, less than `shards`. `hash` is the engine's own, seeded hash of the key.
    fn shard(&self, key: &Q, hash: u64, shards: usize) -> usize;
}

/// The default: by the engine's seeded hash, evenly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashPartition;

impl<Q: ?Sized> Partition<Q> for HashPartition {
    fn shard(&self, _: &Q, hash: u64, shards: usize) -> usize {
        // The high half of the product: even, and without a division.
        let scaled = u128::from(hash) * shards as u128;
        usize::try_from(scaled >> 64).expect("less than `shards`")
    }
}

/// The engine's hash of a key.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct KeyHash(pub(crate) u64);

impl KeyHash {
    /// The hash for a table of one shard's keys: not as it is, as the bits that chose the shard are all the same there.
    #[must_use]
    pub const fn within_shard(self) -> u64 {
        self.0.rotate_left(32)
    }
}

/// The hash and the partitioner of one engine.
#[derive(Clone, Debug)]
pub struct Router<P> {
    seed: u64,
    hash: FixedState,
    partition: P,
    shards: usize,
}

/// The name of the hash, as the manifest has it.
pub const HASH_NAME: &str = "foldhash-0.2-quality";

impl<P> Router<P> {
    /// Routes to so many shards.
    #[must_use]
    pub fn new(seed: u64, partition: P, shards: usize) -> Self {
        Self { seed, hash: FixedState::with_seed(seed), partition, shards }
    }

    /// The shard of `key`, and its hash, to look it up there.
    ///
    /// # Panics
    /// When a user's partitioner names a shard that there is not.
    pub fn place<Q>(&self, key: &Q) -> (usize, KeyHash)
    where
        P: Partition<Q>,
        Q: Hash + ?Sized,
    {
        let hash = self.hash.hash_one(key);
        if self.shards == 1 {
            return (0, KeyHash(hash));
        }
        let shard = self.partition.shard(key, hash, self.shards);
        assert!(shard < self.shards, "the partitioner named shard {shard} of {}", self.shards);
        (shard, KeyHash(hash))
    }

    /// The shard of `key`.
    ///
    /// # Panics
    /// As [`Router::place`].
    pub fn shard<Q>(&self, key: &Q) -> usize
    where
        P: Partition<Q>,
        Q: Hash + ?Sized,
    {
        if self.shards == 1 { 0 } else { self.place(key).0 }
    }

    /// The shard of something that is no key, so that no user's partitioner can say: by the hash alone.
    pub fn spread(&self, thing: &(impl Hash + ?Sized)) -> usize {
        HashPartition.shard(thing, self.hash.hash_one(thing), self.shards)
    }

    /// The seed of the hash.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards
    }
}
