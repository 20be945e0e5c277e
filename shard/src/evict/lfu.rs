//! Least frequently used, among those drawn. What was accessed often and long ago must not stay for ever: a count
//! halves for every so many ticks without an access.

use std::cmp::Reverse;

use super::{Candidate, Policy, highest};

/// So many ticks without an access halve a count. About 64 ticks replace all entries once. With fewer, what is asked for
/// now and then is forgotten in between; with more, former favourites stay. `anabranch-bench hit-rates` tells.
const TICKS_PER_HALVING: u32 = 256;

pub(super) struct Lfu;

impl Policy for Lfu {
    fn victim(&mut self, candidates: &[Candidate]) -> usize {
        highest(candidates, |candidate| {
            let halvings = candidate.age / TICKS_PER_HALVING;
            (Reverse(candidate.accesses.checked_shr(halvings).unwrap_or(0)), candidate.age)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidate;
    use super::*;

    #[test]
    fn a_former_favourite_goes_before_what_is_in_use() {
        let victim = |age| Lfu.victim(&[candidate(age, 1_000), candidate(100, 5)]);
        assert_eq!(victim(7 * TICKS_PER_HALVING), 1);
        assert_eq!(victim(8 * TICKS_PER_HALVING), 0);
        assert_eq!(victim(u32::MAX), 0);
    }
}
