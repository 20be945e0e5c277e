//! What the tasks of a life did, as far as they know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch::Error;

use crate::config::Mode;
use crate::lists::Lists;

pub(crate) type Key = String;
/// Who wrote it, and bytes that follow from that.
pub(crate) type Value = (Id, String);

/// A write's number, unique over all lives of a seed, with the length of the value in its low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(pub(crate) Id);
pub(crate) type Id = u64;

const LENGTH_BITS: u32 = 24;

impl Tag {
    pub(crate) fn value(self) -> Value {
        let length = usize::try_from(self.0 & ((1 << LENGTH_BITS) - 1)).expect("24 bits");
        let mut fill = format!("{:016x}", self.0).repeat(length / 16 + 1);
        fill.truncate(length);
        (self.0, fill)
    }

    /// The tag of a value read, or `None` if the bytes don't belong to it.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let tag = Self(value.0);
        (tag.value() == *value).then_some(tag)
    }

    pub(crate) const fn length(self) -> u64 {
        self.0 & ((1 << LENGTH_BITS) - 1)
    }
}

/// How a commit ended, for the task that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It may be there or not.
    Unknown,
    /// An error said that nothing was changed.
    Refused,
    /// At this virtual time.
    Acknowledged(Duration),
}

/// A transaction that was handed over.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) writes: BTreeMap<Key, Option<Tag>>,
    pub(crate) timestamp: Option<u64>,
    pub(crate) outcome: Outcome,
    /// It was acknowledged as synced, whatever the engine's mode.
    pub(crate) strong: bool,
}

/// A key that is only ever counted up, one at a time, by calls that tell no timestamp.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) base: u64,
    pub(crate) begun: u64,
    pub(crate) acknowledged: u64,
}

/// What is known since the last time that the content was looked at after opening.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// That of the engine whose promises these are.
    pub(crate) mode: Mode,
    pub(crate) base: BTreeMap<Key, Tag>,
    pub(crate) base_timestamp: u64,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) counters: BTreeMap<Key, Counter>,
    /// Everything up to here was said to survive power loss.
    pub(crate) promised: u64,
    /// Somebody saw this in a snapshot.
    pub(crate) seen: u64,
    /// Those of all lives.
    pub(crate) lists: Lists,
    /// The engine evicts, and removes what has expired, by commits of which nobody is told. A key may be absent where
    /// such a commit can stand behind its last write, and where that was to live for milliseconds. Whatever is there
    /// is as it should be.
    pub(crate) removes_itself: bool,
    /// What was written to live for milliseconds.
    pub(crate) short_lived: BTreeSet<Tag>,
    /// An opening was cut off since the last look. It may have lost commits, and removed entries at their timestamps.
    pub(crate) opening_cut_off: bool,
    next: u64,
}

pub(crate) type Shared = Arc<Mutex<History>>;

impl History {
    pub(crate) fn new_tag(&mut self, length: u64) -> Tag {
        self.next += 1;
        Tag(self.next << LENGTH_BITS | length)
    }

    pub(crate) fn begin(&mut self, writes: BTreeMap<Key, Option<Tag>>, strong: bool) -> usize {
        self.attempts.push(Attempt { writes, timestamp: None, outcome: Outcome::Unknown, strong });
        self.attempts.len() - 1
    }

    /// The highest timestamp that anybody was told.
    pub(crate) fn last_known(&self) -> u64 {
        self.attempts
            .iter()
            .filter_map(|attempt| attempt.timestamp)
            .max()
            .unwrap_or(0)
            .max(self.base_timestamp)
    }

    pub(crate) fn failed(&mut self, attempt: usize, error: &Error) {
        if changed_nothing(error) {
            self.attempts[attempt].outcome = Outcome::Refused;
        }
    }

    /// The engine serves this content at this timestamp, so from now on it must not lose it.
    pub(crate) fn settle(&mut self, timestamp: u64, content: BTreeMap<Key, Tag>) {
        self.base = content;
        self.base_timestamp = timestamp;
        self.promised = timestamp;
        self.seen = timestamp;
        self.attempts.clear();
        self.opening_cut_off = false;
    }

    pub(crate) fn settle_counters(&mut self, counts: &BTreeMap<Key, u64>) {
        let settled =
            |(key, count): (&Key, &u64)| (key.clone(), Counter { base: *count, ..Counter::default() });
        self.counters = counts.iter().map(settled).collect();
    }
}

/// Whether the error says that the commit is not there.
pub(crate) fn changed_nothing(error: &Error) -> bool {
    matches!(
        error,
        Error::Conflict { .. }
            | Error::ReadOnly { .. }
            | Error::DiskFull { .. }
            | Error::Io(_)
            | Error::Encode { .. }
            | Error::SnapshotTooOld { .. }
            | Error::Nested
            | Error::Config(_)
    )
}
