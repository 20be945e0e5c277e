//! What the files of a directory hold, one by one, damaged or not. Nothing is concluded from it here.

use std::path::Path;

use bytes::Bytes;

use super::ReadOnlyDisk;
use super::slots::{newest, read_slots};
use super::source::list;
use super::view::{BatchView, CheckpointView, Detail, LayoutView, RecordView, SegmentRole, SegmentView};
use crate::checkpoint::{CheckpointReader, checkpoint_path};
use crate::disk::read_at;
use crate::flusher::ChainEnd;
use crate::frame::{BatchHeader, BatchKind, Found, SECTOR_BYTES, read_batch};
use crate::manifest::Manifest;
use crate::recovery::Listing;
use crate::scan::{RecordStream, continues, malformed_error, read_whole};
use crate::segment::{SegmentFile, SegmentHeader, SegmentName};
use crate::{LogId, Timestamp, WalError};

/// Lists what the directory holds.
///
/// # Errors
/// [`WalError::Missing`] and [`WalError::NotADatabase`] if there is nothing of ours, or the I/O error that kept
/// from listing. Damage is no error here.
pub async fn inspect(disk: &ReadOnlyDisk, directory: &Path, detail: Detail) -> Result<LayoutView, WalError> {
    let listing = list(disk, directory).await?;
    let ours = listing.manifest || !listing.segments.is_empty() || !listing.checkpoints.is_empty();
    if !ours {
        let path = directory.to_owned();
        return Err(match listing.other {
            Some(example) => WalError::NotADatabase { path, example },
            None => WalError::Missing { path },
        });
    }
    let slots = if listing.manifest { read_slots(disk, directory).await? } else { Vec::new() };
    let chosen = newest(&slots);
    let manifest = chosen.map(|(_, manifest)| manifest.clone());
    let sequence = chosen.map(|(sequence, _)| sequence);
    let mut view = LayoutView {
        slots: slots.iter().map(|slot| slot.view(sequence)).collect(),
        segments: Vec::new(),
        checkpoints: Vec::new(),
        other: listing.other.clone(),
    };
    // In the order of each log, for the sake of records that reach from one segment into the next.
    let mut last = None;
    for name in in_log_order(disk, directory, &listing.segments).await {
        let segment = inspect_segment(disk, directory, name, manifest.as_ref(), detail, &mut last).await;
        view.segments.push(segment.unwrap_or_else(|error| unreadable(name, directory, &error)));
    }
    view.segments.sort_by(|a, b| a.file.cmp(&b.file));
    view.checkpoints = inspect_checkpoints(disk, directory, &listing, manifest.as_ref()).await;
    Ok(view)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn blank_view(name: SegmentName, directory: &Path, bytes: u64) -> SegmentView {
    SegmentView {
        file: file_name(&name.path(directory)),
        log: name.log,
        bytes,
        role: SegmentRole::Blank,
        number: None,
        incarnation: None,
        cut: None,
        first_lsn: None,
        last_lsn: None,
        used_bytes: 0,
        free_bytes: bytes,
        batch_count: 0,
        record_count: 0,
        lowest: None,
        highest: None,
        ends: String::new(),
        problem: None,
        batches: Vec::new(),
    }
}

fn unreadable(name: SegmentName, directory: &Path, error: &WalError) -> SegmentView {
    SegmentView { problem: Some(error.to_string()), ..blank_view(name, directory, 0) }
}

async fn in_log_order(disk: &ReadOnlyDisk, directory: &Path, names: &[SegmentName]) -> Vec<SegmentName> {
    let mut numbered = Vec::new();
    for name in names {
        let number = header_of(disk, directory, *name).await.map(|header| header.number);
        numbered.push((name.log, number, *name));
    }
    numbered.sort();
    numbered.into_iter().map(|(.., name)| name).collect()
}

async fn header_of(disk: &ReadOnlyDisk, directory: &Path, name: SegmentName) -> Option<SegmentHeader> {
    let file = SegmentFile::open(disk, name.path(directory)).await.ok()?;
    let sector = read_at(&*file.file, &file.path, 0, SECTOR_BYTES).await.ok()?;
    SegmentHeader::parse(&file.path, &sector).ok().flatten()
}

/// Where the segment before ended, and the beginning of a record that it ended in.
struct Before {
    log: LogId,
    end: ChainEnd,
    stream: RecordStream,
}

impl Before {
    /// Whether the segment continues that one.
    fn leads_to(&self, header: &SegmentHeader) -> bool {
        self.log == header.log
            && self.end.segment.next() == header.number
            && self.end.lsn.next() == header.first_lsn
            && self.end.header_crc == header.previous_crc
    }
}

async fn inspect_segment(
    disk: &ReadOnlyDisk,
    directory: &Path,
    name: SegmentName,
    manifest: Option<&Manifest>,
    detail: Detail,
    before: &mut Option<Before>,
) -> Result<SegmentView, WalError> {
    let file = SegmentFile::open(disk, name.path(directory)).await?;
    let bytes = read_whole(&file).await?;
    let mut view = blank_view(name, directory, file.bytes);
    let entry = manifest.map(|manifest| manifest.logs.iter().find(|log| log.id == name.log));
    let header = match SegmentHeader::parse(&file.path, &bytes) {
        Ok(header) => header,
        Err(error) => {
            view.problem = Some(error.to_string());
            None
        }
    };
    if !file.is_whole() {
        view.problem = Some("its length is none that segments are made with".into());
    }
    let Some(header) = header else {
        if matches!(entry, Some(None)) {
            view.role = SegmentRole::Orphan;
        }
        view.ends = what_stands(&bytes, 0);
        return Ok(view);
    };
    view.role = match entry {
        None => SegmentRole::Unknown,
        Some(None) => SegmentRole::Orphan,
        Some(Some(entry)) if header.number < entry.first_segment => SegmentRole::Free,
        Some(Some(_)) => SegmentRole::Needed,
    };
    if header.log != name.log || manifest.is_some_and(|manifest| manifest.database != header.database) {
        view.problem = Some("it belongs to another database or log".into());
    }
    view.number = Some(header.number.0);
    view.incarnation = Some(header.incarnation.0);
    view.first_lsn = Some(header.first_lsn);
    view.cut =
        manifest.map(|manifest| manifest.cut_of(header.incarnation)).filter(|cut| *cut != Timestamp::MAX);
    let stream = before.take().filter(|before| before.leads_to(&header));
    let mut stream = stream.map(|before| before.stream).unwrap_or_default();
    stream.begin_segment(header.incarnation);
    let end = walk(&file.path, &bytes, &header, detail, &mut stream, &mut view);
    *before = Some(Before { log: header.log, end, stream });
    Ok(view)
}

/// Follows the chain from the segment's own header.
fn walk(
    path: &Path,
    bytes: &Bytes,
    header: &SegmentHeader,
    detail: Detail,
    stream: &mut RecordStream,
    view: &mut SegmentView,
) -> ChainEnd {
    let mut end = ChainEnd {
        lsn: header.first_lsn.previous(),
        header_crc: header.previous_crc,
        segment: header.number,
        ..ChainEnd::default()
    };
    let mut offset = SECTOR_BYTES;
    let mut sealed = false;
    while !sealed
        && let Found::Batch { header: batch, header_crc, payload } = read_batch(bytes, offset)
        && continues(&batch, header, end)
    {
        (end.lsn, end.header_crc) = (batch.lsn, header_crc);
        sealed = batch.kind == BatchKind::Seal;
        view.last_lsn = Some(batch.lsn);
        view.batch_count += 1;
        view.record_count += u64::from(batch.records);
        if batch.kind == BatchKind::Data {
            view.lowest = Some(view.lowest.map_or(batch.lowest, |lowest| lowest.min(batch.lowest)));
            view.highest = view.highest.max(Some(batch.highest));
        }
        let listed = view.batches.len() < detail.batches_max;
        let mut contents = Vec::new();
        if detail.records && batch.kind == BatchKind::Data {
            let pushed = stream.push(&batch, payload, |record| {
                contents.push(RecordView {
                    timestamp: record.timestamp,
                    logs: record.participants,
                    writes: record.write_count,
                    bytes: record.body.len(),
                });
            });
            if let Err(malformed) = pushed {
                view.problem = Some(malformed_error(&malformed, path, offset, &batch).to_string());
            }
        }
        if listed {
            view.batches.push(BatchView::of(offset, &batch, contents));
        }
        offset += batch.occupied_bytes();
    }
    let used = offset.min(bytes.len());
    view.used_bytes = used as u64;
    view.free_bytes = (bytes.len() - used) as u64;
    view.ends = if sealed { "a seal: full".into() } else { what_stands(bytes, offset) };
    end
}

impl BatchView {
    fn of(offset: usize, batch: &BatchHeader, contents: Vec<RecordView>) -> Self {
        Self {
            offset: offset as u64,
            lsn: batch.lsn,
            kind: match batch.kind {
                BatchKind::Data => "data".into(),
                BatchKind::Seal => "seal".into(),
                BatchKind::Watermark => "watermark".into(),
                BatchKind::Unknown(kind) => format!("unknown kind {kind}"),
            },
            bytes: batch.occupied_bytes() as u64,
            payload_bytes: batch.payload_bytes,
            records: batch.records,
            lowest: batch.lowest,
            highest: batch.highest,
            durable_lsn: batch.durable_lsn,
            synced: batch.synced,
            contents,
        }
    }
}

/// What stands where the next batch would.
fn what_stands(bytes: &Bytes, offset: usize) -> String {
    let Some(sector) = bytes.get(offset..bytes.len().min(offset + SECTOR_BYTES)) else {
        return "the end of the file".into();
    };
    if sector.is_empty() {
        return "the end of the file".into();
    }
    let header = BatchHeader::parse(sector);
    match (read_batch(bytes, offset), header) {
        (Found::Batch { header, .. }, _) => {
            let BatchHeader { lsn, segment, .. } = header;
            format!("a batch that does not continue the chain: batch {lsn} of segment {segment}")
        }
        (Found::Damaged, Some((header, _))) => {
            let BatchHeader { lsn, segment, .. } = header;
            format!("a batch whose payload is torn or damaged: batch {lsn} of segment {segment}")
        }
        _ if sector.iter().all(|byte| *byte == 0) => "zeros".into(),
        _ => "bytes that are no header".into(),
    }
}

async fn inspect_checkpoints(
    disk: &ReadOnlyDisk,
    directory: &Path,
    listing: &Listing,
    manifest: Option<&Manifest>,
) -> Vec<CheckpointView> {
    let mut views = Vec::new();
    for file in &listing.checkpoints {
        let path = checkpoint_path(directory, *file);
        let entry = manifest.and_then(|manifest| {
            manifest.logs.iter().find_map(|log| log.checkpoint.filter(|c| c.file == *file))
        });
        let mut view = CheckpointView {
            file: file_name(&path),
            bytes: 0,
            named: entry.is_some(),
            log: None,
            timestamp: None,
            entries: entry.map(|entry| entry.entries),
            problem: None,
        };
        match CheckpointReader::open_any(disk, &path).await {
            Ok(reader) => {
                view.bytes = reader.file_bytes();
                view.log = Some(reader.id().log);
                view.timestamp = Some(reader.id().timestamp);
                let length = entry.map_or(view.bytes, |entry| entry.bytes);
                if view.bytes != length {
                    view.problem = Some(format!("it has {} bytes, not {length}", view.bytes));
                }
                if manifest.is_some_and(|manifest| manifest.database != reader.id().database) {
                    view.problem = Some("it belongs to another database".into());
                }
            }
            Err(error) => view.problem = Some(error.to_string()),
        }
        views.push(view);
    }
    views
}
