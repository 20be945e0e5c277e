//! What the worker said about one life, as the one who listens understands it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Operation, Write};
use crate::row::{COUNTER, Key};

/// What an engine holds at a timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) timestamp: u64,
    pub(crate) tags: BTreeMap<Key, u64>,
    pub(crate) counters: BTreeMap<Key, u64>,
}

impl Content {
    pub(crate) fn put(&mut self, key: Key, number: u64) {
        let map = if key.starts_with(COUNTER) { &mut self.counters } else { &mut self.tags };
        map.insert(key, number);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be there or not.
    Open,
    Acknowledged,
    /// It must not be there: refused, or rolled back.
    Nothing,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Writes(Vec<Write>),
    Count(Key),
}

#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) change: Change,
    pub(crate) fate: Fate,
    pub(crate) timestamp: Option<u64>,
    /// The highest timestamp that was known when it began: its own is higher.
    pub(crate) after: u64,
    /// Whether somebody had been told of a failure of the engine before it began.
    after_failure: bool,
}

/// How an engine failed, as its users were told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error: String,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// What was there before.
    pub(crate) base: Content,
    pub(crate) opened: bool,
    pub(crate) attempts: BTreeMap<Operation, Attempt>,
    /// Why the engine did not open.
    pub(crate) refused: Option<Failure>,
    /// Operations that failed with the engine, in the order in which that was told.
    pub(crate) failures: Vec<Failure>,
    /// Operations that failed and left the engine as it was.
    pub(crate) setbacks: Vec<Failure>,
    pub(crate) closed: Option<Failure>,
    /// What was served at the end.
    pub(crate) served: Option<Content>,
    serving: Content,
    timestamps: BTreeSet<u64>,
}

impl History {
    pub(crate) fn new(base: Content) -> Self {
        Self { base, ..Self::default() }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.attempts.values().filter(|attempt| attempt.fate == Fate::Acknowledged).count()
    }

    pub(crate) fn add(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Opened(timestamp) => {
                self.opened = true;
                let before = self.base.timestamp;
                if timestamp != before {
                    return Err(format!("{before} was served before, and opening recovers {timestamp}"));
                }
            }
            Event::Refused { error, message } => self.refused = Some(Failure { error, message }),
            Event::Begin { operation, writes } => self.begin(operation, Change::Writes(writes)),
            Event::Count { operation, counter } => self.begin(operation, Change::Count(counter)),
            Event::At { operation, timestamp } => self.stamp(operation, timestamp)?,
            Event::Acknowledged { operation } => {
                let attempt = self.attempt(operation)?;
                attempt.fate = Fate::Acknowledged;
                if attempt.after_failure {
                    return Err(format!("{operation:?} was acknowledged although the engine had failed"));
                }
            }
            Event::RolledBack { operation } => self.attempt(operation)?.fate = Fate::Nothing,
            Event::Failed { operation, error, message } => {
                self.fail(operation, Failure { error, message })?;
            }
            Event::Served { key, tag } => self.serving.put(key, tag),
            Event::Snapshot { timestamp } => {
                self.serving.timestamp = timestamp;
                self.served = Some(std::mem::take(&mut self.serving));
            }
            Event::Closed { error, message } => self.closed = Some(Failure { error, message }),
        }
        Ok(())
    }

    fn attempt(&mut self, operation: Operation) -> Result<&mut Attempt, String> {
        self.attempts.get_mut(&operation).ok_or_else(|| format!("{operation:?} was not begun"))
    }

    fn begin(&mut self, operation: Operation, change: Change) {
        let after = self.timestamps.last().copied().unwrap_or_default().max(self.base.timestamp);
        let (fate, after_failure) = (Fate::Open, !self.failures.is_empty());
        self.attempts.insert(operation, Attempt { change, fate, timestamp: None, after, after_failure });
    }

    fn stamp(&mut self, operation: Operation, timestamp: u64) -> Result<(), String> {
        let attempt = self.attempt(operation)?;
        attempt.timestamp = Some(timestamp);
        let after = attempt.after;
        if timestamp <= after {
            return Err(format!("{operation:?} is at {timestamp}, and began after {after} was there"));
        }
        if !self.timestamps.insert(timestamp) {
            return Err(format!("two commits at {timestamp}, one of them {operation:?}"));
        }
        Ok(())
    }

    fn fail(&mut self, operation: Operation, failure: Failure) -> Result<(), String> {
        let attempt = self.attempt(operation)?;
        let timestamp = attempt.timestamp;
        if attempt.after_failure && failure.error != "ReadOnly" {
            return Err(format!("{operation:?} was begun after a failure, and ends with {failure:?}"));
        }
        match failure.error.as_str() {
            "Indeterminate" => self.failures.push(failure),
            "ReadOnly" if timestamp.is_none() => {
                attempt.fate = Fate::Nothing;
                self.failures.push(failure);
            }
            "Conflict" => attempt.fate = Fate::Nothing,
            "DiskFull" | "Io" if timestamp.is_none() => {
                attempt.fate = Fate::Nothing;
                self.setbacks.push(failure);
            }
            _ => return Err(format!("{operation:?} at {timestamp:?} ends with {failure:?}")),
        }
        Ok(())
    }
}
