//! What can go wrong below the engine's face, with the file concerned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{SegmentNumber, Timestamp};

/// An error of the log, the checkpoints, the manifest or the disk.
///
/// Cloneable, because one failed write is the cause that every waiting commit is told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The operating system refused an operation.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a gerund: "writing", "syncing".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another engine, here or in another process, has the directory.
    #[error(
        "{} is in use by another engine; close it first, or open another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Something that was promised durable is missing or damaged.
    #[error("{} is damaged at byte {offset}: {detail}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// The byte in the file.
        offset: u64,
        /// What was found and what was expected.
        detail: String,
        /// The first and last commit concerned, where known.
        commits: Option<(Timestamp, Timestamp)>,
    },
    /// A file of a format version that this program does not know.
    #[error(
        "{} has format version {found}, and this program reads version {supported}; open it with the \
         version of anabranch that wrote it",
        file.display()
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
        /// The version found.
        found: u32,
        /// The version that this program reads and writes.
        supported: u32,
    },
    /// An intact record of a kind that this program does not know.
    #[error(
        "{} holds a record of unknown kind {kind} at byte {offset}; it was written by a newer version of \
         anabranch",
        file.display()
    )]
    UnknownKind {
        /// The file.
        file: PathBuf,
        /// The byte in the file.
        offset: u64,
        /// The kind found.
        kind: u8,
    },
    /// Something intact that this program does not know how to read.
    #[error("{0}; it was written by a newer version of anabranch")]
    Unsupported(String),
    /// The directory holds files, but no database of ours.
    #[error(
        "{} holds other files ({example}) and no anabranch database; give a missing or an empty directory",
        path.display()
    )]
    NotADatabase {
        /// The directory.
        path: PathBuf,
        /// The name of one file in it.
        example: String,
    },
    /// There is no database, and the caller asked not to make one.
    #[error("{} holds no anabranch database; use `open` to create one", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// A setting that can't work.
    #[error("{0}")]
    Config(String),
    /// The engine was closed, or its runtime has ended.
    #[error("the engine is closed")]
    Closed,
}

impl WalError {
    /// An I/O error with what was tried on which file.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Damage without known timestamps.
    pub fn corrupt(file: &Path, offset: u64, detail: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, detail: detail.into(), commits: None }
    }

    /// A segment that must be there and is not.
    pub fn segment_missing(directory: &Path, log: crate::LogId, number: SegmentNumber) -> Self {
        Self::corrupt(directory, 0, format!("segment {number} of log {log} is missing"))
    }

    /// Whether the disk or the quota is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
