//! Any: the one that is drawn.

use super::{Candidate, Policy};

pub(super) struct Random;

impl Policy for Random {
    fn victim(&mut self, _: &[Candidate]) -> usize {
        0
    }

    fn drawn(&self) -> usize {
        1
    }
}
