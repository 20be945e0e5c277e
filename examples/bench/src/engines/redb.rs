//! redb: a copy-on-write B-tree on disk, or over its memory backend. One writer at a time, so nothing conflicts.

use std::any::Any;
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::bytes::{number, with_number};
use crate::keys::{Key, Value};
use crate::store::{Counters, InOrder, Level, Outcome, Setup, Store, Style, missing};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bench");
#[derive(Clone)]
pub(crate) struct Redb(Arc<Database>);

impl Store for Redb {
    const STYLE: Style = Style::Threads;

    fn batch_rows(_: Level) -> usize {
        4096
    }

    async fn open(setup: &Setup) -> Outcome<Self> {
        let database = match setup.level {
            Level::Memory => Database::builder().create_with_backend(InMemoryBackend::new())?,
            Level::Relaxed => return Err("it syncs every commit, or none until one that is synced".into()),
            Level::Full => {
                std::fs::create_dir_all(&setup.directory)?;
                Database::create(setup.directory.join("redb"))?
            }
        };
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Self(Arc::new(database)))
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| number(value.value())))
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        self.write(|table| {
            table.insert(key, value.to_bytes().as_slice())?;
            Ok(())
        })
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        self.write(|table| add(table, key, |old| old + by))?;
        Ok(1)
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut sum = 0;
        for key in keys {
            sum += number(table.get(*key)?.ok_or_else(|| missing(key))?.value());
        }
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        self.write(|table| {
            add(table, from, |old| old - 1)?;
            add(table, to, |old| old + 1)
        })?;
        Ok(1)
    }

    async fn scan(&self, start: &str, rows: usize, backwards: bool) -> Outcome<usize> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut order = InOrder::default();
        if backwards {
            for entry in table.range(..start)?.rev().take(rows) {
                order.next(entry?.0.value().as_bytes(), true)?;
            }
        } else {
            for entry in table.range(start..)?.take(rows) {
                order.next(entry?.0.value().as_bytes(), false)?;
            }
        }
        Ok(order.rows)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            self.write(|table| {
                for (key, value) in rows.by_ref().take(batch) {
                    table.insert(key.as_str(), value.to_bytes().as_slice())?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Err("it has one writing transaction at a time".into())
    }

    async fn maintain(&self) -> Outcome<()> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn close(self) -> Outcome<()> {
        drop(self.0);
        Ok(())
    }
}

impl Redb {
    fn write(&self, body: impl FnOnce(&mut Table<'_, &str, &[u8]>) -> Outcome<()>) -> Outcome<()> {
        let transaction = self.0.begin_write()?;
        body(&mut transaction.open_table(TABLE)?)?;
        Ok(transaction.commit()?)
    }
}

fn add(table: &mut Table<'_, &str, &[u8]>, key: &str, change: impl FnOnce(u64) -> u64) -> Outcome<()> {
    let old = table.get(key)?.ok_or_else(|| missing(key))?.value().to_vec();
    table.insert(key, with_number(&old, change(number(&old))).as_slice())?;
    Ok(())
}
