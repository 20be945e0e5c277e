//! The actor around the coordinator's core.
//!
//! Votes come through a channel of their own, which never blocks a shard, and are handled before new
//! transactions (PROTOCOL A1). What has gathered while the last batch was handled goes out as one message for
//! each shard.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use anabranch_shard::wal::{Fault, Health};
use anabranch_shard::{Key, Shard, Value, Vote};
use kameo::Actor;
use kameo::actor::{ActorRef, WeakActorRef};
use kameo::error::{ActorStopReason, PanicError};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot};

use crate::core::{Begin, CoordinatorCore};

/// A batch is sent after so many messages even if more have come.
const BATCH_MESSAGES_MAX: usize = 128;

pub(crate) struct CoordinatorActor<K: Key, V: Value> {
    pub(crate) core: CoordinatorCore<K, V>,
    pub(crate) shards: Arc<[Shard<K, V>]>,
    pub(crate) votes: UnboundedReceiver<Vote>,
    pub(crate) health: Arc<Health>,
    /// Wakes the actor when the engine fails.
    pub(crate) failed: Arc<Notify>,
    pub(crate) batch: usize,
    /// Those who wait until no transaction is in flight.
    pub(crate) idle: Vec<oneshot::Sender<()>>,
}

impl<K: Key, V: Value> CoordinatorActor<K, V> {
    async fn finish_batch(&mut self) {
        self.batch = 0;
        if self.health.fault().is_some() {
            self.core.abandon();
        }
        for (shard, round) in self.core.take_rounds() {
            // A shard that is gone is a failed engine, which ends this actor as well. Waiting for room in its
            // mailbox is safe: a shard always drains it, and waits for nobody (A2).
            let _ = self.shards[shard].round(round).await;
        }
        self.core.answer();
        if self.core.in_flight() == 0 {
            for waiting in self.idle.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

impl<K: Key, V: Value> Actor for CoordinatorActor<K, V> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn on_panic(
        &mut self,
        _: WeakActorRef<Self>,
        panic: PanicError,
    ) -> Result<ControlFlow<ActorStopReason>, Infallible> {
        self.health.fail(Fault::Panic(format!("the coordinator: {panic}").into()));
        Ok(ControlFlow::Break(ActorStopReason::Panicked(panic)))
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        loop {
            while let Ok(vote) = self.votes.try_recv() {
                self.core.vote(vote);
            }
            if self.batch < BATCH_MESSAGES_MAX
                && let Ok(signal) = mailbox.try_recv()
            {
                self.batch += 1;
                return Ok(Some(signal));
            }
            self.finish_batch().await;
            tokio::select! {
                biased;
                // The core keeps a sender, so the channel does not close.
                Some(vote) = self.votes.recv() => self.core.vote(vote),
                () = self.failed.notified() => {}
                signal = mailbox.recv() => {
                    self.batch += 1;
                    return Ok(signal);
                }
            }
        }
    }
}

impl<K: Key, V: Value> Message<Begin<K, V>> for CoordinatorActor<K, V> {
    type Reply = ();

    async fn handle(&mut self, begin: Begin<K, V>, _: &mut Context<Self, ()>) {
        self.core.begin(begin);
    }
}

/// Answer when no transaction is in flight.
pub(crate) struct WhenIdle(pub(crate) oneshot::Sender<()>);

impl<K: Key, V: Value> Message<WhenIdle> for CoordinatorActor<K, V> {
    type Reply = ();

    async fn handle(&mut self, when_idle: WhenIdle, _: &mut Context<Self, ()>) {
        self.idle.push(when_idle.0);
    }
}

impl<K: Key, V: Value> Drop for CoordinatorActor<K, V> {
    fn drop(&mut self) {
        // Also when the runtime ends under the engine, and when a bug panics here.
        self.health.fail(Fault::Closed);
    }
}
