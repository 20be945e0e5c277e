//! Two-phase commit as a plain synchronous struct. It is told of transactions and votes, and says what is to
//! be sent to which shard.
//!
//! One coordinator sends to every shard in one order, so lines never form a cycle (DESIGN section 5).
//!
//! A *claim* is a first phase ahead of time: it pins what a transaction is expected to touch, the transaction
//! then runs, and is committed within its pins. It joins the lines as any first phase does, and once pinned it
//! waits for nothing but its owner, so it adds no cycle; what its owner touches beyond it is voted down.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_shard::wal::{LogId, Timestamp};
use anabranch_shard::{
    Decision, Fill, Part, Participants, Prepare, Reader, Reject, Round, Sequencer, TransactionId, Vote,
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
    pub reader: Option<Reader>,
    /// The caller's place among the transactions in flight (A2).
    pub permit: OwnedSemaphorePermit,
}

/// Pin what a transaction is expected to touch before it runs.
pub struct Claim<K, V> {
    /// For each shard what is to be pinned there, and the bytes of log to reserve.
    pub parts: Vec<(usize, Part<K, V>, u64)>,
    /// Gets the claim once everything is pinned.
    pub reply: oneshot::Sender<Result<Grant, Reject>>,
    /// How long the pins are held at the most, from then on.
    pub lease: Duration,
    /// The caller's place among the transactions in flight (A2).
    pub permit: OwnedSemaphorePermit,
}

/// A claim that has its pins. Dropping it lets them go, unless it was filled.
pub struct Grant {
    transaction: TransactionId,
    let_go: UnboundedSender<TransactionId>,
}

impl Grant {
    /// The claim.
    #[must_use]
    pub const fn transaction(&self) -> TransactionId {
        self.transaction
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        // A coordinator that is gone has no claims.
        let _ = self.let_go.send(self.transaction);
    }
}

/// Commit something within a claim.
pub struct FillClaim<K, V> {
    /// The claim.
    pub transaction: TransactionId,
    /// The transaction's part on each shard that it read or writes.
    pub parts: Vec<(usize, Part<K, V>)>,
    /// Gets the timestamp.
    pub reply: oneshot::Sender<Result<Timestamp, Reject>>,
    /// Holds back reclamation until the last vote (PROTOCOL V8).
    pub reader: Option<Reader>,
}

type Outcome = Result<Timestamp, Reject>;
/// A claim that was granted, and how long it lasts.
type Lease = (TransactionId, Duration);
type Claimant = oneshot::Sender<Result<Grant, Reject>>;

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
    /// Claims granted, with their leases, or turned down.
    claimed: Vec<(Claimant, Result<Lease, Reject>)>,
    let_go: UnboundedSender<TransactionId>,
    /// Transactions decided to commit, for those who only want to know.
    committed: Arc<AtomicU64>,
}

struct InFlight {
    /// The shards where it is pinned or in line.
    shards: Vec<usize>,
    votes_missing: usize,
    stage: Stage,
    _permit: OwnedSemaphorePermit,
}

enum Stage {
    /// Waits for its pins.
    Claiming { reply: Claimant, lease: Duration },
    /// Has its pins, and waits for its owner.
    Claimed,
    /// Waits for the votes that decide.
    Deciding {
        /// The shards that take part. A claim may have pinned more.
        participants: Vec<usize>,
        /// How many of them are written.
        written: usize,
        reply: oneshot::Sender<Outcome>,
        _reader: Option<Reader>,
    },
}

impl<K, V> CoordinatorCore<K, V> {
    /// A coordinator of so many shards, which send their votes to the other end of `votes`. Claims that are
    /// dropped are told at the other end of `let_go`.
    #[must_use]
    pub fn new(
        sequencer: Arc<Sequencer>,
        logs: Vec<LogId>,
        shards: usize,
        votes: UnboundedSender<Vote>,
        let_go: UnboundedSender<TransactionId>,
    ) -> Self {
        let rounds = (0..shards).map(|_| empty_round()).collect();
        let (in_flight, replies, claimed) = (BTreeMap::new(), Vec::new(), Vec::new());
        let committed = Arc::default();
        Self { sequencer, logs, votes, next: 0, in_flight, rounds, replies, claimed, let_go, committed }
    }

    /// How many transactions were decided to commit.
    pub(crate) const fn committed(&self) -> &Arc<AtomicU64> {
        &self.committed
    }

    /// First phase: every shard gets its part.
    ///
    /// # Panics
    /// If no part writes: such a transaction needs no coordinator.
    pub fn begin(&mut self, begin: Begin<K, V>) {
        let Begin { parts, reply, reader, permit } = begin;
        let transaction = self.next_transaction();
        let logs = self.participants(&parts);
        let in_flight = InFlight {
            shards: parts.iter().map(|(shard, _)| *shard).collect(),
            votes_missing: parts.len(),
            stage: deciding(&parts, reply, reader),
            _permit: permit,
        };
        for (shard, part) in parts {
            let (participants, votes) = (Arc::clone(&logs), self.votes.clone());
            let prepare = Prepare { transaction, part, participants, votes, claims: None };
            self.rounds[shard].prepares.push(prepare);
        }
        self.in_flight.insert(transaction, in_flight);
    }

    /// First phase of a claim: every shard pins what is named.
    pub fn claim(&mut self, claim: Claim<K, V>) {
        let Claim { parts, reply, lease, permit } = claim;
        let transaction = self.next_transaction();
        let in_flight = InFlight {
            shards: parts.iter().map(|(shard, ..)| *shard).collect(),
            votes_missing: parts.len(),
            stage: Stage::Claiming { reply, lease },
            _permit: permit,
        };
        for (shard, part, bytes) in parts {
            let (participants, votes) = (Participants::from([]), self.votes.clone());
            let prepare = Prepare { transaction, part, participants, votes, claims: Some(bytes) };
            self.rounds[shard].prepares.push(prepare);
        }
        self.in_flight.insert(transaction, in_flight);
    }

    /// Second phase of a claim: what is to be committed within it. A claim that is gone, because its time was
    /// up, and one that lacks a shard are a conflict.
    ///
    /// # Panics
    /// As for [`CoordinatorCore::begin`].
    pub fn fill(&mut self, fill: FillClaim<K, V>) {
        let FillClaim { transaction, parts, reply, reader } = fill;
        let logs = self.participants(&parts);
        let claim = self.in_flight.get_mut(&transaction);
        let Some(in_flight) = claim.filter(|claim| matches!(claim.stage, Stage::Claimed)) else {
            self.replies.push((reply, Err(Reject::Conflict { newer: Timestamp::ZERO })));
            return;
        };
        if !parts.iter().all(|(shard, _)| in_flight.shards.contains(shard)) {
            self.replies.push((reply, Err(Reject::Conflict { newer: Timestamp::ZERO })));
            return self.let_go(transaction);
        }
        in_flight.votes_missing = parts.len();
        in_flight.stage = deciding(&parts, reply, reader);
        for (shard, part) in parts {
            let (participants, votes) = (Arc::clone(&logs), self.votes.clone());
            self.rounds[shard].fills.push(Fill { transaction, part, participants, votes });
        }
    }

    /// Ends a claim whose owner does not want it any more, or whose time is up.
    pub fn let_go(&mut self, transaction: TransactionId) {
        let Entry::Occupied(claim) = self.in_flight.entry(transaction) else { return };
        if matches!(claim.get().stage, Stage::Claimed) {
            let shards = claim.remove().shards;
            self.abort(transaction, &shards);
        }
    }

    /// A vote has come. The last yes commits, or grants a claim; the first no aborts; votes after that are of
    /// no interest.
    pub fn vote(&mut self, vote: Vote) {
        let Vote { transaction, outcome } = vote;
        let Entry::Occupied(mut in_flight) = self.in_flight.entry(transaction) else { return };
        in_flight.get_mut().votes_missing -= 1;
        if in_flight.get().votes_missing > 0 && outcome.is_ok() {
            return;
        }
        if outcome.is_ok() && matches!(in_flight.get().stage, Stage::Claiming { .. }) {
            let claiming = std::mem::replace(&mut in_flight.get_mut().stage, Stage::Claimed);
            if let Stage::Claiming { reply, lease } = claiming {
                self.claimed.push((reply, Ok((transaction, lease))));
            }
            return;
        }
        let InFlight { shards, stage, .. } = in_flight.remove();
        match stage {
            Stage::Claiming { reply, lease } => {
                self.claimed.push((reply, outcome.map(|()| (transaction, lease))));
                self.abort(transaction, &shards);
            }
            Stage::Claimed => unreachable!("C2: nobody votes on a claim that has its pins"),
            Stage::Deciding { participants, written, reply, .. } => {
                // T1: nothing is left that can fail.
                let outcome = outcome.map(|()| self.sequencer.take(written));
                match outcome {
                    Ok(timestamp) => {
                        self.committed.fetch_add(1, Ordering::Relaxed);
                        self.decide(transaction, timestamp, &shards, &participants);
                    }
                    Err(_) => self.abort(transaction, &shards),
                }
                self.replies.push((reply, outcome));
            }
        }
    }

    fn decide(
        &mut self,
        transaction: TransactionId,
        timestamp: Timestamp,
        pinned: &[usize],
        participants: &[usize],
    ) {
        for shard in pinned {
            let decision = if participants.contains(shard) {
                Decision::Commit(transaction, timestamp)
            } else {
                Decision::Abort(transaction)
            };
            self.rounds[*shard].decisions.push(decision);
        }
    }

    fn abort(&mut self, transaction: TransactionId, pinned: &[usize]) {
        for shard in pinned {
            self.rounds[*shard].decisions.push(Decision::Abort(transaction));
        }
    }

    fn next_transaction(&mut self) -> TransactionId {
        self.next += 1;
        TransactionId(self.next)
    }

    /// The logs of the shards that are written.
    fn participants(&self, parts: &[(usize, Part<K, V>)]) -> Participants {
        let written = parts.iter().filter(|(_, part)| !part.is_read_only());
        written.filter_map(|(shard, _)| self.logs.get(*shard).copied()).collect()
    }

    /// What has gathered for the shards since this was last asked.
    pub fn take_rounds(&mut self) -> Vec<(usize, Round<K, V>)> {
        self.rounds
            .iter_mut()
            .enumerate()
            .filter(|(_, round)| !round.is_empty())
            .map(|(shard, round)| (shard, std::mem::replace(round, empty_round())))
            .collect()
    }

    /// Answers those whose transaction was decided or whose claim was granted, and returns the latter with
    /// their leases. A receiver that is gone has given up waiting: a commit stands (RELIABILITY R30), a claim is
    /// let go, as its grant is dropped.
    pub fn answer(&mut self) -> Vec<(TransactionId, Duration)> {
        for (reply, outcome) in self.replies.drain(..) {
            let _ = reply.send(outcome);
        }
        let mut granted = Vec::new();
        for (reply, outcome) in self.claimed.drain(..) {
            let outcome = outcome.map(|(transaction, lease)| {
                granted.push((transaction, lease));
                Grant { transaction, let_go: self.let_go.clone() }
            });
            let _ = reply.send(outcome);
        }
        granted
    }

    /// The engine has failed: votes that are missing will not come. Whoever waits is told that there will be no
    /// answer (PROTOCOL U2).
    pub fn abandon(&mut self) {
        self.in_flight.clear();
        self.replies.clear();
        self.claimed.clear();
        self.rounds.fill_with(empty_round);
    }

    /// How many transactions wait for votes, or hold a claim.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

fn deciding<K, V>(
    parts: &[(usize, Part<K, V>)],
    reply: oneshot::Sender<Outcome>,
    reader: Option<Reader>,
) -> Stage {
    let written = parts.iter().filter(|(_, part)| !part.is_read_only()).count();
    assert!(written > 0, "C1: a transaction of two phases writes somewhere");
    let participants = parts.iter().map(|(shard, _)| *shard).collect();
    Stage::Deciding { participants, written, reply, _reader: reader }
}

const fn empty_round<K, V>() -> Round<K, V> {
    Round { decisions: Vec::new(), fills: Vec::new(), prepares: Vec::new() }
}
