//! What a batch has to say when it is done: timestamps applied, votes, replies. Gathered under the turn and
//! delivered outside it, so that nobody is woken while the turn is held (PROTOCOL F3).

use std::sync::Arc;

use anabranch_wal::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::chain::Version;
use crate::map::Swept;
use crate::messages::{Batched, TransactionId, Updated, Vote};
use crate::reject::Reject;
use crate::sequencer::{AppliedPart, Sequencer};

type Outcome<T> = Result<T, Reject>;
/// An answer, and who waits for it.
type Reply<T> = (oneshot::Sender<Outcome<T>>, Outcome<T>);

/// Replies and reports of one batch.
pub struct Outbox<V> {
    applied: Vec<AppliedPart>,
    votes: Vec<(UnboundedSender<Vote>, Vote)>,
    commits: Vec<Reply<Timestamp>>,
    updates: Vec<Reply<Updated<V>>>,
    batches: Vec<(oneshot::Sender<Batched>, Batched)>,
    swept: Vec<(oneshot::Sender<Swept>, Swept)>,
    barriers: Vec<oneshot::Sender<()>>,
    /// Values that nobody can ask for; dropping them runs a user's code.
    garbage: Vec<Version<V>>,
}

impl<V> Default for Outbox<V> {
    fn default() -> Self {
        Self {
            applied: Vec::new(),
            votes: Vec::new(),
            commits: Vec::new(),
            updates: Vec::new(),
            batches: Vec::new(),
            swept: Vec::new(),
            barriers: Vec::new(),
            garbage: Vec::new(),
        }
    }
}

impl<V> Outbox<V> {
    pub(crate) fn applied(&mut self, part: AppliedPart) {
        self.applied.push(part);
    }

    pub(crate) fn vote(
        &mut self,
        votes: &UnboundedSender<Vote>,
        transaction: TransactionId,
        outcome: Result<(), Reject>,
    ) {
        self.votes.push((votes.clone(), Vote { transaction, outcome }));
    }

    pub(crate) fn commit(
        &mut self,
        reply: oneshot::Sender<Result<Timestamp, Reject>>,
        outcome: Result<Timestamp, Reject>,
    ) {
        self.commits.push((reply, outcome));
    }

    pub(crate) fn update(
        &mut self,
        reply: oneshot::Sender<Result<Updated<V>, Reject>>,
        outcome: Result<Updated<V>, Reject>,
    ) {
        self.updates.push((reply, outcome));
    }

    pub(crate) fn batch(&mut self, reply: oneshot::Sender<Batched>, outcome: Batched) {
        self.batches.push((reply, outcome));
    }

    pub(crate) fn swept(&mut self, reply: oneshot::Sender<Swept>, swept: Swept) {
        self.swept.push((reply, swept));
    }

    pub(crate) fn barrier(&mut self, reply: oneshot::Sender<()>) {
        self.barriers.push(reply);
    }

    pub(crate) fn discard(&mut self, garbage: &mut Vec<Version<V>>) {
        self.garbage.append(garbage);
    }

    /// How many commits the batch applied.
    pub(crate) fn commits(&self) -> usize {
        self.applied.len()
    }

    /// Reports what was applied, then answers. A caller that is woken finds the watermark where it is.
    pub fn deliver(self, sequencer: &Arc<Sequencer>) {
        sequencer.applied(&self.applied);
        // A receiver that is gone has given up waiting; the commit stands (RELIABILITY R30).
        for (votes, vote) in self.votes {
            let _ = votes.send(vote);
        }
        for (reply, outcome) in self.commits {
            let _ = reply.send(outcome);
        }
        for (reply, outcome) in self.updates {
            let _ = reply.send(outcome);
        }
        for (reply, outcome) in self.batches {
            let _ = reply.send(outcome);
        }
        for (reply, swept) in self.swept {
            let _ = reply.send(swept);
        }
        for reply in self.barriers {
            let _ = reply.send(());
        }
        drop(self.garbage);
    }
}
