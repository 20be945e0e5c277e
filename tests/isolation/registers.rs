//! Blind writes: registers that are overwritten and removed by whoever likes, mostly unread.
//!
//! Nobody's read says in which order blind writes came, but the engine does: each commit has a timestamp. So a
//! register is told to the judge as the list of all its values in that order, and who read a value as one who read the
//! list up to there. That takes the engine at its word for the order of versions and for nothing else: an order that
//! contradicts what was read, or real time, is a cycle.
//!
//! Where no timestamp was told, as by `insert`, the value's place is before the first read that saw it. A value
//! that has no timestamp and that nobody saw is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch::{Durability, Engine, Error, Flush, Handle, Snapshot};

use crate::campaign::{Mode, runtime};
use crate::checker::{self, History, Kind, Op, Outcome, check};
use crate::client::World;
use crate::effort::effort;
use crate::random::Random;
use crate::second_judge::expect_strict_serializability;

/// So many registers are in use at a time.
const GROUP: u64 = 8;
const CLIENTS: u32 = 16;

type Db = Handle<u64, u64>;

/// A value that was written, none ever twice. A remove has a number, too.
type Element = u64;

#[derive(Clone, Debug)]
enum Act {
    Write {
        register: u64,
        element: Element,
        is_remove: bool,
    },
    /// What was found at a moment of the engine's.
    Look {
        register: u64,
        found: Option<Element>,
        at: u64,
    },
}

#[derive(Clone, Debug)]
struct Txn {
    what: &'static str,
    process: u32,
    invoked: u64,
    completed: Option<u64>,
    outcome: Outcome,
    /// Of the commit, if it was told.
    timestamp: Option<u64>,
    acts: Vec<Act>,
}

/// A value's place in its register: when it was committed, and which of the transaction's it is.
type Place = (u64, usize);

/// All values of a register that have a place.
type Values = BTreeMap<Place, (Element, bool)>;

/// Tells registers as lists.
fn as_lists(txns: &[Txn]) -> History {
    let mut first_seen: BTreeMap<Element, u64> = BTreeMap::new();
    for act in txns.iter().flat_map(|txn| &txn.acts) {
        if let Act::Look { found: Some(element), at, .. } = act {
            let first = first_seen.entry(*element).or_insert(*at);
            *first = (*first).min(*at);
        }
    }
    let mut registers: BTreeMap<u64, Values> = BTreeMap::new();
    let mut placed = BTreeSet::new();
    for txn in txns.iter().filter(|txn| txn.outcome != Outcome::Aborted) {
        for (number, act) in txn.acts.iter().enumerate() {
            let Act::Write { register, element, is_remove } = *act else { continue };
            // One that was seen and has no timestamp is the newest of its moment.
            let place = txn.timestamp.map(|timestamp| (timestamp, number));
            let place = place.or_else(|| Some((*first_seen.get(&element)?, usize::MAX)));
            let Some(place) = place else { continue };
            placed.insert(element);
            let before = registers.entry(register).or_default().insert(place, (element, is_remove));
            assert!(before.is_none(), "two commits at {place:?}");
        }
    }
    let translate = |txn: &Txn| {
        let is_told = |act: &&Act| match act {
            Act::Write { element, .. } => placed.contains(element) || txn.outcome == Outcome::Aborted,
            Act::Look { .. } => true,
        };
        let op = |act: &Act| match *act {
            Act::Write { register, element, .. } => Op::Append(register, element),
            Act::Look { register, found, at } => {
                Op::Read(register, Arc::new(seen(registers.get(&register), found, at)))
            }
        };
        let ops = txn.acts.iter().filter(is_told).map(op).collect();
        let Txn { what, process, invoked, completed, outcome, .. } = *txn;
        checker::Txn { what, process, invoked, completed, outcome, ops }
    };
    History { txns: txns.iter().map(translate).collect() }
}

/// The list up to what was found. Nothing was found after a remove, the newest of that moment, or at the beginning.
fn seen(values: Option<&Values>, found: Option<Element>, at: u64) -> Vec<Element> {
    let empty = Values::new();
    let values = values.unwrap_or(&empty);
    let upto = match found {
        Some(element) => values.iter().find(|(_, value)| value.0 == element).map(|(place, _)| *place),
        None => values.range(..=(at, usize::MAX)).rev().find(|(_, value)| value.1).map(|(place, _)| *place),
    };
    match (upto, found) {
        (Some(place), _) => values.range(..=place).map(|(_, value)| value.0).collect(),
        (None, None) => Vec::new(),
        // Of one that failed, or of nobody: for the judge to name.
        (None, Some(element)) => {
            values.range(..=(at, usize::MAX)).map(|(_, value)| value.0).chain([element]).collect()
        }
    }
}

struct Client {
    world: Arc<World>,
    db: Db,
    process: u32,
    random: Random,
    elements: u64,
    txns: Vec<Txn>,
}

impl Client {
    fn new(world: Arc<World>, db: Db, process: u32, seed: u64) -> Self {
        let random = Random::new(seed ^ (u64::from(process) << 32));
        Self { world, db, process, random, elements: u64::from(process) << 32, txns: Vec::new() }
    }

    async fn run(mut self) -> Vec<Txn> {
        while let Some(group) = self.world.group() {
            let invoked = self.world.tick();
            let first = group * GROUP;
            let mut acts = Vec::new();
            let (what, committed) = match self.random.below(10) {
                0..3 => ("blind writes", self.blind(first, &mut acts).await),
                3 => ("an insert", self.insert(first, &mut acts).await.map(|()| None)),
                4..8 => ("reads and writes", self.read_write(first, &mut acts).await),
                _ => ("a snapshot", self.look(first, &mut acts).await.map(|()| None)),
            };
            let (outcome, timestamp) = match committed {
                Ok(timestamp) => (Outcome::Committed, timestamp),
                Err(Error::Conflict { .. }) => (Outcome::Aborted, None),
                Err(error) => panic!("{what} failed: {error}"),
            };
            let (process, completed) = (self.process, Some(self.world.tick()));
            self.txns.push(Txn { what, process, invoked, completed, outcome, timestamp, acts });
        }
        self.txns
    }

    fn write(&mut self, first: u64) -> (u64, Element, bool) {
        self.elements += 1;
        (first + self.random.below(GROUP), self.elements, self.random.one_in(5))
    }

    /// Writes as part of a transaction, one register now and then twice.
    fn writes(
        &mut self,
        first: u64,
        transaction: &mut anabranch::Transaction<u64, u64>,
        acts: &mut Vec<Act>,
    ) {
        for _ in 0..=self.random.below(3) {
            let (register, element, is_remove) = self.write(first);
            if is_remove {
                transaction.remove(&register);
            } else {
                transaction.insert(register, element);
            }
            acts.push(Act::Write { register, element, is_remove });
        }
    }

    async fn blind(&mut self, first: u64, acts: &mut Vec<Act>) -> Result<Option<u64>, Error> {
        let mut transaction = self.db.begin();
        self.writes(first, &mut transaction, acts);
        if self.random.one_in(2) {
            return Ok(Some(transaction.commit().await?.timestamp().0));
        }
        let ticket = transaction.submit().await?;
        Ok(Some(ticket.durable().await?.timestamp().0))
    }

    async fn insert(&mut self, first: u64, acts: &mut Vec<Act>) -> Result<(), Error> {
        let (register, element, _) = self.write(first);
        acts.push(Act::Write { register, element, is_remove: false });
        self.db.insert(register, element).await
    }

    async fn read_write(&mut self, first: u64, acts: &mut Vec<Act>) -> Result<Option<u64>, Error> {
        let mut transaction = self.db.begin();
        let at = transaction.read_timestamp().0;
        for _ in 0..=self.random.below(3) {
            let register = first + self.random.below(GROUP);
            let found = transaction.get(&register)?.map(|value| *value);
            acts.push(Act::Look { register, found, at });
        }
        if self.random.one_in(8) {
            let found = transaction.range(first..first + GROUP).collect::<Result<BTreeMap<_, _>, _>>()?;
            acts.extend(looks(first, &found, at));
        }
        tokio::task::yield_now().await;
        self.writes(first, &mut transaction, acts);
        Ok(Some(transaction.commit().await?.timestamp().0))
    }

    async fn look(&mut self, first: u64, acts: &mut Vec<Act>) -> Result<(), Error> {
        let snapshot = self.db.snapshot();
        acts.extend(look_at(&snapshot, first)?);
        tokio::task::yield_now().await;
        let register = first + self.random.below(GROUP);
        let found = snapshot.get(&register)?.map(|value| *value);
        acts.push(Act::Look { register, found, at: snapshot.timestamp().0 });
        Ok(())
    }
}

fn look_at(snapshot: &Snapshot<u64, u64>, first: u64) -> Result<Vec<Act>, Error> {
    let found = snapshot.range(first..first + GROUP).collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(looks(first, &found, snapshot.timestamp().0))
}

fn looks(first: u64, found: &BTreeMap<u64, Arc<u64>>, at: u64) -> Vec<Act> {
    let look = |register| Act::Look { register, found: found.get(&register).map(|value| **value), at };
    (first..first + GROUP).map(look).collect()
}

async fn history(mode: Mode, lend_turns: bool, seed: u64, transactions: u64) -> Vec<Txn> {
    let directory = tempfile::tempdir().expect("the system's temporary directory is writable");
    let builder =
        Engine::builder().shards(1 + usize::try_from(seed % 4).expect("few")).lend_turns(lend_turns);
    let flush = Flush::every(Duration::from_millis(20)).or_after_commits(200);
    let engine: Engine<u64, u64> = match mode {
        Mode::InMemory => builder.in_memory().await,
        Mode::Relaxed => builder.durability(Durability::Relaxed(flush)).open(directory.path()).await,
        Mode::Full => builder.durability(Durability::Full).open(directory.path()).await,
    }
    .expect("nothing is wrong with these settings");
    let world = Arc::new(World::default());
    world.stops_at_goal.store(true, Ordering::SeqCst);
    world.goal.store(transactions, Ordering::SeqCst);
    let client = |process| Client::new(Arc::clone(&world), engine.handle(), process, seed);
    let clients: Vec<_> = (1..=CLIENTS).map(|process| tokio::spawn(client(process).run())).collect();
    let mut txns = Vec::new();
    for client in clients {
        txns.extend(client.await.expect("no client panics"));
    }
    let (invoked, snapshot) = (world.tick(), engine.handle().snapshot());
    let acts = (0..world.groups()).map(|group| look_at(&snapshot, group * GROUP).expect("it is open"));
    let acts = acts.flatten().collect();
    let (what, completed, outcome) = ("the last look", Some(world.tick()), Outcome::Committed);
    txns.push(Txn { what, process: 0, invoked, completed, outcome, timestamp: None, acts });
    engine.close().await.expect("the disk is in order");
    txns
}

#[test]
fn blind_writes_are_strictly_serializable() {
    let mut committed = 0;
    for seed in 0..effort(6, 24) {
        let mode = [Mode::InMemory, Mode::Relaxed, Mode::Full][usize::try_from(seed % 3).expect("below 3")];
        let txns = runtime(4).block_on(history(mode, seed % 2 == 0, seed, effort(600, 4_000)));
        let history = as_lists(&txns);
        let report = check(&history);
        assert!(report.kinds().is_empty(), "{mode:?}, seed {seed}: {}", report.story());
        expect_strict_serializability(&history);
        committed += report.committed;
    }
    println!("{committed} committed transactions with blind writes are strictly serializable");
}

/// A transaction by hand: when it began and ended, its timestamp, what it wrote, what it found where.
type ByHand<'a> = (u64, u64, Option<u64>, &'a [(u64, Element)], &'a [(u64, Option<Element>, u64)]);

fn kinds_of(txns: &[ByHand<'_>]) -> BTreeSet<Kind> {
    let write = |(register, element): &(u64, Element)| Act::Write {
        register: *register,
        element: *element,
        is_remove: element.is_multiple_of(10),
    };
    let look = |(register, found, at): &(u64, Option<Element>, u64)| Act::Look {
        register: *register,
        found: *found,
        at: *at,
    };
    let txn = |(invoked, completed, timestamp, writes, looks): &ByHand<'_>| Txn {
        what: "by hand",
        process: 1,
        invoked: *invoked,
        completed: Some(*completed),
        outcome: Outcome::Committed,
        timestamp: *timestamp,
        acts: looks.iter().map(look).chain(writes.iter().map(write)).collect(),
    };
    check(&as_lists(&txns.iter().map(txn).collect::<Vec<_>>())).kinds()
}

#[test]
fn what_can_go_wrong_with_blind_writes_is_found() {
    // In order: nothing is wrong, also with a remove and with a value whose timestamp nobody was told.
    let clean: &[ByHand<'_>] = &[
        (0, 1, Some(1), &[(1, 11)], &[]),
        (2, 3, Some(2), &[(1, 20)], &[]),
        (4, 5, None, &[(1, 13)], &[]),
        (6, 7, None, &[], &[(1, Some(13), 3)]),
    ];
    assert_eq!(kinds_of(clean), BTreeSet::new());
    // The later of two blind writes has the lower timestamp, and so is gone at once.
    let backwards: &[ByHand<'_>] = &[
        (0, 1, Some(2), &[(1, 11)], &[]),
        (2, 3, Some(1), &[(1, 12)], &[]),
        (4, 5, None, &[], &[(1, Some(11), 2)]),
    ];
    assert!(kinds_of(backwards).contains(&Kind::G0Realtime));
    // A reader sees one of two registers that were written together.
    let fractured: &[ByHand<'_>] = &[
        (0, 9, Some(1), &[(1, 11), (2, 12)], &[]),
        (0, 9, Some(2), &[(1, 13), (2, 14)], &[]),
        (0, 9, None, &[], &[(1, Some(13), 2), (2, Some(12), 2)]),
        (0, 9, None, &[], &[(2, Some(14), 2)]),
    ];
    assert!(kinds_of(fractured).contains(&Kind::GSingle));
    // A removed value comes back.
    let risen: &[ByHand<'_>] = &[
        (0, 1, Some(1), &[(1, 11)], &[]),
        (2, 3, Some(2), &[(1, 20)], &[]),
        (4, 5, None, &[], &[(1, None, 2)]),
        (6, 7, None, &[], &[(1, Some(11), 3)]),
    ];
    assert!(kinds_of(risen).contains(&Kind::GSingleRealtime));
    // A value that nobody wrote.
    assert_eq!(kinds_of(&[(0, 1, None, &[], &[(1, Some(11), 1)])]), BTreeSet::from([Kind::Garbage]));
}
