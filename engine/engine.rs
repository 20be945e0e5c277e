//! The engine: what keeps a directory open.

use std::path::Path;
use std::sync::Arc;

use anabranch_shard::{HASH_NAME, Key, Level, Partition, Value};
use anabranch_wal::{Backup, Disk, RealDisk, Wal, WalError};
use tokio::sync::oneshot;

use crate::builder::EngineBuilder;
use crate::inner::{Holds, Inner};
use crate::keeper::{Request, Requests, write_entries};
use crate::report::BackupReport;
use crate::{Error, Handle, HashPartition, RecoveryReport, Stats, VacuumReport};

/// An open engine.
///
/// Its tasks run in the tokio runtime that opened it. Dropping it shuts it down without blocking: its handles
/// then return [`Error::Closed`], and opening the same directory again waits until it is done. Every
/// acknowledged commit is there then. [`Engine::close`] does the same and says how it went.
pub struct Engine<K: Key, V: Value, P = HashPartition> {
    inner: Arc<Inner<K, V, P>>,
    holds: Arc<Holds<K, V, P>>,
    wal: Option<Arc<Wal>>,
    disk: Option<Arc<dyn Disk>>,
    requests: Requests,
    report: RecoveryReport,
}

impl<K: Key, V: Value> Engine<K, V> {
    /// Settings for a new engine.
    pub fn builder() -> EngineBuilder<K, V> {
        EngineBuilder::new()
    }
}

impl<K: Key, V: Value, P> Engine<K, V, P> {
    pub(crate) fn new(
        inner: Arc<Inner<K, V, P>>,
        wal: Option<Arc<Wal>>,
        disk: Option<Arc<dyn Disk>>,
        requests: Requests,
        report: RecoveryReport,
    ) -> Self {
        let holds = Arc::new(Holds::new(&inner));
        Self { inner, holds, wal, disk, requests, report }
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner<K, V, P>> {
        &self.inner
    }

    /// What opening found and did.
    #[must_use]
    pub const fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Writes checkpoints of all shards that logged something since their last, and gives back the log
    /// segments that are no longer needed. The engine goes on meanwhile.
    ///
    /// # Errors
    /// [`Error::Config`] in memory; [`Error::DiskFull`], [`Error::Io`]: the log keeps everything, try again;
    /// [`Error::ReadOnly`], [`Error::Closed`].
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.ask(Request::Checkpoint).await
    }

    /// Waits until everything committed so far survives power loss. In memory, until it is applied.
    ///
    /// # Errors
    /// [`Error::Indeterminate`], [`Error::Closed`].
    pub async fn sync(&self) -> Result<(), Error> {
        self.inner.closed.check()?;
        let last = self.inner.sequencer.last();
        self.inner.acknowledged(Level::Synced, last).await
    }

    /// Reclaims all versions and removed keys that nobody can ask for any more, and counts them. What lies between
    /// the timestamps of open readers is reclaimed when its key is written.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::ReadOnly`] after a failure.
    pub async fn vacuum(&self) -> Result<VacuumReport, Error> {
        self.inner.check_writable()?;
        self.inner.end_old_readers();
        let mut report = VacuumReport::default();
        for shard in &*self.inner.shards {
            let fault = || self.inner.health().check().err().map_or(Error::Closed, Error::refused);
            report += shard.sweep().await.map_err(|_| fault())?;
        }
        Ok(report)
    }

    /// Counters and the state of each part. Cheap, but not for every request: it looks at every shard.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.inner.stats(self.wal.as_deref());
        stats.checkpoint_error.clone_from(&self.requests.checkpoint_error.lock());
        stats
    }

    /// Hands the numbers of [`Engine::stats`] to the recorder of the crate `metrics`, each with a label `engine` (see
    /// [`EngineBuilder::metrics_name`]). Counters are set to what they are, histograms get what came since the last
    /// time. To be called before each scrape, or by the engine itself ([`EngineBuilder::metrics_every`]).
    #[cfg(feature = "metrics")]
    pub fn record_metrics(&self) {
        self.inner.metrics.record(self.stats());
    }

    /// Writes a copy of everything, as it is durable now, to a missing or an empty directory, while reading and
    /// writing go on. The copy is a database of its own: open it like any other. Works in memory, too.
    ///
    /// Copying the files of an open engine by other means gives a damaged copy.
    ///
    /// # Errors
    /// [`Error::Unrecognized`] if the directory is not empty; [`Error::Locked`], [`Error::DiskFull`],
    /// [`Error::Io`], [`Error::Encode`], [`Error::Closed`]. The directory then holds an unfinished copy, which
    /// does not open.
    pub async fn backup(&self, directory: impl AsRef<Path>) -> Result<BackupReport, Error> {
        let inner = &self.inner;
        inner.closed.check()?;
        let directory = directory.as_ref();
        let reader = inner.readers.register_exempt(Level::Durable);
        let timestamp = reader.timestamp();
        let disk = match &self.disk {
            Some(disk) => Arc::clone(disk),
            None => Arc::new(RealDisk::new().map_err(|error| WalError::io("opening", directory, error))?),
        };
        let hash = (HASH_NAME.to_owned(), inner.router.seed());
        let shards = inner.shards.len();
        let mut backup = Backup::begin(&*disk, directory, hash, shards, timestamp, &*inner.env).await?;
        for (index, shard) in inner.shards.iter().enumerate() {
            let mut writer = backup.shard(index).await?;
            write_entries(&mut writer, shard.map(), timestamp).await?;
            backup.finish_shard(index, writer).await?;
            inner.closed.check()?;
        }
        let files = backup.finish().await?;
        let entries = files.iter().map(|file| file.entries).sum();
        Ok(BackupReport { timestamp, entries, bytes: files.iter().map(|file| file.bytes).sum() })
    }

    /// Closes the engine: what is under way ends, everything is synced, and the directory is given back. After
    /// that, handles return [`Error::Closed`].
    ///
    /// Cancel safety: dropping the future does not stop the closing.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] if the engine had failed or fails now; it is closed all the same.
    pub async fn close(self) -> Result<(), Error> {
        self.inner.closed.close();
        if let Some(wal) = &self.wal {
            wal.closing();
        }
        let (reply, closed) = oneshot::channel();
        let sent = self.requests.sender.send(Request::Close(reply)).await;
        drop(self);
        match sent {
            Ok(()) => closed.await.unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::Closed),
        }
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Request,
    ) -> Result<(), Error> {
        self.inner.closed.check()?;
        let (reply, done) = oneshot::channel();
        self.requests.sender.send(request(reply)).await.map_err(|_| Error::Closed)?;
        done.await.unwrap_or(Err(Error::Closed))
    }
}

impl<K: Key, V: Value, P: Partition<K>> Engine<K, V, P> {
    /// A way in for any task or thread.
    #[must_use]
    pub fn handle(&self) -> Handle<K, V, P> {
        Handle::new(Arc::clone(&self.inner), Arc::clone(&self.holds))
    }
}

impl<K: Key, V: Value, P> Drop for Engine<K, V, P> {
    fn drop(&mut self) {
        // The keeper sees that nobody can send requests any more, and closes in an orderly way. If its runtime
        // has ended, there is nothing left to close.
        self.inner.closed.close();
        if let Some(wal) = &self.wal {
            wal.closing();
        }
    }
}
