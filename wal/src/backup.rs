//! Backups: a new database in another directory, made of one checkpoint for each shard, all at one timestamp.
//!
//! Copying the files of a live database gives old and new blocks side by side, which looks like damage
//! (RELIABILITY R24); this reads what is in memory instead, and needs nothing of the original's files. The
//! manifest is written last: without one, the directory does not open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{CheckpointId, CheckpointWriter};
use crate::disk::Disk;
use crate::manifest::{CheckpointEntry, LogEntry, Manifest, ManifestFile};
use crate::recovery::Listing;
use crate::wal::{new_log_entry, sync_ancestors};
use crate::{DatabaseId, Env, FileNumber, Incarnation, LogId, Timestamp, WalError};

/// A backup being written.
pub struct Backup {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    manifest: Manifest,
    timestamp: Timestamp,
}

impl Backup {
    /// Begins a backup of so many shards, as of `timestamp`, in a missing or an empty directory.
    ///
    /// # Errors
    /// [`WalError::NotADatabase`] if the directory holds anything; [`WalError::Locked`]; or the I/O error.
    pub async fn begin(
        disk: &dyn Disk,
        directory: &Path,
        (hash, hash_seed): (String, u64),
        shards: usize,
        timestamp: Timestamp,
        env: &dyn Env,
    ) -> Result<Self, WalError> {
        let disk = claim_empty(disk, directory).await?;
        let logs = u32::try_from(shards)
            .map_err(|_| WalError::Config(format!("a database can't have {shards} shards")))?;
        let manifest = Manifest {
            database: DatabaseId(env.random()),
            incarnation: Incarnation(1),
            hash,
            hash_seed,
            logs: (0..logs).map(LogId).map(new_log_entry).collect(),
            next_log: LogId(logs),
            next_file: FileNumber(u64::from(logs) + 1),
            fences: Vec::new(),
            synced: timestamp,
        };
        Ok(Self { disk, directory: directory.to_owned(), manifest, timestamp })
    }

    /// Begins the file of one shard. Its entries are those at the backup's timestamp.
    pub async fn shard(&self, shard: usize) -> Result<CheckpointWriter, WalError> {
        let id = CheckpointId {
            database: self.manifest.database,
            log: self.manifest.logs[shard].id,
            file: FileNumber(shard as u64 + 1),
            timestamp: self.timestamp,
        };
        CheckpointWriter::create(&*self.disk, &self.directory, id).await
    }

    /// Makes the file of one shard durable.
    pub async fn finish_shard(&mut self, shard: usize, writer: CheckpointWriter) -> Result<(), WalError> {
        let entry = writer.finish(&*self.disk).await?;
        let log: &mut LogEntry = &mut self.manifest.logs[shard];
        log.checkpoint = Some(entry);
        log.complete_after = Some(entry.timestamp);
        Ok(())
    }

    /// Makes the directory a database, and returns what its shards hold.
    pub async fn finish(self) -> Result<Vec<CheckpointEntry>, WalError> {
        let entries = self.manifest.logs.iter().filter_map(|log| log.checkpoint).collect();
        ManifestFile::create(&*self.disk, &self.directory, self.manifest).await?;
        Ok(entries)
    }
}

/// Makes the directory, or takes one that is empty, for a database that is to be written there.
pub(crate) async fn claim_empty(disk: &dyn Disk, directory: &Path) -> Result<Arc<dyn Disk>, WalError> {
    disk.create_dir(directory).await.map_err(|error| WalError::io("creating", directory, error))?;
    let disk = disk.lock(directory).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => WalError::Locked { path: directory.to_owned() },
        _ => WalError::io("locking", directory, error),
    })?;
    if let Some(example) = Listing::read(&*disk, directory).await?.example() {
        return Err(WalError::NotADatabase { path: directory.to_owned(), example });
    }
    sync_ancestors(&*disk, directory).await?;
    Ok(disk)
}
