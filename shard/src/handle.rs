//! The typed face of a shard. Actors and mailboxes do not leave this crate.

use std::sync::Arc;

use anabranch_wal::{Distribution, EncodedWrites, Log, Timestamp};
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::Message;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::actor::{ShardActor, Told};
use crate::core::{Queues, Ran, ShardCore};
use crate::counters::{CommitKinds, SpaceStalls};
use crate::expiry::Expiry;
use crate::inline::Inline;
use crate::ledger::{Share, Usage};
use crate::map::{ShardMap, Swept};
use crate::messages::{Barrier, Batch, Batched, Change, Changed, Commit, Round, Row, Sweep, Update, Updated};
use crate::part::Part;
use crate::readers::{Reader, Readers};
use crate::reject::Reject;
use crate::router::KeyHash;
use crate::sequencer::Sequencer;
use crate::turn::{Held, Turn};
use crate::{Key, Value};

/// Commits of one phase that may be under way on a shard; further callers wait their turn (PROTOCOL A2).
pub const COMMITS_IN_FLIGHT_MAX: usize = 4096;
/// Transactions of several shards that may be under way.
pub const TWO_PHASE_IN_FLIGHT_MAX: usize = 1024;
const MAILBOX_MESSAGES_MAX: usize = 8192;

// Who holds a permit, and the coordinator with both its phases, find room without waiting. Only rounds that
// pile up behind early aborts can fill a mailbox; their sender then waits, and the shard drains (A2).
const _: () = assert!(COMMITS_IN_FLIGHT_MAX + 2 * TWO_PHASE_IN_FLIGHT_MAX <= MAILBOX_MESSAGES_MAX);

/// The shard's actor has ended: the engine is closed or poisoned, and its state of health says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard has ended")]
pub struct Gone;

/// A shard: its map, to read, and its actor, to write.
pub struct Shard<K: Key, V: Value> {
    map: Arc<ShardMap<K, V>>,
    turn: Arc<Turn<K, V>>,
    actor: ActorRef<ShardActor<K, V>>,
    permits: Arc<Semaphore>,
    log: Option<Arc<Log>>,
    lends_turn: bool,
}

/// How a shard goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// Whether it reclaims by itself.
    pub sweeps: bool,
    /// Whether callers may run their commits in its turn while it is idle.
    pub lends_turn: bool,
}

impl<K: Key, V: Value> Shard<K, V> {
    /// Starts the shard's actor on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(
        map: Arc<ShardMap<K, V>>,
        readers: Arc<Readers>,
        sequencer: Arc<Sequencer>,
        log: Option<Arc<Log>>,
        ShardOptions { sweeps, lends_turn }: ShardOptions,
        limit: Option<Share<K, V>>,
    ) -> Self {
        let core =
            ShardCore::new(Arc::clone(&map), readers, Arc::clone(&sequencer), log.clone(), sweeps, limit);
        let failed = Arc::new(Notify::new());
        let woken = Arc::clone(&failed);
        sequencer.health().on_fault(move || woken.notify_one());
        let turn = Arc::new(Turn::new(core, sequencer));
        let actor = ShardActor { turn: Arc::clone(&turn), log: log.clone(), failed, batch: 0 };
        let actor = ShardActor::spawn_with_mailbox(actor, mailbox::bounded(MAILBOX_MESSAGES_MAX));
        let permits = Arc::new(Semaphore::new(COMMITS_IN_FLIGHT_MAX));
        Self { map, turn, actor, permits, log, lends_turn }
    }

    /// The map, for readers.
    #[must_use]
    pub const fn map(&self) -> &Arc<ShardMap<K, V>> {
        &self.map
    }

    /// The log, if the engine has one.
    #[must_use]
    pub const fn log(&self) -> Option<&Arc<Log>> {
        self.log.as_ref()
    }

    /// Writes one key in line, without a look at what is there, if the shard is idle and nothing is in the way;
    /// otherwise gives it back for [`Shard::commit`].
    pub fn write_at_once(
        &self,
        key: K,
        hash: KeyHash,
        value: Option<Arc<V>>,
        expires: Expiry,
        encoded: &EncodedWrites,
    ) -> Inline<Timestamp, (K, Option<Arc<V>>)> {
        if self.lends_turn {
            self.map.prefetch(&key, hash);
        }
        let Some((turn, core)) = self.hold() else { return Inline::InTheWay((key, value)) };
        let (mut timestamp, mut back) = (Timestamp::ZERO, None);
        let ran =
            turn.run_at_once(core, |core| match core.write_at_once(key, hash, value, expires, encoded) {
                Ok(applied) => {
                    timestamp = applied.timestamp;
                    Some(applied)
                }
                Err(write) => {
                    back = Some(write);
                    None
                }
            });
        match back {
            _ if !ran => Inline::Poisoned,
            None => Inline::Done(timestamp),
            Some(write) => Inline::InTheWay(write),
        }
    }

    /// Changes one key in line, if the shard is idle and nothing is in the way, and writes into `updated` what that did;
    /// otherwise gives the key back for [`Shard::update`], for which the change may run again.
    pub fn change_at_once(
        &self,
        key: K,
        hash: KeyHash,
        change: &mut dyn FnMut(Option<&V>) -> Changed<V>,
        updated: &mut Updated<V>,
    ) -> Inline<Result<(), Reject>, K> {
        let Some((turn, core)) = self.hold() else { return Inline::InTheWay(key) };
        let mut undone = None;
        let ran = turn.run_at_once(core, |core| match core.change_at_once(key, hash, change, updated) {
            Ok(Ran::Done(applied)) => applied,
            Ok(Ran::Failed(reject)) => {
                undone = Some(Inline::Done(Err(reject)));
                None
            }
            Ok(Ran::NoRoom(key, _)) | Err(key) => {
                undone = Some(Inline::InTheWay(key));
                None
            }
        });
        match undone {
            _ if !ran => Inline::Poisoned,
            None => Inline::Done(Ok(())),
            Some(undone) => undone,
        }
    }

    /// Commits a transaction that touches this shard only, by a message. Dropping the future once the message was
    /// handed over does not take the commit back.
    pub async fn commit(
        &self,
        part: Part<K, V>,
        reader: Option<Reader>,
    ) -> Result<Result<Timestamp, Reject>, Gone> {
        let permit = self.permit().await?;
        let (reply, outcome) = oneshot::channel();
        self.tell_in_order(Commit { part, reply, reader, permit }).await?;
        outcome.await.map_err(|_| Gone)
    }

    /// Changes one key on the shard, by a message. As for [`Shard::commit`].
    pub async fn update(&self, key: K, change: Change<V>) -> Result<Result<Updated<V>, Reject>, Gone> {
        let permit = self.permit().await?;
        let (reply, outcome) = oneshot::channel();
        self.tell_in_order(Update { key, change, reply, permit }).await?;
        outcome.await.map_err(|_| Gone)
    }

    /// Commits rows of this shard together. As for [`Shard::commit`].
    pub async fn batch(&self, rows: Vec<(K, Row<V>)>) -> Result<Batched, Gone> {
        let permit = self.permit().await?;
        let (reply, outcome) = oneshot::channel();
        let batch = Batch { rows, keys: Vec::new(), failed: None, reply, permit };
        let lent = match self.turn() {
            Some(turn) => turn.lend(batch, ShardCore::batch),
            None => Err(batch),
        };
        if let Err(batch) = lent {
            self.tell_in_order(batch).await?;
        }
        outcome.await.map_err(|_| Gone)
    }

    /// Hands over what the coordinator has for this shard.
    pub async fn round(&self, round: Round<K, V>) -> Result<(), Gone> {
        self.tell(round).await
    }

    /// Reclaims now what nobody can ask for.
    pub async fn sweep(&self) -> Result<Swept, Gone> {
        let (reply, swept) = oneshot::channel();
        self.tell(Sweep { reply: Some(reply) }).await?;
        swept.await.map_err(|_| Gone)
    }

    /// Waits until everything sent before has been handled.
    pub async fn barrier(&self) -> Result<(), Gone> {
        let (reply, done) = oneshot::channel();
        self.tell(Barrier { reply }).await?;
        done.await.map_err(|_| Gone)
    }

    /// How many jobs are pinned, in line, and waiting for space; and how many keys are to be swept.
    #[must_use]
    pub fn queues(&self) -> (Queues, usize) {
        self.turn.queues()
    }

    /// Commits of this shard alone, and those in line of which it is the first shard, by the way that they went.
    #[must_use]
    pub fn commits(&self) -> CommitKinds {
        self.turn.counters().kinds()
    }

    /// What had to wait for space in the log.
    #[must_use]
    pub fn stalls(&self) -> SpaceStalls {
        self.turn.counters().stalls()
    }

    /// How many messages were handled in one batch.
    #[must_use]
    pub fn batch_messages(&self) -> Distribution {
        self.turn.batch_messages().read()
    }

    /// How many messages wait in the mailbox.
    #[must_use]
    pub fn mailbox(&self) -> usize {
        let sender = self.actor.mailbox_sender();
        MAILBOX_MESSAGES_MAX - sender.capacity().unwrap_or(MAILBOX_MESSAGES_MAX)
    }

    /// What the shard has in memory, and what it evicted. Zero without a limit.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.map.meters().map_or_else(Usage::default, |meters| meters.usage())
    }

    /// Lets a tick pass, in which accesses count anew. For an idle shard; a busy one does it by itself.
    pub fn tick(&self) {
        self.map.tick();
    }

    /// Whether the shard has something to remove on its own account.
    #[must_use]
    pub fn is_to_be_governed(&self) -> bool {
        let due = self.turn.removals_due();
        due == 0 || (due < u64::MAX && due <= self.map.clock().now())
    }

    /// How many commits of one phase are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        COMMITS_IN_FLIGHT_MAX - self.permits.available_permits()
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Gone> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Gone)
    }

    async fn tell<M: Send + 'static>(&self, message: M) -> Result<(), Gone>
    where
        ShardActor<K, V>: Message<Told<M, K, V>>,
    {
        self.send(|| Told { message, pending: None }).await
    }

    /// For what the shard's turn is not to be lent past until it was handled: a caller who gave up waiting for it
    /// finds its own next commit behind it.
    async fn tell_in_order<M: Send + 'static>(&self, message: M) -> Result<(), Gone>
    where
        ShardActor<K, V>: Message<Told<M, K, V>>,
    {
        self.send(|| Told { message, pending: Some(self.turn.pending()) }).await
    }

    async fn send<M: Send + 'static>(&self, told: impl FnOnce() -> Told<M, K, V>) -> Result<(), Gone>
    where
        ShardActor<K, V>: Message<Told<M, K, V>>,
    {
        #[cfg(feature = "testing")]
        anabranch_wal::late().await;
        self.actor.tell(told()).send().await.map_err(|_| Gone)
    }

    /// The turn, if the shard lends it and it is free.
    fn hold(&self) -> Option<Held<'_, K, V>> {
        let turn = self.turn()?;
        Some((turn, turn.try_hold()?))
    }

    pub(crate) fn turn(&self) -> Option<&Turn<K, V>> {
        self.lends_turn.then_some(&*self.turn)
    }

    /// Ends the actor once it has handled everything sent before.
    pub async fn stop(&self) {
        let _ = self.actor.stop_gracefully().await;
        self.actor.wait_for_shutdown().await;
    }

    /// Wakes those who wait for a permit, with [`Gone`].
    pub fn close(&self) {
        self.permits.close();
    }
}
