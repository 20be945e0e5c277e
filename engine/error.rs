//! The engine's error type. Coarse: each variant says what the caller should do.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anabranch_shard::{DecodeError, Reject};
use anabranch_wal::{Fault, Timestamp, WalError};

/// What can go wrong, by what the caller should do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transaction conflicted with others, as often as it was tried. Nothing was changed. Run it again,
    /// later or with fewer keys.
    #[error("the transaction conflicted with others, and was tried {attempts} times")]
    Conflict {
        /// How often it ran.
        attempts: u32,
    },
    /// The engine is closed, was dropped, or its runtime has ended. A commit that was in flight at that moment
    /// may or may not be there after reopening.
    #[error("the engine is closed")]
    Closed,
    /// The engine failed earlier and accepts no more commits. Nothing was changed. Reads go on at the last
    /// durable snapshot. Reopen the directory to write again.
    #[error("the engine is read-only since it failed: {cause}")]
    ReadOnly {
        /// Why it failed.
        #[source]
        cause: Fault,
    },
    /// The engine failed while this commit was in flight: it may or may not be there after reopening.
    #[error("the engine failed while the commit was in flight, which may or may not survive: {cause}")]
    Indeterminate {
        /// Why it failed.
        #[source]
        cause: Fault,
    },
    /// The disk is full, and no log space could be made. Nothing was changed; free some space and try again.
    #[error("the disk is full: {cause}")]
    DiskFull {
        /// What was tried.
        #[source]
        cause: WalError,
    },
    /// The limit of memory is reached, and its policy is not to evict ([`crate::Eviction::Manual`]). Nothing was
    /// changed. Remove or evict something, or open the engine with a higher limit.
    #[error("the limit of memory is reached, and nothing was changed; remove something, or raise the limit")]
    MemoryLimit,
    /// Another engine has the directory, in this process or in another. Close it first.
    #[error("{} is in use by another engine; close it first, or open another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Something that had been promised durable is missing or damaged. Nothing was changed; restore a backup.
    #[error("{} is damaged at byte {offset}: {detail}; restore a backup", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The byte in it.
        offset: u64,
        /// What was found and what was expected.
        detail: String,
        /// The first and last commit concerned, where known.
        commits: Option<(Timestamp, Timestamp)>,
    },
    /// What is stored does not decode as the engine's key or value type. Open it with the type it was written
    /// with.
    #[error("{0}; open the directory with the key and value types it was written with")]
    Decode(#[from] DecodeError),
    /// A key or a value could not be encoded. Nothing was changed.
    #[error("nothing was written: {reason}")]
    Encode {
        /// What its `Serialize` said.
        reason: String,
    },
    /// A closure of the user's panicked on the shard. Nothing was changed.
    #[error("the closure panicked, and nothing was changed: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A commit was asked for within an `update` closure, which runs on the shard that would have to serve it, or
    /// within the body of a transaction that others wait for (see [`crate::Handle::transaction`]); or anything at all
    /// within a closure that is shown a value in its place ([`crate::Handle::with_value`]). Move it out of the closure.
    #[error(
        "a closure that others wait for must not commit anything itself, nor read while it is shown a value in its \
         place; move the commit out of it, or the read"
    )]
    Nested,
    /// The transaction has no savepoint of this name. Nothing was rolled back.
    #[error("the transaction has no savepoint named {name:?}")]
    UnknownSavepoint {
        /// The name asked for.
        name: String,
    },
    /// This snapshot, scan or transaction was open for longer than [`crate::EngineBuilder::max_snapshot_age`] allows, and
    /// what it would read may be reclaimed. Nothing was changed. Begin anew, and take less time.
    #[error("the snapshot of commit {timestamp} is too old after {age:?}; begin a new one")]
    SnapshotTooOld {
        /// How long it was open when that was found out; zero where a shard found it out, when it validated a commit.
        age: Duration,
        /// The commit that it read at; zero as above.
        timestamp: Timestamp,
    },
    /// The log no longer holds the changes after a commit. Begin with a snapshot and the changes after that, or
    /// retain more of the log ([`crate::EngineBuilder::retain_log_bytes`]).
    #[error(
        "the log no longer holds the changes after commit {after}, only those after {oldest}; begin with a snapshot"
    )]
    ChangesGone {
        /// The commit that was asked for, or reached.
        after: Timestamp,
        /// The log holds everything after this one.
        oldest: Timestamp,
    },
    /// A setting, or the way of calling, can't work.
    #[error("{0}")]
    Config(String),
    /// A file, or the whole directory, is not what this version can open.
    #[error(transparent)]
    Unrecognized(WalError),
    /// The operating system refused.
    #[error(transparent)]
    Io(WalError),
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Locked { path } => Self::Locked { path },
            WalError::Corrupt { file, offset, detail, commits } => {
                Self::Corrupt { file, offset, detail, commits }
            }
            WalError::Config(message) => Self::Config(message),
            WalError::Closed => Self::Closed,
            error if error.is_disk_full() => Self::DiskFull { cause: error },
            error @ WalError::Io { .. } => Self::Io(error),
            error => Self::Unrecognized(error),
        }
    }
}

impl Error {
    /// The error of a commit that was refused before anything was changed; `None` for a conflict, which is
    /// retried.
    pub(crate) fn from_reject(reject: Reject) -> Result<Self, Timestamp> {
        match reject {
            Reject::Conflict { newer } => Err(newer),
            Reject::TooOld => Ok(Self::SnapshotTooOld { age: Duration::ZERO, timestamp: Timestamp::ZERO }),
            Reject::Panicked(message) => Ok(Self::Panicked { message }),
            Reject::Encode(reason) => Ok(Self::Encode { reason }),
            Reject::MemoryLimit => Ok(Self::MemoryLimit),
            Reject::NoSpace(cause) if cause.is_disk_full() => Ok(Self::DiskFull { cause }),
            Reject::NoSpace(cause) => Ok(Self::Io(cause)),
        }
    }

    /// The error of a commit that was in flight when the engine failed.
    pub(crate) fn in_flight(fault: Fault) -> Self {
        match fault {
            Fault::Closed => Self::Closed,
            cause => Self::Indeterminate { cause },
        }
    }

    /// The error of a commit that was not begun, because the engine had failed.
    pub(crate) fn refused(fault: Fault) -> Self {
        match fault {
            Fault::Closed => Self::Closed,
            cause => Self::ReadOnly { cause },
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }
}

/// Errors are shared by everybody who waits for the same thing.
const _: fn() = || {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Error>();
    shared::<Arc<Error>>();
};
