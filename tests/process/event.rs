//! What the worker says through its pipe, a line for each event. A line that a kill cut short does not count.

use std::fmt::{self, Display};

use crate::row::Key;

/// A task's operation, numbered from 0 in each life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) task: u64,
    pub(crate) number: u64,
}

/// A key, and the tag that it gets; `None` removes it.
pub(crate) type Write = (Key, Option<u64>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The engine is open, with everything up to this timestamp.
    Opened(u64),
    /// It does not open.
    Refused { error: String, message: String },
    /// These writes are about to be handed over, or a transaction with them is about to be dropped.
    Begin { operation: Operation, writes: Vec<Write> },
    /// Somebody is about to count this counter up.
    Count { operation: Operation, counter: Key },
    /// It has this timestamp, and is not acknowledged yet.
    At { operation: Operation, timestamp: u64 },
    /// It was acknowledged.
    Acknowledged { operation: Operation },
    /// It was rolled back.
    RolledBack { operation: Operation },
    /// It failed.
    Failed { operation: Operation, error: String, message: String },
    /// An entry of the snapshot that is served after a failure.
    Served { key: Key, tag: u64 },
    /// Those were all entries, and the snapshot's timestamp.
    Snapshot { timestamp: u64 },
    /// It was closed, and how that went.
    Closed { error: String, message: String },
}

/// Begins each line, as the test harness writes to the same pipe.
const MARK: &str = "@ ";
const NOTHING: &str = "-";

impl Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MARK)?;
        match self {
            Self::Opened(timestamp) => write!(formatter, "opened {timestamp}"),
            Self::Refused { error, message } => write!(formatter, "refused {error} {message}"),
            Self::Begin { operation: Operation { task, number }, writes } => {
                write!(formatter, "begin {task} {number}")?;
                for (key, tag) in writes {
                    match tag {
                        Some(tag) => write!(formatter, " {key} {tag}")?,
                        None => write!(formatter, " {key} {NOTHING}")?,
                    }
                }
                Ok(())
            }
            Self::Count { operation: Operation { task, number }, counter } => {
                write!(formatter, "count {task} {number} {counter}")
            }
            Self::At { operation: Operation { task, number }, timestamp } => {
                write!(formatter, "at {task} {number} {timestamp}")
            }
            Self::Acknowledged { operation: Operation { task, number } } => {
                write!(formatter, "acknowledged {task} {number}")
            }
            Self::RolledBack { operation: Operation { task, number } } => {
                write!(formatter, "rolled-back {task} {number}")
            }
            Self::Failed { operation: Operation { task, number }, error, message } => {
                write!(formatter, "failed {task} {number} {error} {message}")
            }
            Self::Served { key, tag } => write!(formatter, "served {key} {tag}"),
            Self::Snapshot { timestamp } => write!(formatter, "snapshot {timestamp}"),
            Self::Closed { error, message } => write!(formatter, "closed {error} {message}"),
        }
    }
}

impl Event {
    /// Reads a line, without its end. `None` if it is not ours.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // The harness may have begun the line.
        let (_, line) = line.split_once(MARK)?;
        let event = Self::parse_words(line);
        assert!(event.is_some(), "the worker says {line:?}");
        event
    }

    fn parse_words(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once(' ')?;
        let words: Vec<_> = rest.split(' ').collect();
        let number = |index: usize| words.get(index)?.parse::<u64>().ok();
        let error = |index: usize| {
            let message = words.get(index + 1..).unwrap_or_default().join(" ");
            Some((String::from(*words.get(index)?), message))
        };
        let operation = || Some(Operation { task: number(0)?, number: number(1)? });
        Some(match name {
            "opened" => Self::Opened(number(0)?),
            "refused" => {
                let (error, message) = error(0)?;
                Self::Refused { error, message }
            }
            "begin" => {
                let write = |pair: &[&str]| {
                    let tag = if pair[1] == NOTHING { None } else { Some(pair[1].parse().ok()?) };
                    Some((pair[0].to_owned(), tag))
                };
                let writes = words[2..].chunks_exact(2).map(write).collect::<Option<_>>()?;
                Self::Begin { operation: operation()?, writes }
            }
            "count" => Self::Count { operation: operation()?, counter: (*words.get(2)?).to_owned() },
            "at" => Self::At { operation: operation()?, timestamp: number(2)? },
            "acknowledged" => Self::Acknowledged { operation: operation()? },
            "rolled-back" => Self::RolledBack { operation: operation()? },
            "failed" => {
                let (error, message) = error(2)?;
                Self::Failed { operation: operation()?, error, message }
            }
            "served" => Self::Served { key: words[0].to_owned(), tag: number(1)? },
            "snapshot" => Self::Snapshot { timestamp: number(0)? },
            "closed" => {
                let (error, message) = error(0)?;
                Self::Closed { error, message }
            }
            _ => return None,
        })
    }
}

#[test]
fn events_come_back_from_their_lines() {
    let operation = Operation { task: 3, number: 17 };
    let (error, message) = ("ReadOnly".to_owned(), "it failed: why".to_owned());
    let writes = vec![("shared/1".to_owned(), Some(4711)), ("own/3/01".to_owned(), None)];
    for event in [
        Event::Opened(5),
        Event::Refused { error: error.clone(), message: message.clone() },
        Event::Begin { operation, writes },
        Event::Count { operation, counter: "counter/0".into() },
        Event::At { operation, timestamp: 12 },
        Event::Acknowledged { operation },
        Event::RolledBack { operation },
        Event::Failed { operation, error: error.clone(), message: message.clone() },
        Event::Served { key: "shared/1".into(), tag: 4711 },
        Event::Snapshot { timestamp: 9 },
        Event::Closed { error, message },
    ] {
        assert_eq!(Event::parse(&event.to_string()), Some(event));
    }
    assert_eq!(Event::parse("running 1 test"), None);
}
