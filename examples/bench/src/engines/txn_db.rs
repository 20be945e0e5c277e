//! txn-db: versions in memory, with an optional commit log, by its serializable transactions.

use std::any::Any;

use txn_db::{Db, Transaction};

use super::bytes::{number, with_number};
use crate::keys::{Key, Value};
use crate::store::{Counters, Level, Outcome, Setup, Store, Style, missing};

#[derive(Clone)]
pub(crate) struct TxnDb(Db);

impl Store for TxnDb {
    const STYLE: Style = Style::Threads;

    async fn open(setup: &Setup) -> Outcome<Self> {
        match setup.level {
            Level::Memory => Ok(Self(Db::new())),
            Level::Relaxed => Err("it syncs every commit".into()),
            Level::Full => {
                std::fs::create_dir_all(&setup.directory)?;
                Ok(Self(Db::open(setup.directory.join("log"))?))
            }
        }
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        Ok(self.0.get(key.as_bytes())?.map(|value| number(&value)))
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        self.rerun(|transaction| {
            transaction.put(key.as_bytes(), value.to_bytes());
            Ok(())
        })?;
        Ok(())
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        self.rerun(|transaction| change(transaction, key, |old| old + by))
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let snapshot = self.0.snapshot();
        let mut sum = 0;
        for key in keys {
            sum += number(&snapshot.get(key.as_bytes())?.ok_or_else(|| missing(key))?);
        }
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        self.rerun(|transaction| {
            change(transaction, from, |old| old - 1)?;
            change(transaction, to, |old| old + 1)
        })
    }

    async fn scan(&self, _: &str, _: usize, _: bool) -> Outcome<usize> {
        Err("it has no scans".into())
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut transaction = self.0.begin();
            for (key, value) in rows.by_ref().take(batch) {
                transaction.put(key.into_string().into_bytes(), value.to_bytes());
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Ok(Box::new(self.0.begin_serializable()))
    }

    async fn maintain(&self) -> Outcome<()> {
        self.0.collect_garbage();
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

impl TxnDb {
    /// Until it commits. Returns how often it ran.
    fn rerun(
        &self,
        mut body: impl FnMut(&mut Transaction<txn_db::MemoryStore>) -> Outcome<()>,
    ) -> Outcome<u64> {
        for runs in 1.. {
            let mut transaction = self.0.begin_serializable();
            body(&mut transaction)?;
            match transaction.commit() {
                Ok(_) => return Ok(runs),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("it never commits".into())
    }
}

fn change(
    transaction: &mut Transaction<txn_db::MemoryStore>,
    key: &str,
    change: impl FnOnce(u64) -> u64,
) -> Outcome<()> {
    let old = transaction.get(key.as_bytes())?.ok_or_else(|| missing(key))?;
    transaction.put(key.as_bytes(), with_number(&old, change(number(&old))));
    Ok(())
}
