//! Which entries go when a shard has more than its share of memory. One small trait, and one file for each policy.
//!
//! No policy has a list or a tree of all keys that a read would have to update. As in Redis, some keys are drawn at
//! random, each access having left a tick and a count at its entry, and the policy chooses among them: the cost of
//! an eviction does not depend on how many keys there are.

mod arc;
mod lfu;
mod lru;
mod manual;
mod random;
mod ttl;

use std::time::Duration;

use crate::expiry::Expiry;

/// What happens when memory reaches its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// The entry goes that was not accessed for the longest time.
    Lru,
    /// The entry goes that is accessed the least, where long ago counts less.
    Lfu,
    /// Any entry goes. Accesses are not noted.
    Random,
    /// Entries go this long after they were written, whether or not there is room; and before that those that
    /// have the least time left.
    Ttl(Duration),
    /// Adapts itself between [`Eviction::Lru`] and [`Eviction::Lfu`]: entries that were accessed only once and
    /// others have shares of the memory that follow from what is asked for again after its eviction.
    Arc,
    /// Nothing goes. Writes fail before anything is changed; removals, and writes that take no more than
    /// what they replace, do not.
    Manual,
}

impl Eviction {
    pub(crate) fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Lru => Box::new(lru::Lru),
            Self::Lfu => Box::new(lfu::Lfu),
            Self::Random => Box::new(random::Random),
            Self::Ttl(_) => Box::new(ttl::Ttl),
            Self::Arc => Box::new(arc::Arc::default()),
            Self::Manual => Box::new(manual::Manual),
        }
    }

    /// How long an entry lives that is written without a time of its own.
    #[must_use]
    pub const fn default_ttl(self) -> Option<Duration> {
        if let Self::Ttl(ttl) = self { Some(ttl) } else { None }
    }
}

/// An entry that was drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// The hash of its key.
    pub(crate) hash: u64,
    /// Ticks since its last access.
    pub(crate) age: u32,
    /// In how many ticks it was accessed.
    pub(crate) accesses: u32,
    pub(crate) expires: Expiry,
}

/// Chooses what goes. Called by a shard's writer alone.
pub(crate) trait Policy: Send {
    /// Which of those drawn goes. There is at least one.
    fn victim(&mut self, candidates: &[Candidate]) -> usize;

    /// How many are to be drawn.
    fn drawn(&self) -> usize {
        16
    }

    /// A key comes that was not there. How many accesses it starts with.
    fn came(&mut self, _hash: u64, _keys: usize) -> u32 {
        1
    }

    /// The victim was evicted, of so many keys.
    fn went(&mut self, _victim: &Candidate, _keys: usize) {}

    /// Whether writes fail instead.
    fn refuses_writes(&self) -> bool {
        false
    }

    /// What the policy itself remembers, in bytes.
    fn bytes(&self) -> u64 {
        0
    }
}

/// The index of the candidate with the highest rank, the first of equals.
fn highest<R: Ord>(candidates: &[Candidate], rank: impl Fn(&Candidate) -> R) -> usize {
    let ranked = candidates.iter().enumerate().rev();
    ranked.max_by_key(|(_, candidate)| rank(candidate)).map_or(0, |(index, _)| index)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn candidate(age: u32, accesses: u32) -> Candidate {
        Candidate { hash: u64::from(age), age, accesses, expires: Expiry::NEVER }
    }

    #[test]
    fn each_policy_has_its_own_victim() {
        let mut drawn = [candidate(90, 500), candidate(10, 1), candidate(100, 900), candidate(5, 40)];
        drawn[3].expires = Expiry::new(Some(1));
        let victim = |eviction: Eviction| eviction.policy().victim(&drawn);
        assert_eq!(victim(Eviction::Lru), 2);
        assert_eq!(victim(Eviction::Lfu), 1);
        assert_eq!(victim(Eviction::Ttl(Duration::from_secs(1))), 3);
        assert_eq!(victim(Eviction::Arc), 1, "what was accessed once goes first");
        assert!(Eviction::Manual.policy().refuses_writes());
        assert!(victim(Eviction::Random) < drawn.len());
    }
}
