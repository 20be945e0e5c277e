//! The coordinator and the shards as plain structs, with messages between them delivered in random order
//! between pairs: transactions of several shards, commits of one, and claims that are filled, dropped or cut
//! short by their lease. However it goes, everybody is answered, nothing stays pinned, and what a claim holds
//! nobody else changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anabranch_coordinator::{Begin, Claim, CoordinatorCore, FillClaim, Grant};
use anabranch_shard::wal::{SystemEnv, Timestamp};
use anabranch_shard::{
    Commit, Level, Part, Readers, Reject, Round, Sequencer, ShardCore, ShardMap, TransactionId, Validation,
    Vote,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

type Core = ShardCore<u64, u64>;
type Parts = Vec<(usize, Part<u64, u64>)>;
type Answer<T> = oneshot::Receiver<Result<T, Reject>>;

/// Splitmix64: the seed decides everything.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("an index")
    }
}

struct World {
    random: Random,
    sequencer: Arc<Sequencer>,
    maps: Vec<Arc<ShardMap<u64, u64>>>,
    shards: Vec<Core>,
    coordinator: CoordinatorCore<u64, u64>,
    votes: UnboundedReceiver<Vote>,
    let_go: UnboundedReceiver<TransactionId>,
    /// On their way from the coordinator to each shard.
    rounds: Vec<VecDeque<Round<u64, u64>>>,
    waiting: Vec<Waiting>,
    leases: Vec<TransactionId>,
    permits: Arc<Semaphore>,
    tally: Tally,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    commits: u64,
    conflicts: u64,
    claims: u64,
    fills: u64,
    beyond: u64,
}

/// Somebody who waits for an answer.
enum Waiting {
    Commit(Answer<Timestamp>),
    /// A claim, and what it names.
    Claim(Answer<Grant>, Parts),
    /// A claim that is held, with its parts and the values of their keys when it was granted.
    Holds(Grant, Parts, BTreeMap<(usize, u64), Option<u64>>),
    Fill(Answer<Timestamp>, bool),
}

const SHARDS: usize = 3;
const KEYS: u64 = 4;

impl World {
    fn new(seed: u64) -> Self {
        let sequencer = Sequencer::new(Timestamp::ZERO, None, &Arc::default());
        let readers = Readers::new(Arc::clone(&sequencer), Arc::new(SystemEnv), None);
        let maps: Vec<_> = (0..SHARDS).map(|_| Arc::new(ShardMap::new(1))).collect();
        let shard = |map: &Arc<ShardMap<u64, u64>>| {
            Core::new(Arc::clone(map), Arc::clone(&readers), Arc::clone(&sequencer), None, true, None)
        };
        let (ballots, votes) = unbounded_channel();
        let (dropped, let_go) = unbounded_channel();
        Self {
            random: Random(seed),
            shards: maps.iter().map(shard).collect(),
            coordinator: CoordinatorCore::new(Arc::clone(&sequencer), Vec::new(), SHARDS, ballots, dropped),
            sequencer,
            maps,
            votes,
            let_go,
            rounds: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            waiting: Vec::new(),
            leases: Vec::new(),
            permits: Arc::new(Semaphore::new(1_000)),
            tally: Tally::default(),
        }
    }

    fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.permits).try_acquire_owned().expect("there are enough")
    }

    /// Random parts on some shards, of which the first writes.
    fn parts(&mut self, shards: usize, read_at: Timestamp) -> Parts {
        let first = self.random.index(SHARDS);
        let mut parts: Parts = (0..shards)
            .map(|offset| {
                let shard = (first + offset) % SHARDS;
                let mut part = Part::new(Validation::Reads(read_at));
                part.reads = (0..self.random.below(3)).map(|_| self.random.below(KEYS)).collect();
                let writes = if offset == 0 { 1 } else { self.random.below(3) };
                let from = self.random.below(KEYS);
                part.writes = (0..writes).map(|key| (from + key) % KEYS).collect();
                part.values = part.writes.iter().map(|_| Some(Arc::new(self.random.next()))).collect();
                (shard, part)
            })
            .collect();
        parts.sort_by_key(|(shard, _)| *shard);
        parts
    }

    fn newest(&self, shard: usize, key: u64) -> Option<u64> {
        self.maps[shard].get(&key, self.maps[shard].hash(&key), || Timestamp::MAX, None).map(|value| *value)
    }

    fn arrive(&mut self) {
        let read_at = self.sequencer.get(Level::Applied);
        let shards = 1 + self.random.index(SHARDS);
        let parts = self.parts(shards, read_at);
        match self.random.below(3) {
            0 => {
                let (reply, answer) = oneshot::channel();
                let (shard, part) = parts.into_iter().next().expect("there is one");
                if part.is_read_only() {
                    return;
                }
                let commit = Commit { part, reply, reader: None, permit: self.permit() };
                self.on_shard(shard, |core| core.commit(commit));
                self.waiting.push(Waiting::Commit(answer));
            }
            1 => {
                let (reply, answer) = oneshot::channel();
                self.coordinator.begin(Begin { parts, reply, reader: None, permit: self.permit() });
                self.waiting.push(Waiting::Commit(answer));
            }
            _ => {
                let (reply, answer) = oneshot::channel();
                let named = |(shard, part): &(usize, Part<u64, u64>)| {
                    let named = Part {
                        reads: part.reads.clone(),
                        writes: part.writes.clone(),
                        ..Part::new(Validation::Blind)
                    };
                    (*shard, named, 0)
                };
                let claim = Claim {
                    parts: parts.iter().map(named).collect(),
                    reply,
                    lease: Duration::from_secs(1),
                    permit: self.permit(),
                };
                self.coordinator.claim(claim);
                self.waiting.push(Waiting::Claim(answer, parts));
            }
        }
    }

    fn on_shard(&mut self, shard: usize, work: impl FnOnce(&mut Core)) {
        work(&mut self.shards[shard]);
        self.shards[shard].finish_batch().deliver(&self.sequencer);
    }

    /// One message is delivered, or one batch sent. `false` if there was nothing to do.
    fn step(&mut self) -> bool {
        let choice = self.random.index(SHARDS + 3);
        if choice < SHARDS {
            let Some(round) = self.rounds[choice].pop_front() else { return false };
            self.on_shard(choice, |core| core.round(round));
            return true;
        }
        match choice - SHARDS {
            0 => self.votes.try_recv().map(|vote| self.coordinator.vote(vote)).is_ok(),
            1 => self.let_go.try_recv().map(|claim| self.coordinator.let_go(claim)).is_ok(),
            _ => {
                let rounds = self.coordinator.take_rounds();
                let sent = !rounds.is_empty();
                for (shard, round) in rounds {
                    self.rounds[shard].push_back(round);
                }
                self.leases.extend(self.coordinator.answer().into_iter().map(|(claim, _)| claim));
                sent
            }
        }
    }

    /// One of those who wait looks whether there is an answer, and goes on. `false` if there was none.
    fn look(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let index = self.random.index(self.waiting.len());
        match self.waiting.swap_remove(index) {
            Waiting::Commit(mut answer) => match answer.try_recv() {
                Ok(outcome) => self.decided(outcome.is_ok()),
                Err(_) => return self.wait_on(Waiting::Commit(answer)),
            },
            Waiting::Claim(mut answer, parts) => match answer.try_recv() {
                Ok(granted) => {
                    self.tally.claims += 1;
                    let grant =
                        granted.unwrap_or_else(|reject| panic!("a claim is not validated: {reject:?}"));
                    if self.random.below(4) > 0 {
                        let values = self.values(&parts);
                        self.waiting.push(Waiting::Holds(grant, parts, values));
                    }
                }
                Err(_) => {
                    // Some give up before they get it.
                    return self.random.below(20) == 0 || self.wait_on(Waiting::Claim(answer, parts));
                }
            },
            Waiting::Holds(grant, parts, values) => self.fill(grant, parts, values),
            Waiting::Fill(mut answer, beyond) => match answer.try_recv() {
                Ok(outcome) => {
                    assert_eq!(outcome.is_ok(), !beyond, "{outcome:?}");
                    self.tally.fills += 1;
                    self.tally.beyond += u64::from(beyond);
                    self.decided(outcome.is_ok());
                }
                Err(_) => return self.wait_on(Waiting::Fill(answer, beyond)),
            },
        }
        true
    }

    fn wait_on(&mut self, waiting: Waiting) -> bool {
        self.waiting.push(waiting);
        false
    }

    fn decided(&mut self, committed: bool) {
        self.tally.commits += u64::from(committed);
        self.tally.conflicts += u64::from(!committed);
    }

    fn values(&self, parts: &Parts) -> BTreeMap<(usize, u64), Option<u64>> {
        let keys = parts.iter().flat_map(|(shard, part)| {
            let all = part.reads.iter().chain(&part.writes);
            all.map(|key| ((*shard, *key), self.newest(*shard, *key)))
        });
        keys.collect()
    }

    fn fill(&mut self, grant: Grant, mut parts: Parts, values: BTreeMap<(usize, u64), Option<u64>>) {
        if !self.leases.contains(&grant.transaction()) {
            // Its time was up; the coordinator says so.
            return drop(grant);
        }
        if self.sequencer.get(Level::Applied) < self.sequencer.last() {
            // What was committed before is still being applied: the owner waits for that before it reads.
            self.waiting.push(Waiting::Holds(grant, parts, values));
            return;
        }
        assert_eq!(self.values(&parts), values, "somebody else changed what was claimed");
        let read_at = self.sequencer.get(Level::Applied);
        for (_, part) in &mut parts {
            part.validation = Validation::Reads(read_at);
        }
        let beyond = self.random.below(5) == 0;
        if beyond {
            let (shard, part) = &mut parts[0];
            part.reads.push(KEYS + *shard as u64);
        }
        let (reply, answer) = oneshot::channel();
        let fill = FillClaim { transaction: grant.transaction(), parts, reply, reader: None };
        self.coordinator.fill(fill);
        self.leases.retain(|claim| *claim != grant.transaction());
        self.waiting.push(Waiting::Fill(answer, beyond));
    }

    /// The lease of a claim that nobody has filled ends.
    fn end_a_lease(&mut self) {
        if let Some(claim) = self.leases.pop() {
            self.coordinator.let_go(claim);
        }
    }

    fn run(mut self, arrivals: u64) -> Tally {
        for _ in 0..arrivals {
            self.arrive();
            for _ in 0..self.random.below(12) {
                self.step();
                self.look();
            }
            if self.random.below(10) == 0 {
                self.end_a_lease();
            }
        }
        // Without new arrivals it comes to an end, in a number of steps that no run needs.
        for _ in 0..200_000 {
            if self.waiting.is_empty() && self.coordinator.in_flight() == 0 {
                break;
            }
            self.step();
            self.look();
            if self.waiting.is_empty() {
                self.end_a_lease();
            }
        }
        assert_eq!((self.waiting.len(), self.coordinator.in_flight()), (0, 0), "they wait for each other");
        for _ in 0..100 {
            self.step();
        }
        for shard in 0..SHARDS {
            while let Some(round) = self.rounds[shard].pop_front() {
                self.on_shard(shard, |core| core.round(round));
            }
            assert_eq!(self.shards[shard].queues(), anabranch_shard::Queues::default(), "left behind");
        }
        assert_eq!(self.sequencer.get(Level::Applied), self.sequencer.last(), "taken and not applied");
        assert_eq!(self.sequencer.last(), Timestamp(self.tally.commits));
        self.tally
    }
}

#[test]
fn however_messages_are_delivered_everybody_gets_through_and_nothing_stays_pinned() {
    let seeds =
        if std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "ci") { 20_000 } else { 500 };
    let mut total = Tally::default();
    for seed in 0..seeds {
        let tally = World::new(seed).run(40);
        total.commits += tally.commits;
        total.conflicts += tally.conflicts;
        total.claims += tally.claims;
        total.fills += tally.fills;
        total.beyond += tally.beyond;
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.fills > seeds && total.beyond > seeds / 10 && total.conflicts > seeds);
}
