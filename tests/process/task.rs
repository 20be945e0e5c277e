//! One task of the worker: a client that does one operation after the other, and waits for some of its
//! transactions only after it has begun others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch::{Durability, Error, Handle, Ticket, Transaction};

use crate::event::{Event, Operation};
use crate::plan::{Plan, Work};
use crate::random::Random;
use crate::row::{COUNTER, Key, OWN_SLOTS, SHARED, Tag, Value, own_key};
use crate::worker::{Pipe, describe};

const SHARED_KEYS: u64 = 12;
const COUNTERS: u64 = 3;
/// Transactions that a task has submitted and not waited for.
const TICKETS_MAX: usize = 4;
/// What a task still tries when the engine has failed.
const TRIES_AFTER_FAILURE: u64 = 3;
/// More than the segments of [`Work::HugeFirst`] hold.
const HUGE: u64 = 100_000;

pub(crate) struct Task {
    life: u64,
    id: u64,
    operations: u64,
    work: Work,
    number: u64,
    random: Random,
    db: Handle<Key, Value>,
    strong: Handle<Key, Value>,
    pipe: Pipe,
    /// Which of its own keys have a value.
    present: BTreeSet<u64>,
    tickets: VecDeque<(Operation, Ticket)>,
    failed: bool,
}

impl Task {
    pub(crate) fn new(plan: &Plan, task: u64, db: &Handle<Key, Value>, pipe: Pipe) -> Self {
        let has = |slot: &u64| db.contains_key(&own_key(task, *slot)).expect("the engine is open");
        Self {
            life: plan.life,
            id: task,
            operations: plan.operations,
            work: plan.work,
            number: 0,
            random: Random::new(plan.seed ^ (task + 1) << 32),
            strong: db.with_durability(Durability::Full).expect("the engine is on disk"),
            present: (0..OWN_SLOTS).filter(has).collect(),
            db: db.clone(),
            pipe,
            tickets: VecDeque::new(),
            failed: false,
        }
    }

    pub(crate) async fn run(mut self) {
        if self.work == Work::HugeFirst && self.id == 0 {
            self.insert(HUGE).await;
        }
        while self.number < self.operations && !self.failed {
            match self.random.between(0..=9) {
                0 | 1 => {
                    let length = self.length();
                    self.insert(length).await;
                }
                2 => self.remove().await,
                3 | 4 => self.count().await,
                5 => self.roll_back(),
                _ => self.transaction().await,
            }
        }
        while !self.tickets.is_empty() {
            self.wait_for_ticket().await;
        }
        if self.failed {
            for _ in 0..TRIES_AFTER_FAILURE {
                self.insert(1).await;
            }
        }
    }

    fn begin(&mut self) -> Operation {
        self.number += 1;
        Operation { task: self.id, number: self.number - 1 }
    }

    fn handle(&mut self) -> Handle<Key, Value> {
        if self.random.percent(10) { self.strong.clone() } else { self.db.clone() }
    }

    fn length(&mut self) -> u64 {
        match self.random.between(0..=99) {
            0 => self.random.between(3_000..=40_000),
            1..=10 => self.random.between(300..=3_000),
            _ => self.random.between(0..=300),
        }
    }

    fn tag(&mut self, length: u64) -> Tag {
        Tag::new(self.life, self.id, self.number - 1, length)
    }

    /// Says what came of it. `true` if it was acknowledged.
    fn ended<T>(&mut self, operation: Operation, outcome: &Result<T, Error>) -> bool {
        match outcome {
            Ok(_) => self.pipe.say(&Event::Acknowledged { operation }),
            Err(error) => {
                self.failed |=
                    matches!(error, Error::ReadOnly { .. } | Error::Indeterminate { .. } | Error::Closed);
                let (error, message) = describe(error);
                self.pipe.say(&Event::Failed { operation, error, message });
            }
        }
        outcome.is_ok()
    }

    async fn insert(&mut self, length: u64) {
        let operation = self.begin();
        let slot = operation.number % OWN_SLOTS;
        let (key, tag) = (own_key(self.id, slot), self.tag(length));
        self.pipe.say(&Event::Begin { operation, writes: vec![(key.clone(), Some(tag.0))] });
        let outcome = self.handle().insert(key, tag.value()).await;
        if self.ended(operation, &outcome) {
            self.present.insert(slot);
        }
    }

    async fn remove(&mut self) {
        let present: Vec<_> = self.present.iter().copied().collect();
        if present.is_empty() {
            return self.insert(0).await;
        }
        let operation = self.begin();
        let slot = self.random.pick(&present);
        let key = own_key(self.id, slot);
        self.pipe.say(&Event::Begin { operation, writes: vec![(key.clone(), None)] });
        let outcome = self.handle().remove(&key).await;
        if self.ended(operation, &outcome) {
            assert!(outcome.is_ok_and(|old| old.is_some()), "{key} had a value");
            self.present.remove(&slot);
        }
    }

    async fn count(&mut self) {
        let operation = self.begin();
        let counter = format!("{COUNTER}{}", self.random.between(0..=COUNTERS - 1));
        self.pipe.say(&Event::Count { operation, counter: counter.clone() });
        let add = |old: Option<&Value>| Some((old.map_or(0, |count| count.0) + 1, String::new()));
        let outcome = self.handle().update(counter, add).await;
        self.ended(operation, &outcome);
    }

    /// Reads and writes some shared keys, and one of its own, which tells whether it took place.
    fn fill(
        &mut self,
        transaction: &mut Transaction<Key, Value>,
        slot: u64,
    ) -> Result<BTreeMap<Key, Option<u64>>, Error> {
        let mut writes = BTreeMap::new();
        for _ in 0..self.random.between(0..=2) {
            let key = self.shared_key();
            transaction.get(&key)?;
        }
        if self.random.percent(5) {
            transaction.prefix(SHARED).for_each(drop);
        }
        let length = self.length();
        let own = self.tag(length);
        transaction.insert(own_key(self.id, slot), own.value());
        writes.insert(own_key(self.id, slot), Some(own.0));
        for _ in 0..self.random.between(0..=3) {
            let (key, length) = (self.shared_key(), self.length());
            if self.random.percent(20) {
                transaction.remove(&key);
                writes.insert(key, None);
            } else {
                let tag = self.tag(length);
                transaction.insert(key.clone(), tag.value());
                writes.insert(key, Some(tag.0));
            }
        }
        if self.random.percent(20) {
            // Nobody is told of this, so nobody may find it.
            transaction.savepoint("before");
            let (key, tag) = (self.shared_key(), self.tag(7));
            transaction.insert(key, tag.value());
            transaction.insert(format!("{SHARED}never"), tag.value());
            transaction.rollback_to("before")?;
        }
        Ok(writes)
    }

    fn shared_key(&mut self) -> Key {
        format!("{SHARED}{}", self.random.between(0..=SHARED_KEYS - 1))
    }

    fn roll_back(&mut self) {
        let operation = self.begin();
        let mut transaction = self.db.begin();
        let writes = self.fill(&mut transaction, operation.number % OWN_SLOTS).expect("the engine is open");
        self.pipe.say(&Event::Begin { operation, writes: writes.into_iter().collect() });
        transaction.rollback();
        self.pipe.say(&Event::RolledBack { operation });
    }

    async fn transaction(&mut self) {
        let operation = self.begin();
        let slot = operation.number % OWN_SLOTS;
        let mut transaction = self.handle().begin();
        let writes = self.fill(&mut transaction, slot).expect("the engine is open");
        self.pipe.say(&Event::Begin { operation, writes: writes.into_iter().collect() });
        match transaction.submit().await {
            Ok(ticket) => {
                self.pipe.say(&Event::At { operation, timestamp: ticket.timestamp().0 });
                self.present.insert(slot);
                self.tickets.push_back((operation, ticket));
            }
            Err(error) => {
                self.ended(operation, &Err::<(), _>(error));
            }
        }
        if self.tickets.len() > TICKETS_MAX {
            self.wait_for_ticket().await;
        }
    }

    async fn wait_for_ticket(&mut self) {
        if let Some((operation, ticket)) = self.tickets.pop_front() {
            let outcome = ticket.durable().await;
            self.ended(operation, &outcome);
        }
    }
}
