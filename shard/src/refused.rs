//! What a user's closure that others wait for must not call.

use std::cell::Cell;

/// Each refuses what the one before it does, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// No closure runs.
    Nothing,
    /// The closure holds a turn, or gates, which a commit could wait for (V9).
    Commits,
    /// The closure holds a stripe of a table, shared. Writers wait for that, and who reads may wait behind writers.
    Calls,
}

thread_local!(static REFUSED: Cell<Refused> = const { Cell::new(Refused::Nothing) });

/// What the closure that this thread runs must not call.
#[must_use]
#[inline]
pub fn refused() -> Refused {
    REFUSED.get()
}

/// Marks the thread while it runs such a closure.
#[must_use = "the mark ends when this is dropped"]
#[derive(Debug)]
pub struct Inside {
    before: Refused,
}

impl Inside {
    /// From here on this is refused, and what was already.
    #[inline]
    pub fn enter(refused: Refused) -> Self {
        let before = REFUSED.get();
        REFUSED.set(before.max(refused));
        Self { before }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        REFUSED.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_within_a_closure_refuses_what_both_do_and_then_what_the_outer_one_does() {
        assert_eq!(refused(), Refused::Nothing);
        let outer = Inside::enter(Refused::Commits);
        {
            let _look = Inside::enter(Refused::Calls);
            let _update = Inside::enter(Refused::Commits);
            assert_eq!(refused(), Refused::Calls);
        }
        assert_eq!(refused(), Refused::Commits);
        drop(outer);
        assert_eq!(refused(), Refused::Nothing);
    }
}
