//! Lists that transactions append to, over all lives of a seed, for the judge of `tests/isolation/checker`: what is
//! seen before a crash and after it must be one strictly serializable history.
//!
//! The oracle knows such a commit by its timestamp alone, and the judge by what it appended. What a crash was allowed
//! to take back counts as rolled back from then on, and must stay away.

use std::sync::Arc;

use anabranch::{Error, Handle};

use crate::checker::{self, Kind, Op, Outcome, Txn};
use crate::history::{Key, Value, changed_nothing};

pub(crate) const LIST: &str = "list/";
pub(crate) const LISTS: u64 = 6;

/// A transaction, as the judge is to know it.
#[derive(Clone, Debug)]
struct Entry {
    txn: Txn,
    /// Where it takes effect, if its client was told. For one that only reads, the moment that it saw.
    timestamp: Option<u64>,
    /// It was to be synced whatever the engine's mode.
    strong: bool,
}

impl Entry {
    fn writes(&self) -> bool {
        self.txn.ops.iter().any(|op| matches!(op, Op::Append(..)))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    entries: Vec<Entry>,
    clock: u64,
    elements: u64,
    /// Commits under way, or over without anybody having been told their timestamps.
    pub(crate) untimed: u64,
    /// Entries before this one are of earlier lives.
    settled: usize,
}

impl Lists {
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn element(&mut self) -> u64 {
        self.elements += 1;
        self.elements
    }

    /// Notes a transaction before it is handed over: whatever becomes of it, its appends are known.
    pub(crate) fn begin(
        &mut self,
        what: &'static str,
        process: u32,
        invoked: u64,
        ops: Vec<Op>,
        strong: bool,
    ) -> usize {
        let txn = Txn { what, process, invoked, completed: None, outcome: Outcome::Unknown, ops };
        let entry = Entry { txn, timestamp: None, strong };
        self.untimed += u64::from(entry.writes());
        self.entries.push(entry);
        self.entries.len() - 1
    }

    pub(crate) fn writes(&self, entry: usize) -> bool {
        self.entries[entry].writes()
    }

    pub(crate) fn failed(&mut self, entry: usize, error: &Error) {
        if changed_nothing(error) {
            let completed = Some(self.tick());
            let entry = &mut self.entries[entry];
            (entry.txn.outcome, entry.txn.completed) = (Outcome::Aborted, completed);
            self.untimed -= u64::from(entry.writes());
        }
    }

    pub(crate) fn timed(&mut self, entry: usize, timestamp: u64) {
        let entry = &mut self.entries[entry];
        entry.timestamp = Some(timestamp);
        self.untimed -= u64::from(entry.writes());
    }

    pub(crate) fn acknowledged(&mut self, entry: usize, more: impl IntoIterator<Item = Op>) {
        let completed = Some(self.tick());
        let txn = &mut self.entries[entry].txn;
        (txn.outcome, txn.completed) = (Outcome::Committed, completed);
        txn.ops.extend(more);
    }

    /// Another life has begun, with everything up to `cut`. `lossy` says that power was lost in a relaxed mode.
    pub(crate) fn settle(&mut self, cut: u64, lossy: bool) {
        let now = self.tick();
        let mut entries = self.entries.split_off(self.settled);
        for entry in &mut entries {
            // Whatever became of the commits that were under way: now it is decided.
            entry.txn.completed = entry.txn.completed.or(Some(now));
            let was_acknowledged = entry.txn.outcome == Outcome::Committed;
            let may_be_lost = !was_acknowledged || lossy && !entry.strong;
            if !may_be_lost {
                continue;
            }
            match entry.timestamp {
                Some(timestamp) if timestamp > cut => entry.txn.outcome = Outcome::Aborted,
                None if was_acknowledged => entry.txn.outcome = Outcome::Unknown,
                _ => {}
            }
        }
        self.entries.append(&mut entries);
        self.settled = self.entries.len();
        self.untimed = 0;
    }

    /// Reads all lists and notes it as a transaction of its own.
    pub(crate) fn look(&mut self, db: &Handle<Key, Value>) -> Result<(), String> {
        let snapshot = db.snapshot();
        let read = |list| Ok(Op::Read(list, elements(snapshot.get(&key(list))?)));
        let ops = (0..LISTS).map(read).collect::<Result<Vec<_>, Error>>();
        let ops = ops.map_err(|error| format!("reading lists after opening: {error}"))?;
        self.looked(ops);
        Ok(())
    }

    fn looked(&mut self, ops: Vec<Op>) {
        let invoked = self.tick();
        let entry = self.begin("a look after opening", 0, invoked, ops, false);
        self.acknowledged(entry, []);
        self.settled = self.entries.len();
    }

    /// Judges all lives, and returns how many transactions counted as committed.
    pub(crate) fn judge(&self, snapshot_isolation: bool) -> Result<u64, String> {
        let txns = self.entries.iter().map(|entry| entry.txn.clone()).collect();
        let report = checker::check(&checker::History { txns });
        let allowed = |kind: &Kind| snapshot_isolation && [Kind::G2, Kind::G2Realtime].contains(kind);
        if report.kinds().iter().all(allowed) { Ok(report.committed as u64) } else { Err(report.story()) }
    }
}

pub(crate) fn key(list: u64) -> Key {
    format!("{LIST}{list}")
}

pub(crate) fn elements(value: Option<Arc<Value>>) -> Arc<Vec<u64>> {
    let Some(value) = value else { return Arc::default() };
    let element = |word: &str| word.parse().expect("lists hold numbers");
    Arc::new(value.1.split_terminator(',').map(element).collect())
}

/// A list with one more element.
pub(crate) fn with(list: Option<&Value>, element: u64) -> Value {
    (0, format!("{}{element},", list.map_or("", |list| &list.1)))
}

/// An acknowledged append at 5 and another at 6, and what is read when the next life begins at 5.
fn two_lives(lossy: bool, strong: bool, then: &[&[u64]]) -> Result<u64, String> {
    let mut lists = Lists::default();
    for (timestamp, element) in [(5, 50), (6, 60)] {
        let invoked = lists.tick();
        let entry = lists.begin("an append", 1, invoked, vec![Op::Append(1, element)], strong);
        lists.timed(entry, timestamp);
        lists.acknowledged(entry, []);
    }
    lists.settle(5, lossy);
    for read in then {
        lists.looked(vec![Op::Read(1, Arc::new(read.to_vec()))]);
    }
    lists.judge(false)
}

#[test]
fn a_crash_takes_back_only_what_it_may_and_what_it_took_stays_away() {
    assert_eq!(two_lives(false, false, &[&[50, 60]]), Ok(3));
    assert_eq!(two_lives(true, false, &[&[50]]), Ok(2));
    assert!(two_lives(false, false, &[&[50]]).unwrap_err().contains("LostWrite"));
    assert!(two_lives(true, true, &[&[50]]).unwrap_err().contains("LostWrite"));
    assert!(two_lives(true, false, &[&[60]]).unwrap_err().contains("G1a"));
    assert!(two_lives(true, false, &[&[50], &[50, 60]]).unwrap_err().contains("G1a"));
}
