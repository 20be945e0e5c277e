//! Judges a history of transactions over lists: could they have run one at a time, in an order that agrees with
//! real time?
//!
//! Each transaction appends elements, each of them once in the whole history, and reads whole lists. A list that
//! was read tells in which order its elements were appended, so the order of all versions of a list is known
//! from outside, without trusting the engine. From there: who overwrote whom (ww), who read whose append (wr),
//! who read what the other then appended to (rw), and who had completed before the other was invoked (rt). A
//! cycle of these is an anomaly, named as Adya names it. After Kingsbury and Alvaro, *Elle* (VLDB 2020).
//!
//! It knows nothing of the engine, and is used by other test binaries through `#[path]`.

mod anomaly;
mod cycles;
mod graph;
mod history;
mod story;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use anomaly::Kind;
pub(crate) use history::{History, Op, Outcome, Txn};

/// How many anomalies of a kind are told in full; more are only counted.
const TOLD_MAX: usize = 3;

/// What was found in a history.
pub(crate) struct Report {
    counts: BTreeMap<Kind, usize>,
    stories: Vec<String>,
    /// Transactions that count as committed.
    pub(crate) committed: usize,
    pub(crate) edges: usize,
}

impl Report {
    pub(crate) fn kinds(&self) -> BTreeSet<Kind> {
        self.counts.keys().copied().collect()
    }

    /// Fails with the stories of all that was found.
    pub(crate) fn expect_strict_serializability(&self) {
        assert!(self.counts.is_empty(), "{}", self.story());
    }

    pub(crate) fn story(&self) -> String {
        format!("{:?} in {} transactions\n\n{}", self.counts, self.committed, self.stories.join("\n"))
    }
}

/// Finds every kind of anomaly that a history has.
pub(crate) fn check(history: &History) -> Report {
    let mut anomalies = Vec::new();
    let versions = versions::Versions::infer(history, &mut anomalies);
    let graph = graph::Graph::new(history, &versions);
    cycles::search(history, &graph, &mut anomalies);
    let mut counts = BTreeMap::new();
    let mut stories = Vec::new();
    for anomaly in &anomalies {
        let count = counts.entry(anomaly.kind()).or_insert(0);
        *count += 1;
        if *count <= TOLD_MAX {
            stories.push(story::tell(history, &versions, anomaly));
        }
    }
    Report { counts, stories, committed: versions.committed(), edges: graph.edges() }
}
