//! A shard of anabranch: the multi-version map that everybody reads without a message, and the one writer that
//! validates, sequences, applies and logs.
//!
//! Functional core, actor shell: [`ShardCore`] is synchronous and knows neither actors nor a runtime; the
//! actor feeds it messages, and [`Shard`] is the face that other crates call. A shard can't name the
//! coordinator, so it can't ask it anything, and no cycle of full mailboxes can be built.
//!
//! Invariants, cited where they are kept:
//!
//! - S1 Versions of a key are added in commit order.
//! - S2 A timestamp is taken once and applied once on each shard that it writes.
//! - S3 What is pinned or in line is admitted, and only what is pinned is committed.
//!
//! Numbers with a letter (T, V, L, H, U, A, F) are rules of `PROTOCOL.md`; R are those of `RELIABILITY.md`.

mod access;
mod actor;
mod chain;
mod clock;
mod codec;
mod core;
mod counters;
mod evict;
mod expiry;
mod front;
mod handle;
mod index;
mod inline;
mod key;
mod ledger;
mod many;
mod map;
mod messages;
mod metadata;
mod meters;
mod nesting;
mod offsets;
mod outbox;
mod part;
mod pins;
mod primitives;
mod readers;
mod refused;
mod reject;
mod router;
mod sequencer;
mod table;
mod turn;
mod validate;
mod watermark;

pub use clock::Clock;
pub use codec::{DecodeError, decode_key, decode_value, encode, encode_write};
pub use core::{Queues, REMOVALS_PER_WRITE_MAX, ShardCore};
pub use counters::{CommitKinds, SpaceStalls};
pub use evict::Eviction;
pub use expiry::Expiry;
pub use handle::{COMMITS_IN_FLIGHT_MAX, Gone, Shard, ShardOptions, TWO_PHASE_IN_FLIGHT_MAX};
pub use inline::{Inline, InlineCommit, commit_inline};
pub use key::{Key, Value};
pub use ledger::{Measure, Share, Usage};
pub use many::{Place, get_many};
pub use map::{PageEntry, ShardMap, Swept};
pub use messages::{
    Barrier, Batch, Batched, Change, Changed, Commit, Decision, Fill, Prepare, Round, Row, Sweep,
    TransactionId, Update, Updated, Vote,
};
pub use metadata::Metadata;
pub use offsets::Offsets;
pub use outbox::Outbox;
pub use part::{Few, Part, Participants, Validation};
pub use pins::{Bounds, holds_a_key};
pub use primitives::{STRIPES, own_stripe};
pub use readers::{OldestRegistered, Reader, Readers};
pub use refused::{Inside, Refused, refused};
pub use reject::{Reject, panic_message};
pub use router::{HASH_NAME, HashPartition, KeyHash, Partition, Router};
pub use sequencer::{AppliedPart, Level, Sequencer};
pub use watermark::{Reached, ReachedHere, Watermark};

/// The log's crate, for those who use this one.
pub use anabranch_wal as wal;
