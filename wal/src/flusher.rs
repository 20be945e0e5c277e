//! The task that writes logs: group commit with one flush of each in flight. What arrives meanwhile goes into
//! the next flush.
//!
//! Where every commit waits for its sync, one task flushes all logs, side by side and in step: a commit is only
//! acknowledged when all logs are synced up to it, so a log that is ahead of the others helps nobody, and syncs at
//! the same moment can share the device's. Where commits don't wait, each log has a task of its own, so that the
//! sync of one doesn't hold up the writes of another.
//!
//! Where very many commit, the log's own thread takes the flusher over for a while ([`flush_in_lane`]). Whoever commits alone
//! runs it where it is ([`crate::alone`]).
//!
//! It owns the segment being written. It sends nothing to any shard: who waits for a watermark is woken
//! through `progressed` (PROTOCOL A2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{FutureExt, join_all};
use tokio::sync::{Mutex, oneshot};
use tokio::time::Instant;

use crate::disk::{Wait, write_all_at};
use crate::frame::{
    BatchHeader, BatchKind, NO_RECORD, SECTOR_BYTES, batch_bytes, payload_that_fits, put_batch,
};
use crate::log::{Log, Mark, Taken};
use crate::planted::{Bug, is_planted};
use crate::ring::{LiveSegment, Ring, usable_bytes};
use crate::segment::{SegmentFile, SegmentHeader};
use crate::stats::add;
use crate::sync::{SyncControl, SyncPolicy};
use crate::{DatabaseId, Fault, Health, Incarnation, LogId, Lsn, SegmentNumber, Timestamp, WalError};

/// A log that has been idle for this long gets a batch with nothing but promises, so that damage to its last
/// batch is not taken for a torn write (RELIABILITY R3).
const IDLE: Duration = Duration::from_millis(50);
/// About what a commit takes from its wake-up to its record, where many are awake.
const COMMIT: Duration = Duration::from_micros(1);
/// Where flushes and commits go on at the same time, each flush takes such a part of those who commit, or more.
const LANE_SHARE: usize = 4;
/// After so many of them, the log's thread does what else is asked of it, as to open the next segment.
const LANE_FLUSHES_MAX: usize = 64;
/// After so many flushes of one record each, whoever commits may flush for itself,
const ALONE_MIN: u32 = 4;
/// for so long, in flushes as long as the last,
const ALONE_FOR: Duration = Duration::from_millis(20);
/// but so often at the most, until the task looks again who else commits.
const ALONE_TURNS_MAX: u32 = 128;
/// Buffers are kept for the next flush up to this size.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Where a log's chain ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChainEnd {
    pub(crate) lsn: Lsn,
    pub(crate) header_crc: u32,
    pub(crate) segment: SegmentNumber,
    /// Where in that segment to go on. A planted bug: a log goes on in a fresh segment (R10), and this is 0.
    pub(crate) append_at: u64,
}

/// Called after every advance of what is written or synced.
pub(crate) type Progressed = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct Flusher {
    pub(crate) ring: Arc<Ring>,
    pub(crate) control: Arc<SyncControl>,
    pub(crate) health: Arc<Health>,
    pub(crate) progressed: Progressed,
    pub(crate) database: DatabaseId,
    pub(crate) incarnation: Incarnation,
    pub(crate) end: ChainEnd,
    active: Option<Active>,
    recycled: Taken,
    output: Vec<u8>,
    unsynced: Unsynced,
    /// The highest commit of this log that is synced.
    synced: Timestamp,
}

/// The segment being written.
struct Active {
    file: SegmentFile,
    offset: u64,
    /// How much of the ring's room this segment has used up so far.
    charged: u64,
    highest: Timestamp,
    dirty: bool,
}

/// What was written since the last sync.
#[derive(Default)]
struct Unsynced {
    dirty: bool,
    record_bytes: u64,
    /// The highest timestamp written, and the highest `synced` promised.
    highest: Timestamp,
    promised: Timestamp,
}

impl Flusher {
    pub(crate) fn new(
        ring: Arc<Ring>,
        (control, health, progressed): (Arc<SyncControl>, Arc<Health>, Progressed),
        database: DatabaseId,
        incarnation: Incarnation,
        end: ChainEnd,
    ) -> Self {
        let (active, recycled, output) = (None, Taken::default(), Vec::new());
        let unsynced = Unsynced::default();
        Self {
            ring,
            control,
            health,
            progressed,
            database,
            incarnation,
            end,
            active,
            recycled,
            output,
            unsynced,
            synced: Timestamp::ZERO,
        }
    }

    fn log(&self) -> &Log {
        &self.ring.log
    }

    fn promise_is_due(&self) -> bool {
        self.synced.min(self.control.synced()) > self.control.promised()
    }

    /// Flushes, and poisons the engine if that fails.
    async fn flush_or_fail(&mut self) {
        match self.flush().await {
            Ok(highest) => self.synced = self.synced.max(highest),
            Err(error) => self.health.fail(Fault::Log(error)),
        }
    }

    /// On the log's own thread: flushes what is there, and again what has come meanwhile, and so on, but not for ever, until
    /// so few come that committing them takes much less time than that. Returns the last flush.
    fn flush_while_outpaced(&mut self, mut last: Flushed) -> Flushed {
        let mut usual = last.records / LANE_SHARE;
        for _ in 0..LANE_FLUSHES_MAX {
            let (records, started) = (self.log().buffered_records(), Instant::now());
            let flushed = self.flush_or_fail().now_or_never();
            flushed.expect("on its own thread, a disk is waited for by none");
            last = Flushed { records, alone: 0, time: started.elapsed() };
            usual = usual.midpoint(records);
            if self.health.fault().is_some() || !last.is_outpaced_by(LANE_SHARE * usual) {
                return last;
            }
            // Who was woken just now is on the way. Whoever comes later calls the task.
            let started = Instant::now();
            // Nothing is under way, so what is not written is buffered. This takes no lock from those who append.
            while self.log().unwritten_floor() == Timestamp::MAX {
                if started.elapsed() > last.time {
                    return last;
                }
                std::thread::yield_now();
            }
        }
        last
    }

    fn has_work(&self) -> bool {
        self.unsynced.dirty || self.log().buffered_bytes() > 0
    }

    /// Writes what has gathered, syncs if the policy or somebody wants it, and returns the highest timestamp
    /// synced by that.
    async fn flush(&mut self) -> Result<Timestamp, WalError> {
        let mut taken = self.ring.log.take(std::mem::take(&mut self.recycled));
        if !taken.bytes.is_empty() {
            let started = Instant::now();
            let charged = self.write(&taken).await?;
            self.control.counters.flushed(started.elapsed(), self.ring.log.id());
            self.control.counters.flush_records.record(taken.marks.len() as u64);
            self.unsynced.record_bytes += taken.bytes.len() as u64;
            let counters = &self.control.counters;
            add(&counters.flushes, 1);
            add(&counters.records, taken.marks.len() as u64);
            add(&counters.record_bytes, taken.bytes.len() as u64);
            self.ring.log.written(&mut taken, charged);
        }
        if taken.bytes.capacity() <= BUFFER_BYTES_KEPT {
            self.recycled = taken;
        }
        let sync = match self.control.policy() {
            SyncPolicy::Always => true,
            SyncPolicy::Lazy(_) => self.control.wanted(self.log().unsynced_floor()),
        };
        if sync {
            return self.sync().await;
        }
        (self.progressed)();
        if self.unsynced.dirty {
            self.control.lazy.notify_one();
        }
        Ok(Timestamp::ZERO)
    }

    /// Syncs all that was written, and returns the highest timestamp in it.
    async fn sync(&mut self) -> Result<Timestamp, WalError> {
        if !self.unsynced.dirty {
            (self.progressed)();
            return Ok(Timestamp::ZERO);
        }
        // A full segment was synced when it was sealed, so only the active one can be dirty.
        if let Some(active) = &mut self.active
            && !is_planted(Bug::AcknowledgedBeforeSync)
        {
            if active.dirty {
                sync_file(&active.file, &self.control, self.ring.log.id()).await?;
                active.dirty = false;
            }
            self.ring.active_synced();
        }
        let done = std::mem::take(&mut self.unsynced);
        self.ring.set_durable_lsn(self.end.lsn);
        self.control.bytes_synced(done.record_bytes);
        self.control.set_promised(done.promised);
        self.ring.log.synced();
        (self.progressed)();
        Ok(done.highest)
    }

    /// Writes the records to one or more segments. Returns how much of the ring's room that took.
    async fn write(&mut self, taken: &Taken) -> Result<u64, WalError> {
        let payload = &taken.bytes;
        let mut charged = 0;
        let mut start = 0;
        while start < payload.len() {
            let room = self.room_in_active()?;
            let fits = payload_that_fits(room).expect("an active segment has at least one sector left");
            let end = payload.len().min(start + fits);
            let part = Part::of(&taken.marks, payload.len(), start, end);
            self.unsynced.highest = self.unsynced.highest.max(part.highest);
            // The last batch is synced along with being written.
            let sync = end == payload.len() && self.control.policy() == SyncPolicy::Always;
            charged += self.write_batch(BatchKind::Data, part, &payload[start..end], sync).await?;
            start = end;
        }
        Ok(charged)
    }

    /// Bytes left in the active segment before its seal; takes a free segment if there is none.
    fn room_in_active(&mut self) -> Result<usize, WalError> {
        if self.active.is_none() {
            let file = self.ring.activate().ok_or_else(|| {
                WalError::Config("a granted reservation found no segment; this is a bug in anabranch".into())
            })?;
            let offset = std::mem::take(&mut self.end.append_at);
            if offset == 0 {
                self.end.segment = self.end.segment.next();
            }
            let charged = offset.min(usable_bytes(file.bytes));
            self.active = Some(Active { file, offset, charged, highest: Timestamp::ZERO, dirty: false });
            self.control.wake_maker();
        }
        let active = self.active.as_ref().expect("it was set above");
        let header = if active.offset == 0 { SECTOR_BYTES as u64 } else { 0 };
        let room = active.file.bytes - active.offset - header - SECTOR_BYTES as u64;
        Ok(room.try_into().expect("a segment fits the address space"))
    }

    /// Writes one batch, and the seal behind it if the segment is full then. Returns how much of the ring's
    /// room that took.
    async fn write_batch(
        &mut self,
        kind: BatchKind,
        part: Part,
        payload: &[u8],
        sync: bool,
    ) -> Result<u64, WalError> {
        let mut active = self.active.take().expect("`room_in_active` was called");
        self.output.clear();
        if active.offset == 0 {
            self.put_segment_header();
        }
        self.put(kind, part, payload);
        let end = active.offset + self.output.len() as u64;
        let full = end + SECTOR_BYTES as u64 >= active.file.bytes;
        if full {
            self.put(BatchKind::Seal, Part::NONE, &[]);
        }
        let output = Bytes::from(std::mem::take(&mut self.output));
        let length = output.len() as u64;
        let SegmentFile { file, path, .. } = &active.file;
        active.dirty =
            full || !sync || is_planted(Bug::SyncRetried) || is_planted(Bug::AcknowledgedBeforeSync);
        if active.dirty {
            write_all_at(&**file, path, active.offset, output.clone()).await?;
        } else {
            add(&self.control.counters.syncs, 1);
            let started = Instant::now();
            let wait = if part.records <= 1 { Wait::Awake } else { Wait::Asleep };
            let written = file.write_and_sync(active.offset, output.clone(), wait);
            written.await.map_err(|error| error.at(path))?;
            self.control.counters.synced(started.elapsed(), self.ring.log.id());
        }
        // The disk is done with it, but for a thread that may not have let go of it yet.
        if let Ok(output) = output.try_into_mut()
            && output.capacity() <= BUFFER_BYTES_KEPT
        {
            self.output = output.into();
        }
        add(&self.control.counters.written_bytes, length);
        // Promises alone make no checkpoint due: there is nothing new for it to hold.
        if kind == BatchKind::Data {
            self.ring.add_logged(length);
        }
        active.offset += length;
        self.ring.wrote(self.end.segment, &active.file.path, active.offset);
        active.highest = active.highest.max(part.highest);
        self.unsynced.dirty = true;
        let occupied = batch_bytes(payload.len()) as u64;
        let charge = occupied.min(usable_bytes(active.file.bytes) - active.charged);
        active.charged += charge;
        if full {
            self.seal(active).await?;
        } else {
            self.active = Some(active);
        }
        Ok(charge)
    }

    /// R15: the full segment is synced, with its seal, before anything is written to the next one.
    async fn seal(&mut self, active: Active) -> Result<(), WalError> {
        if !is_planted(Bug::SealNotSynced) {
            sync_file(&active.file, &self.control, self.ring.log.id()).await?;
        }
        let Active { file, highest, .. } = active;
        self.ring.seal(LiveSegment { number: self.end.segment, file, highest, ended: Instant::now() });
        self.control.wake_keeper();
        Ok(())
    }

    fn put_segment_header(&mut self) {
        SegmentHeader {
            database: self.database,
            log: self.ring.log.id(),
            number: self.end.segment,
            incarnation: self.incarnation,
            first_lsn: self.end.lsn.next(),
            previous_crc: self.end.header_crc,
        }
        .put(&mut self.output);
    }

    fn put(&mut self, kind: BatchKind, part: Part, payload: &[u8]) {
        self.end.lsn = self.end.lsn.next();
        let no_promises = is_planted(Bug::NoPromises);
        let synced = if no_promises { Timestamp::ZERO } else { self.control.synced() };
        let header = BatchHeader {
            kind,
            database: self.database,
            log: self.ring.log.id(),
            incarnation: self.incarnation,
            segment: self.end.segment,
            lsn: self.end.lsn,
            payload_bytes: 0,
            records: part.records,
            first_record: part.first_record,
            previous_crc: self.end.header_crc,
            durable_lsn: if no_promises { Lsn(0) } else { self.ring.durable_lsn() },
            synced,
            lowest: part.lowest,
            highest: part.highest,
            table_crc: 0,
        };
        self.end.header_crc = put_batch(&mut self.output, header, payload);
        self.unsynced.promised = self.unsynced.promised.max(synced);
    }

    /// Writes promises alone, if there is room to spare, and syncs them.
    async fn write_watermark(&mut self) -> Result<(), WalError> {
        if !self.log().take_spare_room(SECTOR_BYTES as u64) {
            // No room to promise anything here: another log will, or the manifest on close.
            self.control.set_promised(self.control.synced());
            return Ok(());
        }
        self.room_in_active()?;
        let charged = self.write_batch(BatchKind::Watermark, Part::NONE, &[], false).await?;
        self.log().add_room(SECTOR_BYTES as u64 - charged);
        self.sync().await.map(|_| ())
    }
}

/// The flushers that one task runs, and, where commits wait for their sync, whoever commits alone.
pub(crate) struct Flushers {
    all: Mutex<Vec<Flusher>>,
    logs: Vec<Arc<Log>>,
    health: Arc<Health>,
    control: Arc<SyncControl>,
}

impl Flushers {
    pub(crate) fn new(control: &Arc<SyncControl>, health: &Arc<Health>, all: Vec<Flusher>) -> Self {
        let logs = all.iter().map(|flusher| Arc::clone(&flusher.ring.log)).collect();
        Self { all: Mutex::new(all), logs, health: Arc::clone(health), control: Arc::clone(control) }
    }

    /// Records buffered over all logs.
    fn records(&self) -> usize {
        self.logs.iter().map(|log| log.buffered_records()).sum()
    }

    /// Flushes the one record that is there, on this thread. `false` if there are none, or more, or others flush.
    pub(crate) fn flush_one_here(&self) -> bool {
        let Ok(mut all) = self.all.try_lock() else { return false };
        if self.records() != 1 || self.health.fault().is_some() {
            return false;
        }
        let Some(flusher) = all.iter_mut().find(|flusher| flusher.has_work()) else { return false };
        let lane = Arc::clone(flusher.ring.lane());
        if !lane.has_thread() {
            return false;
        }
        self.control.alone().take_turn();
        let mut closes = CloseUnless { done: false, health: &self.health };
        tokio::task::block_in_place(|| {
            lane.run_here(&mut || {
                let done = flusher.flush_or_fail().now_or_never();
                done.expect("where operations are done at once, a disk is waited for by none");
            });
        });
        closes.done = true;
        drop(all);
        self.look_again();
        true
    }

    /// After the flushers were taken, or turns: the task may not have been called for what came meanwhile.
    fn look_again(&self) {
        if self.records() > 0 {
            self.logs[0].wake_flusher();
        }
    }
}

/// Runs until the engine fails or closes, or the task is dropped.
pub(crate) async fn run(flushers: Arc<Flushers>) {
    let Flushers { all, logs, health, control } = &*flushers;
    let in_step = control.policy() == SyncPolicy::Always;
    let alone = control.alone();
    let _closed = CloseOnDrop(Arc::clone(health));
    let mut last = Flushed::default();
    while health.fault().is_none() {
        // If somebody has the flushers just now, one may be due after that.
        let promise_is_due = all.try_lock().map_or(true, |all| all.iter().any(Flusher::promise_is_due));
        let turns = alone.turns();
        tokio::select! {
            biased;
            // Those that are flushed in step share this.
            () = logs[0].work_arrived() => {}
            () = tokio::time::sleep(ALONE_FOR), if turns > 0 => {
                if alone.turns() == turns {
                    // Nobody commits any more, or somebody did and did not stay to flush.
                    last.alone = 0;
                    alone.set_turns(0);
                    flushers.look_again();
                }
                continue;
            }
            () = tokio::time::sleep(IDLE), if promise_is_due => {
                let mut all = all.lock().await;
                for flusher in all.iter_mut().filter(|flusher| flusher.promise_is_due()) {
                    if let Err(error) = flusher.write_watermark().await {
                        health.fail(Fault::Log(error));
                    }
                }
                continue;
            }
        }
        // Who commits alone has them, and looks again.
        let Ok(mut all) = all.try_lock() else { continue };
        let records = if in_step {
            let records = gather(&flushers, &last).await;
            let has_lane = all.len() == 1 && all[0].ring.lane().has_thread();
            if has_lane && last.is_outpaced_by(2 * records) {
                alone.set_turns(0);
                let Some(flushed) = flush_in_lane(&mut all, Flushed { records, ..last }).await else {
                    return;
                };
                last = flushed;
                continue;
            }
            records
        } else {
            // Whoever is ready to commit does so first, and comes along.
            tokio::task::yield_now().await;
            0
        };
        let started = Instant::now();
        let due = all.iter_mut().filter(|flusher| !in_step || flusher.has_work());
        join_all(due.map(Flusher::flush_or_fail)).await;
        drop(all);
        if records > 0 {
            // Who could have flushed, and did not, is not asked to for a while.
            let is_alone = records == 1 && alone.turns() == 0;
            last = Flushed {
                records,
                alone: if is_alone { last.alone + 1 } else { 0 },
                time: started.elapsed(),
            };
            alone.set_turns(last.turns());
            flushers.look_again();
        }
    }
}

/// A flush that everybody in it has waited for.
#[derive(Clone, Copy, Default)]
struct Flushed {
    records: usize,
    /// So many flushes, this one included, had one record each.
    alone: u32,
    time: Duration,
}

impl Flushed {
    /// How often whoever commits alone may flush now.
    fn turns(&self) -> u32 {
        if self.alone < ALONE_MIN || self.time.is_zero() {
            return 0;
        }
        let turns = ALONE_FOR.as_nanos() / self.time.as_nanos();
        u32::try_from(turns).unwrap_or(u32::MAX).min(ALONE_TURNS_MAX)
    }

    /// Whether to commit so many takes longer than to flush does.
    fn is_outpaced_by(&self, commits: usize) -> bool {
        !self.time.is_zero() && commits_take(commits) >= self.time
    }
}

fn commits_take(commits: usize) -> Duration {
    COMMIT * u32::try_from(commits).unwrap_or(u32::MAX)
}

/// Where committing takes about as long as flushing, both go on at the same time: the log's own thread flushes a part
/// of the commits while others are made, without a word to the task in between, until so few are left that it
/// is better to wait for all of them. A wake-up of a thread takes a quarter of a flush, and that of a task, on threads
/// that have enough to do, longer. `None` if that thread has ended.
async fn flush_in_lane(flushers: &mut Vec<Flusher>, last: Flushed) -> Option<Flushed> {
    let mut flusher = flushers.pop()?;
    let lane = Arc::clone(flusher.ring.lane());
    let (reply, done) = oneshot::channel();
    lane.run_in_lane(Box::new(move || {
        let last = flusher.flush_while_outpaced(last);
        drop(reply.send((flusher, last)));
    }));
    let (flusher, last) = done.await.ok()?;
    flushers.push(flusher);
    Some(last)
}

/// Lets those come along who are about to commit, as whoever the last flush has woken is. If they all need more time for
/// that than a flush takes, half of them is enough: the others commit while these are flushed. Returns how many records
/// there are.
async fn gather(flushers: &Flushers, last: &Flushed) -> usize {
    let started = Instant::now();
    let mut records = flushers.records();
    loop {
        if commits_take(records) >= last.time && records >= last.records / 2 {
            return records;
        }
        tokio::task::yield_now().await;
        let before = std::mem::replace(&mut records, flushers.records());
        if records == before || started.elapsed() > last.time {
            return records;
        }
    }
}

async fn sync_file(file: &SegmentFile, control: &SyncControl, log: LogId) -> Result<(), WalError> {
    add(&control.counters.syncs, 1);
    let started = Instant::now();
    if is_planted(Bug::SyncRetried) && file.file.sync_data().await.is_ok() {
        return Ok(());
    }
    // R12: an error here is never retried; the caller poisons the engine.
    file.file.sync_data().await.map_err(|error| WalError::io("syncing", &file.path, error))?;
    control.counters.synced(started.elapsed(), log);
    Ok(())
}

/// What a batch's header says about the records in its payload.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) records: u32,
    pub(crate) first_record: u32,
    pub(crate) lowest: Timestamp,
    pub(crate) highest: Timestamp,
}

impl Part {
    pub(crate) const NONE: Self =
        Self { records: 0, first_record: NO_RECORD, lowest: Timestamp::ZERO, highest: Timestamp::ZERO };

    /// Describes `start..end` of a buffer of `length` bytes with these records.
    pub(crate) fn of(marks: &[Mark], length: usize, start: usize, end: usize) -> Self {
        let first = marks.partition_point(|mark| mark.offset < start);
        let beyond = marks.partition_point(|mark| mark.offset < end);
        let first_record = marks
            .get(first)
            .filter(|mark| mark.offset < end)
            .map_or(NO_RECORD, |mark| narrow(mark.offset - start));
        // The record before the first that starts here reaches into this part, unless one starts at `start`.
        let touching = if first_record == 0 { first } else { first.saturating_sub(1) };
        let touching = &marks[touching..beyond];
        debug_assert!(!touching.is_empty() && end <= length);
        Self {
            records: narrow(beyond - first),
            first_record,
            lowest: touching.iter().map(|mark| mark.timestamp).min().unwrap_or_default(),
            highest: touching.iter().map(|mark| mark.timestamp).max().unwrap_or_default(),
        }
    }
}

fn narrow(value: usize) -> u32 {
    value.try_into().expect("a batch fits a segment, and a segment fits u32")
}

/// When a flush panics on the thread of whoever commits, the flusher can't go on.
struct CloseUnless<'h> {
    done: bool,
    health: &'h Health,
}

impl Drop for CloseUnless<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.health.fail(Fault::Closed);
        }
    }
}

/// When a flusher ends, whatever the reason, nobody must wait for it: the runtime may have ended.
struct CloseOnDrop(Arc<Health>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.fail(Fault::Closed);
    }
}
