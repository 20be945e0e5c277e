//! What the clients did and saw.

use std::sync::Arc;

/// A list.
pub(crate) type Key = u64;
/// What is appended to a list, to each list only once in a history.
pub(crate) type Element = u64;
/// A tick of a clock that all clients share. Equal times count as overlapping.
pub(crate) type Time = u64;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// An append that is part of the commit.
    Append(Key, Element),
    /// A whole list as it was read, with the transaction's own appends.
    Read(Key, Arc<Vec<Element>>),
    /// An append that was undone before the commit. Nobody may ever see it.
    Undone(Key, Element),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    /// Certainly not committed.
    Aborted,
    /// The client was not told. It counts as committed if somebody saw one of its appends.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    /// How it was run, for the story.
    pub(crate) what: &'static str,
    pub(crate) process: u32,
    pub(crate) invoked: Time,
    /// When it was surely over. `None` if nobody knows.
    pub(crate) completed: Option<Time>,
    pub(crate) outcome: Outcome,
    pub(crate) ops: Vec<Op>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) txns: Vec<Txn>,
}
