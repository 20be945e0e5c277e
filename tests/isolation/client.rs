//! A client: runs random transactions over lists in every way that the engine has, and writes down what it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anabranch::{Error, Ticket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::checker::{self, Op, Outcome};
use crate::lists::{self, Db, GROUP, PLAIN, Txn};
use crate::random::Random;
use crate::runs::{Elements, Runs, Step, read_only_step};

/// So many transactions are begun on a group of lists before the next has its turn.
const GROUP_TURN: u64 = 300;
const TICKETS_MAX: usize = 4;

/// What all clients share.
#[derive(Default)]
pub(crate) struct World {
    /// Orders all beginnings and ends.
    clock: AtomicU64,
    begun: AtomicU64,
    /// A life ends at this number of transactions.
    pub(crate) goal: AtomicU64,
    /// Whether clients stop at the goal. Else they stop when the engine does.
    pub(crate) stops_at_goal: AtomicBool,
    reached: Notify,
    /// Commits in two phases.
    pub(crate) two_phase: AtomicU64,
}

impl World {
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn groups(&self) -> u64 {
        self.begun.load(Ordering::SeqCst) / GROUP_TURN + 1
    }

    pub(crate) async fn goal_reached(&self) {
        // A notification may be left over from an earlier goal.
        while self.begun.load(Ordering::SeqCst) < self.goal.load(Ordering::SeqCst) {
            self.reached.notified().await;
        }
    }

    /// The group of lists for another transaction, if there is to be one.
    pub(crate) fn group(&self) -> Option<u64> {
        let number = self.begun.fetch_add(1, Ordering::SeqCst);
        let goal = self.goal.load(Ordering::SeqCst);
        if number >= goal {
            self.reached.notify_one();
        }
        let stops = number >= goal && self.stops_at_goal.load(Ordering::SeqCst);
        (!stops).then_some(number / GROUP_TURN)
    }
}

pub(crate) struct Client {
    world: Arc<World>,
    db: Db,
    process: u32,
    random: Random,
    elements: Elements,
    pub(crate) txns: Vec<checker::Txn>,
    tickets: Vec<JoinHandle<checker::Txn>>,
}

impl Client {
    /// A client whose elements differ from those of all other numbers.
    pub(crate) fn new(world: Arc<World>, db: Db, process: u32, seed: u64) -> Self {
        let random = Random::new(seed ^ (u64::from(process) << 32));
        let elements = Elements::after(u64::from(process) << 32);
        Self { world, db, process, random, elements, txns: Vec::new(), tickets: Vec::new() }
    }

    /// Runs until the goal is reached or the engine is gone, and returns what was done.
    pub(crate) async fn run(mut self) -> Vec<checker::Txn> {
        while let Some(group) = self.world.group() {
            if !self.one(group).await {
                break;
            }
        }
        self.collect_tickets(0).await;
        self.txns
    }

    /// Runs one transaction, and tells whether the engine is still there.
    async fn one(&mut self, group: u64) -> bool {
        let steps = self.steps(group);
        let invoked = self.world.tick();
        let (what, (result, ops)) = match self.random.below(20) {
            0..6 => ("a transaction", self.closure(&steps).await),
            6..8 => ("an async transaction", self.async_closure(steps).await),
            8..12 => ("a commit by hand", self.by_hand(&steps).await),
            12 => return self.submit(&steps, invoked).await,
            13..15 => ("an update", self.update(group).await),
            15..17 => ("a snapshot", self.snapshot(&steps).await),
            17 => ("reads without a transaction", self.single_read(group)),
            18 => ("a transaction that only reads", self.read_only(&steps).await),
            _ => ("a transaction that is dropped", self.dropped(&steps)),
        };
        let is_open = !matches!(result, Err(Error::Closed | Error::ReadOnly { .. }));
        let txn = record(&self.world, self.process, what, invoked, result, ops);
        self.txns.push(txn);
        is_open
    }

    fn steps(&mut self, group: u64) -> Vec<Step> {
        let first = group * GROUP;
        let random = &mut self.random;
        if random.one_in(40) {
            return (first..first + GROUP).map(Step::Append).collect();
        }
        let count = 1 + random.below(4);
        let mut steps = Vec::new();
        for _ in 0..count {
            let list = first + random.below(GROUP);
            steps.push(match random.below(24) {
                0 => {
                    let start = first + random.below(PLAIN);
                    Step::Range(start..start + random.below(first + PLAIN - start))
                }
                1 => Step::Group(group),
                2 => Step::Undo((0..=random.below(2)).map(|_| first + random.below(GROUP)).collect()),
                3..13 => Step::Append(list),
                _ => Step::Read(list),
            });
        }
        steps
    }

    async fn closure(&mut self, steps: &[Step]) -> (Result<(), Error>, Vec<Op>) {
        let Self { db, elements, .. } = self;
        let mut runs = Runs::default();
        let result = db.transaction(|txn| runs.run(txn, steps, elements)).await;
        (result, runs.into_ops())
    }

    async fn async_closure(&mut self, steps: Vec<Step>) -> (Result<(), Error>, Vec<Op>) {
        let runs =
            Arc::new(parking_lot::Mutex::new((Runs::default(), Elements::after(self.elements.last()))));
        let shared = Arc::clone(&runs);
        let body = async move |txn: &mut Txn| {
            shared.lock().0.begin();
            for step in &steps {
                {
                    let (runs, elements) = &mut *shared.lock();
                    runs.step(txn, step, elements)?;
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        let result = self.db.transaction_async(body).await;
        let mut runs = runs.lock();
        self.elements = Elements::after(runs.1.last());
        (result, std::mem::take(&mut runs.0).into_ops())
    }

    async fn by_hand(&mut self, steps: &[Step]) -> (Result<(), Error>, Vec<Op>) {
        let mut runs = Runs::default();
        let mut txn = self.db.begin();
        let result = runs.run(&mut txn, steps, &mut self.elements);
        tokio::task::yield_now().await;
        let result = match result {
            Ok(()) => txn.commit().await.map(drop),
            Err(error) => Err(error),
        };
        (result, runs.into_ops())
    }

    /// Commits without waiting, and lets a task wait for the ticket.
    async fn submit(&mut self, steps: &[Step], invoked: u64) -> bool {
        let mut runs = Runs::default();
        let mut txn = self.db.begin();
        let result = runs.run(&mut txn, steps, &mut self.elements);
        let submitted = match result {
            Ok(()) => txn.submit().await,
            Err(error) => Err(error),
        };
        let ops = runs.into_ops();
        match submitted {
            Ok(ticket) => {
                let (world, process) = (Arc::clone(&self.world), self.process);
                self.tickets.push(tokio::spawn(await_ticket(world, process, invoked, ticket, ops)));
                self.collect_tickets(TICKETS_MAX).await;
                true
            }
            Err(error) => {
                let is_open = !matches!(error, Error::Closed);
                self.txns.push(record(&self.world, self.process, "a submit", invoked, Err(error), ops));
                is_open
            }
        }
    }

    async fn collect_tickets(&mut self, left: usize) {
        while self.tickets.len() > left {
            let ticket = self.tickets.remove(0);
            self.txns.push(ticket.await.expect("waiting for a ticket does not panic"));
        }
    }

    async fn update(&mut self, group: u64) -> (Result<(), Error>, Vec<Op>) {
        let list = group * GROUP + self.random.below(PLAIN);
        let element = self.elements.next();
        let updated = self.db.update(lists::plain(list), move |old| Some(lists::with(old, element))).await;
        let mut ops = vec![Op::Append(list, element)];
        let result = updated.map(|list_now| ops.push(Op::Read(list, list_now.unwrap_or_default())));
        (result, ops)
    }

    async fn snapshot(&mut self, steps: &[Step]) -> (Result<(), Error>, Vec<Op>) {
        let mut snapshot = self.db.snapshot();
        let mut ops = Vec::new();
        for step in steps {
            match read_only_step(&mut snapshot, step) {
                Ok(read) => ops.extend(read),
                Err(error) => return (Err(error), ops),
            }
            tokio::task::yield_now().await;
        }
        (Ok(()), ops)
    }

    /// A single call on the handle, which is a snapshot of its own.
    fn single_read(&mut self, group: u64) -> (Result<(), Error>, Vec<Op>) {
        let (list, backwards) = (group * GROUP + self.random.below(PLAIN), self.random.one_in(2));
        let read = match self.random.below(3) {
            0 => lists::read(&mut self.db, list, false).map(|op| vec![op]),
            1 => lists::read_group(&mut self.db, group, backwards),
            _ => {
                let keys: Vec<_> = (group * GROUP..=list).map(lists::plain).collect();
                let values = self.db.get_many(keys.iter().map(String::as_str));
                let op =
                    |(list, value): (u64, Option<Arc<Vec<u64>>>)| Op::Read(list, value.unwrap_or_default());
                values.map(|values| (group * GROUP..=list).zip(values).map(op).collect())
            }
        };
        match read {
            Ok(ops) => (Ok(()), ops),
            Err(error) => (Err(error), Vec::new()),
        }
    }

    async fn read_only(&mut self, steps: &[Step]) -> (Result<(), Error>, Vec<Op>) {
        let mut txn = self.db.begin();
        let mut ops = Vec::new();
        for step in steps {
            match read_only_step(&mut txn, step) {
                Ok(read) => ops.extend(read),
                Err(error) => return (Err(error), ops),
            }
        }
        (txn.commit().await.map(drop), ops)
    }

    /// Appends that nobody may ever see.
    fn dropped(&mut self, steps: &[Step]) -> (Result<(), Error>, Vec<Op>) {
        let mut runs = Runs::default();
        let mut txn = self.db.begin();
        let result = runs.run(&mut txn, steps, &mut self.elements);
        txn.rollback();
        (result.and(Err(Error::Conflict { attempts: 0 })), runs.into_ops())
    }
}

async fn await_ticket(
    world: Arc<World>,
    process: u32,
    invoked: u64,
    ticket: Ticket,
    ops: Vec<Op>,
) -> checker::Txn {
    let result = ticket.durable().await.map(drop);
    record(&world, process, "a ticket", invoked, result, ops)
}

fn record(
    world: &World,
    process: u32,
    what: &'static str,
    invoked: u64,
    result: Result<(), Error>,
    ops: Vec<Op>,
) -> checker::Txn {
    let outcome = match result {
        Ok(()) => Outcome::Committed,
        Err(Error::Conflict { .. } | Error::ReadOnly { .. }) => Outcome::Aborted,
        Err(Error::Closed | Error::Indeterminate { .. }) => Outcome::Unknown,
        Err(error) => panic!("{what} failed: {error}"),
    };
    let completed = Some(world.tick()).filter(|_| outcome != Outcome::Unknown);
    checker::Txn { what, process, invoked, completed, outcome, ops }
}
