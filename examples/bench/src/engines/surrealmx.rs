//! surrealmx: in memory, or with its append-only log. Point operations go through its direct methods, which its
//! documentation calls the fastest; its transactions are strictly serializable.

use std::any::Any;
use std::sync::Arc;

use surrealmx::{
    AolMode, Database, DatabaseOptions, Error, FsyncMode, PersistenceOptions, SnapshotMode, Transaction,
};

use super::bytes::{number, with_number};
use crate::keys::{Key, Value};
use crate::store::{Counters, InOrder, Level, Outcome, Setup, Store, Style, missing};

/// On disk, whether more threads than workers help depends on how much they get into each other's way. So it can be
/// had with `FEW`, too.
#[derive(Clone)]
pub(crate) struct SurrealMx<const FEW: bool>(Arc<Database>);

impl<const FEW: bool> Store for SurrealMx<FEW> {
    const STYLE: Style = Style::Threads;
    const FEW_THREADS: bool = FEW;

    async fn open(setup: &Setup) -> Outcome<Self> {
        let options = DatabaseOptions::default();
        if FEW && setup.level != Level::Full {
            return Err("see surrealmx, which has as few threads here".into());
        }
        let (append, sync) = match setup.level {
            Level::Memory => return Ok(Self(Arc::new(Database::new_with_options(options)))),
            Level::Relaxed => (AolMode::AsynchronousAfterCommit, FsyncMode::Interval(setup.sync_every)),
            Level::Full => (AolMode::SynchronousOnCommit, FsyncMode::EveryAppend),
        };
        // No snapshots: it can take them by an interval only, not when asked to.
        let persistence = PersistenceOptions::new(&setup.directory)
            .with_aol_mode(append)
            .with_fsync_mode(sync)
            .with_snapshot_mode(SnapshotMode::Never);
        Ok(Self(Arc::new(Database::new_with_persistence(options, persistence)?)))
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        Ok(self.0.with_value(key, number)?)
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        Ok(self.0.set(key, value.to_bytes())?)
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        self.rerun(|transaction| {
            let old = transaction.get(key)?;
            if let Some(old) = &old {
                transaction.set(key, with_number(old.as_slice(), number(old.as_slice()) + by))?;
            }
            Ok(())
        })
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let mut transaction = self.0.transaction(false);
        let mut sum = 0;
        for key in keys {
            sum += transaction.with_value(*key, number)?.ok_or_else(|| missing(key))?;
        }
        transaction.cancel()?;
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        self.rerun(|transaction| {
            let (poorer, richer) = (transaction.get(from)?, transaction.get(to)?);
            if let (Some(poorer), Some(richer)) = (poorer, richer) {
                let (poorer, richer) = (poorer.as_slice(), richer.as_slice());
                transaction.set(from, with_number(poorer, number(poorer) - 1))?;
                transaction.set(to, with_number(richer, number(richer) + 1))?;
            }
            Ok(())
        })
    }

    async fn scan(&self, start: &str, rows: usize, backwards: bool) -> Outcome<usize> {
        let mut order = InOrder::default();
        let mut failed = Ok(());
        if backwards {
            // It has no scan backwards without copies, but for this iterator.
            let transaction = self.0.transaction(false);
            for (key, _) in transaction.scan_iter_reverse(""..start)?.take(rows) {
                order.next(key.as_slice(), true)?;
            }
        } else {
            self.0.scan_with(start.."l", None, Some(rows), |key, _| {
                failed = order.next(key.as_slice(), false);
                failed.is_ok()
            })?;
        }
        failed?;
        Ok(order.rows)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut transaction = self.0.transaction(true);
            for (key, value) in rows.by_ref().take(batch) {
                transaction.set(key.into_string(), value.to_bytes())?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Ok(Box::new(self.0.transaction(true)))
    }

    async fn maintain(&self) -> Outcome<()> {
        self.0.run_cleanup();
        self.0.run_gc_tracked();
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

impl<const FEW: bool> SurrealMx<FEW> {
    /// Until it commits. Returns how often it ran.
    fn rerun(&self, mut body: impl FnMut(&mut Transaction) -> Result<(), Error>) -> Outcome<u64> {
        for runs in 1.. {
            let mut transaction = self.0.transaction(true);
            let outcome = body(&mut transaction).and_then(|()| transaction.commit());
            match outcome {
                Ok(()) => return Ok(runs),
                Err(Error::KeyReadConflict | Error::KeyWriteConflict) => drop(transaction),
                Err(error) => return Err(error.into()),
            }
        }
        Err("it never commits".into())
    }
}
