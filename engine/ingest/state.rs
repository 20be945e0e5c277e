//! What the producers of one sink and its driver share: rows that gather, batches that were begun, and how far
//! everything is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anabranch_shard::{Expiry, KeyHash, Row, encode_write};
use anabranch_wal::{EncodedWrites, SourceOffset};
use hashbrown::HashTable;

use super::options::{IngestError, IngestOptions, IngestReport};
use crate::{Error, Key, Value};

/// The way of a batch from its begin to its acknowledgement. Whoever polls it takes it along.
pub(super) type Flight = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A row, and which one it is.
pub(super) struct Numbered<K, V> {
    pub(super) number: u64,
    pub(super) key: K,
    pub(super) hash: KeyHash,
    pub(super) row: Row<V>,
}

/// What a producer does after a row.
pub(super) enum Next<K, V> {
    /// Sends another one.
    Row,
    /// Lets others run on its thread: the driver may be among them, and nobody else would take it from there.
    GiveWay,
    /// Hands this over itself: the driver has enough to do.
    HandOver(Box<Begun<K, V>>),
}

/// Rows that wait for their batch to be full.
pub(super) struct Gathering<K, V> {
    pub(super) rows: Vec<Numbered<K, V>>,
    encoded: EncodedWrites,
    /// Some row's effect is known on the shard only.
    changes: bool,
    bytes: usize,
    /// So many rows fill it.
    room: usize,
    /// It has seen half a delay pass.
    is_aged: bool,
    /// In exact mode: so many rows stand before the last offset, and the offsets stated there.
    covered: usize,
    offsets: BTreeMap<Arc<str>, u64>,
}

impl<K, V> Gathering<K, V> {
    fn new(room: usize) -> Self {
        Self {
            rows: Vec::new(),
            encoded: EncodedWrites::new(),
            changes: false,
            bytes: 0,
            room,
            is_aged: false,
            covered: 0,
            offsets: BTreeMap::new(),
        }
    }

    fn first_row(&self) -> Option<u64> {
        self.rows.first().map(|first| first.number)
    }
}

/// What the driver is to hand over.
pub(super) enum Begun<K, V> {
    /// Blind writes of one shard, each key once, encoded if there is a log.
    /// `sent` counts the rows before that, and `first` is the first of them.
    Blind { shard: usize, first: u64, rows: Vec<Numbered<K, V>>, encoded: EncodedWrites, sent: u64 },
    /// Rows of one shard, some of which change what is there.
    Mixed { shard: usize, rows: Vec<Numbered<K, V>>, bytes: usize },
    /// Rows of all shards and the offsets behind them.
    Exact { first: u64, rows: Vec<Numbered<K, V>>, offsets: Vec<SourceOffset>, bytes: usize },
    /// An offset alone. Everything before this row is applied.
    Offset { row: u64, offset: SourceOffset },
}

/// A part of a sink's work that came to its end.
pub(super) struct Done {
    pub(super) first: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) is_offset: bool,
    pub(super) failed: Option<(u64, Error)>,
}

#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with one another")]
pub(super) struct State<K, V> {
    pub(super) options: IngestOptions,
    durable: bool,
    /// Whether rows expire unless they are said not to: the shard then says when, as it does for changes.
    expires: bool,
    /// One for each shard; in exact mode one for all.
    pub(super) gathering: Vec<Gathering<K, V>>,
    /// Room for rows that batches have given back: made anew by producers and given up by the driver, it would go from
    /// one thread to the other.
    spare: Vec<Vec<Numbered<K, V>>>,
    pub(super) begun: VecDeque<Begun<K, V>>,
    /// What producers handed over and did not see to its end.
    pub(super) handed_over: Vec<Flight>,
    /// The first rows of batches that were begun and are not applied, and not acknowledged.
    pub(super) unapplied: BTreeSet<u64>,
    unacknowledged: BTreeSet<u64>,
    /// Offsets stated and not begun, each with the row behind it; and the rows of those that are under way.
    marks: VecDeque<(u64, SourceOffset)>,
    offsets_under_way: BTreeMap<u64, usize>,
    /// Where a batch is handed over and not applied yet, by shard: the next one waits for that, as nothing else is
    /// sure to keep their order. In exact mode one for all, since two of them may change the same keys. The last is that
    /// of offsets alone.
    applying: Vec<bool>,
    next_row: u64,
    failure: Option<IngestError>,
    pub(super) report: IngestReport,
    producers: Vec<Waker>,
    pub(super) driver: Option<Waker>,
    /// It has something to do, and a thread to do it.
    pub(super) driver_runs: bool,
    /// It looks after a delay at what gathers.
    pub(super) delay_runs: bool,
    pub(super) driver_is_gone: bool,
    pub(super) senders: usize,
}

impl<K: Key, V: Value> State<K, V> {
    pub(super) fn new(options: IngestOptions, shards: usize, durable: bool, expires: bool) -> Self {
        let gatherings = if options.exact { 1 } else { shards };
        // The first ones are of different sizes, so that they don't come all at once ever after.
        let room = |at: usize| options.batch_rows.saturating_mul(at + 1).div_ceil(gatherings);
        Self {
            options,
            durable,
            expires,
            gathering: (0..gatherings).map(|at| Gathering::new(room(at))).collect(),
            spare: Vec::new(),
            begun: VecDeque::new(),
            handed_over: Vec::new(),
            unapplied: BTreeSet::new(),
            unacknowledged: BTreeSet::new(),
            marks: VecDeque::new(),
            offsets_under_way: BTreeMap::new(),
            applying: vec![false; gatherings + 1],
            next_row: 0,
            failure: None,
            report: IngestReport::default(),
            producers: Vec::new(),
            driver: None,
            driver_runs: false,
            delay_runs: false,
            driver_is_gone: false,
            senders: 1,
        }
    }

    /// Takes a row in, with its encoding if it has one.
    pub(super) fn gather(
        &mut self,
        (shard, hash): (usize, KeyHash),
        key: K,
        row: Row<V>,
        encoded: &EncodedWrites,
    ) -> Next<K, V> {
        if self.failure.is_some() {
            // It stands behind the failed row; its producer learns of that with the next poll.
            self.next_row += 1;
            return Next::Row;
        }
        let at = if self.options.exact { 0 } else { shard };
        let number = self.next_row;
        self.next_row += 1;
        let gathering = &mut self.gathering[at];
        let was_empty = gathering.rows.is_empty();
        gathering.changes |= self.expires || matches!(row, Row::Change(_));
        gathering.rows.push(Numbered { number, key, hash, row });
        gathering.bytes += encoded.bytes();
        if self.options.exact {
            if gathering.rows.len() - gathering.covered > self.options.uncovered_rows_max() {
                let first = gathering.rows[gathering.covered].number;
                self.fail(first, Error::config("in exact mode an offset must be stated from time to time"));
            }
            return Next::Row;
        }
        gathering.encoded.extend(encoded);
        if gathering.rows.len() >= gathering.room || gathering.bytes >= self.options.batch_bytes {
            self.begin(at);
            return self.after_begin();
        }
        if was_empty && !self.delay_runs {
            self.wake_driver();
        }
        Next::Row
    }

    fn after_begin(&mut self) -> Next<K, V> {
        if !self.driver_runs {
            return Next::GiveWay;
        }
        // One of each shard is left to it: rows that another thread applies are slower, as are those of a shard that two
        // threads write by turns.
        let surplus = if self.begun.len() > self.gathering.len() { self.take_begun() } else { None };
        surplus.map_or(Next::Row, |begun| Next::HandOver(Box::new(begun)))
    }

    /// A row that can't be taken in.
    pub(super) fn refuse(&mut self, cause: Error) {
        let row = self.next_row;
        self.next_row += 1;
        self.fail(row, cause);
    }

    /// Everything sent so far belongs to this offset.
    pub(super) fn mark(&mut self, source: Arc<str>, offset: u64) {
        if !self.options.exact {
            // Only the newest counts where nothing was sent in between.
            let row = self.next_row;
            self.marks.retain(|(at, mark)| *at != row || mark.source != source);
            self.marks.push_back((row, SourceOffset { source, offset }));
            return self.wake_driver();
        }
        let gathering = &mut self.gathering[0];
        gathering.offsets.insert(source, offset);
        gathering.covered = gathering.rows.len();
        let full =
            gathering.covered >= self.options.batch_rows || gathering.bytes >= self.options.batch_bytes;
        if full { self.begin(0) } else { self.wake_driver() }
    }

    /// Begins what has gathered for a shard; in exact mode, what stands before the last offset.
    pub(super) fn begin(&mut self, at: usize) {
        if self.options.exact {
            return self.begin_exact();
        }
        let gathering = &mut self.gathering[at];
        let Some(first) = gathering.first_row() else { return };
        // The next batch will be about as large.
        let next = Gathering {
            rows: self.spare.pop().unwrap_or_else(|| Vec::with_capacity(gathering.rows.len())),
            encoded: EncodedWrites::with_capacity(gathering.encoded.bytes() * 9 / 8),
            ..Gathering::new(self.options.batch_rows)
        };
        let Gathering { rows, encoded, changes, bytes, .. } = std::mem::replace(gathering, next);
        self.unapplied.insert(first);
        self.unacknowledged.insert(first);
        self.begun.push_back(if changes {
            Begun::Mixed { shard: at, rows, bytes }
        } else {
            self.blind(at, rows, encoded)
        });
        self.wake_driver();
    }

    /// Of several writes of a key in one commit, the last counts.
    fn blind(&self, shard: usize, mut rows: Vec<Numbered<K, V>>, mut encoded: EncodedWrites) -> Begun<K, V> {
        let (first, sent) = (rows[0].number, rows.len() as u64);
        let superseded = superseded(&rows);
        if superseded.contains(&true) {
            let mut superseded = superseded.into_iter();
            rows.retain(|_| superseded.next() == Some(false));
            encoded.clear();
            for Numbered { key, row, .. } in rows.iter().filter(|_| self.durable) {
                let value = if let Row::Put(value) = row { Some(&**value) } else { None };
                // Each was encoded before, when it was sent.
                let _ = encode_write(&mut encoded, key, value, Expiry::NEVER);
            }
        }
        Begun::Blind { shard, first, rows, encoded, sent }
    }

    fn begin_exact(&mut self) {
        let gathering = &mut self.gathering[0];
        if gathering.offsets.is_empty() {
            return;
        }
        let rest = gathering.rows.split_off(gathering.covered);
        let rows = std::mem::replace(&mut gathering.rows, rest);
        let bytes = std::mem::take(&mut gathering.bytes);
        gathering.covered = 0;
        gathering.is_aged = false;
        let offsets = std::mem::take(&mut gathering.offsets)
            .into_iter()
            .map(|(source, offset)| SourceOffset { source, offset })
            .collect();
        let first = rows.first().map_or(self.next_row, |first| first.number);
        if rows.is_empty() {
            *self.offsets_under_way.entry(first).or_default() += 1;
        } else {
            self.unapplied.insert(first);
            self.unacknowledged.insert(first);
        }
        self.begun.push_back(Begun::Exact { first, rows, offsets, bytes });
        self.wake_driver();
    }

    /// Takes back the room of a batch's rows.
    pub(super) fn keep_room(&mut self, rows: Vec<Numbered<K, V>>) {
        if self.spare.len() < self.gathering.len() {
            self.spare.push(rows);
        }
    }

    /// Begins everything that may be, in the order of its rows.
    fn begin_all(&mut self) {
        self.begin_such(|_| true);
    }

    /// Half a delay has passed: begins what had seen one before.
    pub(super) fn half_a_delay_passed(&mut self) {
        self.delay_runs = false;
        self.begin_such(|gathering| std::mem::replace(&mut gathering.is_aged, true));
    }

    fn begin_such(&mut self, mut is_such: impl FnMut(&mut Gathering<K, V>) -> bool) {
        let gatherings = self.gathering.iter_mut().enumerate();
        let holding = gatherings.filter(|(_, held)| !held.rows.is_empty() || !held.offsets.is_empty());
        let such = holding.filter_map(|(at, held)| is_such(held).then(|| (held.first_row(), at)));
        let mut order: Vec<_> = such.collect();
        order.sort_unstable();
        for (_, at) in order {
            self.begin(at);
        }
    }

    /// Whether something waits that a delay would begin.
    pub(super) fn gathers(&self) -> bool {
        let waits = |gathering: &Gathering<K, V>| {
            if self.options.exact { !gathering.offsets.is_empty() } else { !gathering.rows.is_empty() }
        };
        self.gathering.iter().any(waits)
    }

    /// What may be handed over next.
    pub(super) fn take_begun(&mut self) -> Option<Begun<K, V>> {
        let (at, lane) = self.begun.iter().enumerate().find_map(|(at, begun)| {
            let lane = self.lane(begun);
            (!self.applying[lane]).then_some((at, lane))
        })?;
        self.applying[lane] = true;
        self.begun.remove(at)
    }

    /// Where in `applying` it is noted.
    fn lane(&self, begun: &Begun<K, V>) -> usize {
        match begun {
            Begun::Blind { shard, .. } | Begun::Mixed { shard, .. } => *shard,
            Begun::Exact { .. } => 0,
            Begun::Offset { .. } => self.offset_lane(),
        }
    }

    const fn offset_lane(&self) -> usize {
        self.gathering.len()
    }

    /// A batch of this shard was applied, or came to nothing: the next one may go. If nothing of it failed, so may the
    /// offsets behind it.
    pub(super) fn applied(&mut self, shard: usize, first: u64, is_whole: bool) {
        self.applying[shard] = false;
        if is_whole {
            self.unapplied.remove(&first);
        }
        self.wake_driver();
    }

    /// An offset alone was applied, or came to nothing.
    pub(super) fn offset_applied(&mut self) {
        let lane = self.offset_lane();
        self.applying[lane] = false;
        self.wake_driver();
    }

    /// The offsets before which every row is applied, the newest of each source.
    pub(super) fn ripe_offsets(&mut self) {
        if self.applying[self.offset_lane()] || self.marks.is_empty() {
            // The newest of those that ripen meanwhile will do.
            return;
        }
        let gathering = self.gathering.iter().filter_map(Gathering::first_row).min();
        let low = self.unapplied.first().copied().into_iter().chain(gathering).min().unwrap_or(u64::MAX);
        let mut ripe: Vec<(u64, SourceOffset)> = Vec::new();
        while let Some((row, offset)) = self.marks.pop_front_if(|(row, _)| *row <= low) {
            ripe.retain(|(_, older)| older.source != offset.source);
            ripe.push((row, offset));
        }
        for (row, offset) in ripe {
            *self.offsets_under_way.entry(row).or_default() += 1;
            self.begun.push_back(Begun::Offset { row, offset });
        }
    }

    /// After a failure: what stands before the failed row still goes in, and nothing behind it is begun.
    pub(super) fn begin_what_stands_before_the_failure(&mut self) {
        let Some(failed) = self.failure.as_ref().map(IngestError::row) else { return };
        self.marks.retain(|(row, _)| *row <= failed);
        self.drop_begun_from(failed);
        if self.options.exact {
            return self.end_exact(failed);
        }
        for at in 0..self.gathering.len() {
            let gathering = &mut self.gathering[at];
            let kept = gathering.rows.partition_point(|row| row.number < failed);
            if kept < gathering.rows.len() {
                gathering.rows.truncate(kept);
                gathering.encoded.clear();
                for Numbered { key, row, .. } in gathering.rows.iter().filter(|_| self.durable) {
                    let value = if let Row::Put(value) = row { Some(&**value) } else { None };
                    let _ = encode_write(&mut gathering.encoded, key, value, Expiry::NEVER);
                }
            }
            self.begin(at);
        }
    }

    /// What was not handed over yet and stands at or behind the failed row.
    fn drop_begun_from(&mut self, failed: u64) {
        for begun in std::mem::take(&mut self.begun) {
            let (first, is_offset) = match &begun {
                Begun::Blind { first, .. } => (*first, false),
                Begun::Mixed { rows, .. } => (rows[0].number, false),
                Begun::Exact { first, rows, .. } => (*first, rows.is_empty()),
                Begun::Offset { row, .. } => (*row, true),
            };
            if first < failed || (is_offset && first == failed && !self.options.exact) {
                self.begun.push_back(begun);
            } else if is_offset {
                self.offset_ended(first);
            } else {
                self.unapplied.remove(&first);
                self.unacknowledged.remove(&first);
            }
        }
    }

    fn offset_ended(&mut self, row: u64) {
        if let Some(count) = self.offsets_under_way.get_mut(&row) {
            *count -= 1;
            if *count == 0 {
                self.offsets_under_way.remove(&row);
            }
        }
    }

    /// Rows and offsets are one: nothing at or behind the failed row goes in.
    fn end_exact(&mut self, failed: u64) {
        if self.gathering[0].rows.first().is_some_and(|first| first.number < failed) {
            self.begin_exact();
        }
        let rest = std::mem::replace(&mut self.gathering[0], Gathering::new(self.options.batch_rows));
        if let (Some(first), Some(failure)) = (rest.rows.first(), &mut self.failure) {
            // What has no offset is not in either.
            failure.limit(first.number);
        }
    }

    /// Notes how a flight ended.
    pub(super) fn done(&mut self, done: Done) {
        let Done { first, rows, bytes, is_offset, failed } = done;
        if is_offset {
            self.offset_ended(first);
            self.report.offsets += u64::from(failed.is_none());
        } else {
            self.unacknowledged.remove(&first);
            self.report.rows += rows;
            self.report.bytes += bytes;
            self.report.batches += u64::from(rows > 0);
        }
        if let Some((row, cause)) = failed {
            self.fail(row, cause);
        }
        self.wake_producers();
    }

    /// The first row that fails is the one that is told.
    pub(super) fn fail(&mut self, row: u64, cause: Error) {
        if self.failure.as_ref().is_none_or(|failure| row < failure.row()) {
            self.failure = Some(IngestError::new(row, cause));
        }
        self.wake_driver();
        self.wake_producers();
    }

    pub(super) fn wake_producers(&mut self) {
        self.producers.drain(..).for_each(Waker::wake);
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Whether who waits can be told of a failure.
    pub(super) fn has_failed_and_settled(&self) -> bool {
        self.failure.is_some() && self.has_settled()
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        if !self.producers.iter().any(|waker| waker.will_wake(context.waker())) {
            self.producers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// The failure, once everything before the failed row has come to its end.
    #[inline]
    fn poll_failure(&mut self, context: &Context<'_>) -> Option<Poll<Result<(), IngestError>>> {
        let failure = self.failure.clone()?;
        if self.has_settled() {
            return Some(Poll::Ready(Err(failure)));
        }
        Some(self.wait(context))
    }

    /// Whether nothing is under way and nothing will be.
    fn has_settled(&self) -> bool {
        let nothing_gathers = self.gathering.iter().all(|gathering| gathering.rows.is_empty());
        self.driver_is_gone || (self.unacknowledged.is_empty() && self.begun.is_empty() && nothing_gathers)
    }

    /// Waits until one more row may be sent.
    #[inline]
    pub(super) fn poll_room(
        &mut self,
        context: &Context<'_>,
        stalled: &mut bool,
    ) -> Poll<Result<(), IngestError>> {
        if let Some(failed) = self.poll_failure(context) {
            return failed;
        }
        if self.unacknowledged.len() >= self.options.batches_in_flight {
            self.report.stalls += u64::from(!*stalled);
            *stalled = true;
            return self.wait(context);
        }
        *stalled = false;
        Poll::Ready(Ok(()))
    }

    /// Begins everything, and says up to where to wait for it.
    pub(super) fn begin_flush(&mut self) -> u64 {
        self.begin_all();
        self.wake_driver();
        self.gathering[0].first_row().unwrap_or(self.next_row)
    }

    /// Waits until all rows before `target` and the offsets stated for them are acknowledged.
    pub(super) fn poll_flushed(
        &mut self,
        context: &Context<'_>,
        target: u64,
    ) -> Poll<Result<(), IngestError>> {
        if let Some(failed) = self.poll_failure(context) {
            return failed;
        }
        let rows = self.unacknowledged.first().is_some_and(|first| *first < target);
        let marks = self.marks.front().is_some_and(|(row, _)| *row <= target);
        let offsets = self.offsets_under_way.first_key_value().is_some_and(|(row, _)| *row <= target);
        if rows || marks || offsets { self.wait(context) } else { Poll::Ready(Ok(())) }
    }

    /// The first row that is not acknowledged.
    pub(super) fn first_open_row(&self) -> u64 {
        let gathering = self.gathering.iter().filter_map(Gathering::first_row);
        self.unacknowledged.first().copied().into_iter().chain(gathering).min().unwrap_or(self.next_row)
    }

    /// In exact mode, a row that no offset was stated for.
    pub(super) fn uncovered(&self) -> Option<u64> {
        let gathering = &self.gathering[0];
        let first = gathering.rows.get(gathering.covered).map(|first| first.number);
        first.filter(|_| self.options.exact)
    }
}

/// Of each row, whether a later one writes the same key.
fn superseded<K: Eq, V>(rows: &[Numbered<K, V>]) -> Vec<bool> {
    let mut last: HashTable<&Numbered<K, V>> = HashTable::with_capacity(rows.len());
    let mut superseded = vec![false; rows.len()];
    for (row, superseded) in rows.iter().zip(&mut superseded).rev() {
        let hash = row.hash.within_shard();
        *superseded = last.find(hash, |later| later.key == row.key).is_some();
        if !*superseded {
            last.insert_unique(hash, row, |known| known.hash.within_shard());
        }
    }
    superseded
}
