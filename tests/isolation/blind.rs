//! Clients that overwrite and remove registers unread, and others that read them, in every mode.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch::{Durability, Engine, Env, Error, Flush, Handle, Snapshot, SystemEnv};

use crate::campaign::{Mode, runtime};
use crate::checker::{Outcome, check};
use crate::client::World;
use crate::effort::effort;
use crate::random::Random;
use crate::registers::{Act, Element, Txn, as_lists};
use crate::second_judge::expect_strict_serializability;

/// So many registers are in use at a time.
pub(crate) const GROUP: u64 = 8;
const CLIENTS: u32 = 16;

pub(crate) type Store = Engine<u64, u64>;
type Db = Handle<u64, u64>;

struct Client {
    world: Arc<World>,
    db: Db,
    process: u32,
    random: Random,
    elements: u64,
    /// For how long every other insert lives.
    ttl: Option<Duration>,
    txns: Vec<Txn>,
}

impl Client {
    fn new(world: Arc<World>, db: Db, process: u32, (seed, ttl): (u64, Option<Duration>)) -> Self {
        let random = Random::new(seed ^ (u64::from(process) << 32));
        Self { world, db, process, random, elements: u64::from(process) << 32, ttl, txns: Vec::new() }
    }

    async fn run(mut self) -> Vec<Txn> {
        while let Some(group) = self.world.group() {
            let invoked = self.world.tick();
            let began = SystemEnv.unix_millis();
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
            let date = (began, SystemEnv.unix_millis());
            self.txns.push(Txn { what, process, invoked, completed, date, outcome, timestamp, acts });
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
        match self.ttl {
            Some(ttl) if self.random.one_in(2) => self.db.insert_with_ttl(register, element, ttl).await,
            _ => self.db.insert(register, element).await,
        }
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
    let engine: Store = match mode {
        Mode::InMemory => builder.in_memory().await,
        Mode::Relaxed => builder.durability(Durability::Relaxed(flush)).open(directory.path()).await,
        Mode::Full => builder.durability(Durability::Full).open(directory.path()).await,
    }
    .expect("nothing is wrong with these settings");
    let txns = run_clients(&engine, seed, transactions, None).await;
    engine.close().await.expect("the disk is in order");
    txns
}

/// Lets clients work on an engine, of which every other insert lives for so long, and takes a last look.
pub(crate) async fn run_clients(
    engine: &Store,
    seed: u64,
    transactions: u64,
    ttl: Option<Duration>,
) -> Vec<Txn> {
    let world = Arc::new(World::default());
    world.stops_at_goal.store(true, Ordering::SeqCst);
    world.goal.store(transactions, Ordering::SeqCst);
    let client = |process| Client::new(Arc::clone(&world), engine.handle(), process, (seed, ttl));
    let clients: Vec<_> = (1..=CLIENTS).map(|process| tokio::spawn(client(process).run())).collect();
    let mut txns = Vec::new();
    for client in clients {
        txns.extend(client.await.expect("no client panics"));
    }
    let (invoked, began) = (world.tick(), SystemEnv.unix_millis());
    let snapshot = engine.handle().snapshot();
    let acts = (0..world.groups()).map(|group| look_at(&snapshot, group * GROUP).expect("it is open"));
    let acts = acts.flatten().collect();
    let (what, completed, outcome) = ("the last look", Some(world.tick()), Outcome::Committed);
    let date = (began, SystemEnv.unix_millis());
    txns.push(Txn { what, process: 0, invoked, completed, date, outcome, timestamp: None, acts });
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
