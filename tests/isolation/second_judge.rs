//! A second judge over the same histories: the crate `adya`, another implementation of Elle's ideas, by others. What
//! one judge overlooks because of how it was built, the other should not.

use std::collections::BTreeSet;
use std::time::Duration;

use adya::history::{self, Interner, Mop, OpType, ReadValue, Scalar};
use adya::{Opts, Valid, Workload};
use anabranch::Isolation;

use crate::campaign::{Mode, Setting, run};
use crate::checker::{History, Kind, Op, Outcome, Txn, check};
use crate::effort::effort;
use crate::judge::{self, Plant};

/// Far more than it takes. Its default gives up on large groups of entangled transactions after a second.
const SEARCH_MAX: Duration = Duration::from_mins(2);

/// What the second judge found of what a consistency model forbids.
fn second_opinion(history: &History, model: &str) -> (Valid, BTreeSet<String>) {
    let options = Opts { models: vec![model.to_owned()], timeout: SEARCH_MAX, ..Opts::default() };
    let report = adya::check(&translated(history), Workload::ListAppend, &options);
    (report.valid, report.anomaly_types.into_iter().collect())
}

pub(crate) fn expect_strict_serializability(history: &History) {
    let options = Opts { timeout: SEARCH_MAX, ..Opts::default() };
    let report = adya::check(&translated(history), Workload::ListAppend, &options);
    let told: Vec<_> =
        report.anomalies.values().flatten().map(|anomaly| &anomaly.explanation).take(3).collect();
    assert_eq!(report.valid, Valid::True, "{:?}: {told:#?}", report.anomaly_types);
}

/// A history in the other judge's terms: a beginning and an end for each transaction, in the order of time.
fn translated(history: &History) -> adya::History {
    let mut translator = Translator::default();
    for txn in &history.txns {
        translator.txn(txn);
    }
    translator.finish()
}

#[derive(Default)]
struct Translator {
    interner: Interner,
    /// With when it was, and whether it is an end: of equal times, beginnings are first, as they overlap.
    events: Vec<((u64, bool), history::Op)>,
    transactions: i64,
}

impl Translator {
    fn txn(&mut self, txn: &Txn) {
        let kind = match txn.outcome {
            Outcome::Committed => OpType::Ok,
            Outcome::Aborted => OpType::Fail,
            Outcome::Unknown => OpType::Info,
        };
        let committed = |op: &&Op| !matches!(op, Op::Undone(..));
        self.pair(txn, kind, txn.ops.iter().filter(committed));
        // What is undone within a transaction is one that failed.
        if txn.ops.iter().any(|op| !committed(&op)) {
            self.pair(txn, OpType::Fail, txn.ops.iter().filter(|op| !committed(op)));
        }
    }

    /// Each transaction is a process of its own: clients have several under way, with tickets.
    fn pair<'a>(&mut self, txn: &Txn, kind: OpType, ops: impl Iterator<Item = &'a Op> + Clone) {
        let asked = ops.clone().map(|op| self.mop(op, false)).collect();
        let answered = ops.map(|op| self.mop(op, kind == OpType::Ok)).collect();
        let process = Some(self.transactions);
        self.transactions += 1;
        let op = |kind, value| history::Op { index: 0, kind, process, value, time: None };
        self.events.push(((txn.invoked, false), op(OpType::Invoke, asked)));
        self.events.push(((txn.completed.unwrap_or(u64::MAX), true), op(kind, answered)));
    }

    /// What was read counts only if the transaction surely committed.
    fn mop(&mut self, op: &Op, is_known: bool) -> Mop {
        match op {
            Op::Append(list, element) | Op::Undone(list, element) => {
                Mop::Append { key: self.id(*list), value: self.id(*element) }
            }
            Op::Read(list, _) if !is_known => Mop::Read { key: self.id(*list), value: ReadValue::Nil },
            Op::Read(list, elements) => {
                let value = ReadValue::List(elements.iter().map(|element| self.id(*element)).collect());
                Mop::Read { key: self.id(*list), value }
            }
        }
    }

    fn id(&mut self, number: u64) -> history::Id {
        self.interner.intern(Scalar::Int(number.cast_signed()))
    }

    fn finish(mut self) -> adya::History {
        self.events.sort_by_key(|event| event.0);
        let number = |(index, (_, op)): (u64, (_, history::Op))| history::Op { index, ..op };
        adya::History::from_ops((0..).zip(self.events).map(number).collect(), self.interner)
    }
}

#[test]
fn both_judges_find_nothing_in_clean_histories() {
    for seed in 0..effort(3, 50) {
        let history = judge::history(seed, 2_000, Plant::Nothing);
        check(&history).expect_strict_serializability();
        expect_strict_serializability(&history);
    }
}

#[test]
fn both_judges_find_what_is_planted_under_its_name() {
    let expected = [
        (Plant::WriteSkew, Kind::G2, "G2-item"),
        (Plant::LostUpdate, Kind::LostWrite, "lost-update"),
        (Plant::DirtyRead, Kind::G1a, "G1a"),
        (Plant::IntermediateRead, Kind::G1b, "G1b"),
        (Plant::FracturedRead, Kind::GSingle, "G-single-item"),
        (Plant::StaleSnapshot, Kind::GSingleRealtime, "G-single-item-realtime"),
        // It has no name of its own: nobody saw the append, so all who looked came before it.
        (Plant::DroppedWrite, Kind::LostWrite, "G-single-item-realtime"),
    ];
    for (plant, kind, name) in expected {
        for seed in 0..effort(2, 20) {
            let history = judge::history(seed, 1_000, plant);
            let kinds = check(&history).kinds();
            assert!(kinds.contains(&kind), "{plant:?} with seed {seed} was taken for {kinds:?}");
            let (valid, names) = second_opinion(&history, "strict-serializable");
            assert_eq!(valid, Valid::False, "{plant:?} with seed {seed}");
            assert!(names.contains(name), "{plant:?} with seed {seed} was taken for {names:?}");
        }
    }
}

#[test]
fn both_judges_allow_write_skew_and_nothing_else_to_snapshot_isolation() {
    let skew = judge::history(1, 1_000, Plant::WriteSkew);
    assert_eq!(second_opinion(&skew, "snapshot-isolation").0, Valid::True);
    assert_eq!(second_opinion(&skew, "serializable").0, Valid::False);
    let fractured = judge::history(1, 1_000, Plant::FracturedRead);
    assert_eq!(second_opinion(&fractured, "snapshot-isolation").0, Valid::False);
}

/// Lets both judges look at histories from the engine, in every mode. Returns how many transactions committed.
fn both_judge(transactions: u64, history_max: u64) -> usize {
    let histories = transactions.div_ceil(history_max).max(3);
    let mut committed = 0;
    for seed in 0..histories {
        let mode = [Mode::InMemory, Mode::Relaxed, Mode::Full][usize::try_from(seed % 3).expect("below 3")];
        let isolation = Isolation::Serializable;
        let (lend_turns, workers, clients) = (seed % 2 == 0, 4, 16);
        let transactions = transactions / histories;
        // Seeds of its own, so that these are other histories than those of the first judge's campaign.
        let setting =
            Setting { mode, isolation, lend_turns, workers, clients, seed: seed + 1_000, transactions };
        let history = run(&setting);
        let report = check(&history);
        assert!(report.kinds().is_empty(), "{setting:?}: {}", report.story());
        expect_strict_serializability(&history);
        committed += report.committed;
    }
    println!(
        "{histories} histories: both judges call {committed} committed transactions strictly serializable"
    );
    committed
}

#[test]
fn both_judges_call_histories_from_the_engine_strictly_serializable() {
    assert!(both_judge(effort(3_000, 30_000), 5_000) > 0);
}

#[test]
#[ignore = "a campaign: ANABRANCH_TRANSACTIONS=1000000 cargo test --test isolation both_judges_in_a_long -- --ignored --nocapture"]
fn both_judges_in_a_long_campaign() {
    let transactions = std::env::var("ANABRANCH_TRANSACTIONS").ok();
    let transactions = transactions.map_or(300_000, |count| count.parse().expect("a number"));
    assert!(both_judge(transactions, 25_000) > 0);
}

#[test]
fn both_judges_find_write_skew_and_nothing_weaker_in_snapshot_isolation() {
    let mut skewed = 0;
    for seed in 0..4 {
        let setting = Setting {
            mode: Mode::InMemory,
            isolation: Isolation::Snapshot,
            lend_turns: seed % 2 == 0,
            workers: 4,
            clients: 8,
            seed,
            transactions: effort(1_000, 10_000),
        };
        let history = run(&setting);
        let kinds = check(&history).kinds();
        let (valid, names) = second_opinion(&history, "strong-snapshot-isolation");
        assert_eq!(valid, Valid::True, "{setting:?}: {names:?}");
        let is_skewed = second_opinion(&history, "serializable").0 == Valid::False;
        assert_eq!(is_skewed, kinds.contains(&Kind::G2), "{setting:?}: {kinds:?}");
        skewed += usize::from(is_skewed);
    }
    assert!(skewed > 0, "no history had write skew");
}
