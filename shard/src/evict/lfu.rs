//! Least frequently used, among those drawn. What was accessed often and long ago must not stay for ever: a count
//! loses one for every few ticks without an access.

use std::cmp::Reverse;

use super::{Candidate, Policy, highest};

/// So many ticks without an access cost a count of one. About 64 ticks replace all entries once.
const TICKS_PER_LOSS: u32 = 16;

pub(super) struct Lfu;

impl Policy for Lfu {
    fn victim(&mut self, candidates: &[Candidate]) -> usize {
        highest(candidates, |candidate| {
            let frequency = candidate.accesses.saturating_sub(candidate.age / TICKS_PER_LOSS);
            (Reverse(frequency), candidate.age)
        })
    }
}
