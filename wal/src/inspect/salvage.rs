//! What can still be read of a damaged database, copied into a new one.
//!
//! The logs are read as recovery reads them, each up to its first break and never behind it (RELIABILITY R2), and
//! what counts is decided by the same rule: commit after commit, as long as all parts are there. Where a
//! checkpoint is damaged, its intact blocks are kept; which keys the others held can't be told.

use std::path::Path;
use std::sync::Arc;

use super::ReadOnlyDisk;
use super::copy::{Copied, NewDatabase};
use super::slots::{newest, read_slots};
use super::source::list;
use crate::disk::Disk;
use crate::manifest::ManifestFile;
use crate::recovery::{Cut, Listing, find_cut, recovered_logs, scan_all};
use crate::scan::{OnDamage, ScannedLog};
use crate::{CheckpointReader, Env, LogId, Manifest, RecoveredCheckpoint, Timestamp, WalError};

/// What was saved, and what was not.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SalvageReport {
    /// What the new database holds.
    pub saved: Copied,
    /// Everything up to this commit was on disk once. If it is more than was saved, the commits between are
    /// missing.
    pub promised: Timestamp,
    /// Each log.
    pub logs: Vec<SalvagedLog>,
    /// The logs in which the first commit after the saved ones is missing, as far as its other parts say so.
    pub missing_in: Vec<LogId>,
    /// Where damage was found.
    pub damage: Vec<WalError>,
}

/// What was saved of one log.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SalvagedLog {
    /// The log.
    pub id: LogId,
    /// Commits' parts saved from its segments.
    pub records: u64,
    /// Entries saved from its checkpoint.
    pub entries: u64,
    /// Entries of its checkpoint that are lost, with the keys.
    pub entries_lost: u64,
    /// The moment of the checkpoint, if there was one.
    pub checkpoint: Option<Timestamp>,
    /// Of the commits in this range, inclusive, this log's part may be missing, although other logs' parts
    /// are saved: their checkpoints hold them.
    pub may_lack: Option<(Timestamp, Timestamp)>,
}

impl SalvageReport {
    /// Whether everything that was ever promised is saved, and no damage was met.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.damage.is_empty() && self.promised <= self.saved.timestamp && self.is_prefix()
    }

    /// Whether what was saved is exactly the first commits of the commit order.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.logs.iter().all(|log| log.entries_lost == 0 && log.may_lack.is_none())
    }
}

/// Copies what can be read into a missing or an empty directory. The source is only read.
///
/// # Errors
/// [`WalError::Corrupt`] if neither slot of the manifest is intact, since only the manifest says what of the rest
/// counts; those of opening; and I/O errors of writing.
pub async fn salvage(
    disk: &ReadOnlyDisk,
    directory: &Path,
    (target, new_directory): (&dyn Disk, &Path),
    env: &dyn Env,
) -> Result<SalvageReport, WalError> {
    let listing = list(disk, directory).await?;
    let mut report = SalvageReport::default();
    let manifest = choose_manifest(disk, directory, &listing, &mut report).await?;
    let lanes = vec![Arc::new(disk.clone()) as Arc<dyn Disk>; manifest.logs.len()];
    let mut scanned = scan_all(&lanes, directory, &manifest, &listing, OnDamage::Salvage).await?;
    for log in &mut scanned {
        drop_malformed(log);
        report.damage.append(&mut log.damage);
    }
    report.promised = scanned.iter().map(|log| log.promised_synced).fold(manifest.synced, Timestamp::max);
    let checkpointed = manifest.logs.iter().map(|log| manifest.checkpointed(log.id)).max();
    let checkpointed = checkpointed.unwrap_or_default();
    let cut = find_cut(&manifest, &scanned).unwrap_or_else(|error| {
        report.damage.push(error);
        Cut { timestamp: checkpointed, dropped: 0, missing: None }
    });
    if cut.timestamp < report.promised {
        report.missing_in = cut.missing.map(|(_, logs)| logs).unwrap_or_default();
    }
    let gaps: Vec<_> = scanned.iter().map(|log| may_lack(&manifest, log, checkpointed)).collect();
    let logs = recovered_logs(directory, &manifest, &mut scanned, cut.timestamp);
    let mut new = NewDatabase::begin(target, new_directory, &manifest, cut.timestamp, env).await?;
    for (index, (log, may_lack)) in logs.iter().zip(gaps).enumerate() {
        let mut saved =
            SalvagedLog { id: log.id, records: log.records.len() as u64, may_lack, ..SalvagedLog::default() };
        if let Some(checkpoint) = &log.checkpoint {
            copy_checkpoint(disk, checkpoint, index, &mut new, &mut saved, &mut report.damage).await?;
        }
        new.write_log(index, &log.records).await?;
        report.logs.push(saved);
    }
    report.saved = new.finish().await?;
    Ok(report)
}

async fn choose_manifest(
    disk: &ReadOnlyDisk,
    directory: &Path,
    listing: &Listing,
    report: &mut SalvageReport,
) -> Result<Manifest, WalError> {
    let path = ManifestFile::path(directory);
    let holds_data = !listing.segments.is_empty() || !listing.checkpoints.is_empty();
    if !listing.manifest {
        return Err(match (&listing.other, holds_data) {
            (_, true) => WalError::corrupt(&path, 0, "the manifest is missing: nothing says what counts"),
            (Some(example), false) => {
                WalError::NotADatabase { path: directory.to_owned(), example: example.clone() }
            }
            (None, false) => WalError::Missing { path: directory.to_owned() },
        });
    }
    let slots = read_slots(disk, directory).await?;
    for slot in &slots {
        if let Some(problem) = slot.problem() {
            report.damage.push(WalError::corrupt(&path, slot.offset, format!("this slot is {problem}")));
        }
    }
    match newest(&slots) {
        Some((_, manifest)) => Ok(manifest.clone()),
        None if slots.iter().all(|slot| slot.problem().is_none()) && !holds_data => {
            Err(WalError::Missing { path: directory.to_owned() })
        }
        None => Err(WalError::corrupt(
            &path,
            0,
            "neither slot of the manifest is intact: nothing says what counts",
        )),
    }
}

/// From the first record on whose writes can't be read, the log is treated as ended: a whole commit or none.
fn drop_malformed(log: &mut ScannedLog) {
    let readable = log.records.iter().take_while(|record| record.writes().all(|write| write.is_ok())).count();
    if let Some(record) = log.records.get(readable) {
        let timestamp = record.timestamp;
        log.damage.push(WalError::Corrupt {
            file: log.end_file.clone(),
            offset: 0,
            detail: format!("the record of commit {timestamp} can't be read, nor what follows it"),
            commits: Some((timestamp, timestamp)),
        });
        log.records.truncate(readable);
        log.is_damaged = true;
        // Batches were read whose records are dropped.
        log.walked_synced = Timestamp::ZERO;
    }
}

/// Which commits may lack their part of this log, although the newest checkpoint of another shard holds
/// theirs. All records up to `walked_synced` were read: they were synced before a batch that was read.
fn may_lack(
    manifest: &Manifest,
    log: &ScannedLog,
    checkpointed: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    let complete_to = manifest.checkpointed(log.id).max(log.walked_synced);
    (log.is_damaged && complete_to < checkpointed).then(|| (complete_to.next(), checkpointed))
}

/// Copies the intact blocks of a checkpoint.
async fn copy_checkpoint(
    disk: &ReadOnlyDisk,
    checkpoint: &RecoveredCheckpoint,
    index: usize,
    new: &mut NewDatabase,
    saved: &mut SalvagedLog,
    damage: &mut Vec<WalError>,
) -> Result<(), WalError> {
    saved.checkpoint = Some(checkpoint.id.timestamp);
    // Even if nothing of it can be read: it is where the records behind it begin.
    let mut writer = new.begin_checkpoint(index, checkpoint.id.timestamp).await?;
    if let Some(mut reader) = open_checkpoint(disk, checkpoint, damage).await {
        let mut skipped = false;
        loop {
            match reader.next_block().await {
                Ok(Some(block)) => {
                    for (timestamp, write) in block {
                        saved.entries += 1;
                        new.push(&mut writer, timestamp, write).await?;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    // After a skipped block, the footer counts more than was read.
                    if skipped && reader.is_at_footer().await {
                        break;
                    }
                    let block = reader.skip_block().await.ok().flatten();
                    damage.push(error);
                    skipped = true;
                    if block.is_none() {
                        break;
                    }
                }
            }
        }
    }
    saved.entries_lost = checkpoint.entry.entries.saturating_sub(saved.entries);
    new.finish_checkpoint(index, writer).await
}

async fn open_checkpoint(
    disk: &ReadOnlyDisk,
    checkpoint: &RecoveredCheckpoint,
    damage: &mut Vec<WalError>,
) -> Option<CheckpointReader> {
    let error = match CheckpointReader::open_any(disk, &checkpoint.path).await {
        Ok(reader) if reader.id() == checkpoint.id => {
            if reader.file_bytes() != checkpoint.entry.bytes {
                let (found, named) = (reader.file_bytes(), checkpoint.entry.bytes);
                let detail = format!("the file has {found} bytes, not {named}");
                damage.push(WalError::corrupt(&checkpoint.path, found.min(named), detail));
            }
            return Some(reader);
        }
        Ok(_) => {
            let detail = "this is not the checkpoint that the manifest names";
            damage.push(WalError::corrupt(&checkpoint.path, 0, detail));
            return None;
        }
        Err(error) => error,
    };
    damage.push(error);
    CheckpointReader::open_headless(disk, checkpoint).await.ok()
}
