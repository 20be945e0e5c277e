//! The least time left, among those drawn. What has expired is removed without any policy, so this chooses only
//! when the limit is reached before. Entries without an expiry go last, the oldest first.

use std::cmp::Reverse;

use super::{Candidate, Policy, highest};

pub(super) struct Ttl;

impl Policy for Ttl {
    fn victim(&mut self, candidates: &[Candidate]) -> usize {
        highest(candidates, |candidate| (Reverse(candidate.expires), candidate.age))
    }
}
