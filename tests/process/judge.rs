//! What must be true of an engine's content, given what its users were told: it is a prefix of the commit
//! order, with everything in it that was acknowledged, nothing that came to nothing, and no halves.
//!
//! Timestamps are dense, so whether the prefix is whole can be counted. What was under way at the end and has
//! no known timestamp tells by its task's own key whether it is in.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Write;
use crate::history::{Attempt, Change, Content, Fate, History};
use crate::row::{Key, OWN, Tag};

/// What nobody needs to try: there are few unknown timestamps, and few places for them.
const PLACEMENTS_MAX: u32 = 1_000_000;

pub(crate) fn judge(history: &History, content: &Content) -> Result<(), String> {
    let (before, cut) = (history.base.timestamp, content.timestamp);
    if cut < before {
        return Err(format!("{before} was served before, and now only {cut}"));
    }
    let committed = committed(history, content)?;
    let counted = counted(history, content)?;
    let commits = committed.len() as u64 + counted;
    if commits != cut - before {
        return Err(format!("{commits} commits are there between {before} and {cut}"));
    }
    check_own_keys(history, &committed, content)?;
    check_shared_keys(history, &committed, content)
}

type Committed<'a> = Vec<(&'a Attempt, &'a [Write])>;

/// The attempts that must be in the content, task by task, each in its order.
fn committed<'a>(history: &'a History, content: &Content) -> Result<Committed<'a>, String> {
    let mut committed = Vec::new();
    let (mut task, mut missing) = (None, None);
    for (operation, attempt) in &history.attempts {
        if task != Some(operation.task) {
            (task, missing) = (Some(operation.task), None);
        }
        let Change::Writes(writes) = &attempt.change else { continue };
        let is_in = match (attempt.fate, attempt.timestamp) {
            (Fate::Nothing, _) => continue,
            (_, Some(timestamp)) => timestamp <= content.timestamp,
            (Fate::Acknowledged, None) => true,
            (Fate::Open, None) => missing.is_none() && shows(writes, content),
        };
        let cut = content.timestamp;
        if is_in && let Some(earlier) = missing {
            return Err(format!("{operation:?} is in, and {earlier:?} before it is not, at {cut}"));
        }
        if !is_in && attempt.fate == Fate::Acknowledged {
            return Err(format!("{operation:?} was acknowledged, and only {cut} is there: {attempt:?}"));
        }
        if is_in {
            committed.push((attempt, writes.as_slice()));
        } else {
            missing = Some(operation);
        }
    }
    Ok(committed)
}

/// Whether an attempt, the last of its task, has left its mark on the task's own key.
fn shows(writes: &[Write], content: &Content) -> bool {
    let own = writes.iter().find(|(key, _)| key.starts_with(OWN));
    own.is_some_and(|(key, tag)| content.tags.get(key) == tag.as_ref())
}

/// How often counters were counted up, which is between what was acknowledged and what was begun.
fn counted(history: &History, content: &Content) -> Result<u64, String> {
    let mut total = 0;
    let mut bounds = BTreeMap::<&Key, (u64, u64)>::new();
    for (key, count) in &history.base.counters {
        bounds.insert(key, (*count, *count));
    }
    for attempt in history.attempts.values() {
        if let Change::Count(key) = &attempt.change
            && attempt.fate != Fate::Nothing
        {
            let (least, most) = bounds.entry(key).or_default();
            *least += u64::from(attempt.fate == Fate::Acknowledged);
            *most += 1;
        }
    }
    for (key, (least, most)) in &bounds {
        let count = content.counters.get(*key).copied().unwrap_or_default();
        if !(*least..=*most).contains(&count) {
            return Err(format!("{key} is {count}, and should be {least} to {most}"));
        }
        total += count - history.base.counters.get(*key).copied().unwrap_or_default();
    }
    match content.counters.keys().find(|key| !bounds.contains_key(key)) {
        Some(key) => Err(format!("nobody began to count {key}")),
        None => Ok(total),
    }
}

/// A task writes to its own keys in its own order.
fn check_own_keys(history: &History, committed: &Committed<'_>, content: &Content) -> Result<(), String> {
    let own = |tags: &BTreeMap<Key, u64>| -> BTreeMap<Key, u64> {
        tags.iter().filter(|(key, _)| key.starts_with(OWN)).map(|(key, tag)| (key.clone(), *tag)).collect()
    };
    let mut expected = own(&history.base.tags);
    for (_, writes) in committed {
        for (key, tag) in writes.iter().filter(|(key, _)| key.starts_with(OWN)) {
            match tag {
                Some(tag) => expected.insert(key.clone(), *tag),
                None => expected.remove(key),
            };
        }
    }
    let found = own(&content.tags);
    let differs = |key: &&Key| expected.get(*key) != found.get(*key);
    match expected.keys().chain(found.keys()).find(differs) {
        Some(key) => Err(difference(key, expected.get(key), found.get(key))),
        None => Ok(()),
    }
}

fn difference(key: &Key, expected: Option<&u64>, found: Option<&u64>) -> String {
    let tag = |number: Option<&u64>| number.copied().map(Tag);
    format!("{key} is of {:?}, and should be of {:?}", tag(found), tag(expected))
}

/// The last writes to shared keys, with their timestamps.
type Last<'a> = BTreeMap<&'a Key, (u64, Option<u64>)>;

fn apply<'a>(last: &mut Last<'a>, timestamp: u64, writes: &'a [Write]) {
    for (key, tag) in writes.iter().filter(|(key, _)| !key.starts_with(OWN)) {
        let entry = last.entry(key).or_default();
        if entry.0 <= timestamp {
            *entry = (timestamp, *tag);
        }
    }
}

/// The last write in commit order counts. A transaction that was in flight at the end and whose timestamp
/// nobody was told may have any that is free and later than what had ended when it began.
fn check_shared_keys(history: &History, committed: &Committed<'_>, content: &Content) -> Result<(), String> {
    let mut last = Last::new();
    let base = history.base.tags.iter().filter(|(key, _)| !key.starts_with(OWN));
    last.extend(base.map(|(key, tag)| (key, (0, Some(*tag)))));
    let mut taken = BTreeSet::new();
    let mut unknown = Vec::new();
    for (attempt, writes) in committed {
        match attempt.timestamp {
            Some(timestamp) => {
                taken.insert(timestamp);
                apply(&mut last, timestamp, writes);
            }
            None if writes.iter().any(|(key, _)| !key.starts_with(OWN)) => {
                unknown.push((attempt.after, *writes));
            }
            None => {}
        }
    }
    Placement { content, taken, tries: 0 }.place(&unknown, &last)
}

struct Placement<'a> {
    content: &'a Content,
    taken: BTreeSet<u64>,
    tries: u32,
}

impl Placement<'_> {
    /// Tries every timestamp for every attempt that has none.
    fn place(&mut self, unknown: &[(u64, &[Write])], last: &Last<'_>) -> Result<(), String> {
        self.tries += 1;
        assert!(self.tries < PLACEMENTS_MAX, "{} attempts have too many places", unknown.len());
        let Some(((after, writes), others)) = unknown.split_first() else { return self.compare(last) };
        let mut outcome = Err(format!("no timestamp after {after} is free for {writes:?}"));
        for timestamp in after + 1..=self.content.timestamp {
            if self.taken.insert(timestamp) {
                let mut last = last.clone();
                apply(&mut last, timestamp, writes);
                outcome = self.place(others, &last);
                self.taken.remove(&timestamp);
            }
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn compare(&self, last: &Last<'_>) -> Result<(), String> {
        let found = self.content.tags.iter().filter(|(key, _)| !key.starts_with(OWN));
        let found: BTreeMap<_, _> = found.collect();
        let expected = |key: &Key| last.get(key).and_then(|(_, tag)| tag.as_ref());
        let keys = last.keys().chain(found.keys());
        match keys.copied().find(|key| expected(key) != found.get(key).copied()) {
            Some(key) => Err(difference(key, expected(key), found.get(key).copied())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Operation};

    const FIRST: Operation = Operation { task: 0, number: 0 };
    const SECOND: Operation = Operation { task: 1, number: 0 };
    const COUNT: Operation = Operation { task: 1, number: 1 };

    /// Two transactions, of which the first is acknowledged, and a count that was begun.
    fn history() -> History {
        let mut history = History::default();
        let writes = |own: &str, tag| vec![(own.to_owned(), Some(tag)), ("shared/1".to_owned(), Some(tag))];
        for event in [
            Event::Opened(0),
            Event::Begin { operation: FIRST, writes: writes("own/0/00", 1) },
            Event::Begin { operation: SECOND, writes: writes("own/1/00", 2) },
            Event::At { operation: FIRST, timestamp: 1 },
            Event::Acknowledged { operation: FIRST },
            Event::Count { operation: COUNT, counter: "counter/0".into() },
        ] {
            history.add(event).unwrap();
        }
        history
    }

    fn content(timestamp: u64, entries: &[(&str, u64)]) -> Content {
        let mut content = Content { timestamp, ..Content::default() };
        for (key, number) in entries {
            content.put((*key).to_owned(), *number);
        }
        content
    }

    #[test]
    fn every_prefix_passes() {
        let first = [("own/0/00", 1), ("shared/1", 1)];
        let both = [("own/0/00", 1), ("own/1/00", 2), ("shared/1", 2)];
        let all = [("own/0/00", 1), ("own/1/00", 2), ("shared/1", 2), ("counter/0", 1)];
        for (timestamp, entries) in [(1, &first[..]), (2, &both), (3, &all)] {
            judge(&history(), &content(timestamp, entries)).unwrap();
        }
    }

    #[test]
    fn anything_else_is_found() {
        for (timestamp, entries) in [
            // The acknowledged one is missing.
            (0, &[][..]),
            // Half of it is missing, and half of the other is there.
            (1, &[("own/0/00", 1)]),
            (1, &[("own/0/00", 1), ("shared/1", 2)]),
            (2, &[("own/0/00", 1), ("own/1/00", 2), ("shared/1", 1)]),
            // Something is there beyond the prefix, or within it is not.
            (1, &[("own/0/00", 1), ("own/1/00", 2), ("shared/1", 2)]),
            (2, &[("own/0/00", 1), ("shared/1", 1)]),
            // Nobody wrote that.
            (1, &[("own/0/00", 1), ("shared/1", 1), ("shared/2", 9)]),
            (2, &[("own/0/00", 1), ("shared/1", 1), ("counter/0", 2)]),
        ] {
            let content = content(timestamp, entries);
            assert!(judge(&history(), &content).is_err(), "{content:?} passed");
        }
    }

    #[test]
    fn what_came_to_nothing_must_not_be_there() {
        let mut history = history();
        let both = content(2, &[("own/0/00", 1), ("own/1/00", 2), ("shared/1", 2)]);
        judge(&history, &both).unwrap();
        history.add(Event::RolledBack { operation: SECOND }).unwrap();
        judge(&history, &both).unwrap_err();
    }

    #[test]
    fn an_acknowledgement_after_a_failure_is_found() {
        let mut history = history();
        let (error, message) = ("Indeterminate".to_owned(), String::new());
        history.add(Event::Failed { operation: COUNT, error, message }).unwrap();
        let late = Operation { task: 2, number: 0 };
        history.add(Event::Begin { operation: late, writes: vec![] }).unwrap();
        history.add(Event::Acknowledged { operation: late }).unwrap_err();
    }
}
