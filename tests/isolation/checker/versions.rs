//! The order of the versions of each list, inferred from what was read.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use super::anomaly::{Anomaly, Kind};
use super::history::{Element, History, Key, Op, Outcome};

type Map<K, V> = HashMap<K, V, FixedState>;

/// Who appended an element.
#[derive(Clone, Copy)]
struct Writer {
    txn: u32,
    /// Whether it is the transaction's last append to this list.
    last: bool,
    undone: bool,
}

/// What a transaction saw of a list.
#[derive(Clone, Copy)]
struct View<'h> {
    txn: u32,
    list: u32,
    /// Without its own appends.
    others: &'h [Element],
    /// With them.
    whole: &'h [Element],
}

/// A list, as the longest read shows it.
pub(crate) struct List<'h> {
    pub(crate) key: Key,
    pub(crate) elements: &'h [Element],
    /// Who appended each element; nobody where that is an anomaly of its own.
    pub(crate) writers: Vec<Option<u32>>,
    longest_reader: u32,
}

/// A read that fits: the first `length` elements of the list, without the reader's own.
pub(crate) struct Seen {
    pub(crate) txn: u32,
    pub(crate) list: u32,
    pub(crate) length: u32,
}

pub(crate) struct Versions<'h> {
    history: &'h History,
    writers: Map<(Key, Element), Writer>,
    numbers: Map<Key, u32>,
    pub(crate) lists: Vec<List<'h>>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) is_committed: Vec<bool>,
}

impl<'h> Versions<'h> {
    pub(crate) fn infer(history: &'h History, anomalies: &mut Vec<Anomaly>) -> Self {
        let mut versions = Self {
            history,
            writers: writers_of(history),
            numbers: Map::default(),
            lists: Vec::new(),
            seen: Vec::new(),
            is_committed: vec![false; history.txns.len()],
        };
        let views = versions.views_of_committed(anomalies);
        versions.check_lists(anomalies);
        for view in &views {
            versions.check_view(view, anomalies);
        }
        versions.check_lost(&views, anomalies);
        versions
    }

    pub(crate) fn committed(&self) -> usize {
        self.is_committed.iter().filter(|committed| **committed).count()
    }

    /// The views of all transactions that committed: those that were told so, and those whose appends are seen
    /// by one that committed.
    fn views_of_committed(&mut self, anomalies: &mut Vec<Anomaly>) -> Vec<View<'h>> {
        let mut views = Vec::new();
        let mut fresh: Vec<u32> = (0..)
            .zip(&self.history.txns)
            .filter(|txn| txn.1.outcome == Outcome::Committed)
            .map(|txn| txn.0)
            .collect();
        while !fresh.is_empty() {
            for txn in fresh.drain(..) {
                self.is_committed[txn as usize] = true;
                self.views_of(txn, &mut views, anomalies);
            }
            for list in &self.lists {
                for element in list.elements {
                    let Some(writer) = self.writers.get(&(list.key, *element)) else { continue };
                    let known = self.is_committed[writer.txn as usize];
                    if !known && self.history.txns[writer.txn as usize].outcome == Outcome::Unknown {
                        fresh.push(writer.txn);
                    }
                }
            }
            fresh.sort_unstable();
            fresh.dedup();
        }
        views
    }

    /// What one transaction saw, a view for each list, after checking that its reads agree with one another.
    fn views_of(&mut self, txn: u32, views: &mut Vec<View<'h>>, anomalies: &mut Vec<Anomaly>) {
        let history = self.history;
        let first = views.len();
        let mut own: Vec<(Key, Element)> = Vec::new();
        for op in &history.txns[txn as usize].ops {
            match op {
                Op::Undone(..) => (),
                Op::Append(key, element) => own.push((*key, *element)),
                Op::Read(key, whole) => {
                    let appended = own.iter().filter(|append| append.0 == *key).map(|append| &append.1);
                    let (others, tail) = whole.split_at(whole.len().saturating_sub(appended.clone().count()));
                    let list = self.list(*key, txn);
                    let before = views[first..].iter_mut().find(|view| view.list == list);
                    let agrees = before.as_ref().is_none_or(|view| view.others == others);
                    if !tail.iter().eq(appended) || !agrees {
                        anomalies.push(Anomaly::Read { kind: Kind::Internal, txn, key: *key, element: None });
                        continue;
                    }
                    match before {
                        Some(view) => view.whole = whole,
                        None => views.push(View { txn, list, others, whole }),
                    }
                    let list = &mut self.lists[list as usize];
                    if whole.len() > list.elements.len() {
                        (list.elements, list.longest_reader) = (whole, txn);
                    }
                }
            }
        }
    }

    fn list(&mut self, key: Key, reader: u32) -> u32 {
        let next = u32::try_from(self.lists.len()).expect("fewer lists than that");
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.lists.push(List { key, elements: &[], writers: Vec::new(), longest_reader: reader });
        }
        number
    }

    fn check_lists(&mut self, anomalies: &mut Vec<Anomaly>) {
        for list in 0..self.lists.len() {
            let List { key, elements, longest_reader, .. } = self.lists[list];
            self.lists[list].writers = self.resolve(key, elements, longest_reader, anomalies);
        }
    }

    /// Who appended what was read, and whether it may be read at all.
    fn resolve(
        &self,
        key: Key,
        read: &[Element],
        txn: u32,
        anomalies: &mut Vec<Anomaly>,
    ) -> Vec<Option<u32>> {
        let mut sorted = read.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            anomalies.push(Anomaly::Read { kind: Kind::Duplicate, txn, key, element: Some(twice[0]) });
        }
        let resolve = |element: &Element| {
            let element = *element;
            match self.writers.get(&(key, element)) {
                None => {
                    anomalies.push(Anomaly::Read { kind: Kind::Garbage, txn, key, element: Some(element) });
                }
                Some(writer) if writer.undone || !self.is_committed[writer.txn as usize] => {
                    anomalies.push(Anomaly::Read { kind: Kind::G1a, txn, key, element: Some(element) });
                }
                Some(writer) => return Some(writer.txn),
            }
            None
        };
        read.iter().map(resolve).collect()
    }

    fn check_view(&mut self, view: &View<'h>, anomalies: &mut Vec<Anomaly>) {
        let list = &self.lists[view.list as usize];
        let (key, txn) = (list.key, view.txn);
        if !list.elements.starts_with(view.whole) {
            anomalies.push(Anomaly::Fork { txn, other: list.longest_reader, key });
            self.resolve(key, view.whole, txn, anomalies);
            return;
        }
        let newest = view.others.last().copied();
        let writer = newest.and_then(|element| self.writers.get(&(key, element)));
        if writer.is_some_and(|writer| !writer.last && !writer.undone) {
            anomalies.push(Anomaly::Read { kind: Kind::G1b, txn, key, element: newest });
        }
        let length = u32::try_from(view.others.len()).expect("lists are shorter than that");
        self.seen.push(Seen { txn, list: view.list, length });
    }

    /// Acknowledged appends that a later reader of the list does not see.
    fn check_lost(&self, views: &[View<'h>], anomalies: &mut Vec<Anomaly>) {
        let mut last_reader: Vec<Option<u32>> = vec![None; self.lists.len()];
        let invoked = |txn: u32| self.history.txns[txn as usize].invoked;
        for view in views {
            let last = &mut last_reader[view.list as usize];
            if last.is_none_or(|last| invoked(last) < invoked(view.txn)) {
                *last = Some(view.txn);
            }
        }
        let present: HashSet<(Key, Element), FixedState> = self
            .lists
            .iter()
            .flat_map(|list| list.elements.iter().map(|element| (list.key, *element)))
            .collect();
        for (txn, body) in (0..).zip(&self.history.txns) {
            let Some(completed) = body.completed.filter(|_| body.outcome == Outcome::Committed) else {
                continue;
            };
            for op in &body.ops {
                let &Op::Append(key, element) = op else { continue };
                let reader = self.numbers.get(&key).and_then(|list| last_reader[*list as usize]);
                let Some(reader) = reader.filter(|reader| invoked(*reader) > completed) else { continue };
                if !present.contains(&(key, element)) {
                    anomalies.push(Anomaly::Lost { txn, reader, key, element });
                }
            }
        }
    }
}

fn writers_of(history: &History) -> Map<(Key, Element), Writer> {
    let mut writers = Map::default();
    for (txn, body) in (0..).zip(&history.txns) {
        for (at, op) in body.ops.iter().enumerate() {
            let (key, element, undone) = match op {
                Op::Read(..) => continue,
                Op::Append(key, element) => (*key, *element, false),
                Op::Undone(key, element) => (*key, *element, true),
            };
            let later = |op: &Op| matches!(op, Op::Append(other, _) if *other == key);
            let last = !body.ops[at + 1..].iter().any(later);
            let before = writers.insert((key, element), Writer { txn, last, undone });
            assert!(before.is_none(), "the history is useless: {element} was appended to list {key} twice");
        }
    }
    writers
}
