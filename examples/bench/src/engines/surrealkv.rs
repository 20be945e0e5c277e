//! surrealkv: an LSM tree with an asynchronous commit pipeline. Its isolation is snapshot, which is enough for
//! these workloads. `Relaxed` is its `Eventual`, which leaves out the sync in time that others do.

use std::any::Any;
use std::sync::Arc;

use surrealkv::{Durability, Error, LSMIterator, Mode, Transaction, Tree, TreeBuilder};

use super::bytes::{number, with_number};
use crate::keys::{Key, Value};
use crate::store::{Counters, InOrder, Level, Outcome, Setup, Store, Style, missing};

#[derive(Clone)]
pub(crate) struct SurrealKv {
    tree: Arc<Tree>,
    durability: Durability,
}

impl Store for SurrealKv {
    const STYLE: Style = Style::Tasks;

    async fn open(setup: &Setup) -> Outcome<Self> {
        let durability = match setup.level {
            Level::Memory => return Err("it always keeps a log on disk".into()),
            Level::Relaxed => Durability::Eventual,
            Level::Full => Durability::Immediate,
        };
        let tree = TreeBuilder::new().with_path(setup.directory.clone()).build()?;
        Ok(Self { tree: Arc::new(tree), durability })
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        Ok(transaction.get(key)?.map(|value| number(&value)))
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        let mut transaction = self.tree.begin()?.with_durability(self.durability);
        loop {
            transaction.set(key, value.to_bytes())?;
            if committed(transaction.commit().await)? {
                return Ok(());
            }
            transaction = self.tree.begin()?.with_durability(self.durability);
        }
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        let mut runs = 0;
        loop {
            runs += 1;
            let mut transaction = self.tree.begin()?.with_durability(self.durability);
            change(&mut transaction, key, |old| old + by)?;
            if committed(transaction.commit().await)? {
                return Ok(runs);
            }
        }
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut sum = 0;
        for key in keys {
            sum += number(&transaction.get(*key)?.ok_or_else(|| missing(key))?);
        }
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        let mut runs = 0;
        loop {
            runs += 1;
            let mut transaction = self.tree.begin()?.with_durability(self.durability);
            change(&mut transaction, from, |old| old - 1)?;
            change(&mut transaction, to, |old| old + 1)?;
            if committed(transaction.commit().await)? {
                return Ok(runs);
            }
        }
    }

    async fn scan(&self, start: &str, rows: usize, backwards: bool) -> Outcome<usize> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut order = InOrder::default();
        let (from, to) = if backwards { ("a", start) } else { (start, "l") };
        let mut entries = transaction.range(from, to)?;
        let mut valid = if backwards { entries.seek_last()? } else { entries.seek_first()? };
        while valid && order.rows < rows {
            order.next(entries.key().user_key(), backwards)?;
            valid = if backwards { entries.prev()? } else { entries.next()? };
        }
        Ok(order.rows)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut transaction = self.tree.begin()?.with_durability(self.durability);
            for (key, value) in rows.by_ref().take(batch) {
                transaction.set(key.as_str(), value.to_bytes())?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Ok(Box::new(self.tree.begin()?))
    }

    async fn maintain(&self) -> Outcome<()> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn close(self) -> Outcome<()> {
        Ok(self.tree.close().await?)
    }
}

fn committed(outcome: Result<(), Error>) -> Outcome<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(Error::TransactionWriteConflict | Error::TransactionRetry) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn change(transaction: &mut Transaction, key: &str, change: impl FnOnce(u64) -> u64) -> Outcome<()> {
    let old = transaction.get(key)?.ok_or_else(|| missing(key))?;
    Ok(transaction.set(key, with_number(&old, change(number(&old))))?)
}
