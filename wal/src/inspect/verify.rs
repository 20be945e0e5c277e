//! Whether a directory is sound: whether an engine would open it with all that was promised, and whether
//! everything in it can be read.

use std::path::Path;
use std::sync::Arc;

use super::ReadOnlyDisk;
use super::slots::read_slots;
use super::source::{check_plain, open_database};
use crate::disk::Disk;
use crate::recovery::{Listing, check_promises, find_cut, recovered_logs, scan_all};
use crate::scan::{OnDamage, ScannedLog};
use crate::{CheckpointReader, Manifest, RecoveredCheckpoint, Timestamp, WalError};

/// What a check found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Everything up to this commit can be recovered.
    pub recovered_to: Timestamp,
    /// Everything up to this commit was on disk, and must be there.
    pub promised: Timestamp,
    /// Segments that recovery reads.
    pub segments: usize,
    /// Commits' parts in them.
    pub records: u64,
    /// Writes in these.
    pub writes: u64,
    /// Checkpoints that the manifest names.
    pub checkpoints: usize,
    /// Entries read from them.
    pub entries: u64,
    /// What is damaged or can't be read. Empty if all is sound.
    pub damage: Vec<WalError>,
    /// What is unusual and loses nothing.
    pub notes: Vec<String>,
}

/// Reads everything that recovery relies on.
///
/// # Errors
/// Where there is no manifest to start from: [`WalError::Corrupt`], [`WalError::Missing`],
/// [`WalError::NotADatabase`], [`WalError::UnknownFormat`], or the I/O error. What is found behind it is in the
/// report.
pub async fn verify(disk: &ReadOnlyDisk, directory: &Path) -> Result<VerifyReport, WalError> {
    let (manifest, listing) = open_database(disk, directory).await?;
    let manifest = manifest.current().clone();
    let mut report = VerifyReport::default();
    note_slots(disk, directory, &mut report).await?;
    let lanes = vec![Arc::new(disk.clone()) as Arc<dyn Disk>; manifest.logs.len()];
    let mut scanned = scan_all(&lanes, directory, &manifest, &listing, OnDamage::Note).await?;
    report.promised = scanned.iter().map(|log| log.promised_synced).fold(manifest.synced, Timestamp::max);
    for log in &mut scanned {
        report.segments += log.live.len();
        report.damage.append(&mut log.damage);
        check_records(log, &mut report);
    }
    note_leftovers(&manifest, &listing, &scanned, &mut report);
    match find_cut(&manifest, &scanned) {
        Ok(cut) => {
            report.recovered_to = cut.timestamp;
            if cut.dropped > 0 && cut.timestamp >= report.promised {
                report.notes.push(format!(
                    "{} commits behind {} were under way when the engine ended, and do not count",
                    cut.dropped, cut.timestamp
                ));
            }
            report.damage.extend(check_promises(directory, &manifest, &scanned, &cut).err());
        }
        Err(error) => report.damage.push(error),
    }
    for log in recovered_logs(directory, &manifest, &mut scanned, report.recovered_to) {
        if let Some(checkpoint) = &log.checkpoint {
            report.checkpoints += 1;
            if let Err(error) = check_checkpoint(disk, checkpoint, &mut report.entries).await {
                report.damage.push(error);
            }
        }
    }
    Ok(report)
}

async fn note_slots(
    disk: &ReadOnlyDisk,
    directory: &Path,
    report: &mut VerifyReport,
) -> Result<(), WalError> {
    for slot in read_slots(disk, directory).await? {
        if let Some(problem) = slot.problem() {
            report.notes.push(format!(
                "the manifest's slot at byte {} is {problem}: torn by a crash, or damaged; the other slot counts",
                slot.offset
            ));
        }
    }
    Ok(())
}

fn note_leftovers(manifest: &Manifest, listing: &Listing, scanned: &[ScannedLog], report: &mut VerifyReport) {
    let torn: u64 = scanned.iter().map(|log| log.torn_bytes).sum();
    if torn > 0 {
        report.notes.push(format!("{torn} bytes at the end of logs were torn by a crash, and do not count"));
    }
    let half_made: usize = scanned.iter().map(|log| log.half_made.len()).sum();
    let named = |file| manifest.logs.iter().any(|log| log.checkpoint.is_some_and(|named| named.file == file));
    let checkpoints = listing.checkpoints.iter().filter(|file| !named(**file)).count();
    let segments =
        listing.segments.iter().filter(|name| !manifest.logs.iter().any(|log| log.id == name.log)).count();
    let orphans = half_made + checkpoints + segments;
    if orphans > 0 {
        report.notes.push(format!("{orphans} files of unfinished work; the next open removes them"));
    }
    if let Some(other) = &listing.other {
        report.notes.push(format!("there are files of others, such as {other}; they are left alone"));
    }
}

fn check_records(log: &ScannedLog, report: &mut VerifyReport) {
    for record in &log.records {
        report.records += 1;
        for write in record.writes() {
            report.writes += 1;
            let checked = write
                .map_err(|malformed| malformed.in_commit(&log.end_file, record.timestamp))
                .and_then(|write| check_plain(record.timestamp, &write));
            report.damage.extend(checked.err());
        }
    }
}

async fn check_checkpoint(
    disk: &ReadOnlyDisk,
    checkpoint: &RecoveredCheckpoint,
    entries: &mut u64,
) -> Result<(), WalError> {
    let (mut reader, mut found) = (CheckpointReader::open(disk, checkpoint).await?, 0);
    while let Some(block) = reader.next_block().await? {
        found += block.len() as u64;
        *entries += block.len() as u64;
        for (timestamp, write) in &block {
            check_plain(*timestamp, write)?;
        }
    }
    if found != checkpoint.entry.entries {
        let detail = format!("the checkpoint has {found} entries, not {}", checkpoint.entry.entries);
        return Err(WalError::corrupt(&checkpoint.path, 0, detail));
    }
    Ok(())
}
