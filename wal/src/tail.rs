//! Reading a log while it is written: a cursor that follows the chain of batches from segment to segment, up to what
//! is written, and never beyond.
//!
//! It opens a segment's file anew for each step and holds none in between, so whoever stops reading keeps nothing
//! from ending. Segments may be reused under it: then the ring says so, and whatever was read meanwhile broke the
//! chain.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode, read_at};
use crate::flusher::ChainEnd;
use crate::frame::{BatchHeader, BatchKind, Found, SECTOR_BYTES, read_batch};
use crate::manifest::Fence;
use crate::record::Record;
use crate::ring::{Ring, View};
use crate::scan::{RecordStream, continues, malformed_error};
use crate::segment::SegmentHeader;
use crate::{DatabaseId, Incarnation, LogId, Lsn, SegmentNumber, Timestamp, WalError};

/// Read at a time, if no batch is larger.
const WINDOW_BYTES: u64 = 256 << 10;

/// What a log's readers know of its database.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) database: DatabaseId,
    pub(crate) incarnation: Incarnation,
    /// What of former incarnations counts.
    pub(crate) fences: Arc<[Fence]>,
}

/// What a step found.
pub(crate) enum Step {
    /// Records that count, in log order. There may be more.
    Records(Vec<Record>),
    /// Nothing more is written yet.
    End,
    /// The segment was given back.
    Gone,
}

pub(crate) struct Cursor {
    /// The log. Its ring comes along with each step: whoever held it would hold its files, and the directory.
    pub(crate) log: LogId,
    origin: Origin,
    number: SegmentNumber,
    /// The header of the segment, once it was read.
    segment: Option<Segment>,
    /// Where the chain was followed to. `None` before the first batch.
    end: Option<ChainEnd>,
    stream: RecordStream,
    /// The highest timestamp read.
    pub(crate) seen: Timestamp,
    pub(crate) is_at_end: bool,
}

struct Segment {
    header: SegmentHeader,
    offset: u64,
    /// The last batch of it that counts.
    last_lsn: Lsn,
    cut: Timestamp,
    is_finished: bool,
}

/// What became of reading on in one segment.
enum Window {
    Records(Vec<Record>),
    /// No batch continues the chain.
    Nothing,
}

impl Cursor {
    /// Begins where records above `after` begin.
    pub(crate) fn new(ring: &Ring, origin: Origin, after: Timestamp) -> Self {
        let number = ring.segment_after(after);
        let (segment, end, stream) = (None, None, RecordStream::default());
        Self {
            log: ring.log.id(),
            origin,
            number,
            segment,
            end,
            stream,
            seen: Timestamp::ZERO,
            is_at_end: false,
        }
    }

    /// Reads on.
    pub(crate) async fn step(&mut self, ring: &Ring, disk: &dyn Disk) -> Result<Step, WalError> {
        loop {
            if self.segment.as_ref().is_some_and(|segment| segment.is_finished) {
                if matches!(ring.view(self.number.next()), View::NotYet) {
                    return Ok(Step::End);
                }
                self.number = self.number.next();
                self.segment = None;
            }
            let (path, written) = match ring.view(self.number) {
                View::Gone => return Ok(Step::Gone),
                View::NotYet => return Ok(Step::End),
                View::Ended(path) => (path, None),
                View::Writing(path, end) => (path, Some(end)),
            };
            // An idle log costs no look at its file.
            if self.segment.as_ref().is_some_and(|segment| written.is_some_and(|end| segment.offset >= end)) {
                return Ok(Step::End);
            }
            match self.read((ring, disk), &path, written).await {
                Ok(Some(records)) if records.is_empty() => {}
                Ok(Some(records)) => return Ok(Step::Records(records)),
                Ok(None) => return Ok(Step::End),
                // What looks like damage may be the next use of the file.
                Err(_) if matches!(ring.view(self.number), View::Gone) => return Ok(Step::Gone),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one window of the segment. `None` if nothing more is written yet.
    async fn read(
        &mut self,
        (ring, disk): (&Ring, &dyn Disk),
        path: &Path,
        written: Option<u64>,
    ) -> Result<Option<Vec<Record>>, WalError> {
        let io = |error| WalError::io("reading", path, error);
        let file = disk.open(path, OpenMode::Read).await.map_err(io)?;
        if self.segment.is_none() {
            self.enter((ring, disk), &*file, path).await?;
        }
        let segment = self.segment.as_ref().expect("it was entered above");
        let end = match written {
            Some(end) if segment.offset >= end => return Ok(None),
            Some(end) => end,
            None => file.len().await.map_err(io)?,
        };
        match self.window(&*file, path, end).await? {
            Window::Records(records) => Ok(Some(records)),
            Window::Nothing => {
                let segment = self.segment.as_mut().expect("it was entered above");
                // A crash may end a segment of a former incarnation anywhere; others end in a seal (R15).
                let may_end = written.is_none() && segment.header.incarnation < self.origin.incarnation;
                segment.is_finished = may_end;
                if may_end { Ok(Some(Vec::new())) } else { Err(broken(path, segment.offset)) }
            }
        }
    }

    /// Reads the segment's header, and that of the next one as far as it ends this one.
    async fn enter(
        &mut self,
        (ring, disk): (&Ring, &dyn Disk),
        file: &dyn DiskFile,
        path: &Path,
    ) -> Result<(), WalError> {
        let header = read_header(file, path).await?.filter(|header| self.is_ours(header, self.number));
        let header = header.ok_or_else(|| broken(path, 0))?;
        let begins = ChainEnd {
            lsn: header.first_lsn.previous(),
            header_crc: header.previous_crc,
            ..ChainEnd::default()
        };
        let end = *self.end.get_or_insert(begins);
        if end.lsn != begins.lsn || end.header_crc != begins.header_crc {
            return Err(broken(path, 0));
        }
        let mut last_lsn = Lsn(u64::MAX);
        if header.incarnation < self.origin.incarnation {
            last_lsn = ring.recovered_end();
            if let View::Ended(next) | View::Writing(next, _) = ring.view(self.number.next()) {
                let file = disk.open(&next, OpenMode::Read).await;
                let file = file.map_err(|error| WalError::io("reading", &next, error))?;
                let next_header = read_header(&*file, &next).await?;
                let later = next_header.filter(|next| next.incarnation > header.incarnation);
                last_lsn = later.map_or(last_lsn, |next| last_lsn.min(next.first_lsn.previous()));
            }
        }
        let fence = self.origin.fences.iter().find(|fence| fence.incarnation == header.incarnation);
        let cut = fence.map_or(Timestamp::MAX, |fence| fence.cut);
        self.stream.begin_segment(header.incarnation);
        let offset = SECTOR_BYTES as u64;
        self.segment = Some(Segment { header, offset, last_lsn, cut, is_finished: false });
        Ok(())
    }

    fn is_ours(&self, header: &SegmentHeader, number: SegmentNumber) -> bool {
        header.database == self.origin.database
            && header.log == self.log
            && header.number == number
            && header.incarnation <= self.origin.incarnation
    }

    /// Reads the batches from the offset on that fit a window.
    async fn window(&mut self, file: &dyn DiskFile, path: &Path, end: u64) -> Result<Window, WalError> {
        let Self { segment: Some(segment), end: Some(chain), stream, seen, .. } = self else {
            return Ok(Window::Nothing);
        };
        let rest = end.saturating_sub(segment.offset);
        let mut bytes = read_at(file, path, segment.offset, narrow(rest.min(WINDOW_BYTES))).await?;
        if let Some((first, _)) = BatchHeader::parse(&bytes)
            && first.occupied_bytes() > bytes.len()
            && first.occupied_bytes() as u64 <= rest
        {
            bytes = read_at(file, path, segment.offset, first.occupied_bytes()).await?;
        }
        let mut records = Vec::new();
        let mut at = 0;
        while !segment.is_finished && at < bytes.len() {
            if chain.lsn >= segment.last_lsn {
                segment.is_finished = true;
                break;
            }
            let Found::Batch { header: batch, header_crc, payload } = read_batch(&bytes, at) else { break };
            if !continues(&batch, &segment.header, *chain) {
                break;
            }
            let offset = narrow(segment.offset) + at;
            match batch.kind {
                BatchKind::Seal => segment.is_finished = true,
                BatchKind::Watermark => {}
                BatchKind::Data => stream
                    .push(&batch, payload, |record| {
                        if record.timestamp <= segment.cut {
                            *seen = record.timestamp.max(*seen);
                            records.push(record);
                        }
                    })
                    .map_err(|malformed| malformed_error(&malformed, path, offset, &batch))?,
                BatchKind::Unknown(kind) => {
                    let file = path.to_owned();
                    return Err(WalError::UnknownKind { file, offset: offset as u64, kind });
                }
            }
            chain.lsn = batch.lsn;
            chain.header_crc = header_crc;
            at += batch.occupied_bytes();
        }
        segment.offset += at as u64;
        let moved = at > 0 || segment.is_finished;
        Ok(if moved { Window::Records(records) } else { Window::Nothing })
    }
}

async fn read_header(file: &dyn DiskFile, path: &Path) -> Result<Option<SegmentHeader>, WalError> {
    SegmentHeader::parse(path, &read_at(file, path, 0, SECTOR_BYTES).await?)
}

fn broken(path: &Path, offset: u64) -> WalError {
    WalError::corrupt(path, offset, "the log can't be read on from here, and there should be more")
}

fn narrow(bytes: u64) -> usize {
    bytes.try_into().expect("a segment fits the address space")
}
