//! Commits in commit order, read back from all logs while they are written.
//!
//! Timestamps have no gaps and each record names the logs that hold the commit's other parts, so the next commit is
//! there once all its parts are, and nothing else can be it. What was read ahead of it waits: at the most about as much
//! as one log is ahead of another.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::record::Record;
use crate::ring::Ring;
use crate::tail::{Cursor, Origin, Step};
use crate::wal::Wal;
use crate::{LogId, Timestamp, WalError};

/// Commits handed out at a time.
const COMMITS_MAX: usize = 256;

/// Why there are no further commits to read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangesError {
    /// The log no longer holds what comes next. It holds everything after this commit.
    #[error("the log no longer holds the commits before {0}")]
    Gone(Timestamp),
    /// The log can't be read.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// One commit: its parts, of different logs.
#[derive(Clone, Debug)]
pub struct LoggedCommit {
    /// Its place in the commit order.
    pub timestamp: Timestamp,
    /// What it wrote to each log, in the order of the logs.
    pub parts: Vec<Record>,
}

/// Reads commits in commit order. Made by [`Wal::changes`].
pub struct ChangeReader {
    cursors: Vec<Cursor>,
    next: Timestamp,
    /// Parts read of commits from `next` on.
    parts: BTreeMap<Timestamp, Vec<(LogId, Record)>>,
}

impl Wal {
    /// Reads the commits after `after`.
    ///
    /// # Errors
    /// [`ChangesError::Gone`] if the log does not reach back that far.
    pub async fn changes(&self, after: Timestamp) -> Result<ChangeReader, ChangesError> {
        // What is given back in between, the first read finds gone.
        let (complete_after, origin) = self.log_reach().await;
        if after < complete_after {
            return Err(ChangesError::Gone(complete_after));
        }
        Ok(self.change_reader(&origin, after))
    }

    fn change_reader(&self, origin: &Origin, after: Timestamp) -> ChangeReader {
        let cursors = self.rings().iter().map(|ring| Cursor::new(ring, origin.clone(), after)).collect();
        ChangeReader { cursors, next: after.next(), parts: BTreeMap::new() }
    }
}

impl ChangeReader {
    /// The commit that comes next.
    #[must_use]
    pub const fn next(&self) -> Timestamp {
        self.next
    }

    /// The next commits, up to `durable`: one at the least if there is one, and not all at once if there are many. All
    /// commits up to `durable` are written.
    ///
    /// # Errors
    /// [`ChangesError::Gone`] if what comes next was given back meanwhile.
    pub async fn read(&mut self, wal: &Wal, durable: Timestamp) -> Result<Vec<LoggedCommit>, ChangesError> {
        let disk = wal.disk();
        self.cursors.iter_mut().for_each(|cursor| cursor.is_at_end = false);
        let mut commits = Vec::new();
        loop {
            while commits.len() < COMMITS_MAX && self.next <= durable {
                let Some(commit) = self.take_next() else { break };
                commits.push(commit);
            }
            if !commits.is_empty() || self.next > durable {
                return Ok(commits);
            }
            let next = self.next;
            let Some((ring, cursor)) = self.next_cursor(wal.rings()) else {
                return Err(self.nothing_left(wal, durable).await);
            };
            match cursor.step(ring, &*disk).await? {
                Step::End => cursor.is_at_end = true,
                Step::Gone => {
                    let (complete_after, origin) = wal.log_reach().await;
                    if next <= complete_after {
                        return Err(ChangesError::Gone(complete_after));
                    }
                    // What was given back held nothing from `next` on: the cursor was only behind.
                    let log = cursor.log;
                    *cursor = Cursor::new(ring, origin, next.previous());
                    self.forget_parts(log);
                }
                Step::Records(records) => {
                    let log = cursor.log;
                    for record in records.into_iter().filter(|record| record.timestamp >= next) {
                        self.parts.entry(record.timestamp).or_default().push((log, record));
                    }
                }
            }
        }
    }

    /// What was read of this log, and not handed out, is read again.
    fn forget_parts(&mut self, log: LogId) {
        self.parts.retain(|_, parts| {
            parts.retain(|(of, _)| *of != log);
            !parts.is_empty()
        });
    }

    /// The next commit, if all its parts were read.
    fn take_next(&mut self) -> Option<LoggedCommit> {
        let parts = self.parts.get(&self.next)?;
        let wanted = &parts.first()?.1.participants;
        if !wanted.iter().all(|log| parts.iter().any(|(of, _)| of == log)) {
            return None;
        }
        let mut parts = self.parts.remove(&self.next)?;
        parts.sort_by_key(|(log, _)| *log);
        let timestamp = self.next;
        self.next = timestamp.next();
        Some(LoggedCommit { timestamp, parts: parts.into_iter().map(|(_, record)| record).collect() })
    }

    /// The log to read on in: one that is known to hold a part of the next commit, or the one that is behind.
    fn next_cursor<'w>(&mut self, rings: &'w [Arc<Ring>]) -> Option<(&'w Arc<Ring>, &mut Cursor)> {
        let parts = self.parts.get(&self.next);
        let wanted = parts.and_then(|parts| Some(&parts.first()?.1.participants));
        let missing = |log: LogId| {
            let lacks = || parts.is_none_or(|parts| !parts.iter().any(|(of, _)| *of == log));
            wanted.is_none_or(|wanted| wanted.contains(&log) && lacks())
        };
        let cursors = rings.iter().zip(&mut self.cursors);
        let open = cursors.filter(|(_, cursor)| !cursor.is_at_end && missing(cursor.log));
        open.min_by_key(|(_, cursor)| cursor.seen)
    }

    async fn nothing_left(&self, wal: &Wal, durable: Timestamp) -> ChangesError {
        let reach = wal.log_reach().await.0;
        if self.next <= reach {
            return ChangesError::Gone(reach);
        }
        let detail = format!("commits up to {durable} are in the log, and {} can't be found", self.next);
        WalError::corrupt(wal.directory(), 0, detail).into()
    }
}
