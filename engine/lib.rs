//! An embedded, in-process, transactional key-value engine for async Rust.
#![doc = ""]

mod builder;
mod durability;
mod engine;
mod error;
mod handle;
mod ingest;
mod inner;
mod keeper;
mod open;
mod read_set;
mod report;
mod retry;
mod scan;
mod snapshot;
mod transaction;
mod write_set;

pub use anabranch_shard::{DecodeError, HashPartition, Key, Partition, Queues, Value};
pub use anabranch_wal::{
    Disk, DiskFile, Env, Fault, OpenMode, RealDisk, RecoverySummary, RingUsage, SystemEnv, Timestamp,
    WalError, WalStats,
};
pub use builder::{EngineBuilder, Isolation, Vacuum};
pub use durability::{Durability, Flush};
pub use engine::Engine;
pub use error::Error;
pub use handle::Handle;
pub use ingest::{Ingest, IngestOptions, IngestReport};
pub use report::{RecoveryReport, ShardStats, Stats, VacuumReport};
pub use scan::{Prefix, Scan, ScanStream};
pub use snapshot::Snapshot;
pub use transaction::{Commit, Ticket, Transaction};
