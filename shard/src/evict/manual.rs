//! Nothing goes: writes fail.

use super::{Candidate, Policy};

pub(super) struct Manual;

impl Policy for Manual {
    fn victim(&mut self, _: &[Candidate]) -> usize {
        0
    }

    fn refuses_writes(&self) -> bool {
        true
    }
}
