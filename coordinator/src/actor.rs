//! The actor around the coordinator's core.
//!
//! Votes come through a channel of their own, which never blocks a shard, and are handled before new
//! transactions (PROTOCOL A1). What has gathered while the last batch was handled goes out as one message for
//! each shard.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use anabranch_shard::wal::{Fault, Health};
use anabranch_shard::{Key, Shard, TransactionId, Value, Vote};
use kameo::Actor;
use kameo::actor::{ActorRef, WeakActorRef};
use kameo::error::{ActorStopReason, PanicError};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};

use crate::core::{Begin, Claim, CoordinatorCore, FillClaim};

/// A batch is sent after so many messages even if more have come.
const BATCH_MESSAGES_MAX: usize = 128;

pub(crate) struct CoordinatorActor<K: Key, V: Value> {
    pub(crate) core: CoordinatorCore<K, V>,
    pub(crate) shards: Arc<[Shard<K, V>]>,
    pub(crate) votes: UnboundedReceiver<Vote>,
    /// Claims that were dropped, or whose time is up. One for each transaction in flight, so bounded by them.
    pub(crate) let_go: UnboundedReceiver<TransactionId>,
    /// Its other end, for the leases.
    pub(crate) leases: UnboundedSender<TransactionId>,
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
        for (transaction, lease) in self.core.answer() {
            // A claim must not rest on its owner being polled: who holds up others has a limit.
            let let_go = self.leases.clone();
            tokio::spawn(async move {
                tokio::time::sleep(lease).await;
                let _ = let_go.send(transaction);
            });
        }
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
        #[cfg(feature = "testing")]
        anabranch_shard::wal::late().await;
        loop {
            while let Ok(vote) = self.votes.try_recv() {
                self.core.vote(vote);
            }
            while let Ok(transaction) = self.let_go.try_recv() {
                self.core.let_go(transaction);
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
                // The core keeps senders, so these channels do not close.
                Some(vote) = self.votes.recv() => self.core.vote(vote),
                Some(transaction) = self.let_go.recv() => self.core.let_go(transaction),
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

impl<K: Key, V: Value> Message<Claim<K, V>> for CoordinatorActor<K, V> {
    type Reply = ();

    async fn handle(&mut self, claim: Claim<K, V>, _: &mut Context<Self, ()>) {
        self.core.claim(claim);
    }
}

impl<K: Key, V: Value> Message<FillClaim<K, V>> for CoordinatorActor<K, V> {
    type Reply = ();

    async fn handle(&mut self, fill: FillClaim<K, V>, _: &mut Context<Self, ()>) {
        self.core.fill(fill);
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
