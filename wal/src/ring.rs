//! A log's ring of segment files: which are free, which hold records that recovery needs, and how many more
//! there may be.
//!
//! Space is counted so that a granted reservation always finds its bytes: a segment contributes its length
//! less its header, its seal, and the most that cutting a batch in two at its end can cost.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::disk::Disk;
use crate::frame::SECTOR_BYTES;
use crate::log::{Log, Starved};
use crate::planted::{Bug, is_planted};
use crate::segment::{SegmentFile, SegmentName};
use crate::stats::{WalCounters, add};
use crate::{Lsn, SegmentNumber, Timestamp, WalError};

/// What of a segment is never promised to a reservation.
pub(crate) const SEGMENT_OVERHEAD_BYTES: u64 = 4 * SECTOR_BYTES as u64;
/// The smallest segment: large enough that its overhead does not matter.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// The largest segment, so that offsets in it fit 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Segments kept free, so that neither a rotation nor a recovery waits for one (RELIABILITY R11).
const SPARES: usize = 2;
/// While nearly all that was logged is still there, a checkpoint waits until so many times as much was logged.
const PUT_OFF: u64 = 4;

/// How large a ring may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments of a ring. Beyond it commits wait for a checkpoint.
    pub segments_max: usize,
    /// What is kept although a checkpoint covers it.
    pub retention: Retention,
}

/// How much of a log is kept for readers of changes although a checkpoint covers it. Both limits count, and never more
/// than a quarter of the ring is kept. Nothing if neither is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many bytes of segments.
    pub bytes: Option<u64>,
    /// Segments that were written within so long.
    pub age: Option<Duration>,
}

impl Retention {
    const fn is_some(self) -> bool {
        self.bytes.is_some() || self.age.is_some()
    }
}

/// What a reader finds under a segment's number.
pub(crate) enum View {
    /// It was given back.
    Gone,
    /// It is not written any more.
    Ended(PathBuf),
    /// It is being written, and so far up to this offset.
    Writing(PathBuf, u64),
    /// Nothing of it is written.
    NotYet,
}

pub(crate) struct Ring {
    pub(crate) log: Arc<Log>,
    directory: PathBuf,
    /// Where files are made, aside from the flushes.
    maker: Arc<dyn Disk>,
    /// The log's own lane.
    lane: Arc<dyn Disk>,
    limits: RingLimits,
    state: Mutex<State>,
    /// Bytes written since the last checkpoint began.
    logged: AtomicU64,
    /// The last batch known to be synced.
    durable_lsn: AtomicU64,
}

#[derive(Default)]
struct State {
    free: VecDeque<SegmentFile>,
    /// Segments that recovery may need, oldest first, without the one being written.
    live: VecDeque<LiveSegment>,
    /// A segment is being written, and whether that was synced at least once, so that recovery is sure to
    /// find it.
    active: Option<Synced>,
    /// What readers may read of it.
    writing: Option<(SegmentNumber, PathBuf, u64)>,
    /// The newest segment that something was written to.
    last: SegmentNumber,
    /// Where the former incarnations end.
    recovered: Lsn,
    /// The newest checkpoint's timestamp.
    covered: Timestamp,
    next_slot: u32,
    bytes: u64,
    /// The last segment that was to be made came to nothing.
    cannot_grow: bool,
    last_checkpoint_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Synced(bool);

/// A segment that is no longer written and that recovery may need.
pub(crate) struct LiveSegment {
    pub(crate) number: SegmentNumber,
    pub(crate) file: SegmentFile,
    /// The highest timestamp with bytes in it.
    pub(crate) highest: Timestamp,
    /// When it was full, or, if that was before the engine was opened, when it was read.
    pub(crate) ended: Instant,
}

fn spares() -> usize {
    if is_planted(Bug::NoSpareSegment) { 0 } else { SPARES }
}

pub(crate) const fn usable_bytes(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(SEGMENT_OVERHEAD_BYTES)
}

impl Ring {
    pub(crate) fn new(
        log: Arc<Log>,
        directory: PathBuf,
        (maker, lane): (Arc<dyn Disk>, Arc<dyn Disk>),
        limits: RingLimits,
    ) -> Self {
        Self {
            log,
            directory,
            maker,
            lane,
            limits,
            state: Mutex::default(),
            logged: AtomicU64::new(0),
            durable_lsn: AtomicU64::new(0),
        }
    }

    /// Takes over what recovery found: files, the newest checkpoint's size and timestamp, and how many bytes were logged
    /// behind it.
    pub(crate) fn restore(
        &self,
        free: Vec<SegmentFile>,
        live: Vec<LiveSegment>,
        next_slot: u32,
        (last_checkpoint_bytes, covered): (u64, Timestamp),
        logged: u64,
    ) {
        let mut state = self.state.lock();
        state.next_slot = next_slot;
        state.last_checkpoint_bytes = last_checkpoint_bytes;
        state.covered = if self.limits.retention.is_some() { covered } else { Timestamp::ZERO };
        state.bytes = free.iter().map(|file| file.bytes).sum::<u64>()
            + live.iter().map(|segment| segment.file.bytes).sum::<u64>();
        self.logged.store(logged, Ordering::Relaxed);
        for file in free {
            self.log.add_room(usable_bytes(file.bytes));
            state.free.push_back(file);
        }
        state.live = live.into();
    }

    /// Makes one more segment file.
    pub(crate) async fn make_segment(&self, bytes: u64, counters: &WalCounters) -> Result<(), WalError> {
        let slot = {
            let mut state = self.state.lock();
            let slot = state.next_slot;
            // A directory may hold a file of the last name there is; it must not be made anew.
            let next = slot.checked_add(1);
            state.next_slot = next.ok_or_else(|| {
                WalError::Config(
                    "a log of more segments than can be named: remove what is not its own".into(),
                )
            })?;
            slot
        };
        let name = SegmentName { log: self.log.id(), slot };
        let made = SegmentFile::create(&*self.maker, &self.directory, name, bytes).await?;
        // The file's I/O runs on the log's own lane from here on.
        let file = SegmentFile::open(&*self.lane, made.path.clone()).await?;
        add(&counters.segments_made, 1);
        let mut state = self.state.lock();
        state.bytes += bytes;
        state.free.push_back(file);
        drop(state);
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "anabranch", log = self.log.id().0, ring_bytes = self.usage().bytes, "ring grown");
        self.log.add_room(usable_bytes(bytes));
        Ok(())
    }

    /// Makes spare segments, and room for a reservation that waits, as far as the limit allows. `true` if a
    /// reservation waits for a checkpoint.
    pub(crate) async fn replenish(&self, counters: &WalCounters) -> Result<bool, WalError> {
        loop {
            let (spares_missing, bytes) = {
                let state = self.state.lock();
                (state.active.is_some() && state.free.len() < spares(), state.bytes)
            };
            let starved = self.log.starved();
            let wanted = spares_missing || starved.is_some();
            if !wanted {
                return Ok(false);
            }
            let next = self.next_segment_bytes(starved);
            if bytes + next > self.bytes_max() {
                return Ok(starved.is_some());
            }
            let made = self.make_segment(next, counters).await;
            self.state.lock().cannot_grow = made.is_err();
            made?;
        }
    }

    /// How large the next segment is to be.
    fn next_segment_bytes(&self, starved: Option<Starved>) -> u64 {
        let wanted = starved.map_or(0, |starved| starved.wanted + SEGMENT_OVERHEAD_BYTES);
        wanted.next_multiple_of(4096).max(self.limits.segment_bytes)
    }

    const fn bytes_max(&self) -> u64 {
        self.limits.segment_bytes * self.limits.segments_max as u64
    }

    /// After a checkpoint: what waits and still finds no room, although nothing else is under way that would
    /// free any, gets a segment beyond the limit (L2).
    pub(crate) async fn grow_beyond_limit(&self, counters: &WalCounters) -> Result<(), WalError> {
        if let Some(starved) = self.log.starved()
            && starved.idle
        {
            let bytes = (starved.wanted + SEGMENT_OVERHEAD_BYTES).next_multiple_of(4096);
            self.make_segment(bytes.max(self.limits.segment_bytes), counters).await?;
        }
        Ok(())
    }

    /// The disk that the log's files are opened through.
    pub(crate) const fn lane(&self) -> &Arc<dyn Disk> {
        &self.lane
    }

    /// Takes a free segment to write to.
    pub(crate) fn activate(&self) -> Option<SegmentFile> {
        let mut state = self.state.lock();
        let file = state.free.pop_front()?;
        state.active = Some(Synced(false));
        Some(file)
    }

    /// The segment being written was synced.
    pub(crate) fn active_synced(&self) {
        let mut state = self.state.lock();
        state.active = state.active.map(|_| Synced(true));
    }

    /// The segment being written is full.
    pub(crate) fn seal(&self, segment: LiveSegment) {
        let mut state = self.state.lock();
        state.live.push_back(segment);
        state.active = None;
        state.writing = None;
    }

    /// The segment was written up to `end`.
    pub(crate) fn wrote(&self, number: SegmentNumber, path: &Path, end: u64) {
        let mut state = self.state.lock();
        state.last = number;
        match &mut state.writing {
            Some((_, _, written)) => *written = end,
            writing => *writing = Some((number, path.to_owned(), end)),
        }
    }

    pub(crate) fn set_recovered(&self, lsn: Lsn, last: SegmentNumber) {
        let mut state = self.state.lock();
        (state.recovered, state.last) = (lsn, last);
    }

    /// The last batch of the former incarnations.
    pub(crate) fn recovered_end(&self) -> Lsn {
        self.state.lock().recovered
    }

    /// The oldest segment that may hold the beginning of a record above `after`.
    pub(crate) fn segment_after(&self, after: Timestamp) -> SegmentNumber {
        let state = self.state.lock();
        let ended = state.live.iter().find(|segment| segment.highest > after).map(|segment| segment.number);
        let writing = || state.writing.as_ref().map(|(number, ..)| *number);
        ended.or_else(writing).unwrap_or_else(|| state.last.next())
    }

    /// What a reader finds under a segment's number.
    pub(crate) fn view(&self, number: SegmentNumber) -> View {
        let state = self.state.lock();
        if let Some((_, path, end)) = state.writing.as_ref().filter(|(writing, ..)| *writing == number) {
            return View::Writing(path.clone(), *end);
        }
        if number > state.last {
            return View::NotYet;
        }
        let ended = state.live.iter().find(|segment| segment.number == number);
        ended.map_or(View::Gone, |segment| View::Ended(segment.file.path.clone()))
    }

    /// The oldest segment that is needed once everything up to `checkpointed` is in a checkpoint, and the highest
    /// timestamp before it; `None` if nothing can be given back. The newest synced segment stays: it ends the
    /// chain. Others may stay for readers of changes.
    pub(crate) fn first_needed(
        &self,
        checkpointed: Timestamp,
        retains: bool,
    ) -> Option<(SegmentNumber, Timestamp)> {
        let starved = self.log.starved();
        let state = self.state.lock();
        let mut released = state.recyclable(checkpointed);
        // Whoever only waits until a further segment is made needs none of these.
        let needs_them = starved.is_some()
            && (state.cannot_grow || state.bytes + self.next_segment_bytes(starved) > self.bytes_max());
        if retains && !needs_them && self.limits.retention.is_some() {
            released -= self.retained(&state.live, released);
        }
        let last = state.live.get(released.checked_sub(1)?)?;
        let highest = state.live.iter().take(released).map(|segment| segment.highest).max()?;
        Some((last.number.next(), highest))
    }

    /// How many of the first `covered` segments, the newest of them, are kept for readers.
    fn retained(&self, live: &VecDeque<LiveSegment>, covered: usize) -> usize {
        let Retention { bytes, age } = self.limits.retention;
        let quarter = self.bytes_max() / 4;
        let mut room = bytes.unwrap_or(u64::MAX).min(quarter);
        let kept = live.iter().take(covered).rev().take_while(|segment| {
            let fits = segment.file.bytes <= room && age.is_none_or(|age| segment.ended.elapsed() <= age);
            room = room.saturating_sub(segment.file.bytes);
            fits
        });
        kept.count()
    }

    /// Gives back the segments before `first_needed`, oldest first (L2). The manifest that says so is durable
    /// (RELIABILITY R22).
    pub(crate) fn recycle(&self, first_needed: SegmentNumber, counters: &WalCounters) {
        let mut state = self.state.lock();
        while let Some(segment) = state.live.pop_front_if(|segment| segment.number < first_needed) {
            self.log.add_room(usable_bytes(segment.file.bytes));
            state.free.push_back(segment.file);
            add(&counters.segments_recycled, 1);
        }
    }

    /// A planted bug: gives back the oldest segment, whatever stands in it. `false` if there is none.
    pub(crate) fn overwrite_oldest(&self) -> bool {
        let mut state = self.state.lock();
        let Some(oldest) = state.live.pop_front() else { return false };
        self.log.add_room(usable_bytes(oldest.file.bytes));
        state.free.push_back(oldest.file);
        true
    }

    pub(crate) fn add_logged(&self, bytes: u64) {
        self.logged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A checkpoint begins: what is logged from here on counts towards the next.
    pub(crate) fn begin_checkpoint(&self) -> u64 {
        self.logged.swap(0, Ordering::Relaxed)
    }

    /// The checkpoint that began came to nothing.
    pub(crate) fn abandon_checkpoint(&self, logged: u64) {
        self.add_logged(logged);
    }

    pub(crate) fn checkpoint_published(&self, bytes: u64, timestamp: Timestamp) {
        let mut state = self.state.lock();
        state.last_checkpoint_bytes = bytes;
        if self.limits.retention.is_some() {
            state.covered = timestamp;
        }
    }

    /// Whether a checkpoint is due: the ring is half full, or as much was logged as a checkpoint writes, so
    /// that checkpoints at most double what is written. It is put off while most of what recovery would read is still
    /// there, about so many bytes: then a checkpoint would hold the same once more.
    pub(crate) fn checkpoint_is_due(&self, logged_min: u64, live_bytes: impl FnOnce() -> u64) -> bool {
        let (half_full, last) = {
            let state = self.state.lock();
            let half_full = state.uncovered() >= (self.limits.segments_max / 2).max(2);
            (half_full, state.last_checkpoint_bytes)
        };
        if half_full || self.log.starved().is_some() {
            return true;
        }
        let (logged, enough) = (self.logged.load(Ordering::Relaxed), logged_min.max(last));
        logged >= enough && (logged / PUT_OFF >= enough || last + logged >= 2 * live_bytes())
    }

    pub(crate) fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    /// Whether so many segments are live that an open must write a checkpoint before it serves (R11).
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().uncovered() >= self.limits.segments_max
    }

    pub(crate) fn files(&self) -> usize {
        let state = self.state.lock();
        state.free.len() + state.live.len() + usize::from(state.active.is_some())
    }

    pub(crate) fn free_segments(&self) -> usize {
        self.state.lock().free.len()
    }

    pub(crate) fn set_durable_lsn(&self, lsn: crate::Lsn) {
        self.durable_lsn.fetch_max(lsn.0, Ordering::SeqCst);
    }

    pub(crate) fn durable_lsn(&self) -> crate::Lsn {
        crate::Lsn(self.durable_lsn.load(Ordering::SeqCst))
    }

    pub(crate) fn usage(&self) -> RingUsage {
        let state = self.state.lock();
        RingUsage {
            segments: state.free.len() + state.live.len() + usize::from(state.active.is_some()),
            segments_free: state.free.len(),
            segments_max: self.limits.segments_max,
            bytes: state.bytes,
            bytes_since_checkpoint: self.logged.load(Ordering::Relaxed),
        }
    }
}

/// How full a log's ring is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RingUsage {
    /// Segment files.
    pub segments: usize,
    /// Segments that can be written to.
    pub segments_free: usize,
    /// How many segments there may be before commits wait for a checkpoint.
    pub segments_max: usize,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Bytes logged since the last checkpoint began.
    pub bytes_since_checkpoint: u64,
}

impl State {
    /// Segments that are not there for readers of changes alone.
    fn uncovered(&self) -> usize {
        self.live.iter().filter(|segment| segment.highest > self.covered).count()
    }

    fn recyclable(&self, checkpointed: Timestamp) -> usize {
        let covered = self.live.iter().take_while(|segment| segment.highest <= checkpointed).count();
        // The chain must be found to end where it was promised to: in the active segment, or in the newest.
        let ends_in_active = self.active == Some(Synced(true));
        if ends_in_active { covered } else { covered.min(self.live.len().saturating_sub(1)) }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
