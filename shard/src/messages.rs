//! What a shard is told. Plain structs; every answer goes through a channel that the message brings along.

use std::sync::Arc;

use anabranch_wal::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::map::Swept;
use crate::part::{Part, Participants};
use crate::readers::Reader;
use crate::reject::Reject;

/// A transaction of several shards, by the coordinator's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

/// Commit a transaction that touches this shard only.
pub struct Commit<K, V> {
    /// What it read and writes.
    pub part: Part<K, V>,
    /// Gets the timestamp.
    pub reply: oneshot::Sender<Result<Timestamp, Reject>>,
    /// Holds back reclamation until the transaction has been validated (PROTOCOL V8).
    pub reader: Option<Reader>,
    /// The caller's place among the commits in flight (A2).
    pub permit: OwnedSemaphorePermit,
}

/// The change that [`Update`] makes: from the current value to the next, `None` being "no entry". It may run
/// again if the log has no room for its result at once.
pub type Change<V> = Box<dyn FnMut(Option<&V>) -> Changed<V> + Send>;

/// What a change makes of an entry.
#[derive(Debug)]
pub enum Changed<V> {
    /// Write this value.
    Put(Arc<V>),
    /// Remove the entry, if there is one.
    Remove,
    /// Leave everything as it is.
    Keep,
}

/// Change one key on the shard, next to its value. Never a conflict.
pub struct Update<K, V> {
    /// The key.
    pub key: K,
    /// The change.
    pub change: Change<V>,
    /// Gets the outcome.
    pub reply: oneshot::Sender<Result<Updated<V>, Reject>>,
    /// The caller's place among the commits in flight (A2).
    pub permit: OwnedSemaphorePermit,
}

/// What an update did.
#[derive(Debug)]
pub struct Updated<V> {
    /// The commit; if nothing changed, the one that the value seen came from (V9).
    pub timestamp: Timestamp,
    /// The value before, unless another was put in its place.
    pub old: Option<Arc<V>>,
    /// The value after.
    pub new: Option<Arc<V>>,
}

/// Nothing yet.
impl<V> Default for Updated<V> {
    fn default() -> Self {
        Self { timestamp: Timestamp::ZERO, old: None, new: None }
    }
}

/// One row of a [`Batch`].
pub enum Row<V> {
    /// Write this value.
    Put(Arc<V>),
    /// Remove the entry.
    Remove,
    /// Change the entry.
    Change(Change<V>),
}

/// Rows of this shard, to be committed together, in their order. Never a conflict.
pub struct Batch<K, V> {
    /// The rows. A key may come several times.
    pub(crate) rows: Vec<(K, Row<V>)>,
    /// Their keys.
    pub(crate) keys: Vec<K>,
    /// The row that failed, with those behind it left out.
    pub(crate) failed: Option<(usize, Reject)>,
    /// Gets the outcome.
    pub(crate) reply: oneshot::Sender<Batched>,
    /// The caller's place among the commits in flight (A2).
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What became of a [`Batch`].
#[derive(Debug)]
pub struct Batched {
    /// The commit of the rows that are in, if there are any and they change something.
    pub timestamp: Option<Timestamp>,
    /// The first row that is not in, and why. Those behind it are not in either.
    pub failed: Option<(usize, Reject)>,
}

/// First phase: validate, pin, and vote.
pub struct Prepare<K, V> {
    /// The transaction.
    pub transaction: TransactionId,
    /// What it read and writes here.
    pub part: Part<K, V>,
    /// The logs of all shards that it writes.
    pub participants: Participants,
    /// Where the vote goes. Never blocks (A1): there is one vote for each transaction and shard.
    pub votes: UnboundedSender<Vote>,
    /// A claim: pins what the part names before it is known what will be written, and reserves so many bytes
    /// for that. [`Fill`] says it, or an abort ends it.
    pub claims: Option<u64>,
}

/// What is to be committed within a claim. It waits for nothing: what it touches is pinned already, or it is
/// voted down.
pub struct Fill<K, V> {
    /// The transaction.
    pub transaction: TransactionId,
    /// What it read and writes here, all within what the claim named.
    pub part: Part<K, V>,
    /// The logs of all shards that it writes.
    pub participants: Participants,
    /// Where the vote goes.
    pub votes: UnboundedSender<Vote>,
}

/// A shard's answer to a [`Prepare`].
#[derive(Debug)]
pub struct Vote {
    /// The transaction.
    pub transaction: TransactionId,
    /// Pinned and valid, or why not.
    pub outcome: Result<(), Reject>,
}

/// Second phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Apply at this timestamp and unpin.
    Commit(TransactionId, Timestamp),
    /// Unpin, or leave the line (V4).
    Abort(TransactionId),
}

/// What the coordinator has for a shard since it last sent: decisions, which free pins, before new parts.
pub struct Round<K, V> {
    /// Decisions.
    pub decisions: Vec<Decision>,
    /// What is to be committed within claims.
    pub fills: Vec<Fill<K, V>>,
    /// New parts, in the coordinator's order.
    pub prepares: Vec<Prepare<K, V>>,
}

impl<K, V> Round<K, V> {
    /// Whether there is nothing for the shard.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.fills.is_empty() && self.prepares.is_empty()
    }
}

/// Reclaim now what nobody can ask for any more.
pub struct Sweep {
    /// Gets what was reclaimed.
    pub reply: Option<oneshot::Sender<Swept>>,
}

/// Answer when everything sent before has been handled.
pub struct Barrier {
    /// Gets the answer.
    pub reply: oneshot::Sender<()>,
}
