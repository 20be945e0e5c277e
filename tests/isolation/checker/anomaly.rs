//! The names of what can go wrong.

use super::graph::Edge;
use super::history::{Element, Key};

/// A kind of anomaly. Those that need real time to be seen are separate: a history with none but these is
/// serializable, but not strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A list was read with an element that nobody appended.
    Garbage,
    /// A list was read with an element in it twice.
    Duplicate,
    /// A transaction did not see its own appends, or saw a list change that it had read.
    Internal,
    /// Two reads of a list of which neither is a beginning of the other: an update was lost, or the list forked.
    IncompatibleOrder,
    /// An acknowledged append that later readers don't see.
    LostWrite,
    /// A read of what was rolled back.
    G1a,
    /// A read of what its writer appended to further before it committed.
    G1b,
    /// A cycle of overwrites.
    G0,
    /// A cycle of overwrites and reads from one another.
    G1c,
    /// A cycle with one read of what was then overwritten.
    GSingle,
    /// A cycle with several reads of what was then overwritten.
    G2,
    /// As `G0`, with real time.
    G0Realtime,
    /// As `G1c`, with real time.
    G1cRealtime,
    /// As `GSingle`, with real time: a stale read, for one.
    GSingleRealtime,
    /// As `G2`, with real time.
    G2Realtime,
}

#[derive(Debug)]
pub(crate) enum Anomaly {
    /// Something about a single read. `element` is the offender where there is one.
    Read { kind: Kind, txn: u32, key: Key, element: Option<Element> },
    /// Two reads that don't fit.
    Fork { txn: u32, other: u32, key: Key },
    /// An acknowledged append that is gone.
    Lost { txn: u32, reader: u32, key: Key, element: Element },
    /// Transactions that can't be put in an order, with the edges from each to the next.
    Cycle { kind: Kind, edges: Vec<(u32, Edge)> },
}

impl Anomaly {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Read { kind, .. } | Self::Cycle { kind, .. } => *kind,
            Self::Fork { .. } => Kind::IncompatibleOrder,
            Self::Lost { .. } => Kind::LostWrite,
        }
    }
}
