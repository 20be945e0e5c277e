//! Least recently used, among those drawn.

use super::{Candidate, Policy, highest};

pub(super) struct Lru;

impl Policy for Lru {
    fn victim(&mut self, candidates: &[Candidate]) -> usize {
        highest(candidates, |candidate| candidate.age)
    }
}
