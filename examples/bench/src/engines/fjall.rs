//! fjall with optimistic transactions: an LSM tree on disk. `Relaxed` hands its journal to the operating system
//! with every commit, and leaves out the sync in time that others do.

use std::any::Any;

use fjall::{
    KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, OptimisticWriteTx, PersistMode,
    Readable,
};

use super::bytes::{number, with_number};
use crate::keys::{Key, Value};
use crate::store::{Counters, InOrder, Level, Outcome, Setup, Store, Style, missing};

#[derive(Clone)]
pub(crate) struct Fjall {
    database: OptimisticTxDatabase,
    rows: OptimisticTxKeyspace,
    persist: PersistMode,
}

impl Store for Fjall {
    const STYLE: Style = Style::Threads;

    async fn open(setup: &Setup) -> Outcome<Self> {
        let persist = match setup.level {
            Level::Memory => return Err("it always keeps a journal on disk".into()),
            Level::Relaxed => PersistMode::Buffer,
            Level::Full => PersistMode::SyncData,
        };
        let database = OptimisticTxDatabase::builder(&setup.directory).open()?;
        let rows = database.keyspace("bench", KeyspaceCreateOptions::default)?;
        Ok(Self { database, rows, persist })
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        Ok(self.rows.get(key)?.map(|value| number(&value)))
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        self.rerun(|transaction| {
            transaction.insert(&self.rows, key, value.to_bytes());
            Ok(())
        })?;
        Ok(())
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        self.rerun(|transaction| self.change(transaction, key, |old| old + by))
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let snapshot = self.database.read_tx();
        let mut sum = 0;
        for key in keys {
            sum += number(&snapshot.get(&self.rows, key)?.ok_or_else(|| missing(key))?);
        }
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        self.rerun(|transaction| {
            self.change(transaction, from, |old| old - 1)?;
            self.change(transaction, to, |old| old + 1)
        })
    }

    async fn scan(&self, start: &str, rows: usize, backwards: bool) -> Outcome<usize> {
        let snapshot = self.database.read_tx();
        let mut order = InOrder::default();
        if backwards {
            for entry in snapshot.range(&self.rows, ..start).rev().take(rows) {
                order.next(&entry.into_inner()?.0, true)?;
            }
        } else {
            for entry in snapshot.range(&self.rows, start..).take(rows) {
                order.next(&entry.into_inner()?.0, false)?;
            }
        }
        Ok(order.rows)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut transaction = self.database.write_tx()?.durability(Some(self.persist));
            for (key, value) in rows.by_ref().take(batch) {
                transaction.insert(&self.rows, key.into_string(), value.to_bytes());
            }
            transaction.commit()?.map_err(|_| "a conflict where nobody else writes")?;
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Ok(Box::new(self.database.write_tx()?))
    }

    async fn maintain(&self) -> Outcome<()> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

impl Fjall {
    /// Until it commits. Returns how often it ran.
    fn rerun(&self, mut body: impl FnMut(&mut OptimisticWriteTx) -> Outcome<()>) -> Outcome<u64> {
        for runs in 1.. {
            let mut transaction = self.database.write_tx()?.durability(Some(self.persist));
            body(&mut transaction)?;
            if transaction.commit()?.is_ok() {
                return Ok(runs);
            }
        }
        Err("it never commits".into())
    }

    fn change(
        &self,
        transaction: &mut OptimisticWriteTx,
        key: &str,
        change: impl FnOnce(u64) -> u64,
    ) -> Outcome<()> {
        let old = transaction.get(&self.rows, key)?.ok_or_else(|| missing(key))?;
        transaction.insert(&self.rows, key, with_number(&old, change(number(&old))));
        Ok(())
    }
}
