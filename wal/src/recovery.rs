//! Opening: from files to the prefix of the commit order that they hold (DESIGN section 7, RELIABILITY
//! sections 2 and 3).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::checkpoint::{CheckpointId, checkpoint_path, parse_checkpoint_name};
use crate::disk::{Disk, write_all_at};
use crate::manifest::{CheckpointEntry, Fence, Manifest, ManifestFile};
use crate::planted::{Bug, is_planted};
use crate::record::Record;
use crate::scan::{OnDamage, ScannedLog, scan_log};
use crate::segment::SegmentName;
use crate::{Incarnation, LogId, Timestamp, WalError};

/// What one log holds that counts: its checkpoint, and the records behind it.
#[derive(Debug)]
pub struct RecoveredLog {
    /// The log.
    pub id: LogId,
    /// Its last segment, for messages; the directory if it has none.
    pub file: PathBuf,
    /// The checkpoint to load first.
    pub checkpoint: Option<RecoveredCheckpoint>,
    /// The commits to replay, in the order in which this log has them, which for each key is commit order.
    pub records: Vec<Record>,
}

/// A checkpoint that the manifest names.
#[derive(Clone, Debug)]
pub struct RecoveredCheckpoint {
    /// What its file must say of itself.
    pub id: CheckpointId,
    /// What the manifest says of it.
    pub entry: CheckpointEntry,
    /// Its file.
    pub path: PathBuf,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoverySummary {
    /// The incarnation that this open began.
    pub incarnation: Incarnation,
    /// The last commit that counts: everything up to it is there, nothing after it.
    pub recovered_to: Timestamp,
    /// Segments read.
    pub segments: usize,
    /// Bytes of records read from them.
    pub log_bytes: u64,
    /// Commits that were in some logs and not in all that they belong to, or behind such a one: never
    /// acknowledged, and dropped.
    pub commits_dropped: u64,
    /// Bytes of batches that a crash tore.
    pub torn_bytes: u64,
    /// Files of unfinished work that were removed.
    pub orphans_removed: usize,
}

pub(crate) struct Recovered {
    pub(crate) manifest: ManifestFile,
    pub(crate) scanned: Vec<ScannedLog>,
    pub(crate) logs: Vec<RecoveredLog>,
    pub(crate) summary: RecoverySummary,
}

/// The files of a directory by what they are.
pub(crate) struct Listing {
    pub(crate) segments: Vec<SegmentName>,
    pub(crate) checkpoints: Vec<crate::FileNumber>,
    pub(crate) manifest: bool,
    pub(crate) other: Option<String>,
}

impl Listing {
    pub(crate) async fn read(disk: &dyn Disk, directory: &Path) -> Result<Self, WalError> {
        let names = disk.list(directory).await.map_err(|error| WalError::io("listing", directory, error))?;
        let mut listing =
            Self { segments: Vec::new(), checkpoints: Vec::new(), manifest: false, other: None };
        for name in names {
            if let Some(segment) = SegmentName::parse(&name) {
                listing.segments.push(segment);
            } else if let Some(checkpoint) = parse_checkpoint_name(&name) {
                listing.checkpoints.push(checkpoint);
            } else if name == "MANIFEST" {
                listing.manifest = true;
            } else if name != "LOCK" {
                listing.other.get_or_insert(name);
            }
        }
        Ok(listing)
    }

    /// The name of some file, if there is one.
    pub(crate) fn example(&self) -> Option<String> {
        let segment = self.segments.first().map(|_| "log files");
        let checkpoint = self.checkpoints.first().map(|_| "checkpoints");
        let manifest = self.manifest.then_some("MANIFEST");
        manifest.or(segment).or(checkpoint).map(ToOwned::to_owned).or_else(|| self.other.clone())
    }

    fn holds_data(&self) -> bool {
        !self.segments.is_empty() || !self.checkpoints.is_empty()
    }
}

/// Opens the manifest, or says that there is no database yet.
pub(crate) async fn open_manifest(
    disk: &dyn Disk,
    directory: &Path,
    listing: &Listing,
) -> Result<Option<ManifestFile>, WalError> {
    let path = ManifestFile::path(directory);
    if listing.manifest {
        if let Some(manifest) = ManifestFile::open(disk, directory).await? {
            return Ok(Some(manifest));
        }
        // The manifest is durable before the first segment exists: without one, this was a crash while the
        // engine was being created, and nothing is lost.
        if !listing.holds_data() {
            let unfinished = ManifestFile::is_unfinished(disk, directory).await?;
            if unfinished && listing.other.is_none() {
                return Ok(None);
            }
            let example = listing.other.clone().unwrap_or_else(|| "MANIFEST".to_owned());
            return Err(WalError::NotADatabase { path: directory.to_owned(), example });
        }
        return Err(WalError::corrupt(&path, 0, "neither slot of the manifest is intact"));
    }
    if listing.holds_data() {
        return Err(WalError::corrupt(
            &path,
            0,
            "the manifest is missing, and there are logs or checkpoints",
        ));
    }
    match &listing.other {
        Some(example) => Err(WalError::NotADatabase { path: directory.to_owned(), example: example.clone() }),
        None => Ok(None),
    }
}

/// Reads all logs, finds the cut, makes durable what it relies on, and begins the next incarnation.
pub(crate) async fn recover(
    disk: &Arc<dyn Disk>,
    lanes: &[Arc<dyn Disk>],
    directory: &Path,
    mut manifest: ManifestFile,
    listing: &Listing,
) -> Result<Recovered, WalError> {
    let before = manifest.current().clone();
    let mut scanned = scan_all(lanes, directory, &before, listing, OnDamage::Refuse).await?;
    let cut = find_cut(&before, &scanned)?;
    check_promises(directory, &before, &scanned, &cut)?;

    // R13: the page cache may hold what the disk does not. What is relied on is written again, the manifest
    // first, before anything is served or overwritten.
    if !is_planted(Bug::NotPersistedAgain) {
        manifest.rewrite().await?;
        for log in &scanned {
            rewrite_tail(log).await?;
        }
    }
    let mut after = before.clone();
    after.incarnation = before.incarnation.next();
    after.synced = cut.timestamp;
    if !is_planted(Bug::NoFence) {
        after.fences.push(Fence { incarnation: before.incarnation, cut: cut.timestamp });
    }
    // L5: a fence is dropped when no live segment carries its incarnation.
    after.fences.retain(|fence| scanned.iter().any(|log| log.incarnations.contains(&fence.incarnation)));
    for (entry, log) in after.logs.iter_mut().zip(&scanned) {
        entry.durable_lsn = log.end.lsn;
    }
    let incarnation = after.incarnation;
    manifest.write(after).await?;

    let half_made = scanned.iter().flat_map(|log| log.half_made.clone());
    let orphans_removed = remove_orphans(&**disk, directory, manifest.current(), listing, half_made).await?;
    let summary = RecoverySummary {
        incarnation,
        recovered_to: cut.timestamp,
        segments: scanned.iter().map(|log| log.live.len()).sum(),
        log_bytes: scanned.iter().map(|log| log.record_bytes).sum(),
        commits_dropped: cut.dropped,
        torn_bytes: scanned.iter().map(|log| log.torn_bytes).sum(),
        orphans_removed,
    };
    let logs = recovered_logs(directory, &before, &mut scanned, cut.timestamp);
    Ok(Recovered { manifest, scanned, logs, summary })
}

/// What of each log counts, with this cut.
pub(crate) fn recovered_logs(
    directory: &Path,
    manifest: &Manifest,
    scanned: &mut [ScannedLog],
    cut: Timestamp,
) -> Vec<RecoveredLog> {
    scanned
        .iter_mut()
        .zip(&manifest.logs)
        .map(|(log, entry)| {
            let covered = entry.checkpoint.map_or(Timestamp::ZERO, |checkpoint| checkpoint.timestamp);
            let mut records = std::mem::take(&mut log.records);
            // L3: a record is filtered by the checkpoint of the log it came from.
            records.retain(|record| record.timestamp > covered && record.timestamp <= cut);
            let checkpoint = entry.checkpoint.map(|checkpoint| {
                let CheckpointEntry { file, timestamp, .. } = checkpoint;
                let id = CheckpointId { database: manifest.database, log: entry.id, file, timestamp };
                RecoveredCheckpoint { id, entry: checkpoint, path: id.path(directory) }
            });
            RecoveredLog { id: log.id, file: log.end_file.clone(), checkpoint, records }
        })
        .collect()
}

/// All logs at once, each on its own lane.
pub(crate) async fn scan_all(
    lanes: &[Arc<dyn Disk>],
    directory: &Path,
    manifest: &Manifest,
    listing: &Listing,
    on_damage: OnDamage,
) -> Result<Vec<ScannedLog>, WalError> {
    let mut tasks = JoinSet::new();
    let shared = Arc::new(manifest.clone());
    for (index, entry) in manifest.logs.iter().enumerate() {
        let names: Vec<_> = listing.segments.iter().filter(|name| name.log == entry.id).copied().collect();
        let (lane, entry) = (Arc::clone(&lanes[index]), entry.clone());
        let (directory, manifest) = (directory.to_owned(), Arc::clone(&shared));
        tasks.spawn(async move {
            (index, scan_log(&*lane, &directory, &manifest, &entry, &names, on_damage).await)
        });
    }
    let mut scanned = BTreeMap::new();
    while let Some(joined) = tasks.join_next().await {
        // A scan runs none of a user's code; it ends early only when the runtime does.
        let (index, log) = joined.map_err(|_| WalError::Closed)?;
        scanned.insert(index, log?);
    }
    Ok(scanned.into_values().collect())
}

pub(crate) struct Cut {
    pub(crate) timestamp: Timestamp,
    pub(crate) dropped: u64,
    /// The first commit that does not count, with the logs that should have it and don't.
    pub(crate) missing: Option<(Timestamp, Vec<LogId>)>,
}

/// The dense-prefix rule: everything up to the newest checkpoint is committed; from there, commit after
/// commit, as long as all participants have it.
pub(crate) fn find_cut(manifest: &Manifest, scanned: &[ScannedLog]) -> Result<Cut, WalError> {
    let checkpointed = manifest.logs.iter().map(|entry| manifest.checkpointed(entry.id)).max();
    let checkpointed = checkpointed.unwrap_or_default();
    let mut found: Vec<(Timestamp, LogId, &Record)> = scanned
        .iter()
        .flat_map(|log| log.records.iter().map(move |record| (record.timestamp, log.id, record)))
        .filter(|(timestamp, ..)| *timestamp > checkpointed)
        .collect();
    found.sort_by_key(|(timestamp, log, _)| (*timestamp, *log));
    let mut cut = Cut { timestamp: checkpointed, dropped: 0, missing: None };
    for commit in found.chunk_by(|a, b| a.0 == b.0) {
        let (timestamp, _, record) = commit[0];
        let missing: Vec<_> = record
            .participants
            .iter()
            .copied()
            // Sorted by log: participants and records may be many, and are the file's to say.
            .filter(|participant| commit.binary_search_by_key(participant, |(_, log, _)| *log).is_err())
            .collect();
        if commit.len() > record.participants.len() {
            return Err(WalError::corrupt(
                &scanned[0].end_file,
                0,
                format!("commit {timestamp} stands in more logs than it says"),
            ));
        }
        if cut.missing.is_none() && timestamp == cut.timestamp.next() && missing.is_empty() {
            cut.timestamp = timestamp;
            continue;
        }
        cut.dropped += 1;
        if cut.missing.is_none() {
            let first = cut.timestamp.next();
            let missing = if timestamp == first { missing } else { Vec::new() };
            cut.missing = Some((first, missing));
        }
    }
    Ok(cut)
}

/// P5: less than any promise found is loss, and loss is never silent.
pub(crate) fn check_promises(
    directory: &Path,
    manifest: &Manifest,
    scanned: &[ScannedLog],
    cut: &Cut,
) -> Result<(), WalError> {
    let promised = scanned.iter().map(|log| log.promised_synced).fold(manifest.synced, Timestamp::max);
    if cut.timestamp >= promised {
        return Ok(());
    }
    let culprit = cut.missing.as_ref().and_then(|(_, logs)| logs.first());
    let log = culprit.and_then(|id| scanned.iter().find(|log| log.id == *id));
    let (file, offset) = log.map_or((directory.to_owned(), 0), |log| (log.end_file.clone(), log.end_offset));
    Err(WalError::Corrupt {
        file,
        offset,
        detail: format!(
            "commits up to {promised} were on disk, and only those up to {} can be read; commit {} is missing{}",
            cut.timestamp,
            cut.timestamp.next(),
            culprit.map_or_else(String::new, |log| format!(" in log {log}")),
        ),
        commits: Some((cut.timestamp.next(), promised)),
    })
}

async fn rewrite_tail(log: &ScannedLog) -> Result<(), WalError> {
    let Some(last) = log.live.last() else { return Ok(()) };
    let file = &last.file;
    write_all_at(&*file.file, &file.path, 0, log.tail.clone()).await?;
    file.file.sync_data().await.map_err(|error| WalError::io("syncing", &file.path, error))
}

/// Removes files that no manifest names: unfinished checkpoints, logs of an unfinished change of the number
/// of shards, half-made segments. The names that remain are durable then, also those of segments whose maker
/// was killed before it could see to that (R13, R20).
async fn remove_orphans(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    listing: &Listing,
    half_made: impl Iterator<Item = PathBuf>,
) -> Result<usize, WalError> {
    let named = |id| manifest.logs.iter().any(|entry| entry.id == id);
    let checkpoints: Vec<_> = manifest.logs.iter().filter_map(|entry| Some(entry.checkpoint?.file)).collect();
    let orphans = listing
        .segments
        .iter()
        .filter(|name| !named(name.log))
        .map(|name| name.path(directory))
        .chain(
            listing
                .checkpoints
                .iter()
                .filter(|file| !checkpoints.contains(file))
                .map(|file| checkpoint_path(directory, *file)),
        )
        .chain(half_made);
    let mut removed = 0;
    for path in orphans {
        disk.remove(&path).await.map_err(|error| WalError::io("removing", &path, error))?;
        removed += 1;
    }
    disk.sync_dir(directory).await.map_err(|error| WalError::io("syncing", directory, error))?;
    Ok(removed)
}
