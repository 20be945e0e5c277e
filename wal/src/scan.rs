//! Reading one log back: walking the chain of batches, and collecting promises from every intact header.
//!
//! The walk stops at the first break and never resumes behind it (RELIABILITY R2). Whether the break is the
//! torn end of a crash or damage to something acknowledged is decided by promises (R3): if any intact header
//! says that more than what the walk found was on disk, something is lost, and the engine must not open.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::disk::{Disk, read_at};
use crate::flusher::ChainEnd;
use crate::frame::{BatchHeader, BatchKind, Found, NO_RECORD, SECTOR_BYTES, read_batch};
use crate::manifest::{LogEntry, Manifest};
use crate::planted::{Bug, is_planted};
use crate::record::{Malformed, Record, is_length_of_a_record};
use crate::ring::LiveSegment;
use crate::segment::{SegmentFile, SegmentHeader, SegmentName};
use crate::{Incarnation, LogId, Lsn, Timestamp, WalError};

/// What was found in one log.
pub(crate) struct ScannedLog {
    pub(crate) id: LogId,
    /// Records that count, in log order, not yet cut. A recovery leaves out what the log's checkpoint covers: it may
    /// be much, if it is retained for readers of changes.
    pub(crate) records: Vec<Record>,
    /// Bytes of all records' writes, also of those left out.
    pub(crate) record_bytes: u64,
    /// Bytes of batches with records that the log's checkpoint does not cover.
    pub(crate) logged_bytes: u64,
    pub(crate) live: Vec<LiveSegment>,
    pub(crate) incarnations: Vec<Incarnation>,
    pub(crate) free: Vec<SegmentFile>,
    /// Files that a crash left while they were being made, to be removed.
    pub(crate) half_made: Vec<PathBuf>,
    pub(crate) next_slot: u32,
    pub(crate) end: ChainEnd,
    /// Accepted bytes of the last segment: what recovery relies on and must write again (R13).
    pub(crate) tail: Bytes,
    /// The file and offset at which the log ends.
    pub(crate) end_file: PathBuf,
    pub(crate) end_offset: u64,
    pub(crate) torn_bytes: u64,
    pub(crate) promised_lsn: Lsn,
    pub(crate) promised_synced: Timestamp,
    /// The highest `synced` promised by a batch of the walk: every commit up to it stands before that batch.
    pub(crate) walked_synced: Timestamp,
    /// What is wrong, where damage is only noted.
    pub(crate) damage: Vec<WalError>,
    /// Whether there was any.
    pub(crate) is_damaged: bool,
    on_damage: OnDamage,
}

/// What to do about damage. Either way nothing behind a break is ever replayed (R2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// Recovery refuses at the first.
    Refuse,
    /// An inspection notes it and goes on with what stands before it.
    Note,
    /// So does a salvage, and where only a segment's header is gone, its first batch says what it was: segment
    /// numbers are never reused, and the chain must still hold.
    Salvage,
}

struct OpenSegment {
    file: SegmentFile,
    header: SegmentHeader,
}

/// Reads the log of `entry`.
pub(crate) async fn scan_log(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    entry: &LogEntry,
    names: &[SegmentName],
    on_damage: OnDamage,
) -> Result<ScannedLog, WalError> {
    let mut scanned = ScannedLog {
        id: entry.id,
        records: Vec::new(),
        record_bytes: 0,
        logged_bytes: 0,
        live: Vec::new(),
        incarnations: Vec::new(),
        free: Vec::new(),
        half_made: Vec::new(),
        next_slot: names.iter().map(|name| name.slot.saturating_add(1)).max().unwrap_or(0),
        end: ChainEnd { segment: entry.first_segment.previous(), ..ChainEnd::default() },
        tail: Bytes::new(),
        end_file: directory.to_owned(),
        end_offset: 0,
        torn_bytes: 0,
        promised_lsn: entry.durable_lsn,
        promised_synced: manifest.synced,
        walked_synced: Timestamp::ZERO,
        damage: Vec::new(),
        is_damaged: false,
        on_damage,
    };
    let segments = open_segments(disk, directory, manifest, entry, names, &mut scanned).await?;
    if let Some(first) = segments.first() {
        scanned.end.lsn = first.header.first_lsn.previous();
        scanned.end.header_crc = first.header.previous_crc;
    }
    let mut stream = RecordStream::default();
    let next_headers: Vec<_> =
        segments.iter().skip(1).map(|segment| Some(segment.header.clone())).chain([None]).collect();
    let mut broken = false;
    for (segment, next) in segments.into_iter().zip(next_headers) {
        if broken {
            scanned.note_promises_of(&segment.file, manifest).await?;
            continue;
        }
        let path = segment.file.path.clone();
        let walked = walk_segment(manifest, segment, next.as_ref(), &mut stream, &mut scanned).await;
        if let Err(error) = walked {
            scanned.report(error)?;
            scanned.end_file = path;
            broken = true;
        }
    }
    if scanned.end.lsn < scanned.promised_lsn {
        let (id, end, promised) = (entry.id, scanned.end.lsn, scanned.promised_lsn);
        let detail = format!("log {id} can be read up to batch {end}, and was synced up to batch {promised}");
        scanned.report(WalError::corrupt(&scanned.end_file, scanned.end_offset, detail))?;
    }
    Ok(scanned)
}

/// Opens all files of the log and sorts them: those that recovery needs, oldest first, and free ones.
async fn open_segments(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    entry: &LogEntry,
    names: &[SegmentName],
    scanned: &mut ScannedLog,
) -> Result<Vec<OpenSegment>, WalError> {
    let mut needed = Vec::new();
    for name in names {
        let path = name.path(directory);
        match open_segment(disk, path, manifest, entry, scanned).await {
            Ok(segment) => needed.extend(segment),
            Err(error) => scanned.report(error)?,
        }
    }
    if scanned.on_damage == OnDamage::Salvage {
        salvage_headers(manifest, entry, &mut needed, scanned).await?;
    }
    let whole = needed.len() + scanned.free.len();
    if whole < entry.files as usize {
        let detail = format!("log {} has {whole} segment files, and had {}", entry.id, entry.files);
        scanned.report(WalError::corrupt(directory, 0, detail))?;
    }
    if whole > entry.files as usize {
        // A crash of the process left one that was made and not yet noted: it must not go missing once it
        // counts, so its length is made durable here (R20). Its name is, when recovery syncs the directory.
        for free in &scanned.free {
            free.file.sync_all().await.map_err(|error| WalError::io("syncing", &free.path, error))?;
        }
    }
    needed.sort_by_key(|segment| segment.header.number);
    let mut expected = entry.first_segment;
    for index in 0..needed.len() {
        if needed[index].header.number != expected {
            scanned.report(WalError::segment_missing(directory, entry.id, expected))?;
            for behind in needed.drain(index..) {
                scanned.note_promises_of(&behind.file, manifest).await?;
            }
            break;
        }
        expected = expected.next();
    }
    Ok(needed)
}

/// Adds the segments that have lost nothing but their header.
async fn salvage_headers(
    manifest: &Manifest,
    entry: &LogEntry,
    needed: &mut Vec<OpenSegment>,
    scanned: &mut ScannedLog,
) -> Result<(), WalError> {
    for file in std::mem::take(&mut scanned.free) {
        let first = read_at(&*file.file, &file.path, 0, 2 * SECTOR_BYTES).await?;
        let intact = SegmentHeader::parse(&file.path, &first)?.is_some();
        let batch = first.get(SECTOR_BYTES..).and_then(BatchHeader::parse);
        let Some((batch, _)) = batch.filter(|_| !intact) else {
            scanned.free.push(file);
            continue;
        };
        let header = SegmentHeader {
            database: batch.database,
            log: batch.log,
            number: batch.segment,
            incarnation: batch.incarnation,
            first_lsn: batch.lsn,
            previous_crc: batch.previous_crc,
        };
        let is_there = needed.iter().any(|segment| segment.header.number == header.number);
        let counts = header.number >= entry.first_segment
            && check_identity(manifest, entry, &file.path, &header).is_ok();
        if is_there || !counts {
            scanned.free.push(file);
            continue;
        }
        let detail =
            format!("the header is not intact; by its first batch, this is segment {}", header.number);
        scanned.report(WalError::corrupt(&file.path, 0, detail))?;
        needed.push(OpenSegment { file, header });
    }
    Ok(())
}

/// Opens one file of the log. `None` if recovery does not need it.
async fn open_segment(
    disk: &dyn Disk,
    path: PathBuf,
    manifest: &Manifest,
    entry: &LogEntry,
    scanned: &mut ScannedLog,
) -> Result<Option<OpenSegment>, WalError> {
    let file = SegmentFile::open(disk, path).await?;
    let first_sector = read_at(&*file.file, &file.path, 0, SECTOR_BYTES).await?;
    if let Some(header) = SegmentHeader::parse(&file.path, &first_sector)? {
        check_identity(manifest, entry, &file.path, &header)?;
        if !file.is_whole() {
            // Also a free one: what is written to it would not fit.
            scanned.report(WalError::corrupt(&file.path, file.bytes, "the segment was cut short"))?;
        }
        if header.number < entry.first_segment {
            scanned.free.push(file);
            return Ok(None);
        }
        return Ok(Some(OpenSegment { file, header }));
    }
    // Never used, or its first use was torn, or damaged: promises in it tell.
    let bytes = read_whole(&file).await?;
    collect_promises(&bytes, 0, manifest, scanned);
    if file.is_whole() {
        scanned.free.push(file);
    } else {
        scanned.half_made.push(file.path);
    }
    Ok(None)
}

fn check_identity(
    manifest: &Manifest,
    entry: &LogEntry,
    path: &Path,
    header: &SegmentHeader,
) -> Result<(), WalError> {
    if header.database != manifest.database || header.log != entry.id {
        return Err(WalError::corrupt(path, 0, "the segment belongs to another database or log"));
    }
    // L5: nothing of an incarnation is written before the manifest that names it is synced.
    if header.incarnation > manifest.incarnation {
        return Err(WalError::corrupt(
            path,
            0,
            format!(
                "the segment is of incarnation {}, and the newest intact manifest of {}: the manifest is damaged",
                header.incarnation, manifest.incarnation
            ),
        ));
    }
    Ok(())
}

pub(crate) async fn read_whole(file: &SegmentFile) -> Result<Bytes, WalError> {
    let length = usize::try_from(file.bytes)
        .map_err(|_| WalError::corrupt(&file.path, 0, "the segment is larger than the address space"))?;
    read_at(&*file.file, &file.path, 0, length).await
}

/// R3: looks at every sector from `offset` on for an intact header of this log. It is never replayed; what it
/// promised was true when it was written, and stays true.
pub(crate) fn collect_promises(bytes: &Bytes, offset: usize, manifest: &Manifest, scanned: &mut ScannedLog) {
    for start in (offset.next_multiple_of(SECTOR_BYTES)..bytes.len()).step_by(SECTOR_BYTES) {
        if let Some((header, _)) = BatchHeader::parse(&bytes[start..])
            && header.database == manifest.database
            && header.log == scanned.id
        {
            scanned.note_promises(&header);
        }
    }
}

impl ScannedLog {
    /// Damage: the end of a recovery, or a line in the list of a salvage.
    fn report(&mut self, error: WalError) -> Result<(), WalError> {
        match self.on_damage {
            OnDamage::Refuse => Err(error),
            OnDamage::Note | OnDamage::Salvage => {
                self.damage.push(error);
                self.is_damaged = true;
                Ok(())
            }
        }
    }

    /// A segment behind a break, which is not replayed: what it promised tells how much is missing.
    async fn note_promises_of(&mut self, file: &SegmentFile, manifest: &Manifest) -> Result<(), WalError> {
        match read_whole(file).await {
            Ok(bytes) => collect_promises(&bytes, 0, manifest, self),
            Err(error) => self.report(error)?,
        }
        Ok(())
    }

    fn note_promises(&mut self, header: &BatchHeader) {
        self.promised_lsn = self.promised_lsn.max(header.durable_lsn);
        self.promised_synced = self.promised_synced.max(header.synced);
    }
}

/// Follows the chain through one segment. `next` is the header of the segment behind it.
async fn walk_segment(
    manifest: &Manifest,
    segment: OpenSegment,
    next: Option<&SegmentHeader>,
    stream: &mut RecordStream,
    scanned: &mut ScannedLog,
) -> Result<(), WalError> {
    let OpenSegment { file, header } = segment;
    let bytes = read_whole(&file).await?;
    let cut = manifest.cut_of(header.incarnation);
    let covered = manifest.checkpointed(scanned.id);
    // L3: covered by the checkpoint of the log that it is in. Whoever looks at a log for its own sake sees it all.
    let left_out = if scanned.on_damage == OnDamage::Refuse { covered } else { Timestamp::ZERO };
    stream.begin_segment(header.incarnation);
    // A later incarnation says how far it accepted this one; what follows is void (R10).
    let end_lsn = next
        .filter(|next| next.incarnation > header.incarnation)
        .map_or(Lsn(u64::MAX), |next| next.first_lsn.previous());
    let mut offset = SECTOR_BYTES;
    let mut sealed = false;
    let mut highest = Timestamp::ZERO;
    while !sealed && scanned.end.lsn < end_lsn {
        let Found::Batch { header: batch, header_crc, payload } = read_batch(&bytes, offset) else {
            if is_planted(Bug::BadBatchSkipped) && offset + SECTOR_BYTES < bytes.len() {
                offset += SECTOR_BYTES;
                continue;
            }
            break;
        };
        if !continues(&batch, &header, scanned.end) {
            break;
        }
        let cut = if is_planted(Bug::AppendedToTail) { manifest.cut_of(batch.incarnation) } else { cut };
        scanned.note_promises(&batch);
        scanned.walked_synced = scanned.walked_synced.max(batch.synced);
        scanned.end.lsn = batch.lsn;
        scanned.end.header_crc = header_crc;
        if let BatchKind::Unknown(kind) = batch.kind {
            return Err(WalError::UnknownKind { file: file.path, offset: offset as u64, kind });
        }
        sealed = batch.kind == BatchKind::Seal;
        highest = highest.max(batch.highest);
        if batch.kind == BatchKind::Data {
            if batch.highest > covered {
                scanned.logged_bytes += batch.occupied_bytes() as u64;
            }
            stream
                .push(&batch, payload, |record| {
                    // Of a cut incarnation, only what lies below the cut counts.
                    if record.timestamp <= cut {
                        scanned.record_bytes += record.body.len() as u64;
                        if record.timestamp > left_out {
                            scanned.records.push(record);
                        }
                    }
                })
                .map_err(|malformed| malformed_error(&malformed, &file.path, offset, &batch))?;
        }
        offset += batch.occupied_bytes();
    }
    scanned.end.segment = header.number;
    scanned.end_file.clone_from(&file.path);
    scanned.end_offset = offset as u64;
    if let Some(next) = next {
        let linked = check_link(&header, next, sealed, offset, &file.path, scanned.end);
        if linked.is_err() {
            collect_promises(&bytes, offset, manifest, scanned);
        }
        linked?;
    } else {
        scanned.tail = bytes.slice(..offset.min(bytes.len()));
        collect_promises(&bytes, offset, manifest, scanned);
        scanned.torn_bytes = torn_bytes(&bytes, offset);
    }
    scanned.incarnations.push(header.incarnation);
    scanned.live.push(LiveSegment { number: header.number, file, highest, ended: Instant::now() });
    Ok(())
}

pub(crate) fn continues(batch: &BatchHeader, segment: &SegmentHeader, end: ChainEnd) -> bool {
    if is_planted(Bug::StaleBatchAccepted) {
        return batch.log == segment.log;
    }
    if is_planted(Bug::BadBatchSkipped) {
        return batch.segment == segment.number && batch.lsn > end.lsn;
    }
    if is_planted(Bug::AppendedToTail) {
        return batch.segment == segment.number && batch.lsn == end.lsn.next();
    }
    batch.database == segment.database
        && batch.log == segment.log
        && batch.segment == segment.number
        && batch.incarnation == segment.incarnation
        && batch.lsn == end.lsn.next()
        && batch.previous_crc == end.header_crc
}

/// R15: a segment that is not the last ends in a seal, unless a crash ended it and a later incarnation says
/// where. Either way the next one begins where it ends.
fn check_link(
    header: &SegmentHeader,
    next: &SegmentHeader,
    sealed: bool,
    offset: usize,
    path: &Path,
    end: ChainEnd,
) -> Result<(), WalError> {
    let ended_rightly = sealed || next.incarnation > header.incarnation;
    let linked = next.first_lsn == end.lsn.next() && next.previous_crc == end.header_crc;
    if ended_rightly && linked && next.incarnation >= header.incarnation {
        return Ok(());
    }
    Err(WalError::corrupt(
        path,
        offset as u64,
        format!(
            "segment {} can be read up to batch {}, and segment {} begins after batch {}",
            header.number,
            end.lsn,
            next.number,
            next.first_lsn.previous()
        ),
    ))
}

/// How far something was written behind the end of the log: what a crash tore.
pub(crate) fn torn_bytes(bytes: &Bytes, offset: usize) -> u64 {
    let Some(rest) = bytes.get(offset..offset + SECTOR_BYTES) else { return 0 };
    match BatchHeader::parse(rest) {
        Some((header, _)) if header.occupied_bytes() <= bytes.len() - offset => {
            header.occupied_bytes() as u64
        }
        _ => 0,
    }
}

pub(crate) fn malformed_error(
    malformed: &Malformed,
    path: &Path,
    offset: usize,
    batch: &BatchHeader,
) -> WalError {
    match malformed {
        Malformed::UnknownKind(kind) => {
            WalError::UnknownKind { file: path.to_owned(), offset: offset as u64, kind: *kind }
        }
        Malformed::Shape(detail) => WalError::Corrupt {
            file: path.to_owned(),
            offset: offset as u64,
            detail: (*detail).to_owned(),
            commits: Some((batch.lowest, batch.highest)),
        },
    }
}

/// Puts together the records that batches cut.
#[derive(Default)]
pub(crate) struct RecordStream {
    /// The beginning of a record that the next batch continues.
    partial: BytesMut,
    incarnation: Incarnation,
    /// The walk began in the middle of a record: skip to the first that starts.
    joined: bool,
}

impl RecordStream {
    pub(crate) fn begin_segment(&mut self, incarnation: Incarnation) {
        // An incarnation begins with a whole record; what the last one left unfinished is void.
        if incarnation != self.incarnation {
            self.partial.clear();
            self.incarnation = incarnation;
        }
    }

    pub(crate) fn push(
        &mut self,
        batch: &BatchHeader,
        mut payload: Bytes,
        mut each: impl FnMut(Record),
    ) -> Result<(), Malformed> {
        if !self.joined {
            if batch.first_record == NO_RECORD {
                return Ok(());
            }
            if batch.first_record as usize > payload.len() {
                return Err(Malformed::Shape("the first record starts beyond the batch"));
            }
            payload = payload.split_off(batch.first_record as usize);
            self.joined = true;
        }
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(&payload);
            if !holds_a_record(&self.partial) {
                return Ok(());
            }
            payload = self.partial.split().freeze();
        }
        while let Some(record) = Record::take(&mut payload)? {
            each(record);
        }
        self.partial.extend_from_slice(&payload);
        Ok(())
    }
}

/// Whether there is something to say of the record at the front, told by its length alone: it is whole, or of no
/// record's length. A large record is not copied again for each batch that it goes through.
fn holds_a_record(partial: &[u8]) -> bool {
    partial.first_chunk::<4>().is_some_and(|length| {
        let length = u32::from_le_bytes(*length) as usize;
        partial.len() - 4 >= length || !is_length_of_a_record(length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EncodedWrites;

    fn data(first_record: u32) -> BatchHeader {
        BatchHeader {
            kind: BatchKind::Data,
            database: crate::DatabaseId(1),
            log: LogId(0),
            incarnation: Incarnation(1),
            segment: crate::SegmentNumber(1),
            lsn: Lsn(1),
            payload_bytes: 0,
            records: 1,
            first_record,
            previous_crc: 0,
            durable_lsn: Lsn(0),
            synced: Timestamp::ZERO,
            lowest: Timestamp(1),
            highest: Timestamp(1),
            table_crc: 0,
        }
    }

    /// Pushes a payload in two batches.
    fn in_two_batches(payload: &[u8], cut: usize) -> Result<usize, Malformed> {
        let (mut stream, mut records) = (RecordStream::default(), 0);
        let (first, second) = payload.split_at(cut);
        stream.push(&data(0), Bytes::copy_from_slice(first), |_| records += 1)?;
        stream.push(&data(NO_RECORD), Bytes::copy_from_slice(second), |_| records += 1)?;
        Ok(records)
    }

    #[test]
    fn a_length_that_no_record_has_is_malformed_also_when_two_batches_share_it() {
        let mut whole = Vec::new();
        EncodedWrites::new().put_record(&mut whole, Timestamp(1), &[LogId(0)]);
        for length in [u32::MAX, 1 << 31, 3, 0] {
            let payload = [&length.to_le_bytes()[..], &whole[4..]].concat();
            for cut in 0..payload.len() {
                let pushed = in_two_batches(&payload, cut);
                assert!(matches!(pushed, Err(Malformed::Shape(_))), "{length}, cut at {cut}: {pushed:?}");
            }
        }
        for cut in 0..whole.len() {
            assert_eq!(in_two_batches(&whole, cut), Ok(1), "cut at {cut}");
        }
    }
}
