//! One shard's log as its shard sees it: space to reserve, a buffer to append to, and the floor that holds the
//! watermarks back. No files here; the flusher owns those.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::frame::batch_bytes;
use crate::record::EncodedWrites;
use crate::sync::Appends;
use crate::{LogId, Timestamp, WalError};

/// What [`Log::reserve`] says.
#[derive(Debug)]
pub enum Reservation {
    /// The space is kept until the record is appended or [`Log::unreserve`]d.
    Granted,
    /// There is not enough space now. [`Log::space_changed`] wakes who waits; there is one waiter, the shard.
    Wait,
    /// There will not be enough space: the disk is full.
    Refused(WalError),
}

/// A shard's log.
pub struct Log {
    id: LogId,
    appends: Arc<Appends>,
    state: Mutex<State>,
    floors: CachePadded<Floors>,
    /// Shared by the logs that one task flushes.
    work: Arc<Notify>,
    space: Notify,
}

/// Every commit looks at these, and few change them.
struct Floors {
    /// The lowest timestamp not yet handed to the operating system.
    unwritten: AtomicU64,
    /// The lowest timestamp not yet synced.
    unsynced: AtomicU64,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    marks: Vec<Mark>,
    /// The lowest timestamp in `buffer`, in the flush under way, and in what was written and not synced.
    buffered: Option<Timestamp>,
    in_flight: Option<Timestamp>,
    written: Option<Timestamp>,
    /// Space granted to commits whose record is not on disk yet, and the part of it whose record is buffered.
    reserved: u64,
    buffered_reservation: u64,
    /// Bytes that the ring's files have room for.
    room: u64,
    wanted: Option<u64>,
    refusal: Option<WalError>,
}

/// Where a record starts in the buffer, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) offset: usize,
    pub(crate) timestamp: Timestamp,
}

/// What a flush writes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    pub(crate) marks: Vec<Mark>,
    reservation: u64,
}

impl Log {
    pub(crate) fn new(id: LogId, appends: Arc<Appends>, work: Arc<Notify>) -> Self {
        Self {
            id,
            appends,
            work,
            state: Mutex::default(),
            floors: CachePadded::new(Floors {
                unwritten: AtomicU64::new(u64::MAX),
                unsynced: AtomicU64::new(u64::MAX),
            }),
            space: Notify::new(),
        }
    }

    /// The log's number.
    #[must_use]
    pub const fn id(&self) -> LogId {
        self.id
    }

    /// The space that one record needs at the most, as the only record of its batch.
    #[must_use]
    #[inline]
    pub fn reservation_bytes(writes: &EncodedWrites, participants: usize) -> u64 {
        batch_bytes(writes.record_bytes(participants)) as u64
    }

    /// Reserves space for a record. To be called strictly in order of arrival (PROTOCOL L1).
    pub fn reserve(&self, bytes: u64) -> Reservation {
        let mut state = self.state.lock();
        if state.reserved + bytes <= state.room {
            state.reserved += bytes;
            state.wanted = None;
            return Reservation::Granted;
        }
        if let Some(refusal) = state.refusal.take() {
            state.wanted = None;
            return Reservation::Refused(refusal);
        }
        state.wanted = Some(bytes);
        drop(state);
        self.appends.wake_maker();
        Reservation::Wait
    }

    /// Reserves more space for what is already under way, if there is some. It changes nothing for who waits.
    #[inline]
    pub fn try_reserve(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        let granted = state.reserved + bytes <= state.room;
        if granted {
            state.reserved += bytes;
        }
        granted
    }

    /// Nobody waits for space any more.
    pub fn withdraw(&self) {
        self.state.lock().wanted = None;
    }

    /// Gives back the reservation of a commit that came to nothing.
    pub fn unreserve(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.reserved -= bytes;
        let starved = state.wanted.is_some();
        drop(state);
        if starved {
            self.space.notify_one();
        }
    }

    /// Appends a record. The caller reports the timestamp applied only after this (PROTOCOL T3).
    #[inline]
    pub fn append(
        &self,
        timestamp: Timestamp,
        writes: &EncodedWrites,
        participants: &[LogId],
        reservation: u64,
    ) {
        let mut state = self.state.lock();
        let offset = state.buffer.len();
        // Whoever was told of the first takes all that has gathered.
        let calls = state.marks.is_empty() && self.appends.alone.turns() == 0;
        writes.put_record(&mut state.buffer, timestamp, participants);
        self.appends.appended(timestamp, (state.buffer.len() - offset) as u64);
        state.marks.push(Mark { offset, timestamp });
        state.buffered_reservation += reservation;
        state.buffered = lower(state.buffered, Some(timestamp));
        self.publish_floors(&state);
        drop(state);
        if calls {
            self.work.notify_one();
        }
    }

    /// Wakes the shard when there may be space again.
    pub async fn space_changed(&self) {
        self.space.notified().await;
    }

    /// The lowest timestamp not yet handed to the operating system; `Timestamp::MAX` if there is none.
    #[must_use]
    #[inline]
    pub fn unwritten_floor(&self) -> Timestamp {
        Timestamp(self.floors.unwritten.load(Ordering::SeqCst))
    }

    /// The lowest timestamp not yet synced; `Timestamp::MAX` if there is none.
    #[must_use]
    #[inline]
    pub fn unsynced_floor(&self) -> Timestamp {
        Timestamp(self.floors.unsynced.load(Ordering::SeqCst))
    }

    /// Bytes buffered and not yet taken by a flush.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.state.lock().buffer.len()
    }

    /// Records buffered and not yet taken by a flush.
    pub(crate) fn buffered_records(&self) -> usize {
        self.state.lock().marks.len()
    }

    /// T3: the floors change only under the lock that guards append and take-buffer.
    #[inline]
    fn publish_floors(&self, state: &State) {
        let unwritten = lower(state.buffered, state.in_flight);
        let unsynced = lower(unwritten, state.written);
        let publish = |floor: &AtomicU64, lowest: Option<Timestamp>| {
            let lowest = lowest.unwrap_or(Timestamp::MAX).0;
            if floor.load(Ordering::Relaxed) != lowest {
                floor.store(lowest, Ordering::SeqCst);
            }
        };
        publish(&self.floors.unwritten, unwritten);
        publish(&self.floors.unsynced, unsynced);
    }

    pub(crate) fn wake_flusher(&self) {
        self.work.notify_one();
    }

    pub(crate) async fn work_arrived(&self) {
        self.work.notified().await;
    }

    /// Takes what was buffered. `recycled` is an emptied buffer to gather the next batch in.
    pub(crate) fn take(&self, recycled: Taken) -> Taken {
        let mut state = self.state.lock();
        let bytes = std::mem::replace(&mut state.buffer, recycled.bytes);
        let marks = std::mem::replace(&mut state.marks, recycled.marks);
        let reservation = std::mem::take(&mut state.buffered_reservation);
        state.in_flight = state.buffered.take();
        Taken { bytes, marks, reservation }
    }

    /// The flush of `taken` was written, and took `consumed` bytes of the ring's room.
    pub(crate) fn written(&self, taken: &mut Taken, consumed: u64) {
        let mut state = self.state.lock();
        state.reserved -= taken.reservation;
        state.room = state.room.saturating_sub(consumed);
        state.written = lower(state.written, state.in_flight.take());
        self.publish_floors(&state);
        let starved = state.wanted.is_some();
        drop(state);
        taken.bytes.clear();
        taken.marks.clear();
        taken.reservation = 0;
        if starved {
            self.space.notify_one();
            self.appends.wake_maker();
        }
    }

    /// Everything written so far was synced.
    pub(crate) fn synced(&self) {
        let mut state = self.state.lock();
        state.written = None;
        self.publish_floors(&state);
    }

    /// The ring has room for that much more.
    pub(crate) fn add_room(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.room += bytes;
        state.refusal = None;
        drop(state);
        self.space.notify_one();
    }

    /// Takes room for a batch that was not reserved for (a watermark), if none is starved by it.
    pub(crate) fn take_spare_room(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        let spare = state.reserved + bytes <= state.room && state.wanted.is_none();
        if spare {
            state.room -= bytes;
        }
        spare
    }

    /// The reservation that waits, and whether everything granted so far is on disk, so that no flush will
    /// make room.
    pub(crate) fn starved(&self) -> Option<Starved> {
        let state = self.state.lock();
        let wanted = state.wanted?;
        let satisfied = state.reserved + wanted <= state.room;
        (!satisfied).then_some(Starved { wanted, idle: state.reserved == 0 })
    }

    /// Tells the shard that waits for space that there will be none.
    pub(crate) fn refuse(&self, refusal: WalError) {
        let mut state = self.state.lock();
        if state.wanted.is_some() {
            state.refusal = Some(refusal);
            drop(state);
            self.space.notify_one();
        }
    }
}

/// A reservation that the ring has no room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Starved {
    pub(crate) wanted: u64,
    pub(crate) idle: bool,
}

fn lower(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
