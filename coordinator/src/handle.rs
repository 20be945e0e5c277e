//! The typed face of the coordinator.

use std::sync::Arc;

use anabranch_shard::wal::{LogId, Timestamp};
use anabranch_shard::{Gone, Key, Part, Reader, Reject, Sequencer, Shard, TWO_PHASE_IN_FLIGHT_MAX, Value};
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::actor::{CoordinatorActor, WhenIdle};
use crate::core::{Begin, CoordinatorCore};

const MAILBOX_MESSAGES_MAX: usize = 2048;

// Each transaction in flight is one message; the rest is for those who wait for idleness.
const _: () = assert!(TWO_PHASE_IN_FLIGHT_MAX < MAILBOX_MESSAGES_MAX);

/// The coordinator of an engine's transactions of several shards.
pub struct Coordinator<K: Key, V: Value> {
    actor: ActorRef<CoordinatorActor<K, V>>,
    permits: Arc<Semaphore>,
}

impl<K: Key, V: Value> Coordinator<K, V> {
    /// Starts the actor on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(shards: Arc<[Shard<K, V>]>, sequencer: &Arc<Sequencer>) -> Self {
        let (votes, votes_received) = mpsc::unbounded_channel();
        let logs: Vec<LogId> = shards.iter().filter_map(|shard| Some(shard.log()?.id())).collect();
        let failed = Arc::new(Notify::new());
        let woken = Arc::clone(&failed);
        sequencer.health().on_fault(move || woken.notify_one());
        let actor = CoordinatorActor {
            core: CoordinatorCore::new(Arc::clone(sequencer), logs, shards.len(), votes),
            health: Arc::clone(sequencer.health()),
            failed,
            shards,
            votes: votes_received,
            batch: 0,
            idle: Vec::new(),
        };
        let actor = CoordinatorActor::spawn_with_mailbox(actor, mailbox::bounded(MAILBOX_MESSAGES_MAX));
        Self { actor, permits: Arc::new(Semaphore::new(TWO_PHASE_IN_FLIGHT_MAX)) }
    }

    /// Commits a transaction that read or writes several shards, and writes at least one. The coordinator owns
    /// the commit once the message was handed over: dropping the future then changes nothing.
    pub async fn commit(
        &self,
        parts: Vec<(usize, Part<K, V>)>,
        reader: Option<Arc<Reader>>,
    ) -> Result<Result<Timestamp, Reject>, Gone> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Gone)?;
        let (reply, outcome) = oneshot::channel();
        let begin = Begin { parts, reply, reader, permit };
        self.actor.tell(begin).send().await.map_err(|_| Gone)?;
        outcome.await.map_err(|_| Gone)
    }

    /// Waits until no transaction is in flight.
    pub async fn idle(&self) -> Result<(), Gone> {
        let (reply, idle) = oneshot::channel();
        self.actor.tell(WhenIdle(reply)).send().await.map_err(|_| Gone)?;
        idle.await.map_err(|_| Gone)
    }

    /// How many transactions of several shards are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        TWO_PHASE_IN_FLIGHT_MAX - self.permits.available_permits()
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
