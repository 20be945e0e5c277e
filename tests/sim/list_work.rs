//! What tasks do with lists: transactions, updates, closures and snapshots, each noted for the judge.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::{Durability, Error, Transaction};
use tokio::time::{sleep, timeout};

use crate::checker::Op;
use crate::history::{Key, Value};
use crate::lists::{LIST, LISTS, Lists, elements, key, with};
use crate::workload::{Met, Worker};

impl Worker {
    pub(crate) async fn work_on_lists(&mut self) -> Met {
        match self.random.between(0..=99) {
            0..=54 => self.list_transaction().await,
            55..=64 => {
                let limit = Duration::from_millis(self.random.between(0..=6));
                timeout(limit, self.list_transaction()).await.unwrap_or(Ok(()))
            }
            65..=79 => self.list_update().await,
            80..=84 => self.list_closure().await,
            _ => self.list_snapshot().await,
        }
    }

    fn lists<T>(&self, note: impl FnOnce(&mut Lists) -> T) -> T {
        note(&mut self.history.lock().unwrap().lists)
    }

    async fn list_transaction(&mut self) -> Met {
        let strong = self.random.percent(10);
        let db = if strong { self.db().with_durability(Durability::Full)? } else { self.db() };
        let invoked = self.lists(Lists::tick);
        let mut transaction = db.begin();
        let read_at = transaction.read_timestamp().0;
        let mut ops = Vec::new();
        for _ in 0..self.random.between(1..=4) {
            self.list_step(&mut transaction, &mut ops)?;
            if self.random.percent(20) {
                sleep(Duration::from_millis(self.random.between(0..=5))).await;
            }
        }
        let process = self.process;
        let entry = self.lists(|lists| lists.begin("a transaction", process, invoked, ops, strong));
        let ticket = match transaction.submit().await {
            Ok(ticket) => ticket,
            Err(error) => {
                self.lists(|lists| lists.failed(entry, &error));
                return Err(error);
            }
        };
        let writes = self.lists(|lists| lists.writes(entry));
        let timestamp = if writes { ticket.timestamp().0 } else { read_at };
        self.lists(|lists| lists.timed(entry, timestamp));
        let attempt = writes.then(|| self.known_commit(timestamp, strong));
        if self.random.percent(10) {
            return Ok(());
        }
        ticket.durable().await?;
        self.lists(|lists| lists.acknowledged(entry, []));
        if let Some(attempt) = attempt {
            self.acknowledge(attempt, timestamp);
        }
        Ok(())
    }

    /// Tells the oracle of a commit that it can't see in the content.
    fn known_commit(&self, timestamp: u64, strong: bool) -> usize {
        let mut history = self.history.lock().unwrap();
        let attempt = history.begin(BTreeMap::new(), strong);
        history.attempts[attempt].timestamp = Some(timestamp);
        attempt
    }

    fn list_step(
        &mut self,
        transaction: &mut Transaction<Key, Value>,
        ops: &mut Vec<Op>,
    ) -> Result<(), Error> {
        let list = self.random.between(0..=LISTS - 1);
        match self.random.between(0..=10) {
            0..=4 => {
                let old = transaction.get(&key(list))?;
                let element = self.lists(Lists::element);
                transaction.insert(key(list), with(old.as_deref(), element));
                ops.push(Op::Read(list, elements(old)));
                ops.push(Op::Append(list, element));
            }
            5..=8 => ops.push(Op::Read(list, elements(transaction.get(&key(list))?))),
            9 => {
                let element = self.lists(Lists::element);
                transaction.savepoint("undo");
                transaction.update(key(list), |old| Some(with(old, element)))?;
                transaction.rollback_to("undo")?;
                ops.push(Op::Undone(list, element));
            }
            _ => {
                let found = transaction.prefix(LIST).collect::<Result<Vec<_>, _>>()?;
                let value = |list| found.iter().find(|entry| entry.0 == key(list)).map(|entry| &entry.1);
                ops.extend((0..LISTS).map(|list| Op::Read(list, elements(value(list).cloned()))));
            }
        }
        Ok(())
    }

    async fn list_update(&mut self) -> Met {
        let list = self.random.between(0..=LISTS - 1);
        let (process, invoked, element) = (self.process, self.lists(Lists::tick), self.lists(Lists::element));
        let append = vec![Op::Append(list, element)];
        let entry = self.lists(|lists| lists.begin("an update", process, invoked, append, false));
        match self.db().update(key(list), move |old| Some(with(old, element))).await {
            Ok(new) => {
                self.lists(|lists| lists.acknowledged(entry, [Op::Read(list, elements(new))]));
                Ok(())
            }
            Err(error) => {
                self.lists(|lists| lists.failed(entry, &error));
                Err(error)
            }
        }
    }

    /// Appends to two lists in a closure, which the engine runs again until it commits.
    async fn list_closure(&mut self) -> Met {
        let first = self.random.between(0..=LISTS - 1);
        let (process, invoked, element) = (self.process, self.lists(Lists::tick), self.lists(Lists::element));
        let both = [first, (first + 1) % LISTS];
        let appends = both.map(|list| Op::Append(list, element)).to_vec();
        let entry = self.lists(|lists| lists.begin("a closure", process, invoked, appends, false));
        let mut reads = Vec::new();
        let body = |transaction: &mut Transaction<Key, Value>| {
            reads.clear();
            for list in both {
                transaction.update(key(list), |old| Some(with(old, element)))?;
                reads.push(Op::Read(list, elements(transaction.get(&key(list))?)));
            }
            Ok(())
        };
        let committed = self.db().transaction(body).await;
        match &committed {
            Ok(()) => self.lists(|lists| lists.acknowledged(entry, reads)),
            Err(error) => self.lists(|lists| lists.failed(entry, error)),
        }
        committed
    }

    async fn list_snapshot(&mut self) -> Met {
        let (invoked, snapshot) = (self.lists(Lists::tick), self.db().snapshot());
        let mut ops = Vec::new();
        for _ in 0..self.random.between(1..=4) {
            let list = self.random.between(0..=LISTS - 1);
            ops.push(Op::Read(list, elements(snapshot.get(&key(list))?)));
            sleep(Duration::from_millis(self.random.between(0..=2))).await;
        }
        let (process, timestamp) = (self.process, snapshot.timestamp().0);
        self.lists(|lists| {
            let entry = lists.begin("a snapshot", process, invoked, ops, false);
            lists.timed(entry, timestamp);
            lists.acknowledged(entry, []);
        });
        Ok(())
    }
}
