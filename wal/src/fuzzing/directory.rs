//! A whole directory: what the tool does with it without writing to it, and then recovery.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::unpack;
use super::memory::MemoryDisk;
use super::{block_on, repair};
use crate::inspect::{Detail, ReadOnlyDisk, Source, inspect, salvage, verify};
use crate::manifest::SLOT_BYTES;
use crate::segment::{SegmentHeader, SegmentName};
use crate::{
    CheckpointReader, Env, Health, Opened, RecoveredLog, RingLimits, SEGMENT_BYTES_MIN, SyncPolicy,
    Timestamp, Wal, WalError, WalOptions,
};

const DIRECTORY: &str = "/database";
type Files = BTreeMap<String, Vec<u8>>;

/// The files of a directory, as `pack` puts them together.
#[must_use]
pub fn directory(input: &[u8]) -> u64 {
    let files = unpack(input);
    let bytes = files.values().map(|bytes| bytes.len() as u64).sum();
    let repaired = repair_all(files.clone());
    let as_it_is = (files != repaired).then_some(files);
    for files in as_it_is.into_iter().chain([repaired]) {
        let files = files.into_iter().map(|(name, bytes)| (Path::new(DIRECTORY).join(name), bytes));
        block_on(look(&MemoryDisk::of(files)));
    }
    bytes
}

fn repair_all(mut files: Files) -> Files {
    let mut segments = Vec::new();
    for (name, bytes) in &mut files {
        if let Some(segment) = SegmentName::parse(name) {
            // The number of a segment, whatever its checksum says.
            let number = bytes.get(32..40).and_then(|field| field.first_chunk());
            segments.push((segment.log, number.map_or(0, |field| u64::from_le_bytes(*field)), name.clone()));
        } else if name == "MANIFEST" {
            bytes.chunks_mut(SLOT_BYTES).for_each(repair::slot);
        } else {
            repair::checkpoint(bytes);
        }
    }
    segments.sort();
    let mut before = None;
    for (log, number, name) in segments {
        let Some(bytes) = files.get_mut(&name) else { continue };
        // The first of a log keeps what it says of the one before.
        let chained = before.filter(|(of, last, _)| *of == log && Some(number) == u64::checked_add(*last, 1));
        let end = repair::segment(bytes, chained.map(|(.., end)| end));
        let intact = SegmentHeader::parse(Path::new(&name), bytes).is_ok_and(|header| header.is_some());
        before = intact.then_some((log, number, end));
    }
    files
}

/// Numbers that nobody need draw.
struct Fixed;

impl Env for Fixed {
    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn unix_millis(&self) -> u64 {
        0
    }

    fn random(&self) -> u64 {
        0x5EED
    }
}

async fn look(disk: &MemoryDisk) {
    let directory = PathBuf::from(DIRECTORY);
    let read_only = ReadOnlyDisk::new(Arc::new(disk.clone()), Arc::new(|_| {}));
    let layout = inspect(&read_only, &directory, Detail { batches_max: 8, records: true }).await;
    let checked = verify(&read_only, &directory).await;
    let source = Source::open(&read_only, &directory).await;
    let new = |name| PathBuf::from("/new").join(name);
    let salvaged = salvage(&read_only, &directory, (disk, &new("salvaged")), &Fixed).await;
    let sound = checked.as_ref().is_ok_and(|report| report.damage.is_empty());
    if let Ok(report) = &checked {
        assert!(layout.is_ok(), "what can be checked can be looked at");
        assert!(report.damage.is_empty() || report.recovered_to >= Timestamp::ZERO);
    }
    let mut counted = None;
    match &source {
        Ok(source) => {
            let entries = source.entries().await;
            assert!(entries.is_ok() || !sound, "{:?}", entries.err());
            if let Ok(entries) = entries {
                let copied = source.copy(disk, &new("copied"), &Fixed).await;
                counted = Some(entries.len());
                if copied.is_ok() {
                    check_copy(&read_only, &new("copied"), source.recovered_to(), Some(entries.len())).await;
                }
            }
        }
        Err(error) => assert!(!sound, "sound, and {error}"),
    }
    if let Ok(report) = salvaged {
        let entries = counted.filter(|_| report.is_complete());
        check_copy(&read_only, &new("salvaged"), report.saved.timestamp, entries).await;
    }
    recover(disk, &directory, source.as_ref().map(Source::recovered_to)).await;
}

/// What was written anew is sound, and holds as much.
async fn check_copy(disk: &ReadOnlyDisk, directory: &Path, timestamp: Timestamp, entries: Option<usize>) {
    let report = verify(disk, directory).await.expect("a new database has a manifest");
    assert!(report.damage.is_empty(), "a copy is damaged: {:?}", report.damage);
    assert_eq!(report.recovered_to, timestamp);
    let source = Source::open(disk, directory).await.expect("it is sound");
    let found = source.entries().await.expect("it is sound").len();
    assert!(entries.is_none_or(|entries| entries == found), "{entries:?} entries, and {found} in a copy");
}

/// Recovers twice: what is recovered once is recovered again.
async fn recover(disk: &MemoryDisk, directory: &Path, expected: Result<Timestamp, &WalError>) {
    let opened = match open(disk, directory).await {
        Ok(opened) => opened,
        // A manifest that leaves no room in its slot for another fence.
        Err(WalError::Config(_)) => return,
        Err(error) => {
            assert!(expected.is_err(), "recovery refuses what could be read: {error}");
            return;
        }
    };
    let recovered_to = opened.summary.recovered_to;
    assert_eq!(Some(recovered_to), expected.ok(), "recovery takes what could not be read");
    let loaded = load(disk, &opened.logs).await;
    let started = opened.wal.start(&Arc::new(Health::default()), &(Arc::new(|| {}) as _)).await;
    let Ok(tasks) = started else { return };
    drop((tasks, opened));
    match open(disk, directory).await {
        Ok(again) => {
            assert_eq!(again.summary.recovered_to, recovered_to);
            assert_eq!(load(disk, &again.logs).await, loaded);
        }
        Err(error) => assert!(matches!(error, WalError::Config(_)), "recovered once, and then: {error}"),
    }
}

async fn open(disk: &MemoryDisk, directory: &Path) -> Result<Opened, WalError> {
    let options = WalOptions {
        shards: 1,
        policy: SyncPolicy::Always,
        limits: RingLimits {
            segment_bytes: SEGMENT_BYTES_MIN,
            segments_max: 4,
            retention: crate::Retention::default(),
        },
        checkpoint_logged_min: 1 << 20,
        hash: "any".into(),
        create: false,
    };
    Wal::open(disk, directory, options, &Fixed).await
}

/// Reads what an engine would load: how many entries and writes there are, or that something is damaged.
async fn load(disk: &MemoryDisk, logs: &[RecoveredLog]) -> Option<(usize, usize)> {
    let (mut entries, mut writes) = (0, 0);
    for log in logs {
        if let Some(checkpoint) = &log.checkpoint {
            let mut reader = CheckpointReader::open(disk, checkpoint).await.ok()?;
            while let Some(block) = reader.next_block().await.ok()? {
                entries += block.len();
            }
        }
        for write in log.records.iter().flat_map(crate::Record::writes) {
            write.ok()?;
            writes += 1;
        }
    }
    Some((entries, writes))
}
