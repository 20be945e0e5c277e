//! Two-phase commit as a plain synchronous struct. It is told of transactions and votes, and says what is to
//! be sent to which shard.
//!
//! One coordinator sends to every shard in one order, so lines never form a cycle (DESIGN section 5).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anabranch_shard::wal::{LogId, Timestamp};
use anabranch_shard::{
    Decision, Part, Participants, Prepare, Reader, Reject, Round, Sequencer, TransactionId, Vote,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A transaction over several shards.
pub struct Begin<K, V> {
    /// Its part on each shard that it read or writes.
    pub parts: Vec<(usize, Part<K, V>)>,
    /// Gets the timestamp.
    pub reply: oneshot::Sender<Result<Timestamp, Reject>>,
    /// Holds back reclamation until the last vote (PROTOCOL V8).
    pub reader: Option<Arc<Reader>>,
    /// The caller's place among the transactions in flight (A2).
    pub permit: OwnedSemaphorePermit,
}

type Outcome = Result<Timestamp, Reject>;

/// All transactions between their first phase and their decision.
pub struct CoordinatorCore<K, V> {
    sequencer: Arc<Sequencer>,
    /// The log of each shard; empty in memory.
    logs: Vec<LogId>,
    votes: UnboundedSender<Vote>,
    next: u64,
    in_flight: BTreeMap<TransactionId, InFlight>,
    rounds: Vec<Round<K, V>>,
    replies: Vec<(oneshot::Sender<Outcome>, Outcome)>,
}

struct InFlight {
    shards: Vec<usize>,
    /// How many of them are written.
    written: usize,
    votes_missing: usize,
    reply: oneshot::Sender<Result<Timestamp, Reject>>,
    _reader: Option<Arc<Reader>>,
    _permit: OwnedSemaphorePermit,
}

impl<K, V> CoordinatorCore<K, V> {
    /// A coordinator of so many shards, which send their votes to the other end of `votes`.
    #[must_use]
    pub fn new(
        sequencer: Arc<Sequencer>,
        logs: Vec<LogId>,
        shards: usize,
        votes: UnboundedSender<Vote>,
    ) -> Self {
        let rounds = (0..shards).map(|_| empty_round()).collect();
        let (in_flight, replies) = (BTreeMap::new(), Vec::new());
        Self { sequencer, logs, votes, next: 0, in_flight, rounds, replies }
    }

    /// First phase: every shard gets its part.
    ///
    /// # Panics
    /// If no part writes: such a transaction needs no coordinator.
    pub fn begin(&mut self, begin: Begin<K, V>) {
        let Begin { parts, reply, reader, permit } = begin;
        self.next += 1;
        let transaction = TransactionId(self.next);
        let written = |(_, part): &&(usize, Part<K, V>)| !part.is_read_only();
        let participants: Participants =
            parts.iter().filter(written).filter_map(|(shard, _)| self.logs.get(*shard).copied()).collect();
        let in_flight = InFlight {
            shards: parts.iter().map(|(shard, _)| *shard).collect(),
            written: parts.iter().filter(written).count(),
            votes_missing: parts.len(),
            reply,
            _reader: reader,
            _permit: permit,
        };
        assert!(in_flight.written > 0, "C1: a transaction of two phases writes somewhere");
        for (shard, part) in parts {
            let (participants, votes) = (Arc::clone(&participants), self.votes.clone());
            self.rounds[shard].prepares.push(Prepare { transaction, part, participants, votes });
        }
        self.in_flight.insert(transaction, in_flight);
    }

    /// A vote has come. The last yes commits, the first no aborts; votes after that are of no interest.
    pub fn vote(&mut self, vote: Vote) {
        let Vote { transaction, outcome } = vote;
        let Entry::Occupied(mut in_flight) = self.in_flight.entry(transaction) else { return };
        in_flight.get_mut().votes_missing -= 1;
        if in_flight.get().votes_missing == 0 || outcome.is_err() {
            let decided = in_flight.remove();
            // T1: nothing is left that can fail.
            let outcome = outcome.map(|()| self.sequencer.take(decided.written));
            let decision = match outcome {
                Ok(timestamp) => Decision::Commit(transaction, timestamp),
                Err(_) => Decision::Abort(transaction),
            };
            for shard in decided.shards {
                self.rounds[shard].decisions.push(decision);
            }
            self.replies.push((decided.reply, outcome));
        }
    }

    /// What has gathered for the shards since this was last asked.
    pub fn take_rounds(&mut self) -> Vec<(usize, Round<K, V>)> {
        self.rounds
            .iter_mut()
            .enumerate()
            .filter(|(_, round)| !round.decisions.is_empty() || !round.prepares.is_empty())
            .map(|(shard, round)| (shard, std::mem::replace(round, empty_round())))
            .collect()
    }

    /// Answers those whose transaction was decided. A receiver that is gone has given up waiting; the commit
    /// stands (RELIABILITY R30).
    pub fn answer(&mut self) {
        for (reply, outcome) in self.replies.drain(..) {
            let _ = reply.send(outcome);
        }
    }

    /// The engine has failed: votes that are missing will not come. Whoever waits is told that there will be no
    /// answer (PROTOCOL U2).
    pub fn abandon(&mut self) {
        self.in_flight.clear();
        self.replies.clear();
        self.rounds.fill_with(empty_round);
    }

    /// How many transactions wait for votes.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

const fn empty_round<K, V>() -> Round<K, V> {
    Round { decisions: Vec::new(), prepares: Vec::new() }
}
