//! The shard's one writer, as a plain synchronous struct: it knows neither actors nor a runtime. The actor
//! feeds it messages; tests and simulations drive it directly.
//!
//! A job goes through these stations, in this order (PROTOCOL L1, V2-V5, T1): reserve space in the log,
//! strictly in order of arrival; be turned down if already invalid; wait in line behind whatever it conflicts
//! with; be validated; take a timestamp; be applied and appended. A part of a transaction of several shards
//! stops, pinned, before the timestamp, until the decision comes.

mod batch;
mod govern;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use anabranch_wal::{EncodedWrites, Log, LogId, Reservation, Timestamp};
use crossbeam_utils::CachePadded;

use crate::chain::{Garbage, Version};
use crate::codec::encode_write;
use crate::counters::{ShardCounters, add};
use crate::expiry::Expiry;
use crate::ledger::{Books, Share};
use crate::map::{Bulk, Reclaim, Remembered, ShardMap, Swept};
use crate::messages::{
    Barrier, Batch, Batched, Changed, Commit, Decision, Prepare, Round, Sweep, TransactionId, Update, Updated,
};
use crate::outbox::Outbox;
use crate::part::{Part, Participants};
use crate::pins::{Admission, Arrival, Footprint, Pins};
use crate::readers::Readers;
use crate::refused::{Inside, Refused};
use crate::reject::{Reject, panic_message};
use crate::router::KeyHash;
use crate::sequencer::{AppliedPart, Sequencer};
use crate::validate::validate;
use crate::{Key, Value};

pub use govern::REMOVALS_PER_WRITE_MAX;

/// An update's result is not known before it runs, so it reserves this much first, and more if it must.
const UPDATE_RESERVATION_BYTES: u64 = 4 << 10;
/// For each commit, so many remembered keys are swept, so that garbage does not outgrow the work on it.
const SWEEPS_PER_COMMIT: usize = 2;

/// From so many writes on, those of a commit are made stripe by stripe.
const BULK_WRITES: usize = 32;

/// Commits that run at once leave up to so many old values for the next to drop.
const GARBAGE_KEPT: usize = 64;

/// A shard's state besides its map.
pub struct ShardCore<K, V> {
    map: Arc<ShardMap<K, V>>,
    sequencer: Arc<Sequencer>,
    readers: Arc<Readers>,
    log: Option<Arc<Log>>,
    /// This shard's log alone, for commits of one shard.
    own_log: Participants,
    /// Whether to sweep without being asked.
    sweeps: bool,
    /// Jobs that wait for space in the log, in order of arrival. While there is one, all later ones queue
    /// behind it (L1).
    arrivals: VecDeque<Waiting<K, V>>,
    pins: Pins<K>,
    /// Everything pinned or in line.
    admitted: BTreeMap<Arrival, Admitted<K, V>>,
    transactions: BTreeMap<TransactionId, Arrival>,
    next_arrival: u64,
    upkeep: CachePadded<Upkeep<K, V>>,
    /// The writes of a commit of many, while they are sorted by stripes.
    bulk: Bulk<K, V>,
    /// What takes memory, and what expires.
    books: Books<K, V>,
    /// How long an entry lives that is written without a time of its own.
    default_ttl: Option<Duration>,
    outbox: Outbox<V>,
    counters: Arc<ShardCounters>,
}

/// What commits change of a core as they pass. On cache lines of its own: the rest is mostly only read, and stays where
/// it is when threads take the turn from each other.
struct Upkeep<K, V> {
    garbage: Garbage<V>,
    /// So much of the garbage is off the books.
    garbage_written_off: usize,
    /// Keys that a sweep may find something at.
    remembered: VecDeque<Remembered<K>>,
    /// The highest horizon that anything was reclaimed at (V8).
    reclaimed: Timestamp,
    /// From which moment on there is something to remove, as of the end of the last batch.
    removals_due: u64,
    /// Keys written since the last commit ended, beyond one for each commit.
    writes_beyond: usize,
}

/// A job that waits for space.
struct Waiting<K, V> {
    job: Job<K, V>,
    since: Duration,
}

/// What is left when a commit that ran at once has ended, for its caller to see to outside the turn.
pub(crate) struct Leftovers<V> {
    /// Values to drop.
    pub(crate) garbage: Vec<Version<V>>,
    /// A commit of the shard's own, to be reported.
    pub(crate) governed: Option<AppliedPart>,
}

enum Job<K, V> {
    Commit(Commit<K, V>),
    Update(Update<K, V>, u64),
    Prepare(Prepare<K, V>),
    Batch(Batch<K, V>, u64),
}

/// A job with its reservation.
struct Admitted<K, V> {
    job: Job<K, V>,
    reservation: u64,
}

/// What became of a change that ran.
pub(crate) enum Ran<K> {
    /// It was applied, or changed nothing.
    Done(Option<AppliedPart>),
    Failed(Reject),
    /// The log has no room for its result, which takes so many bytes.
    NoRoom(K, u64),
}

/// When a commit counts as applied, once a key is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publish {
    AtOnce,
    /// When it is reported.
    Later,
}

/// How a job left the station where it reserves space.
enum Space {
    Granted(u64),
    Wait,
    Refused(Reject),
}

impl<K: Key, V: Value> ShardCore<K, V> {
    /// A shard over `map`, which may have been loaded before. With a limit of memory, the map notes accesses
    /// ([`ShardMap::with_clock`]).
    #[must_use]
    pub fn new(
        map: Arc<ShardMap<K, V>>,
        readers: Arc<Readers>,
        sequencer: Arc<Sequencer>,
        log: Option<Arc<Log>>,
        sweeps: bool,
        limit: Option<Share<K, V>>,
    ) -> Self {
        let own_log = log.iter().map(|log| log.id()).collect();
        let default_ttl = limit.as_ref().and_then(|share| share.eviction.default_ttl());
        let books = Books::open(&map, limit);
        let mut core = Self {
            map,
            sequencer,
            readers,
            log,
            own_log,
            sweeps,
            arrivals: VecDeque::new(),
            pins: Pins::new(),
            admitted: BTreeMap::new(),
            transactions: BTreeMap::new(),
            next_arrival: 0,
            upkeep: CachePadded::new(Upkeep {
                garbage: Garbage::new(),
                garbage_written_off: 0,
                remembered: VecDeque::new(),
                reclaimed: Timestamp::ZERO,
                removals_due: 0,
                writes_beyond: 0,
            }),
            books,
            default_ttl,
            bulk: Bulk::new(),
            outbox: Outbox::default(),
            counters: Arc::default(),
        };
        core.upkeep.removals_due = core.next_removals();
        core
    }

    /// From which moment on there is something to remove on the shard's own account.
    pub(crate) fn removals_due(&self) -> u64 {
        self.upkeep.removals_due
    }

    pub(crate) const fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }

    /// A commit of this shard alone arrives.
    pub fn commit(&mut self, commit: Commit<K, V>) {
        self.arrive(Job::Commit(commit));
    }

    /// An update arrives.
    pub fn update(&mut self, update: Update<K, V>) {
        self.arrive(Job::Update(update, UPDATE_RESERVATION_BYTES));
    }

    /// Decisions and parts from the coordinator arrive.
    pub fn round(&mut self, round: Round<K, V>) {
        for decision in round.decisions {
            self.decide(decision);
        }
        for fill in round.fills {
            let outcome = self.fill(fill.transaction, fill.part, fill.participants);
            self.outbox.vote(&fill.votes, fill.transaction, outcome);
        }
        for prepare in round.prepares {
            self.arrive(Job::Prepare(prepare));
        }
    }

    /// The log may have space again.
    pub fn space_changed(&mut self) {
        while let Some(waiting) = self.arrivals.pop_front() {
            match self.reserve(&waiting.job) {
                Space::Wait => {
                    self.arrivals.push_front(waiting);
                    return;
                }
                space => {
                    self.counters.stalled(self.readers.now().saturating_sub(waiting.since));
                    self.enter(waiting.job, space);
                }
            }
        }
        if let Some(log) = &self.log {
            log.withdraw();
        }
    }

    /// Reclaims now what nobody can ask for.
    pub fn sweep(&mut self, sweep: Sweep) {
        let horizon = self.readers.refresh();
        self.govern_fully();
        let swept = self.sweep_up_to(horizon, usize::MAX);
        self.write_off();
        if let Some(reply) = sweep.reply {
            self.outbox.swept(reply, swept);
        }
    }

    /// Everything sent before has been handled.
    pub fn barrier(&mut self, barrier: Barrier) {
        self.outbox.barrier(barrier.reply);
    }

    /// Ends a batch: what is to be reported and answered, to be delivered outside the turn (F3).
    #[must_use]
    pub fn finish_batch(&mut self) -> Outbox<V> {
        if let Some(governed) = self.tidy(self.outbox.commits()) {
            self.outbox.applied(governed);
        }
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.discard(&mut self.upkeep.garbage.versions);
        self.upkeep.garbage_written_off = self.upkeep.garbage.versions.len();
        outbox
    }

    /// Drops everything that waits, which tells its callers that there will be no answer.
    pub fn abandon(&mut self) {
        self.arrivals.clear();
        self.admitted.clear();
        self.transactions.clear();
        self.pins.clear();
        self.outbox = Outbox::default();
    }

    /// How many jobs are pinned, in line, and waiting for space.
    #[must_use]
    pub fn queues(&self) -> Queues {
        Queues { pinned: self.pins.pinned(), in_line: self.pins.waiting(), for_space: self.arrivals.len() }
    }

    /// How many keys a sweep may find something at.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.upkeep.remembered.len()
    }

    /// Makes ready a part of a transaction that is to be committed in line, with all its turns held: space is
    /// reserved and the part is valid. `Ok(None)` if it would have to wait for anything (F1, F2).
    pub(crate) fn ready(&self, part: &Part<K, V>, participants: usize) -> Result<Option<u64>, Reject> {
        if !self.is_clear_for(&part.footprint()) {
            return Ok(None);
        }
        validate(&self.map, part, self.upkeep.reclaimed)?;
        self.books.check_room(&self.map, part.writes_with_values())?;
        let Some(log) = self.log.as_ref().filter(|_| !part.is_read_only()) else { return Ok(Some(0)) };
        let bytes = Log::reservation_bytes(&part.encoded, participants);
        Ok(log.try_reserve(bytes).then_some(bytes))
    }

    /// Gives back what [`ShardCore::ready`] reserved.
    pub(crate) fn not_needed(&self, reservation: u64) {
        self.unreserve(reservation);
    }

    /// Applies a part that is valid and has its space, and takes what it writes. From here on nothing fails (T1).
    pub(crate) fn apply(
        &mut self,
        timestamp: Timestamp,
        part: &mut Part<K, V>,
        participants: &[LogId],
        reservation: u64,
    ) -> AppliedPart {
        for offset in part.offsets.drain(..) {
            self.map.offsets().set(timestamp, offset, self.readers.horizon());
        }
        let mut expires = part.expires.drain(..);
        let mut hashes = part.write_hashes.drain(..);
        let writes = part.writes.drain(..).zip(part.values.drain(..));
        let writes =
            writes.map(|(key, value)| ((key, hashes.next()), value, expires.next().unwrap_or_default()));
        self.store_all(timestamp, writes);
        append(self.log.as_deref(), timestamp, &part.encoded, participants, reservation)
    }

    /// Writes one key at once, without a look at what is there. Gives it back if it would have to wait.
    pub(crate) fn write_at_once(
        &mut self,
        key: K,
        hash: KeyHash,
        value: Option<Arc<V>>,
        expires: Expiry,
        encoded: &EncodedWrites,
    ) -> Result<AppliedPart, (K, Option<Arc<V>>)> {
        let reservation = if self.log.is_some() { Log::reservation_bytes(encoded, 1) } else { 0 };
        // Where there is no room in memory, it is turned down in order of arrival.
        if !self.is_clear_for(&Footprint::of_write(&key))
            || self.books.check_room(&self.map, std::iter::once((&key, value.as_ref()))).is_err()
            || !self.try_reserve(reservation)
        {
            return Err((key, value));
        }
        add(&self.counters.in_line, 1);
        let timestamp = self.sequencer.take(1);
        Ok(self.apply_one(timestamp, key, hash, (value, expires), encoded, reservation))
    }

    /// Changes one key at once, or gives it back if it would have to wait.
    pub(crate) fn change_at_once(
        &mut self,
        key: K,
        hash: KeyHash,
        change: &mut dyn FnMut(Option<&V>) -> Changed<V>,
        updated: &mut Updated<V>,
    ) -> Result<Ran<K>, K> {
        let reservation = if self.log.is_some() { UPDATE_RESERVATION_BYTES } else { 0 };
        if !self.is_clear_for(&Footprint::of_write(&key)) || !self.try_reserve(reservation) {
            return Err(key);
        }
        Ok(self.change(key, hash, change, reservation, updated))
    }

    /// Ends a commit that ran at once: what [`ShardCore::finish_batch`] does beside answering. Mostly nothing is left.
    pub(crate) fn finish_at_once(&mut self) -> Option<Leftovers<V>> {
        let governed = self.tidy(1);
        let Upkeep { garbage, garbage_written_off, .. } = &mut *self.upkeep;
        let versions = &mut garbage.versions;
        let is_full = versions.len() >= GARBAGE_KEPT;
        let garbage = if is_full {
            std::mem::replace(versions, Vec::with_capacity(2 * GARBAGE_KEPT))
        } else {
            Vec::new()
        };
        *garbage_written_off = versions.len();
        (is_full || governed.is_some()).then(|| Leftovers { garbage, governed })
    }

    fn tidy(&mut self, commits: usize) -> Option<AppliedPart> {
        if commits > 0 {
            self.readers.refresh_if_due();
        }
        let settled = self.books.are_settled();
        let governed = if settled { None } else { self.govern(commits) };
        if self.sweeps && !self.upkeep.remembered.is_empty() {
            self.sweep_up_to(self.readers.horizon(), SWEEPS_PER_COMMIT * commits.max(1));
        }
        self.write_off();
        self.upkeep.writes_beyond = 0;
        self.upkeep.removals_due = if settled { u64::MAX } else { self.next_removals() };
        governed
    }

    /// Whether nothing is in the way of something with this footprint.
    fn is_clear_for(&self, footprint: &Footprint<'_, K>) -> bool {
        self.arrivals.is_empty() && !self.pins.conflicts(footprint)
    }

    fn arrive(&mut self, job: Job<K, V>) {
        if !self.arrivals.is_empty() {
            return self.wait_for_space(job);
        }
        match self.reserve(&job) {
            Space::Wait => self.wait_for_space(job),
            space => self.enter(job, space),
        }
    }

    fn wait_for_space(&mut self, job: Job<K, V>) {
        self.arrivals.push_back(Waiting { job, since: self.readers.now() });
    }

    fn reserve(&self, job: &Job<K, V>) -> Space {
        let Some(log) = &self.log else { return Space::Granted(0) };
        let bytes = job.reservation_bytes();
        if bytes == 0 {
            return Space::Granted(0);
        }
        match log.reserve(bytes) {
            Reservation::Granted => Space::Granted(bytes),
            Reservation::Wait => Space::Wait,
            Reservation::Refused(error) => Space::Refused(Reject::NoSpace(error)),
        }
    }

    /// A job that has its space goes to the line, or ahead if nothing is in its way.
    fn enter(&mut self, job: Job<K, V>, space: Space) {
        let reservation = match space {
            Space::Granted(bytes) => bytes,
            Space::Refused(reject) => return self.turn_down(job, reject, 0),
            Space::Wait => unreachable!("the caller keeps a job that waits"),
        };
        // V5: what is already invalid does not wait.
        if let Err(reject) = self.validate(&job) {
            return self.turn_down(job, reject, reservation);
        }
        let one_phase = !matches!(job, Job::Prepare(_));
        if one_phase && !job.with_footprint(|footprint| self.pins.conflicts(footprint)) {
            return self.run(Admitted { job, reservation });
        }
        self.next_arrival += 1;
        let arrival = Arrival(self.next_arrival);
        let admission = job.with_footprint(|footprint| self.pins.admit(arrival, footprint));
        if let Job::Prepare(prepare) = &job {
            self.transactions.insert(prepare.transaction, arrival);
            if admission == Admission::Granted {
                self.outbox.vote(&prepare.votes, prepare.transaction, Ok(()));
            }
        }
        self.admitted.insert(arrival, Admitted { job, reservation });
    }

    fn validate(&self, job: &Job<K, V>) -> Result<(), Reject> {
        match job {
            Job::Commit(Commit { part, .. }) | Job::Prepare(Prepare { part, .. }) => {
                validate(&self.map, part, self.upkeep.reclaimed)?;
                self.books.check_room(&self.map, part.writes_with_values())
            }
            Job::Update(..) | Job::Batch(..) => Ok(()),
        }
    }

    fn validate_again(&self, job: &Job<K, V>) -> Result<(), Reject> {
        #[cfg(feature = "testing")]
        if anabranch_wal::is_planted(anabranch_wal::Bug::NotValidatedAgain) {
            return Ok(());
        }
        self.validate(job)
    }

    fn turn_down(&mut self, job: Job<K, V>, reject: Reject, reservation: u64) {
        self.unreserve(reservation);
        match job {
            Job::Commit(commit) => self.outbox.commit(commit.reply, Err(reject)),
            Job::Update(update, _) => self.outbox.update(update.reply, Err(reject)),
            Job::Prepare(prepare) => self.outbox.vote(&prepare.votes, prepare.transaction, Err(reject)),
            Job::Batch(batch, _) => {
                self.outbox.batch(batch.reply, Batched { timestamp: None, failed: Some((0, reject)) });
            }
        }
    }

    fn unreserve(&self, reservation: u64) {
        if let Some(log) = &self.log
            && reservation > 0
        {
            log.unreserve(reservation);
        }
    }

    /// Runs a job of one phase that has been validated and that nothing is in the way of.
    fn run(&mut self, admitted: Admitted<K, V>) {
        let Admitted { job, reservation } = admitted;
        match job {
            Job::Commit(commit) => {
                let Commit { mut part, reply, reader, permit } = commit;
                add(&self.counters.one_phase, 1);
                let timestamp = self.sequencer.take(1);
                let own_log = Arc::clone(&self.own_log);
                let applied = self.apply(timestamp, &mut part, &own_log, reservation);
                self.outbox.applied(applied);
                self.outbox.commit(reply, Ok(timestamp));
                drop((reader, permit));
            }
            Job::Update(update, _) => self.run_update(update, reservation),
            Job::Batch(batch, _) => self.run_batch(batch, reservation),
            Job::Prepare(_) => unreachable!("a part waits for its decision"),
        }
    }

    fn run_update(&mut self, update: Update<K, V>, reservation: u64) {
        let Update { key, mut change, reply, permit } = update;
        let hash = self.map.hash(&key);
        let mut updated = Updated::default();
        match self.change(key, hash, &mut *change, reservation, &mut updated) {
            Ran::Done(applied) => {
                if let Some(applied) = applied {
                    self.outbox.applied(applied);
                }
                self.outbox.update(reply, Ok(updated));
            }
            Ran::Failed(reject) => self.outbox.update(reply, Err(reject)),
            Ran::NoRoom(key, needed) => {
                // It holds nothing while it waits (L1), so it runs again when there is space.
                self.wait_for_space(Job::Update(Update { key, change, reply, permit }, needed));
                if self.arrivals.len() == 1 {
                    // Nobody waits for the log yet: ask it, so that it wakes us.
                    self.space_changed();
                }
            }
        }
    }

    /// Runs a change, and applies what comes of it. The reservation is used or given back.
    fn change(
        &mut self,
        key: K,
        hash: KeyHash,
        change: &mut dyn FnMut(Option<&V>) -> Changed<V>,
        reservation: u64,
        updated: &mut Updated<V>,
    ) -> Ran<K> {
        let (mut changed, mut was_there) = (Ok(Changed::Keep), false);
        let mut run = |old: Option<&Arc<V>>| {
            changed = catch_unwind(AssertUnwindSafe(|| {
                let _inside = Inside::enter(Refused::Commits);
                change(old.map(|old| &**old))
            }));
            was_there = old.is_some();
            // Who puts something has seen what was there, and is not told of it again.
            if !matches!(changed, Ok(Changed::Put(_))) {
                updated.old = old.cloned();
            }
        };
        let (mut seen, mut expires) = (Timestamp::ZERO, Expiry::NEVER);
        // Next to the value: its stripe is only shared meanwhile, and who would write there has this turn.
        let found = self.map.with_newest_live(&key, hash, |newest, old, until| {
            (seen, expires) = (newest, until);
            run(old);
        });
        if found.is_none() {
            run(None);
        }
        let new = match changed {
            Ok(Changed::Put(new)) => Some(new),
            Ok(Changed::Remove) if was_there => None,
            // V9: nothing changes; what was seen must be durable before it is confirmed.
            Ok(Changed::Remove | Changed::Keep) => {
                self.unreserve(reservation);
                (updated.timestamp, updated.new) = (seen, updated.old.clone());
                return Ran::Done(None);
            }
            Err(panic) => {
                self.unreserve(reservation);
                return Ran::Failed(Reject::Panicked(panic_message(&*panic)));
            }
        };
        // What is changed keeps its time; what is new gets the engine's.
        let expires = match (was_there, &new) {
            (_, None) => Expiry::NEVER,
            (true, Some(_)) => expires,
            (false, Some(_)) => self.default_expiry(),
        };
        if let Err(reject) = self.books.check_room(&self.map, std::iter::once((&key, new.as_ref()))) {
            self.unreserve(reservation);
            return Ran::Failed(reject);
        }
        let mut encoded = EncodedWrites::new();
        let mut needed = 0;
        if self.log.is_some() {
            if let Err(reject) = encode_write(&mut encoded, &key, new.as_deref(), expires) {
                self.unreserve(reservation);
                return Ran::Failed(reject);
            }
            needed = Log::reservation_bytes(&encoded, 1);
        }
        if needed > reservation && !self.try_reserve(needed - reservation) {
            self.unreserve(reservation);
            return Ran::NoRoom(key, needed);
        }
        add(&self.counters.updates, 1);
        let timestamp = self.sequencer.take(1);
        updated.timestamp = timestamp;
        updated.new.clone_from(&new);
        Ran::Done(Some(self.apply_one(
            timestamp,
            key,
            hash,
            (new, expires),
            &encoded,
            reservation.max(needed),
        )))
    }

    fn try_reserve(&self, bytes: u64) -> bool {
        self.log.as_ref().is_none_or(|log| log.try_reserve(bytes))
    }

    /// [`ShardCore::apply`] of one key.
    #[inline]
    fn apply_one(
        &mut self,
        timestamp: Timestamp,
        key: K,
        hash: KeyHash,
        (value, expires): (Option<Arc<V>>, Expiry),
        encoded: &EncodedWrites,
        reservation: u64,
    ) -> AppliedPart {
        // T3: what is logged is logged first.
        let publish = if self.log.is_none() { Publish::AtOnce } else { Publish::Later };
        let published = self.store(timestamp, key, hash, value, expires, publish);
        let applied = append(self.log.as_deref(), timestamp, encoded, &self.own_log, reservation);
        AppliedPart { published, ..applied }
    }

    /// Writes the keys of one commit, each once, with their hashes where these are known.
    fn store_all(
        &mut self,
        timestamp: Timestamp,
        writes: impl ExactSizeIterator<Item = ((K, Option<KeyHash>), Option<Arc<V>>, Expiry)>,
    ) {
        self.upkeep.writes_beyond += writes.len().saturating_sub(1);
        // Nothing that is there expires then, so nothing is noted of a write but that it does itself.
        let in_bulk = writes.len() >= BULK_WRITES && self.books.are_closed();
        for ((key, hash), value, expires) in writes {
            let hash = hash.unwrap_or_else(|| self.map.hash(&key));
            if in_bulk && expires == Expiry::NEVER {
                self.bulk.add(key, hash, Version { timestamp, expires, value });
            } else {
                self.store(timestamp, key, hash, value, expires, Publish::Later);
            }
        }
        if in_bulk {
            let horizon = self.readers.horizon();
            let reclaim = Reclaim { horizon, readers: &self.readers, publishes_to: None };
            let Upkeep { garbage, remembered, reclaimed, .. } = &mut *self.upkeep;
            *reclaimed = (*reclaimed).max(horizon);
            self.map.apply_all(&mut self.bulk, &reclaim, garbage, |key, hash| {
                remembered.push_back(Remembered { since: timestamp, hash, key });
            });
        }
    }

    /// Writes one key. Returns whether its commit was published.
    fn store(
        &mut self,
        timestamp: Timestamp,
        key: K,
        hash: KeyHash,
        value: Option<Arc<V>>,
        expires: Expiry,
        publish: Publish,
    ) -> bool {
        let horizon = self.readers.horizon();
        self.upkeep.reclaimed = self.upkeep.reclaimed.max(horizon);
        let removes = value.is_none();
        let version = Version { timestamp, expires, value };
        let publishes_to = (publish == Publish::AtOnce).then_some(&*self.sequencer);
        let reclaim = Reclaim { horizon, readers: &self.readers, publishes_to };
        let written = if expires == Expiry::NEVER && self.books.are_closed() {
            self.map.apply(key, hash, version, &reclaim, &mut self.upkeep.garbage, &mut ())
        } else {
            let mut entry = self.books.entry(&self.map);
            let written = self.map.apply(key, hash, version, &reclaim, &mut self.upkeep.garbage, &mut entry);
            if removes {
                self.books.removed(&self.map);
            }
            written
        };
        if let Some(key) = written.remembered {
            self.upkeep.remembered.push_back(Remembered { since: timestamp, hash, key });
        }
        written.published
    }

    /// Puts what is to be committed in the place of a claim. It holds its pins and must not wait, for space
    /// either (L1): what it lacks, it claims the next time.
    fn fill(
        &mut self,
        transaction: TransactionId,
        part: Part<K, V>,
        participants: Participants,
    ) -> Result<(), Reject> {
        let beyond_the_claim = Reject::Conflict { newer: Timestamp::ZERO };
        let arrival = self.transactions.get(&transaction);
        let Some(Admitted { job: Job::Prepare(claim), reservation }) =
            arrival.and_then(|arrival| self.admitted.get_mut(arrival))
        else {
            unreachable!("S3: a claim is filled while it is pinned");
        };
        if !claim.part.covers(&part) {
            return Err(beyond_the_claim);
        }
        validate(&self.map, &part, self.upkeep.reclaimed)?;
        self.books.check_room(&self.map, part.writes_with_values())?;
        if let Some(log) = self.log.as_ref().filter(|_| !part.is_read_only()) {
            let needed = Log::reservation_bytes(&part.encoded, participants.len());
            let more = needed.saturating_sub(*reservation);
            if more > 0 && !log.try_reserve(more) {
                return Err(beyond_the_claim);
            }
            *reservation += more;
        }
        claim.part = part;
        claim.participants = participants;
        Ok(())
    }

    fn decide(&mut self, decision: Decision) {
        let (transaction, timestamp) = match decision {
            Decision::Commit(transaction, timestamp) => (transaction, Some(timestamp)),
            Decision::Abort(transaction) => (transaction, None),
        };
        let Some(arrival) = self.transactions.remove(&transaction) else {
            // V4: an aborted part may still wait for space, or may have been turned down here.
            assert!(timestamp.is_none(), "S3: only what is pinned is committed");
            let waiting =
                |job: &Job<K, V>| matches!(job, Job::Prepare(part) if part.transaction == transaction);
            self.arrivals.retain(|arrival| !waiting(&arrival.job));
            return self.space_changed();
        };
        let Some(Admitted { job: Job::Prepare(prepare), reservation }) = self.admitted.remove(&arrival)
        else {
            unreachable!("S3: a transaction's arrival is that of its part");
        };
        match timestamp {
            Some(timestamp) if !prepare.part.is_read_only() => {
                let Prepare { mut part, participants, .. } = prepare;
                let applied = self.apply(timestamp, &mut part, &participants, reservation);
                self.outbox.applied(applied);
            }
            _ => self.unreserve(reservation),
        }
        self.release(arrival);
    }

    /// Unpins, or takes out of the line, and lets go ahead whoever waited for that.
    fn release(&mut self, arrival: Arrival) {
        let mut granted = VecDeque::from(self.pins.release(arrival));
        while let Some(arrival) = granted.pop_front() {
            let Some(admitted) = self.admitted.remove(&arrival) else {
                unreachable!("S3: what is pinned or in line is admitted");
            };
            // V5: validated again after waiting.
            match (self.validate_again(&admitted.job), &admitted.job) {
                (Ok(()), Job::Prepare(prepare)) => {
                    // Pinned now; it stays until its decision.
                    self.outbox.vote(&prepare.votes, prepare.transaction, Ok(()));
                    self.admitted.insert(arrival, admitted);
                    continue;
                }
                (Ok(()), _) => self.run(admitted),
                (Err(reject), job) => {
                    if let Job::Prepare(prepare) = job {
                        self.transactions.remove(&prepare.transaction);
                    }
                    self.turn_down(admitted.job, reject, admitted.reservation);
                }
            }
            granted.extend(self.pins.release(arrival));
        }
    }

    fn sweep_up_to(&mut self, horizon: Timestamp, limit: usize) -> Swept {
        if self.upkeep.remembered.is_empty() {
            return Swept::default();
        }
        self.upkeep.reclaimed = self.upkeep.reclaimed.max(horizon);
        let books = &mut self.books;
        let forget = |key: &K| {
            if let Some(ledger) = &mut books.ledger {
                ledger.forgotten(key);
            }
        };
        let Upkeep { remembered, garbage, .. } = &mut *self.upkeep;
        self.map.sweep(remembered, horizon, limit, garbage, forget)
    }
}

/// Logs what was applied; T3: before it is reported.
#[inline]
fn append(
    log: Option<&Log>,
    timestamp: Timestamp,
    encoded: &EncodedWrites,
    participants: &[LogId],
    reservation: u64,
) -> AppliedPart {
    let mut bytes = 0;
    if let Some(log) = log {
        log.append(timestamp, encoded, participants, reservation);
        bytes = encoded.record_bytes(participants.len()) as u64;
    }
    AppliedPart { timestamp, bytes, published: false }
}

/// How many jobs are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Queues {
    /// Pinned, waiting for the coordinator's decision.
    pub pinned: usize,
    /// In line behind pins or behind who waits.
    pub in_line: usize,
    /// Waiting for space in the log.
    pub for_space: usize,
}

impl<K: Clone + Ord, V> Job<K, V> {
    fn with_footprint<T>(&self, look: impl FnOnce(&Footprint<'_, K>) -> T) -> T {
        match self {
            Self::Commit(commit) => look(&commit.part.footprint()),
            Self::Prepare(prepare) => look(&prepare.part.footprint()),
            Self::Batch(batch, _) => look(&batch.footprint()),
            Self::Update(update, _) => look(&Footprint::of_write(&update.key)),
        }
    }

    fn reservation_bytes(&self) -> u64 {
        match self {
            Self::Commit(commit) => Log::reservation_bytes(&commit.part.encoded, 1),
            Self::Prepare(prepare) if prepare.part.is_read_only() => 0,
            Self::Prepare(Prepare { claims: Some(bytes), .. })
            | Self::Update(_, bytes)
            | Self::Batch(_, bytes) => *bytes,
            Self::Prepare(prepare) => {
                Log::reservation_bytes(&prepare.part.encoded, prepare.participants.len())
            }
        }
    }
}
