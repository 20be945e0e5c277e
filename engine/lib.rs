//! An embedded, in-process, transactional key-value engine for async Rust.
//!
//! - **Strict serializability** by default: transactions behave as if run one at a time, in an order that
//!   agrees with real time, over any mix of shards, keys that don't exist yet, and ranges.
//!   [`Isolation::Snapshot`] is the weaker choice.
//! - **Reads are memory reads.** [`Handle::get`], scans and snapshots send no message, wait for no commit and
//!   never conflict; a [`Snapshot`] shows one moment of all shards.
//! - **An acknowledgement is a promise.** With [`Durability::Full`] an acknowledged commit survives power
//!   loss, and what a reader outside a read-write transaction sees is already durable. With
//!   [`Durability::Relaxed`] it survives the end of the process, and you bound what power loss can take back.
//! - **Recovery is a prefix.** After a crash, the engine opens with the first commits up to some point of the
//!   one commit order, and none after it: no holes, no half of a transaction.
//! - **Loss is not silent.** If something that had been promised durable is missing or damaged, opening fails
//!   with [`Error::Corrupt`], which names file, offset and, where known, the commits.
//! - **Dropping a future** takes nothing apart: a commit that was handed over is decided without you, one that
//!   wasn't changes nothing.
//!
//! All data is held in memory, with a log and checkpoints on disk. There is no memory limit yet.
//!
//! ```
//! use anabranch::{Engine, Error};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//! #   let directory = tempfile::tempdir().unwrap();
//! #   let directory = directory.path();
//!     let engine: Engine<String, u64> = Engine::builder().open(directory).await?;
//!     let db = engine.handle();                       // clone it, send it to any task or thread
//!
//!     db.insert("alice".into(), 100).await?;          // once acknowledged, it survives power loss
//!     db.insert("bob".into(), 5).await?;
//!
//!     let moved = db
//!         .transaction(|txn| {                        // reruns by itself on a conflict
//!             let alice = txn.get("alice")?.map_or(0, |balance| *balance);
//!             let bob = txn.get("bob")?.map_or(0, |balance| *balance);
//!             let moved = alice.min(20);
//!             txn.insert("alice".into(), alice - moved);
//!             txn.insert("bob".into(), bob + moved);
//!             Ok::<_, Error>(moved)
//!         })
//!         .await?;
//!     assert_eq!(moved, 20);
//!
//!     for entry in db.snapshot().range("a".to_owned()..) {
//!         let (name, balance) = entry?;
//!         println!("{name} has {balance}");
//!     }
//!     engine.close().await
//! }
//! ```
//!
//! # Keys and values
//!
//! A key is any type that is `Clone + Ord + Hash + Serialize + DeserializeOwned + Send + Sync + 'static`:
//! `String`, `u64`, `Vec<u8>`, a tuple, your own struct. A value needs less, see [`Value`]; it need not be
//! `Clone`, and reads return `Arc<V>`. Look-ups borrow as in std's maps: `get("alice")` for `String` keys.
//! Where reads must be fast, use keys that hold their bytes in place: numbers, arrays, or strings such as those of
//! `compact_str`. A `String` costs an allocation, and a miss of the processor's caches for each look-up.
//! Structs are stored with their field names, so a field with `#[serde(default)]` can be added to a value
//! later.
//!
//! Keys are spread over [shards](EngineBuilder::shards), each with one writer and a log of its own. A
//! transaction on one shard commits in one step, one over several in two; a [`Partition`] of your own can
//! keep keys together that are used together. A directory may be reopened with another number of shards.
//!
//! # Reading
//!
//! [`Handle::get`], [`with_value`](Handle::with_value), [`contains_key`](Handle::contains_key), [`get_many`](Handle::get_many),
//! [`range`](Handle::range) and [`prefix`](Handle::prefix) are synchronous and show what is durable, at the
//! level that the engine was opened with. Scans are double-ended iterators, or streams
//! ([`range_stream`](Handle::range_stream), [`prefix_stream`](Handle::prefix_stream)). Several reads at one
//! moment: [`Handle::snapshot`]. A snapshot holds on to the versions it may be asked for, so drop it when it
//! is done with. `len` and `is_empty` look at keys one by one. `with_value` shows a value in its place, where [`get`](Handle::get)
//! counts one more reference of it; its closure must not call the engine.
//!
//! # Writing
//!
//! [`insert`](Handle::insert) and [`remove`](Handle::remove) commit by themselves and never conflict.
//! [`update`](Handle::update) runs a closure on the shard, next to the value: counting, appending and merging
//! without conflicts. Its closure may run more than once, and must not call back into commits.
//! [`ingest`](Handle::ingest) takes many writes, groups them per shard and slows its producers when the engine
//! is behind; each batch is a commit, the whole is not a transaction. A source of rows can state its
//! [offset](Ingest::offset), and go on from [there](Handle::source_offset) after any crash.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), anabranch::Error> {
//! # let engine: anabranch::Engine<String, u64> = anabranch::Engine::builder().in_memory().await?;
//! # let db = engine.handle();
//! let hits = db.update("hits".into(), |old| Some(old.copied().unwrap_or(0) + 1)).await?;
//! assert_eq!(hits.as_deref(), Some(&1));
//! # engine.close().await
//! # }
//! ```
//!
//! [`changes`](Handle::changes) is the other end: a stream of what was committed, in commit order, read back from
//! the log. A snapshot and the changes after it keep a second engine identical.
//!
//! # Transactions
//!
//! [`Handle::transaction`] runs a closure, commits, and runs it again if what it read has changed, so its
//! other effects should bear repetition. Its error type is your own, with `From<Error>`. The closure is
//! synchronous; [`transaction_async`](Handle::transaction_async) takes one that awaits. [`Handle::begin`]
//! gives the same by hand: [`commit`](Transaction::commit), [`submit`](Transaction::submit) for a [`Ticket`]
//! before the commit is durable, [`savepoint`](Transaction::savepoint) and
//! [`rollback_to`](Transaction::rollback_to); dropping a [`Transaction`] rolls it back.
//!
//! A transaction sees its own writes, in gets and in scans. It reads what is applied, which may be a moment
//! younger than what is durable; its commit waits until all of that is durable too. So a transaction that
//! wrote nothing can wait for a sync in `Full`: where you only read, take a snapshot. Validation covers keys
//! found, keys found absent, and ranges as they were asked for, however far they were consumed.
//!
//! ```
//! use anabranch::{Engine, Error};
//!
//! #[derive(Debug)]
//! enum Bank {
//!     TooPoor,
//!     Store(Error),
//! }
//!
//! impl From<Error> for Bank {
//!     fn from(error: Error) -> Self {
//!         Self::Store(error)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let engine: Engine<String, u64> = Engine::builder().in_memory().await?;
//! let db = engine.handle();
//! let withdrawn = db
//!     .transaction(|txn| {
//!         let balance = txn.get("alice")?.map_or(0, |balance| *balance);
//!         txn.insert("alice".into(), balance.checked_sub(20).ok_or(Bank::TooPoor)?);
//!         Ok(())
//!     })
//!     .await;
//! assert!(matches!(withdrawn, Err(Bank::TooPoor)));
//! # engine.close().await
//! # }
//! ```
//!
//! # Durability
//!
//! | opened with | an acknowledged commit survives | power loss takes back |
//! |---|---|---|
//! | [`in_memory`](EngineBuilder::in_memory) | nothing | everything |
//! | [`Durability::Relaxed`] | the end of the process | a suffix of the commit order, within the bounds of its [`Flush`] |
//! | [`Durability::Full`], the default on disk | power loss | nothing acknowledged |
//!
//! [`Handle::with_durability`] makes single commits stronger than the engine's level; [`Engine::sync`] waits
//! until everything so far survives power loss. A relaxed engine has at least one flush condition, by
//! construction:
//!
//! ```
//! use std::time::Duration;
//! use anabranch::{Durability, Flush};
//!
//! let durability = Durability::Relaxed(Flush::every(Duration::from_millis(100)).or_after_commits(1000));
//! ```
//!
//! ```compile_fail
//! use anabranch::{Durability, Flush};
//!
//! let durability = Durability::Relaxed(Flush::default());
//! ```
//!
//! The promises rest on the operating system and the disk keeping theirs: that `fdatasync` returns when the
//! data is on the medium. Don't copy the directory of an open engine; close it first.
//!
//! # Errors and lifecycle
//!
//! Each variant of [`Error`] says what to do about it. The two that matter most: after [`Error::ReadOnly`]
//! nothing was changed, and the directory must be reopened to write again; after [`Error::Indeterminate`] the
//! commit may or may not be there then. A write or sync of the log that fails is never retried: the engine
//! turns read-only and goes on reading at the last durable commit.
//!
//! [`EngineBuilder::open`] makes a new engine in a missing or empty directory, and else recovers what is
//! there; [`Engine::recovery_report`] says what it found. It must be called within a tokio runtime, which
//! then runs the engine's tasks. Handles work from any thread and any executor. [`Engine::close`] waits and
//! reports; dropping the [`Engine`] closes it in the background, and opening the directory again in the same
//! process waits for that. Afterwards, and when the runtime has ended, handles return [`Error::Closed`]. A
//! handle or snapshot that lives on keeps the data in memory.
//!
//! One engine at a time has a directory; a second gets [`Error::Locked`].
//!
//! # Where the ideas come from
//!
//! The face started from the crate `fluxmap`. Validation at commit time is a strict form of serializable
//! snapshot isolation (Cahill, Röhm, Fekete). That a commit counts once all its participants have logged it,
//! without a second record, is in CockroachDB's parallel commits; the dense prefix is what makes it safe with
//! logs that recycle separately. Segments written with zeros once and reused are PostgreSQL's; the promises
//! in the log's headers are Pebble's; never rewriting a sector with acknowledged data is SQLite's.
//! `ARCHITECTURE.md` in the repository gives the reasons, for and against.

mod builder;
mod changes;
mod claim;
mod durability;
mod engine;
mod error;
mod events;
mod handle;
mod ingest;
mod inner;
mod keeper;
mod memory;
mod metadata;
#[cfg(feature = "metrics")]
mod metrics;
mod open;
mod parts;
mod read_set;
mod report;
mod retry;
mod scan;
mod sight;
mod snapshot;
mod transaction;
mod write_set;

pub use anabranch_shard::{
    CommitKinds, DecodeError, Eviction, HashPartition, Key, Metadata, Partition, Queues, Value,
};
pub use anabranch_wal::{
    Disk, DiskFile, Distribution, Env, Fault, OpenMode, RealDisk, RecoverySummary, RingUsage, SystemEnv,
    Timestamp, WalError, WalStats,
};
pub use builder::{EngineBuilder, Isolation, Vacuum, default_shards};
pub use changes::{Change, ChangeSet, Changes};
pub use durability::{Durability, Flush};
pub use engine::Engine;
pub use error::Error;
pub use get_size2::{self, GetSize};
pub use handle::Handle;
pub use ingest::{Ingest, IngestError, IngestOptions, IngestReport};
pub use memory::MemoryInfo;
pub use metadata::{MetadataScan, MetadataStream};
pub use report::{BackupReport, OldestReader, RecoveryReport, ShardStats, Stalls, Stats, VacuumReport};
pub use scan::{Prefix, Scan, ScanStream};
pub use snapshot::Snapshot;
pub use transaction::{Commit, Ticket, Transaction};

/// The code of the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
