//! The coordinator of anabranch: two-phase commit over the shards that a transaction touches.
//!
//! It owns a commit once it was submitted: dropping the caller's future changes nothing. Shards answer with
//! votes and never ask it anything, so no cycle of full mailboxes can be built.
//!
//! - C1 A transaction of two phases writes at least one shard. What only reads needs no coordinator.
//! - C2 A claim is voted on once, and again when it is filled; in between it waits for its owner alone.

mod actor;
mod core;
mod handle;

pub use core::{Begin, Claim, CoordinatorCore, FillClaim, Grant};
pub use handle::{Claimed, Coordinator};

/// The shards' crate, for those who use this one.
pub use anabranch_shard as shard;
