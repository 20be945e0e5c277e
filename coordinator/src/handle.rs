//! The typed face of the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_shard::wal::{LogId, Timestamp};
use anabranch_shard::{Gone, Key, Part, Reader, Reject, Sequencer, Shard, TWO_PHASE_IN_FLIGHT_MAX, Value};
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::Message;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::actor::{CoordinatorActor, WhenIdle};
use crate::core::{Begin, Claim, CoordinatorCore, FillClaim, Grant};

const MAILBOX_MESSAGES_MAX: usize = 2048;

// Each transaction in flight is one message at a time; the rest is for those who wait for idleness.
const _: () = assert!(TWO_PHASE_IN_FLIGHT_MAX < MAILBOX_MESSAGES_MAX);

/// What a transaction has pinned before it runs. Dropping it lets go of the pins.
pub struct Claimed(Grant);

/// The coordinator of an engine's transactions of several shards.
pub struct Coordinator<K: Key, V: Value> {
    actor: ActorRef<CoordinatorActor<K, V>>,
    permits: Arc<Semaphore>,
    committed: Arc<AtomicU64>,
}

impl<K: Key, V: Value> Coordinator<K, V> {
    /// Starts the actor on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(shards: Arc<[Shard<K, V>]>, sequencer: &Arc<Sequencer>) -> Self {
        let (votes, votes_received) = mpsc::unbounded_channel();
        let (leases, let_go) = mpsc::unbounded_channel();
        let logs: Vec<LogId> = shards.iter().filter_map(|shard| Some(shard.log()?.id())).collect();
        let failed = Arc::new(Notify::new());
        let woken = Arc::clone(&failed);
        sequencer.health().on_fault(move || woken.notify_one());
        let core = CoordinatorCore::new(Arc::clone(sequencer), logs, shards.len(), votes, leases.clone());
        let committed = Arc::clone(core.committed());
        let actor = CoordinatorActor {
            core,
            health: Arc::clone(sequencer.health()),
            failed,
            shards,
            votes: votes_received,
            let_go,
            leases,
            batch: 0,
            idle: Vec::new(),
        };
        let actor = CoordinatorActor::spawn_with_mailbox(actor, mailbox::bounded(MAILBOX_MESSAGES_MAX));
        Self { actor, permits: Arc::new(Semaphore::new(TWO_PHASE_IN_FLIGHT_MAX)), committed }
    }

    /// Commits a transaction that read or writes several shards, and writes at least one. The coordinator owns
    /// the commit once the message was handed over: dropping the future then changes nothing.
    pub async fn commit(
        &self,
        parts: Vec<(usize, Part<K, V>)>,
        reader: Option<Reader>,
    ) -> Result<Result<Timestamp, Reject>, Gone> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Gone)?;
        let (reply, outcome) = oneshot::channel();
        let begin = Begin { parts, reply, reader, permit };
        self.tell(begin).await?;
        outcome.await.map_err(|_| Gone)
    }

    /// Pins what a transaction is expected to touch, with so many bytes of log reserved on each shard, and waits
    /// until that is done. From then on nobody else commits to what was named, until the claim is filled or
    /// dropped, or `lease` is over. Dropping the future gives everything back.
    pub async fn claim(
        &self,
        parts: Vec<(usize, Part<K, V>, u64)>,
        lease: Duration,
    ) -> Result<Result<Claimed, Reject>, Gone> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Gone)?;
        let (reply, outcome) = oneshot::channel();
        self.tell(Claim { parts, reply, lease, permit }).await?;
        Ok(outcome.await.map_err(|_| Gone)?.map(Claimed))
    }

    /// Commits a transaction within a claim. One that touches anything beyond it, or that comes too late, is a
    /// conflict with [`Timestamp::ZERO`]. Dropping the future leaves it to take place, or not.
    pub async fn commit_claimed(
        &self,
        Claimed(grant): Claimed,
        parts: Vec<(usize, Part<K, V>)>,
        reader: Option<Reader>,
    ) -> Result<Result<Timestamp, Reject>, Gone> {
        let (reply, outcome) = oneshot::channel();
        let fill = FillClaim { transaction: grant.transaction(), parts, reply, reader };
        self.tell(fill).await?;
        outcome.await.map_err(|_| Gone)
    }

    /// Waits until no transaction is in flight.
    pub async fn idle(&self) -> Result<(), Gone> {
        let (reply, idle) = oneshot::channel();
        self.tell(WhenIdle(reply)).await?;
        idle.await.map_err(|_| Gone)
    }

    async fn tell<M: Send + 'static>(&self, message: M) -> Result<(), Gone>
    where
        CoordinatorActor<K, V>: Message<M>,
    {
        #[cfg(feature = "testing")]
        anabranch_shard::wal::late().await;
        self.actor.tell(message).send().await.map_err(|_| Gone)
    }

    /// How many transactions of several shards are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        TWO_PHASE_IN_FLIGHT_MAX - self.permits.available_permits()
    }

    /// How many transactions it has decided to commit.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// How many messages wait in its mailbox.
    #[must_use]
    pub fn mailbox(&self) -> usize {
        let sender = self.actor.mailbox_sender();
        MAILBOX_MESSAGES_MAX - sender.capacity().unwrap_or(MAILBOX_MESSAGES_MAX)
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
