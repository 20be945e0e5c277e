//! fluxmap: a skip list with versions, in memory or with a log. It is known to hang at times; the harness ends
//! such a measurement, and says so.
//!
//! What fails is its own, as of 0.3.7: two commits may each pass the check for conflicts before the other is marked
//! (`TransactionManager::commit` takes no lock), which loses updates; and two tasks may write to one place of its log
//! (`PersistenceEngine::log` reads the place before it takes the lock, and moves it after), which loses commits that
//! were acknowledged.

use std::any::Any;
use std::sync::Arc;

use fluxmap::db::Database;
use fluxmap::error::FluxError;
use fluxmap::mem::MemSize;
use fluxmap::persistence::PersistenceOptions;

use crate::keys::{Key, Value};
use crate::store::{Counters, InOrder, Level, Outcome, Setup, Store, Style, missing};

/// Its default of 1 MiB is, as it says, for testing: it then rewrites its whole snapshot for each MiB, and what it
/// had not got to when it was closed it leaves out when it is opened again, because it orders segments by file times,
/// which opening them changes.
const SEGMENT_BYTES: u64 = 256 << 20;

impl MemSize for Value {
    fn mem_size(&self) -> usize {
        size_of::<Self>() + self.bytes() - 8
    }
}

#[derive(Clone)]
pub(crate) struct FluxMap(Arc<Database<String, Value>>);

impl Store for FluxMap {
    const STYLE: Style = Style::Tasks;

    async fn open(setup: &Setup) -> Outcome<Self> {
        let builder = Database::builder();
        let mut options = PersistenceOptions::new(setup.directory.clone());
        options.wal_segment_size_bytes = SEGMENT_BYTES;
        let database = match setup.level {
            Level::Memory => builder.build().await?,
            Level::Relaxed => {
                let builder = builder.durability_relaxed(options);
                builder.flush_interval(setup.sync_every).build().await?
            }
            Level::Full => builder.durability_full(options).build().await?,
        };
        Ok(Self(Arc::new(database)))
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        Ok(self.0.handle().get(&key.to_owned())?.map(|value| value.0))
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        loop {
            match self.0.handle().insert(key.to_owned(), value.clone()).await {
                Err(FluxError::SerializationConflict) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        self.rerun(&[(key, by)]).await
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let mut handle = self.0.handle();
        handle.begin()?;
        let mut sum = 0;
        for key in keys {
            sum += handle.get(&(*key).to_owned())?.ok_or_else(|| missing(key))?.0;
        }
        handle.rollback()?;
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        // Adding the largest number is subtracting 1.
        self.rerun(&[(from, u64::MAX), (to, 1)]).await
    }

    async fn scan(&self, start: &str, rows: usize, backwards: bool) -> Outcome<usize> {
        if backwards {
            return Err("it has no scans backwards".into());
        }
        // A range is collected whole, so it is given its end. All keys are numbers in a row.
        let first: usize = start[1..].parse()?;
        let end = format!("k{:015}", first + rows - 1);
        let mut order = InOrder::default();
        for (key, _) in self.0.handle().range(&start.to_owned(), &end)? {
            order.next(key.as_bytes(), false)?;
        }
        Ok(order.rows)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut handle = self.0.handle();
            handle.begin()?;
            for (key, value) in rows.by_ref().take(batch) {
                handle.insert(key.into_string(), value).await?;
            }
            handle.commit().await?;
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Err("its transactions borrow the database, so none can be kept".into())
    }

    async fn maintain(&self) -> Outcome<()> {
        self.0.vacuum().await.map_err(|()| "its vacuum failed")?;
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}

impl FluxMap {
    /// Adds to several numbers in one transaction, until it commits. Returns how often it ran.
    async fn rerun(&self, changes: &[(&str, u64)]) -> Outcome<u64> {
        let mut runs = 0;
        loop {
            runs += 1;
            let mut handle = self.0.handle();
            handle.begin()?;
            for (key, by) in changes {
                let old = handle.get(&(*key).to_owned())?.ok_or_else(|| missing(key))?;
                handle.insert((*key).to_owned(), old.with_number(old.0.wrapping_add(*by))).await?;
            }
            match handle.commit().await {
                Err(FluxError::SerializationConflict) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Ok(runs),
            }
        }
    }
}
