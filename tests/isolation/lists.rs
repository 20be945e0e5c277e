//! Logical lists and how they lie in the engine.
//!
//! Lists come in groups, which take turns, so that they stay short. A plain list is the value of one key. A
//! wandering list is the value of one of four keys and moves among them: the transaction that moves it removes
//! it from one and inserts it at another, on another shard perhaps. So removes, and keys that come and go, need
//! no model of their own: whoever finds a list in two places, or in none, has an impossible list.

use std::sync::Arc;

use anabranch::{Engine, Error, Handle, Snapshot, Transaction};

use crate::checker::Op;

pub(crate) type Store = Engine<String, Vec<u64>>;
pub(crate) type Db = Handle<String, Vec<u64>>;
pub(crate) type Txn = Transaction<String, Vec<u64>>;
type Found = Option<Arc<Vec<u64>>>;
type Entries = Vec<(String, Arc<Vec<u64>>)>;

pub(crate) const PLAIN: u64 = 10;
const WANDERING: u64 = 3;
pub(crate) const GROUP: u64 = PLAIN + WANDERING;
const PLACES: u64 = 4;

pub(crate) const fn is_plain(list: u64) -> bool {
    list % GROUP < PLAIN
}

/// The key of a plain list.
pub(crate) fn plain(list: u64) -> String {
    format!("{}/p{:02}", group_name(list / GROUP), list % GROUP)
}

fn group_name(group: u64) -> String {
    format!("g{group:06}")
}

fn wandering(list: u64) -> String {
    format!("{}/w{:02}", group_name(list / GROUP), list % GROUP)
}

fn place(list: u64, place: u64) -> String {
    format!("{}/{}", wandering(list), place % PLACES)
}

/// The list that a key belongs to.
fn list_of(key: &str) -> u64 {
    let number = |from: usize, to: usize| key[from..to].parse::<u64>().expect("keys are made by this module");
    number(1, 7) * GROUP + number(9, 11)
}

/// What lists can be read from. With `backwards`, scans go from the end.
pub(crate) trait Source {
    fn find(&mut self, key: &str) -> Result<Found, Error>;
    fn scan(&mut self, from: String, to: String, backwards: bool) -> Result<Entries, Error>;
    fn scan_prefix(&mut self, prefix: &str, backwards: bool) -> Result<Entries, Error>;
}

macro_rules! source {
    ($type:ty) => {
        impl Source for $type {
            fn find(&mut self, key: &str) -> Result<Found, Error> {
                self.get(key)
            }

            fn scan(&mut self, from: String, to: String, backwards: bool) -> Result<Entries, Error> {
                let scan = self.range(from..to);
                if backwards { scan.rev().collect() } else { scan.collect() }
            }

            fn scan_prefix(&mut self, prefix: &str, backwards: bool) -> Result<Entries, Error> {
                let scan = self.prefix(prefix);
                if backwards { scan.rev().collect() } else { scan.collect() }
            }
        }
    };
}

source!(Txn);
source!(Db);
source!(Snapshot<String, Vec<u64>>);

/// Reads one list, a wandering one by its four keys or by their prefix.
pub(crate) fn read(source: &mut impl Source, list: u64, by_prefix: bool) -> Result<Op, Error> {
    let entries = match (is_plain(list), by_prefix) {
        (true, _) => entry(source, plain(list))?,
        (false, true) => source.scan_prefix(&wandering(list), false)?,
        (false, false) => {
            let mut entries = Vec::new();
            for number in 0..PLACES {
                entries.extend(entry(source, place(list, number))?);
            }
            entries
        }
    };
    Ok(reads(list..list + 1, &entries).remove(0))
}

fn entry(source: &mut impl Source, key: String) -> Result<Entries, Error> {
    Ok(source.find(&key)?.map(|value| (key, value)).into_iter().collect())
}

/// Reads neighbouring plain lists of a group by a range.
pub(crate) fn read_range(
    source: &mut impl Source,
    lists: std::ops::Range<u64>,
    backwards: bool,
) -> Result<Vec<Op>, Error> {
    let entries = source.scan(plain(lists.start), plain(lists.end), backwards)?;
    Ok(reads(lists, &entries))
}

/// Reads all lists of a group by a prefix.
pub(crate) fn read_group(source: &mut impl Source, group: u64, backwards: bool) -> Result<Vec<Op>, Error> {
    let entries = source.scan_prefix(&group_name(group), backwards)?;
    Ok(reads(group * GROUP..(group + 1) * GROUP, &entries))
}

/// Reads everything there is.
pub(crate) fn read_all(source: &mut impl Source, groups: u64) -> Result<Vec<Op>, Error> {
    let entries = source.scan_prefix("g", false)?;
    Ok(reads(0..groups * GROUP, &entries))
}

/// What entries say of some lists. A list with several entries reads as all of them, which is impossible.
fn reads(lists: std::ops::Range<u64>, entries: &[(String, Arc<Vec<u64>>)]) -> Vec<Op> {
    let first = lists.start;
    let mut found: Vec<Found> = lists.clone().map(|_| None).collect();
    for (key, value) in entries {
        let list = list_of(key);
        assert!(lists.contains(&list), "a scan of lists {lists:?} gave {key:?}");
        let place = &mut found[usize::try_from(list - first).expect("a few lists")];
        *place = Some(match place.take() {
            None => Arc::clone(value),
            Some(other) => Arc::new([&other[..], &value[..]].concat()),
        });
    }
    lists.zip(found).map(|(list, value)| Op::Read(list, value.unwrap_or_default())).collect()
}

/// Appends an element within a transaction, and tells what the list was before. A wandering list moves along.
pub(crate) fn append(txn: &mut Txn, list: u64, element: u64) -> Result<Op, Error> {
    if is_plain(list) {
        return append_plain(txn, list, element);
    }
    let (mut found, mut whole) = (None, Arc::new(Vec::new()));
    for number in 0..PLACES {
        if let Some(value) = txn.get(&place(list, number))? {
            // In two places it is for the checker to judge.
            whole = Arc::new([&whole[..], &value[..]].concat());
            found = Some(number);
        }
    }
    // A new list is put into the first place, so that of two creators one conflicts in either isolation.
    let next = found.map_or(0, |_| element % PLACES);
    if let Some(found) = found.filter(|found| *found != next) {
        txn.remove(&place(list, found));
    }
    txn.insert(place(list, next), with(Some(&whole), element));
    Ok(Op::Read(list, whole))
}

fn append_plain(txn: &mut Txn, list: u64, element: u64) -> Result<Op, Error> {
    let key = plain(list);
    if element.is_multiple_of(2) {
        let old = txn.get(&key)?;
        txn.insert(key, with(old.as_deref(), element));
        return Ok(Op::Read(list, old.unwrap_or_default()));
    }
    let mut old = Arc::default();
    txn.update(key, |value| {
        old = Arc::new(value.cloned().unwrap_or_default());
        Some(with(value, element))
    })?;
    Ok(Op::Read(list, old))
}

/// A list with one more element.
pub(crate) fn with(list: Option<&Vec<u64>>, element: u64) -> Vec<u64> {
    let mut list = list.cloned().unwrap_or_default();
    list.push(element);
    list
}
