//! The checker, judged: clean histories raise no alarm, and everything planted is found under its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anabranch::{Env, SystemEnv};

use crate::checker::{History, Kind, Op, Outcome, Txn, check};
use crate::effort::effort;
use crate::random::Random;

/// What goes wrong now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    WriteSkew,
    LostUpdate,
    DirtyRead,
    IntermediateRead,
    FracturedRead,
    StaleSnapshot,
    DroppedWrite,
}

/// Runs transactions one at a time, and gives them times as if they had overlapped.
struct Serial {
    random: Random,
    lists: BTreeMap<u64, Vec<u64>>,
    history: History,
    /// When the next transaction takes effect.
    now: u64,
    next: u64,
}

const GAP: u64 = 1_000;
const PROCESSES: u32 = 8;

impl Serial {
    fn new(seed: u64) -> Self {
        let random = Random::new(seed);
        Self { random, lists: BTreeMap::new(), history: History::default(), now: 100 * GAP, next: 0 }
    }

    fn element(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn read(&self, key: u64) -> Op {
        Op::Read(key, Arc::new(self.lists.get(&key).cloned().unwrap_or_default()))
    }

    fn append(&mut self, key: u64) -> Op {
        let element = self.element();
        self.lists.entry(key).or_default().push(element);
        Op::Append(key, element)
    }

    /// Records a transaction that takes effect now, and lets time pass.
    fn record(&mut self, outcome: Outcome, ops: Vec<Op>) {
        let (before, after) = (self.random.below(5 * GAP), self.random.below(5 * GAP));
        let process = u32::try_from(self.random.below(u64::from(PROCESSES))).unwrap();
        let (invoked, completed) = (self.now - before, Some(self.now + after));
        let completed = completed.filter(|_| outcome != Outcome::Unknown);
        self.history.txns.push(Txn { what: "serial", process, invoked, completed, outcome, ops });
        self.now += GAP;
    }

    /// Lists change every few hundred transactions, so that they stay short.
    fn key(&mut self) -> u64 {
        let group = self.history.txns.len() as u64 / 300;
        group * 100 + self.random.below(8)
    }

    fn clean(&mut self) {
        let mut ops = Vec::new();
        for _ in 0..=self.random.below(4) {
            let key = self.key();
            if self.random.one_in(2) {
                ops.push(self.append(key));
            }
            if self.random.one_in(2) {
                ops.push(self.read(key));
            }
        }
        let outcome = if self.random.one_in(20) { Outcome::Unknown } else { Outcome::Committed };
        self.record(outcome, ops);
        if self.random.one_in(20) {
            let (key, element) = (self.key(), self.element());
            self.record(Outcome::Aborted, vec![Op::Append(key, element)]);
            self.record(Outcome::Unknown, vec![Op::Undone(key, element + (1 << 40))]);
        }
    }

    fn plant(&mut self, plant: Plant) {
        let x = self.key();
        let y = x / 100 * 100 + 50;
        let committed = Outcome::Committed;
        match plant {
            Plant::Nothing => (),
            Plant::WriteSkew => {
                let reads = [self.read(x), self.read(y)];
                for key in [x, y] {
                    let append = self.append(key);
                    self.record(committed, [&reads[..], &[append]].concat());
                    self.now -= GAP;
                }
            }
            Plant::LostUpdate => {
                let read = self.read(x);
                let lost = Op::Append(x, self.element());
                self.record(committed, vec![read.clone(), lost]);
                let append = self.append(x);
                self.record(committed, vec![read, append]);
            }
            Plant::DirtyRead => {
                let dirty = self.element();
                let mut list = self.lists.get(&x).cloned().unwrap_or_default();
                list.push(dirty);
                self.record(Outcome::Aborted, vec![Op::Append(x, dirty)]);
                self.record(committed, vec![Op::Read(x, Arc::new(list))]);
            }
            Plant::IntermediateRead => {
                let first = self.append(x);
                let read = self.read(x);
                let second = self.append(x);
                self.record(committed, vec![first, second]);
                self.record(committed, vec![read]);
            }
            Plant::FracturedRead => {
                let before = self.read(y);
                let appends = vec![self.append(x), self.append(y)];
                self.record(committed, appends);
                let after = self.read(x);
                self.record(committed, vec![before, after]);
            }
            Plant::StaleSnapshot => {
                let stale = self.read(x);
                let append = self.append(x);
                self.record(committed, vec![append]);
                self.now += 20 * GAP;
                self.record(committed, vec![stale]);
            }
            Plant::DroppedWrite => {
                let dropped = Op::Append(x, self.element());
                self.record(committed, vec![dropped]);
            }
        }
    }
}

/// A history with a plant in every hundredth place or so, and at its end a read of every list.
pub(crate) fn history(seed: u64, transactions: usize, plant: Plant) -> History {
    let mut serial = Serial::new(seed);
    serial.plant(plant);
    while serial.history.txns.len() < transactions {
        serial.clean();
        if serial.random.one_in(100) {
            serial.plant(plant);
        }
    }
    serial.now += 20 * GAP;
    let keys: Vec<_> = serial.lists.keys().copied().collect();
    let reads = keys.into_iter().map(|key| serial.read(key)).collect();
    serial.record(Outcome::Committed, reads);
    serial.history
}

fn kinds_of(plant: Plant, seed: u64) -> BTreeSet<Kind> {
    check(&history(seed, 2_000, plant)).kinds()
}

#[test]
fn clean_histories_raise_no_alarm() {
    for seed in 0..effort(20, 200) {
        let report = check(&history(seed, 2_000, Plant::Nothing));
        report.expect_strict_serializability();
        assert!(report.committed > 1_500 && report.edges > 2_000);
    }
}

#[test]
fn a_hundred_thousand_transactions_are_no_matter() {
    let history = history(1, 100_000, Plant::Nothing);
    let began = SystemEnv.now();
    let report = check(&history);
    println!("100,000 transactions, {} edges: {:?}", report.edges, SystemEnv.now().saturating_sub(began));
    report.expect_strict_serializability();
}

#[test]
fn what_is_planted_is_found_under_its_name_in_every_history() {
    let expected = [
        (Plant::WriteSkew, Kind::G2),
        (Plant::LostUpdate, Kind::LostWrite),
        (Plant::DirtyRead, Kind::G1a),
        (Plant::IntermediateRead, Kind::G1b),
        (Plant::FracturedRead, Kind::GSingle),
        (Plant::StaleSnapshot, Kind::GSingleRealtime),
        (Plant::DroppedWrite, Kind::LostWrite),
    ];
    for (plant, kind) in expected {
        for seed in 0..effort(10, 100) {
            let kinds = kinds_of(plant, seed);
            assert!(kinds.contains(&kind), "{plant:?} with seed {seed} was taken for {kinds:?}");
        }
    }
}

#[test]
fn write_skew_is_taken_for_nothing_weaker() {
    for seed in 0..effort(10, 100) {
        let kinds = kinds_of(Plant::WriteSkew, seed);
        assert!(kinds.iter().all(|kind| [Kind::G2, Kind::G2Realtime].contains(kind)), "{kinds:?}");
    }
}

#[test]
fn a_stale_snapshot_breaks_nothing_but_real_time() {
    for seed in 0..effort(10, 100) {
        let kinds = kinds_of(Plant::StaleSnapshot, seed);
        assert!(
            kinds.iter().all(|kind| [Kind::GSingleRealtime, Kind::G2Realtime].contains(kind)),
            "{kinds:?}"
        );
    }
}

/// A history by hand: for each transaction when it began and ended, and what it did.
fn by_hand(txns: &[(u64, u64, &[Op])]) -> History {
    let txn = |(process, (invoked, completed, ops)): (u32, &(u64, u64, &[Op]))| Txn {
        what: "by hand",
        process,
        invoked: *invoked,
        completed: Some(*completed),
        outcome: Outcome::Committed,
        ops: ops.to_vec(),
    };
    History { txns: (0..).zip(txns).map(txn).collect() }
}

fn read(key: u64, elements: &[u64]) -> Op {
    Op::Read(key, Arc::new(elements.to_vec()))
}

fn append(key: u64, element: u64) -> Op {
    Op::Append(key, element)
}

#[test]
fn each_name_has_its_smallest_history() {
    let cases: [(Kind, History); 11] = [
        (Kind::Garbage, by_hand(&[(0, 9, &[read(1, &[7])])])),
        (Kind::Duplicate, by_hand(&[(0, 9, &[append(1, 7)]), (0, 9, &[read(1, &[7, 7])])])),
        (Kind::Internal, by_hand(&[(0, 9, &[append(1, 7), read(1, &[])])])),
        (Kind::Internal, by_hand(&[(0, 9, &[append(1, 7)]), (0, 9, &[read(1, &[]), read(1, &[7])])])),
        (
            Kind::IncompatibleOrder,
            by_hand(&[
                (0, 9, &[append(1, 7), append(1, 8)]),
                (0, 9, &[read(1, &[7, 8])]),
                (0, 9, &[read(1, &[8])]),
            ]),
        ),
        (
            Kind::G0,
            by_hand(&[
                (0, 9, &[append(1, 7), append(2, 7)]),
                (0, 9, &[append(1, 8), append(2, 8)]),
                (0, 9, &[read(1, &[7, 8]), read(2, &[8, 7])]),
            ]),
        ),
        (
            Kind::G1c,
            by_hand(&[(0, 9, &[append(1, 7), read(2, &[8])]), (0, 9, &[append(2, 8), read(1, &[7])])]),
        ),
        (
            Kind::G0Realtime,
            by_hand(&[(0, 1, &[append(1, 7)]), (2, 3, &[append(1, 8)]), (0, 9, &[read(1, &[8, 7])])]),
        ),
        (Kind::G1cRealtime, by_hand(&[(0, 1, &[read(1, &[7])]), (2, 3, &[append(1, 7)])])),
        (
            Kind::GSingleRealtime,
            by_hand(&[(0, 1, &[append(1, 7)]), (2, 3, &[read(1, &[])]), (0, 9, &[read(1, &[7])])]),
        ),
        (
            // The third read what the second appended, and so came after the first; the fourth was over before.
            Kind::G2Realtime,
            by_hand(&[
                (2, 9, &[read(1, &[])]),
                (0, 9, &[append(1, 7)]),
                (0, 9, &[read(1, &[7]), read(2, &[])]),
                (0, 1, &[append(2, 8)]),
                (0, 9, &[read(2, &[8])]),
            ]),
        ),
    ];
    for (kind, history) in cases {
        let report = check(&history);
        assert!(report.kinds().contains(&kind), "no {kind:?}: {}", report.story());
    }
}

#[test]
fn equal_times_overlap_and_unknown_transactions_count_once_they_were_seen() {
    check(&by_hand(&[(0, 5, &[append(1, 7)]), (5, 9, &[read(1, &[])])])).expect_strict_serializability();
    let mut history = by_hand(&[(0, 1, &[append(1, 7)]), (2, 3, &[read(1, &[])]), (4, 5, &[read(1, &[7])])]);
    history.txns[0].outcome = Outcome::Unknown;
    history.txns[0].completed = None;
    check(&history).expect_strict_serializability();
    history.txns[0].completed = Some(1);
    assert_eq!(check(&history).kinds(), BTreeSet::from([Kind::GSingleRealtime]));
    history.txns[0].outcome = Outcome::Aborted;
    assert_eq!(check(&history).kinds(), BTreeSet::from([Kind::G1a]));
}

#[test]
fn the_story_names_the_transactions_and_the_reasons() {
    let skew = by_hand(&[
        (0, 9, &[read(1, &[]), read(2, &[]), append(1, 7)]),
        (0, 9, &[read(1, &[]), read(2, &[]), append(2, 8)]),
        (10, 11, &[read(1, &[7]), read(2, &[8])]),
    ]);
    let story = check(&skew).story();
    for part in [
        "G2: 2 transactions that have no order",
        "T0 -rw-> T1: in list 2, T0 did not see 8 yet",
        "T1 -rw-> T0: in list 1, T1 did not see 7 yet",
        "T1 (by hand by process 1, Committed, from 0 to 9): read 1 as []; read 2 as []; append 8 to 2;",
    ] {
        assert!(story.contains(part), "{part:?} is not in\n{story}");
    }
}
