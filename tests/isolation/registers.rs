//! Blind writes: registers that are overwritten and removed by whoever likes, mostly unread.
//!
//! Nobody's read says in which order blind writes came, but the engine does: each commit has a timestamp. So a
//! register is told to the judge as the list of all its values in that order, and who read a value as one who read the
//! list up to there. That takes the engine at its word for the order of versions and for nothing else: an order that
//! contradicts what was read, or real time, is a cycle.
//!
//! Where no timestamp was told, as by `insert`, the value's place is before the first read that saw it. A value
//! that has no timestamp and that nobody saw is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::checker::{self, History, Kind, Op, Outcome, check};

/// A value that was written, none ever twice. A remove has a number, too.
pub(crate) type Element = u64;

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Write {
        register: u64,
        element: Element,
        is_remove: bool,
    },
    /// What was found at a moment of the engine's.
    Look {
        register: u64,
        found: Option<Element>,
        at: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Txn {
    pub(crate) what: &'static str,
    pub(crate) process: u32,
    pub(crate) invoked: u64,
    pub(crate) completed: Option<u64>,
    /// When it began and ended, in milliseconds since the Unix epoch.
    pub(crate) date: (u64, u64),
    pub(crate) outcome: Outcome,
    /// Of the commit, if it was told.
    pub(crate) timestamp: Option<u64>,
    pub(crate) acts: Vec<Act>,
}

/// A value's place in its register: when it was committed, and which of the transaction's it is.
type Place = (u64, usize);

/// All values of a register that have a place.
type Values = BTreeMap<Place, (Element, bool)>;

/// Tells registers as lists.
pub(crate) fn as_lists(txns: &[Txn]) -> History {
    let mut first_seen: BTreeMap<Element, u64> = BTreeMap::new();
    for act in txns.iter().flat_map(|txn| &txn.acts) {
        if let Act::Look { found: Some(element), at, .. } = act {
            let first = first_seen.entry(*element).or_insert(*at);
            *first = (*first).min(*at);
        }
    }
    let mut registers: BTreeMap<u64, Values> = BTreeMap::new();
    let mut placed = BTreeSet::new();
    for txn in txns.iter().filter(|txn| txn.outcome != Outcome::Aborted) {
        for (number, act) in txn.acts.iter().enumerate() {
            let Act::Write { register, element, is_remove } = *act else { continue };
            // One that was seen and has no timestamp is the newest of its moment.
            let place = txn.timestamp.map(|timestamp| (timestamp, number));
            let place = place.or_else(|| Some((*first_seen.get(&element)?, usize::MAX)));
            let Some(place) = place else { continue };
            placed.insert(element);
            let before = registers.entry(register).or_default().insert(place, (element, is_remove));
            assert!(before.is_none(), "two commits at {place:?}");
        }
    }
    let translate = |txn: &Txn| {
        let is_told = |act: &&Act| match act {
            Act::Write { element, .. } => placed.contains(element) || txn.outcome == Outcome::Aborted,
            Act::Look { .. } => true,
        };
        let op = |act: &Act| match *act {
            Act::Write { register, element, .. } => Op::Append(register, element),
            Act::Look { register, found, at } => {
                Op::Read(register, Arc::new(seen(registers.get(&register), found, at)))
            }
        };
        let ops = txn.acts.iter().filter(is_told).map(op).collect();
        let Txn { what, process, invoked, completed, outcome, .. } = *txn;
        checker::Txn { what, process, invoked, completed, outcome, ops }
    };
    History { txns: txns.iter().map(translate).collect() }
}

/// The list up to what was found. Nothing was found after a remove, the newest of that moment, or at the beginning.
fn seen(values: Option<&Values>, found: Option<Element>, at: u64) -> Vec<Element> {
    let empty = Values::new();
    let values = values.unwrap_or(&empty);
    let upto = match found {
        Some(element) => values.iter().find(|(_, value)| value.0 == element).map(|(place, _)| *place),
        None => values.range(..=(at, usize::MAX)).rev().find(|(_, value)| value.1).map(|(place, _)| *place),
    };
    match (upto, found) {
        (Some(place), _) => values.range(..=place).map(|(_, value)| value.0).collect(),
        (None, None) => Vec::new(),
        // Of one that failed, or of nobody: for the judge to name.
        (None, Some(element)) => {
            values.range(..=(at, usize::MAX)).map(|(_, value)| value.0).chain([element]).collect()
        }
    }
}

/// A transaction by hand: when it began and ended, its timestamp, what it wrote, what it found where.
type ByHand<'a> = (u64, u64, Option<u64>, &'a [(u64, Element)], &'a [(u64, Option<Element>, u64)]);

fn kinds_of(txns: &[ByHand<'_>]) -> BTreeSet<Kind> {
    let write = |(register, element): &(u64, Element)| Act::Write {
        register: *register,
        element: *element,
        is_remove: element.is_multiple_of(10),
    };
    let look = |(register, found, at): &(u64, Option<Element>, u64)| Act::Look {
        register: *register,
        found: *found,
        at: *at,
    };
    let txn = |(invoked, completed, timestamp, writes, looks): &ByHand<'_>| Txn {
        what: "by hand",
        process: 1,
        invoked: *invoked,
        completed: Some(*completed),
        date: (0, 0),
        outcome: Outcome::Committed,
        timestamp: *timestamp,
        acts: looks.iter().map(look).chain(writes.iter().map(write)).collect(),
    };
    check(&as_lists(&txns.iter().map(txn).collect::<Vec<_>>())).kinds()
}

#[test]
fn what_can_go_wrong_with_blind_writes_is_found() {
    // In order: nothing is wrong, also with a remove and with a value whose timestamp nobody was told.
    let clean: &[ByHand<'_>] = &[
        (0, 1, Some(1), &[(1, 11)], &[]),
        (2, 3, Some(2), &[(1, 20)], &[]),
        (4, 5, None, &[(1, 13)], &[]),
        (6, 7, None, &[], &[(1, Some(13), 3)]),
    ];
    assert_eq!(kinds_of(clean), BTreeSet::new());
    // The later of two blind writes has the lower timestamp, and so is gone at once.
    let backwards: &[ByHand<'_>] = &[
        (0, 1, Some(2), &[(1, 11)], &[]),
        (2, 3, Some(1), &[(1, 12)], &[]),
        (4, 5, None, &[], &[(1, Some(11), 2)]),
    ];
    assert!(kinds_of(backwards).contains(&Kind::G0Realtime));
    // A reader sees one of two registers that were written together.
    let fractured: &[ByHand<'_>] = &[
        (0, 9, Some(1), &[(1, 11), (2, 12)], &[]),
        (0, 9, Some(2), &[(1, 13), (2, 14)], &[]),
        (0, 9, None, &[], &[(1, Some(13), 2), (2, Some(12), 2)]),
        (0, 9, None, &[], &[(2, Some(14), 2)]),
    ];
    assert!(kinds_of(fractured).contains(&Kind::GSingle));
    // A removed value comes back.
    let risen: &[ByHand<'_>] = &[
        (0, 1, Some(1), &[(1, 11)], &[]),
        (2, 3, Some(2), &[(1, 20)], &[]),
        (4, 5, None, &[], &[(1, None, 2)]),
        (6, 7, None, &[], &[(1, Some(11), 3)]),
    ];
    assert!(kinds_of(risen).contains(&Kind::GSingleRealtime));
    // A value that nobody wrote.
    assert_eq!(kinds_of(&[(0, 1, None, &[], &[(1, Some(11), 1)])]), BTreeSet::from([Kind::Garbage]));
}
