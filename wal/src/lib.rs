//! The write-ahead log of anabranch.
//!
//! One log per shard, made of a ring of segments; a manifest; checkpoints; and the disk they are written to.
//! This crate sees bytes and timestamps, not keys. `FORMAT.md` beside it gives the layout of every file.
//!
//! Invariants, cited in the code by their numbers in `RELIABILITY.md` (R) and `PROTOCOL.md` (T, L):
//!
//! - R1 A batch counts only if it names its place and continues the chain of checksums.
//! - R2 Reading stops at the first break and never resumes behind it.
//! - R3 Less than any promise found is loss, and refuses to open.
//! - R12 A failed write or sync is never retried; the engine is poisoned.
//! - R13 Recovery makes durable what it relies on before it is served.
//! - R15 A segment is sealed and synced before the next is written.
//! - R22 Checkpoint, directory, manifest are durable, in this order, before a segment is used again.
//! - T3 A floor changes only under the lock that guards append and take.
//! - L1 Space is reserved before a timestamp is taken, in order of arrival.
//! - L5 Nothing of an incarnation is written before the manifest that names it is synced.

mod alone;
mod backup;
mod changes;
mod checkpoint;
mod checksum;
pub mod disk;
mod env;
mod error;
mod flusher;
mod frame;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod histogram;
pub mod inspect;
#[cfg(feature = "testing")]
mod lateness;
mod log;
mod manifest;
mod number;
mod offset;
mod planted;
mod record;
mod recovery;
mod ring;
mod scan;
mod segment;
mod stats;
mod sync;
mod tail;
mod wal;

pub use backup::Backup;
pub use changes::{ChangeReader, ChangesError, LoggedCommit};
pub use checkpoint::{CheckpointId, CheckpointReader, CheckpointWriter, CheckpointedEntry};
pub use disk::{Disk, DiskFile, OpenMode, RealDisk};
pub use env::{Env, SystemEnv};
pub use error::WalError;
pub use frame::{BatchHeader, BatchKind};
pub use health::{Fault, Health};
pub use histogram::{Distribution, Histogram};
#[cfg(feature = "testing")]
pub use lateness::{Lateness, late, make_late};
pub use log::{Log, Reservation};
pub use manifest::{CheckpointEntry, Fence, LOGS_MAX, LogEntry, Manifest};
pub use number::{DatabaseId, FileNumber, Incarnation, LogId, Lsn, SegmentNumber, Timestamp};
pub use offset::SourceOffset;
#[cfg(feature = "testing")]
pub use planted::{Bug, Planted, is_planted, plant};
pub use record::{EncodedWrites, Malformed, RECORD_BYTES_MAX, Record, Write};
pub use recovery::{RecoveredCheckpoint, RecoveredLog, RecoverySummary};
pub use ring::{Retention, RingLimits, RingUsage, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use segment::{FORMAT_VERSION, SegmentHeader};
pub use stats::WalStats;
pub use sync::{SyncConditions, SyncControl, SyncPolicy};
pub use wal::{Checkpoint, FinishedCheckpoint, Opened, Wal, WalOptions};
