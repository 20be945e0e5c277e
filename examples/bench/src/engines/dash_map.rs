//! The limit in memory: a bare `DashMap`, without versions, transactions, order or a log.

use std::any::Any;
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::keys::{Key, Value};
use crate::store::{Counters, Level, Outcome, Setup, Store, Style, missing};

#[derive(Clone)]
pub(crate) struct BareDashMap(Arc<DashMap<Key, Arc<Value>, RandomState>>);

impl Store for BareDashMap {
    const STYLE: Style = Style::Threads;

    async fn open(setup: &Setup) -> Outcome<Self> {
        if setup.level != Level::Memory {
            return Err("it keeps nothing on disk".into());
        }
        Ok(Self(Arc::new(DashMap::with_hasher(RandomState::default()))))
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        Ok(self.0.get(key).map(|value| value.0))
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        self.0.insert(Key::from(key), Arc::new(value.clone()));
        Ok(())
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        let mut entry = self.0.get_mut(key).ok_or_else(|| missing(key))?;
        let new = entry.with_number(entry.0 + by);
        *entry = Arc::new(new);
        Ok(1)
    }

    async fn read(&self, _: &[&str]) -> Outcome<u64> {
        Err("it has no snapshots".into())
    }

    async fn transfer(&self, _: &str, _: &str) -> Outcome<u64> {
        Err("it has no transactions".into())
    }

    async fn scan(&self, _: &str, _: usize, _: bool) -> Outcome<usize> {
        Err("it has no order".into())
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, _: usize) -> Outcome<()> {
        for (key, value) in rows {
            self.0.insert(key, Arc::new(value));
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Err("it has no transactions".into())
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
