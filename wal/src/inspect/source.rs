//! A database that is read as recovery would read it, and left as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::ReadOnlyDisk;
use super::copy::{Copied, NewDatabase};
use crate::disk::Disk;
use crate::manifest::{Manifest, ManifestFile};
use crate::recovery::{
    Listing, RecoveredLog, check_promises, find_cut, open_manifest, recovered_logs, scan_all,
};
use crate::scan::OnDamage;
use crate::{CheckpointReader, Env, Timestamp, WalError, Write};

/// What a sound database holds: all that recovery would find.
pub struct Source {
    disk: ReadOnlyDisk,
    pub(super) manifest: Manifest,
    pub(super) cut: Timestamp,
    logs: Vec<RecoveredLog>,
}

/// The newest state of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The commit that wrote it.
    pub timestamp: Timestamp,
    /// The encoded value.
    pub value: Bytes,
}

impl Source {
    /// Reads manifest and logs.
    ///
    /// # Errors
    /// Those with which an engine would refuse to open; [`WalError::Missing`] if there is no database.
    pub async fn open(disk: &ReadOnlyDisk, directory: &Path) -> Result<Self, WalError> {
        let (manifest, listing) = open_database(disk, directory).await?;
        let manifest = manifest.current().clone();
        let lanes = vec![Arc::new(disk.clone()) as Arc<dyn Disk>; manifest.logs.len()];
        let mut scanned = scan_all(&lanes, directory, &manifest, &listing, OnDamage::Refuse).await?;
        let cut = find_cut(&manifest, &scanned)?;
        check_promises(directory, &manifest, &scanned, &cut)?;
        let cut = cut.timestamp;
        let logs = recovered_logs(directory, &manifest, &mut scanned, cut);
        Ok(Self { disk: disk.clone(), manifest, cut, logs })
    }

    /// The last commit that counts.
    #[must_use]
    pub const fn recovered_to(&self) -> Timestamp {
        self.cut
    }

    /// The newest entry of each key, by encoded key. Two keys that a program's own `Eq` takes for one, and that
    /// are encoded differently, are two here.
    pub async fn entries(&self) -> Result<BTreeMap<Bytes, Entry>, WalError> {
        let mut entries = BTreeMap::new();
        for log in &self.logs {
            if let Some(checkpoint) = &log.checkpoint {
                let mut reader = CheckpointReader::open(&self.disk, checkpoint).await?;
                while let Some(block) = reader.next_block().await? {
                    for (timestamp, write) in block {
                        apply(&mut entries, timestamp, write)?;
                    }
                }
            }
            for record in &log.records {
                for write in record.writes() {
                    let write =
                        write.map_err(|malformed| malformed.in_commit(&log.file, record.timestamp))?;
                    apply(&mut entries, record.timestamp, write)?;
                }
            }
        }
        Ok(entries)
    }

    /// Copies all of it into a missing or an empty directory: checkpoints, and the records behind them.
    pub async fn copy(&self, target: &dyn Disk, directory: &Path, env: &dyn Env) -> Result<Copied, WalError> {
        let mut new = NewDatabase::begin(target, directory, &self.manifest, self.cut, env).await?;
        for (index, log) in self.logs.iter().enumerate() {
            if let Some(checkpoint) = &log.checkpoint {
                let mut writer = new.begin_checkpoint(index, checkpoint.id.timestamp).await?;
                let mut reader = CheckpointReader::open(&self.disk, checkpoint).await?;
                while let Some(block) = reader.next_block().await? {
                    for (timestamp, write) in block {
                        new.push(&mut writer, timestamp, write).await?;
                    }
                }
                new.finish_checkpoint(index, writer).await?;
            }
            for record in &log.records {
                for write in record.writes() {
                    write.map_err(|malformed| malformed.in_commit(&log.file, record.timestamp))?;
                }
            }
            new.write_log(index, &log.records).await?;
        }
        new.finish().await
    }
}

/// The manifest of a database that is there.
pub(super) async fn open_database(
    disk: &ReadOnlyDisk,
    directory: &Path,
) -> Result<(ManifestFile, Listing), WalError> {
    let listing = list(disk, directory).await?;
    match open_manifest(disk, directory, &listing).await? {
        Some(manifest) => Ok((manifest, listing)),
        None => Err(WalError::Missing { path: directory.to_owned() }),
    }
}

pub(super) async fn list(disk: &ReadOnlyDisk, directory: &Path) -> Result<Listing, WalError> {
    Listing::read(disk, directory).await.map_err(|error| match error {
        WalError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            WalError::Missing { path: directory.to_owned() }
        }
        error => error,
    })
}

fn apply(entries: &mut BTreeMap<Bytes, Entry>, timestamp: Timestamp, write: Write) -> Result<(), WalError> {
    check_plain(timestamp, &write)?;
    if write.keyspace != 0 {
        // Offsets of sources are no entries.
        return Ok(());
    }
    match write.value {
        Some(value) => {
            // The slices would keep whole segments in memory.
            let (key, value) = (Bytes::copy_from_slice(&write.key), Bytes::copy_from_slice(&value));
            entries.insert(key, Entry { timestamp, value });
        }
        None => {
            entries.remove(&write.key);
        }
    }
    Ok(())
}

/// What this version gives no meaning to is refused rather than dropped (`FORMAT.md`, section 5).
pub(super) fn check_plain(timestamp: Timestamp, write: &Write) -> Result<(), WalError> {
    if !write.is_plain() || write.as_offset().is_err() {
        let what = format!("commit {timestamp} uses a keyspace or metadata, or an expiry in an unknown way");
        return Err(WalError::Unsupported(what));
    }
    Ok(())
}
