//! What must be true of an engine's content, given what its users were told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch::{Handle, Snapshot};

use crate::config::Mode;
use crate::history::{Attempt, History, Key, Outcome, Tag, Value};
use crate::lists::LIST;

/// The most that was lost between two looks at the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    Nothing,
    Process,
    Power,
}

/// An engine's content at a timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) timestamp: u64,
    pub(crate) tags: BTreeMap<Key, Tag>,
    pub(crate) counters: BTreeMap<Key, u64>,
    /// As they are: the judge of lists says what they should be.
    pub(crate) lists: BTreeMap<Key, Value>,
}

pub(crate) const COUNTER: &str = "counter/";

impl Content {
    /// Reads everything, forwards, backwards and key by key, and compares.
    pub(crate) fn read(db: &Handle<Key, Value>) -> Result<Self, String> {
        let snapshot = db.snapshot();
        let content = Self::read_from(&snapshot)?;
        let mut backwards = Vec::new();
        for entry in snapshot.range(..).rev() {
            backwards.push(entry.map_err(|error| format!("scanning backwards: {error}"))?.0);
        }
        backwards.reverse();
        let keys = content.tags.keys().chain(content.counters.keys()).chain(content.lists.keys());
        let forwards: BTreeSet<_> = keys.cloned().collect();
        if !backwards.iter().eq(&forwards) {
            return Err(format!("forwards {forwards:?}, backwards {backwards:?}"));
        }
        for (key, tag) in &content.tags {
            let value = snapshot.get(key).map_err(|error| format!("reading {key}: {error}"))?;
            if value.as_deref().and_then(Tag::of) != Some(*tag) {
                return Err(format!(
                    "{key} is {tag:?} in a scan, and {:?} in a get",
                    value.map(|value| value.0)
                ));
            }
        }
        Ok(content)
    }

    /// Whether two looks at one image say the same; of an engine that removes entries by itself, whether those that
    /// both have are the same.
    pub(crate) fn agrees(&self, other: &Self, removes_itself: bool) -> bool {
        if !removes_itself {
            return self == other;
        }
        self.tags.iter().all(|(key, tag)| other.tags.get(key).is_none_or(|others| others == tag))
    }

    pub(crate) fn read_from(snapshot: &Snapshot<Key, Value>) -> Result<Self, String> {
        let entries = snapshot.range(..).map(|entry| entry.map_err(|error| format!("scanning: {error}")));
        Self::from_entries(snapshot.timestamp().0, entries)
    }

    pub(crate) fn from_entries(
        timestamp: u64,
        entries: impl Iterator<Item = Result<(Key, std::sync::Arc<Value>), String>>,
    ) -> Result<Self, String> {
        let mut content = Self { timestamp, ..Self::default() };
        for entry in entries {
            let (key, value) = entry?;
            if key.starts_with(COUNTER) {
                content.counters.insert(key, value.0);
            } else if key.starts_with(LIST) {
                content.lists.insert(key, Value::clone(&value));
            } else {
                let tag = Tag::of(&value).ok_or_else(|| format!("the value of {key} is garbage"))?;
                content.tags.insert(key, tag);
            }
        }
        Ok(content)
    }
}

/// The content is that of a prefix of the commit order (I1, I3, I4): of everything up to its timestamp.
///
/// The tasks know the timestamps of nearly all commits. Those of the others must fill the gaps, in some order;
/// a counter's fill any.
pub(crate) fn check_prefix(history: &History, content: &Content) -> Result<(), String> {
    check_prefix_before(history, content, content.timestamp).map(drop)
}

/// [`check_prefix`], where the engine may have removed entries by itself after the content's timestamp, until this.
/// Returns where the commits of tasks end: if an opening was cut off, that may be before the content's timestamp.
pub(crate) fn check_prefix_before(history: &History, content: &Content, until: u64) -> Result<u64, String> {
    let surely = history.promised.max(history.base_timestamp);
    let reused = history.removes_itself && history.opening_cut_off;
    let lowest = if reused { surely.min(content.timestamp) } else { content.timestamp };
    let mut first = Err("there is at least one way".to_owned());
    for cut in (lowest..=content.timestamp).rev() {
        match check_prefix_up_to(history, content, (cut, until)) {
            Ok(()) => return Ok(cut),
            Err(violation) if cut == content.timestamp => first = Err(violation),
            Err(_) => {}
        }
    }
    first
}

/// The commits of tasks end at the cut; what follows until then are the engine's own.
fn check_prefix_up_to(history: &History, content: &Content, (cut, until): (u64, u64)) -> Result<(), String> {
    let mut known = BTreeMap::new();
    for attempt in history.attempts.iter().filter(|attempt| attempt.timestamp.is_none_or(|at| at <= cut)) {
        if let Some(timestamp) = attempt.timestamp
            && let Some(other) = known.insert(timestamp, attempt)
        {
            return Err(format!("two commits at {timestamp}: {:?} and {:?}", attempt.writes, other.writes));
        }
    }
    if let Some((first, _)) = known.first_key_value()
        && *first <= history.base_timestamp
    {
        return Err(format!("a commit at {first}, and {} was there before", history.base_timestamp));
    }
    if content.timestamp < history.base_timestamp {
        return Err(format!("served {} before, and now only {}", history.base_timestamp, content.timestamp));
    }
    let gaps: Vec<_> =
        (history.base_timestamp + 1..=content.timestamp).filter(|ts| !known.contains_key(ts)).collect();
    let unknown: Vec<_> = history
        .attempts
        .iter()
        .filter(|attempt| attempt.timestamp.is_none() && attempt.outcome == Outcome::Unknown)
        .collect();
    let counted: u64 = history.counters.values().map(|counter| counter.begun).sum();
    let counted = counted + history.lists.untimed;
    let counted = if history.removes_itself { u64::MAX } else { counted };
    if gaps.len() as u64 > counted.saturating_add(unknown.len() as u64) {
        return Err(format!("nobody committed at {gaps:?}, but the engine is at {}", content.timestamp));
    }
    check_counters(history, content)?;
    let commits = known.range(..=content.timestamp).map(|(ts, attempt)| (*ts, *attempt)).collect();
    let mut search = Search { history, content, until, unknown, counted, budget: 20_000 };
    search.fill(&gaps, &commits, &mut BTreeSet::new())
}

fn check_counters(history: &History, content: &Content) -> Result<(), String> {
    for (key, count) in &content.counters {
        let counter = history.counters.get(key).ok_or_else(|| format!("nobody began to count {key}"))?;
        if *count > counter.base + counter.begun {
            return Err(format!("{key} is {count}, but {counter:?}"));
        }
    }
    Ok(())
}

struct Search<'a> {
    history: &'a History,
    content: &'a Content,
    /// The engine's own commits may go on until then.
    until: u64,
    unknown: Vec<&'a Attempt>,
    counted: u64,
    budget: u32,
}

impl<'a> Search<'a> {
    /// Tries every way to fill the gaps, unless there are too many.
    fn fill(
        &mut self,
        gaps: &[u64],
        commits: &BTreeMap<u64, &'a Attempt>,
        used: &mut BTreeSet<usize>,
    ) -> Result<(), String> {
        self.budget = self.budget.saturating_sub(1);
        let Some((gap, later)) = gaps.split_first() else {
            return self.compare(commits);
        };
        let mut outcome = Err(format!("nobody committed at {gap}"));
        if self.counted > 0 {
            outcome = self.fill(later, commits, used);
        }
        for index in 0..self.unknown.len() {
            if outcome.is_ok() || self.budget == 0 {
                break;
            }
            if used.insert(index) {
                let mut commits = commits.clone();
                commits.insert(*gap, self.unknown[index]);
                outcome = self.fill(later, &commits, used);
                used.remove(&index);
            }
        }
        if self.budget == 0 { Ok(()) } else { outcome }
    }

    /// Whether the engine can have removed this by itself: it was to live for milliseconds, or behind its last write
    /// there is a timestamp that no task's commit has.
    fn may_be_gone(&self, tag: Tag, writer: Option<u64>, commits: &BTreeMap<u64, &Attempt>) -> bool {
        let written = writer.unwrap_or(self.history.base_timestamp);
        let is_free = |timestamp: u64| !commits.contains_key(&timestamp);
        self.history.removes_itself
            && (self.history.short_lived.contains(&tag) || (written + 1..=self.until).any(is_free))
    }

    fn compare(&self, commits: &BTreeMap<u64, &Attempt>) -> Result<(), String> {
        let mut expected = self.history.base.clone();
        let mut writers = BTreeMap::new();
        for (timestamp, attempt) in commits {
            for (key, tag) in &attempt.writes {
                writers.insert(key, *timestamp);
                match tag {
                    Some(tag) => expected.insert(key.clone(), *tag),
                    None => expected.remove(key),
                };
            }
        }
        let keys: BTreeSet<_> = expected.keys().chain(self.content.tags.keys()).collect();
        for key in keys {
            let (expected, found) = (expected.get(key), self.content.tags.get(key));
            if let (None, Some(tag)) = (found, expected)
                && self.may_be_gone(*tag, writers.get(key).copied(), commits)
            {
                continue;
            }
            if expected != found {
                let writer = |tag: &Tag| {
                    let wrote = |attempt: &&Attempt| attempt.writes.get(key) == Some(&Some(*tag));
                    self.history
                        .attempts
                        .iter()
                        .find(wrote)
                        .map(|attempt| (attempt.timestamp, attempt.outcome))
                };
                return Err(format!(
                    "at {} (before: {}), {key} is {found:?} by {:?}, but should be {expected:?} by {:?}",
                    self.content.timestamp,
                    self.history.base_timestamp,
                    found.and_then(writer),
                    writers.get(key),
                ));
            }
        }
        Ok(())
    }
}

/// Nothing is missing that should have survived (I2, I6, and the bounds of the relaxed mode).
pub(crate) fn check_survival(
    history: &History,
    content: &Content,
    mode: Mode,
    loss: Loss,
) -> Result<(), String> {
    let cut = content.timestamp;
    let all = loss != Loss::Power || mode == Mode::Full;
    if cut < history.promised {
        return Err(format!("everything up to {} was synced, and only {cut} is there", history.promised));
    }
    if all && cut < history.seen {
        return Err(format!("{} was seen in a snapshot, and only {cut} is there", history.seen));
    }
    let mut missed = Missing::default();
    for attempt in &history.attempts {
        let Outcome::Acknowledged(when) = attempt.outcome else { continue };
        missed.last = missed.last.max(when);
        let timestamp = attempt.timestamp.expect("an acknowledgement tells it");
        if timestamp > cut {
            if all || attempt.strong {
                return Err(format!(
                    "{timestamp} was acknowledged, and only {cut} is there: {:?}",
                    attempt.writes
                ));
            }
            missed.commits += 1;
            missed.bytes += attempt.writes.values().flatten().map(|tag| tag.length()).sum::<u64>();
            missed.first = Some(missed.first.map_or(when, |first| first.min(when)));
        }
    }
    for (key, counter) in &history.counters {
        let count = content.counters.get(key).copied().unwrap_or(0);
        let missing = (counter.base + counter.acknowledged).saturating_sub(count);
        if count < counter.base || all && missing > 0 {
            return Err(format!("{key} is {count}, but {counter:?}"));
        }
        missed.commits += missing;
    }
    missed.check(mode)
}

#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    commits: u64,
    bytes: u64,
    /// When the first of them, and the last commit at all, was acknowledged.
    first: Option<Duration>,
    last: Duration,
}

impl Missing {
    fn check(self, mode: Mode) -> Result<(), String> {
        // A sync takes its time once it has begun.
        const SYNC_MAX: Duration = Duration::from_secs(3);
        let excessive = match mode {
            Mode::Full => self.commits > 0,
            Mode::Commits(commits) => self.commits > commits,
            Mode::Bytes(bytes) => self.bytes > bytes,
            Mode::Interval(interval) => {
                self.first.is_some_and(|first| self.last > first + interval + SYNC_MAX)
            }
        };
        if excessive { Err(format!("{self:?} is more than {mode:?} allows")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key is written by commit 1, and another by the last of so many.
    fn history(last: u64) -> (History, Content) {
        let mut history = History::default();
        history.removes_itself = true;
        let (kept, gone) = (history.new_tag(10), history.new_tag(10));
        for (timestamp, key, tag) in [(1, "gone", gone), (last, "kept", kept)] {
            let attempt = history.begin([(key.to_owned(), Some(tag))].into(), false);
            history.attempts[attempt].timestamp = Some(timestamp);
        }
        let tags = [("kept".to_owned(), kept)].into();
        (history, Content { timestamp: last, tags, ..Content::default() })
    }

    #[test]
    fn only_what_the_engine_can_have_removed_may_be_missing() {
        let (mut tight, content) = history(2);
        check_prefix(&tight, &content).unwrap_err();
        // After the content's timestamp, while it was opened.
        assert_eq!(check_prefix_before(&tight, &content, 3), Ok(2));
        let gone = *tight.attempts[0].writes["gone"].as_ref().unwrap();
        tight.short_lived.insert(gone);
        check_prefix(&tight, &content).unwrap();
        let (mut roomy, content) = history(3);
        check_prefix(&roomy, &content).unwrap();
        roomy.removes_itself = false;
        check_prefix(&roomy, &content).unwrap_err();
    }

    #[test]
    fn an_opening_that_was_cut_off_may_have_put_removals_where_commits_were() {
        let (mut history, mut content) = history(2);
        content.tags.clear();
        check_prefix(&history, &content).unwrap_err();
        history.opening_cut_off = true;
        assert_eq!(check_prefix_before(&history, &content, 2), Ok(1));
        history.promised = 2;
        check_prefix(&history, &content).unwrap_err();
    }
}
