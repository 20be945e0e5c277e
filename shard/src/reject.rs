//! Why a shard did not commit.

use std::any::Any;

use anabranch_wal::{Timestamp, WalError};

/// Nothing was changed, for this reason.
#[derive(Clone, Debug)]
pub enum Reject {
    /// Something that was read, or is to be written, has a newer version. A rerun should begin once this
    /// commit is visible.
    Conflict {
        /// The newer version's commit.
        newer: Timestamp,
    },
    /// What the transaction would have to be compared with has been reclaimed.
    TooOld,
    /// The user's closure panicked, with this message.
    Panicked(String),
    /// A key or a value could not be encoded.
    Encode(String),
    /// The limit of memory is reached, and nothing is evicted.
    MemoryLimit,
    /// There is no space for the log.
    NoSpace(WalError),
}

/// The text of a panic.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
