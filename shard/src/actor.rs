//! The actor around a shard's core: a loop that feeds it messages. It decides nothing.
//!
//! A batch is what is handled before the mailbox runs dry (PROTOCOL A4). No handler awaits anything (A1), and
//! the mailbox is always drained, also when the line is full: the decision that frees the line is behind (A2).

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use anabranch_wal::Log;
use kameo::Actor;
use kameo::actor::{ActorRef, WeakActorRef};
use kameo::mailbox::{MailboxReceiver, Signal};
use kameo::message::{Context, Message};
use tokio::sync::Notify;

use crate::messages::{Barrier, Batch, Commit, Round, Sweep, Update};
use crate::turn::{Pending, Turn};
use crate::{Key, Value};

/// A batch is ended after so many messages even if more have come.
const BATCH_MESSAGES_MAX: usize = 256;

pub(crate) struct ShardActor<K: Key, V: Value> {
    pub(crate) turn: Arc<Turn<K, V>>,
    pub(crate) log: Option<Arc<Log>>,
    /// Wakes the actor when the engine fails, so that nobody waits here for ever (PROTOCOL U2).
    pub(crate) failed: Arc<Notify>,
    pub(crate) batch: usize,
}

impl<K: Key, V: Value> Actor for ShardActor<K, V> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }

    async fn next(
        &mut self,
        _: WeakActorRef<Self>,
        mailbox: &mut MailboxReceiver<Self>,
    ) -> Result<Option<Signal<Self>>, Infallible> {
        #[cfg(feature = "testing")]
        anabranch_wal::late().await;
        if self.batch > 0 && (mailbox.is_empty() || self.batch >= BATCH_MESSAGES_MAX) {
            self.turn.finish_batch();
            self.turn.batch_messages().record(self.batch as u64);
            self.batch = 0;
        }
        let log = self.log.clone();
        let space_changed = || async {
            match &log {
                Some(log) => log.space_changed().await,
                None => pending().await,
            }
        };
        loop {
            tokio::select! {
                biased;
                signal = mailbox.recv() => return Ok(signal),
                // Taking the turn of a failed engine drops what waits there.
                () = self.failed.notified() => self.turn.finish_batch(),
                () = space_changed() => {
                    self.turn.take(crate::core::ShardCore::space_changed);
                    self.turn.finish_batch();
                }
            }
        }
    }
}

/// A message on its way. Commits of one phase are counted until they were handled.
pub(crate) struct Told<M, K, V> {
    pub(crate) message: M,
    pub(crate) pending: Option<Pending<K, V>>,
}

/// Messages are told, never asked, so an answer that nobody waits for can't stop the actor (A3).
macro_rules! handle {
    ($message:ident $(<$($generic:ident),+>)? => $method:ident) => {
        impl<K: Key, V: Value> Message<Told<$message $(<$($generic),+>)?, K, V>> for ShardActor<K, V> {
            type Reply = ();

            async fn handle(
                &mut self,
                told: Told<$message $(<$($generic),+>)?, K, V>,
                _: &mut Context<Self, ()>,
            ) {
                self.batch += 1;
                let Told { message, pending } = told;
                self.turn.take(|core| core.$method(message));
                drop(pending);
            }
        }
    };
}

handle!(Commit<K, V> => commit);
handle!(Update<K, V> => update);
handle!(Batch<K, V> => batch);
handle!(Round<K, V> => round);
handle!(Sweep => sweep);
handle!(Barrier => barrier);

impl<K: Key, V: Value> Drop for ShardActor<K, V> {
    fn drop(&mut self) {
        // Also when the runtime ends under the engine: callers elsewhere must not wait for ever.
        self.turn.close();
    }
}
