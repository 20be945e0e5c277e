//! The registry of readers, which holds back reclamation, and what follows from it: the horizon, and the timestamps
//! that are still read at.
//!
//! No global lock: readers register in stripes, by thread. A reader loads its watermark while it holds its
//! stripe's lock, and the reclaimer loads `durable` before it takes the stripes one by one. So either the
//! reclaimer finds the reader, or the reader loads after the reclaimer and reads at or above the horizon: what
//! PROTOCOL H1 asks for, with a lock in the place of the "pending" mark and the fences.
//!
//! The same holds for what lies between readers: every timestamp below that `durable` at which somebody reads, now
//! or later, was found. So [`ReadAt`] may be used to reclaim for as long as one likes: a list that is out of date
//! names too many timestamps, never too few.
//!
//! Somebody who has just moved the watermark may only want to know that nobody is registered. That takes no lock: who
//! registers counts itself in before it loads its watermark, so it is found, or reads at or above what the other saw.
//!
//! **A maximum age** ends readers by the clock alone, so there is no mark that a reader could miss (V8). The
//! registry forgets a registration only after it has read a time at which the reader is too old. A version is
//! reclaimed after that, under the lock of its chain. A reader looks up first, under that lock, and asks the clock
//! second: if the version was gone, the clock, which is monotonic, says that the reader is too old, and what was or
//! was not found is not returned. Only registrations below `durable` are forgotten, where nobody registers any more,
//! so dropping a reader whose registration is forgotten can't end another's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anabranch_wal::{Env, Timestamp};
use crossbeam_utils::CachePadded;

use crate::primitives::{AtomicU64, Mutex, MutexGuard, Ordering, STRIPES, own_stripe, stripes_in_use};
use crate::sequencer::{Level, Sequencer};

/// The horizon is computed anew when so many commits were applied since the last time (H3).
const REFRESH_COMMITS: u64 = 64;
/// Of so many timestamps that are read at, each is told apart; above the last, everything is kept.
const READ_AT_MAX: usize = 64;

/// Who reads, at which timestamps.
pub struct Readers {
    /// Each shared with its readers, so that they count references on their own thread's line.
    stripes: [Arc<Stripe>; STRIPES],
    sequencer: Arc<Sequencer>,
    horizon: CachePadded<AtomicU64>,
    refreshed_at: AtomicU64,
    refreshing: Mutex<()>,
    read_at: Mutex<Arc<ReadAt>>,
    env: Arc<dyn Env>,
    age_max: Option<Duration>,
    /// The time, as of the last [`Readers::tick`], in nanoseconds. Where readers have no maximum age, this is precise
    /// enough to tell theirs, and costs a registration no look at the clock.
    now: AtomicU64,
    /// Readers that were forgotten for their age.
    ended: AtomicU64,
}

/// What readers ask for below `durable`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadAt {
    /// The timestamps that somebody reads at, ascending.
    pub(crate) timestamps: Vec<Timestamp>,
    /// From here on, everything may be asked for.
    pub(crate) from: Timestamp,
}

/// The reader that reads at the oldest timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestRegistered {
    /// Where it reads.
    pub timestamp: Timestamp,
    /// How long it has been open.
    pub age: Duration,
}

type Stripe = CachePadded<Registry>;

/// The readers of one stripe.
#[derive(Debug, Default)]
struct Registry {
    registered: Mutex<Registered>,
    /// How many are registered or about to be.
    present: AtomicU64,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock()
    }

    /// Those who are registered now, as counted under the lock.
    fn set_present(&self, readers: usize) {
        self.present.store(readers as u64, Ordering::SeqCst);
    }
}

/// How many readers there are at each timestamp, ascending. Most come at the end and leave there or in front, so
/// there is no tree and nothing is allocated. Timestamps without readers are kept in between, up to half of all.
#[derive(Debug, Default)]
struct Registered {
    counts: VecDeque<Count>,
    empty: usize,
    /// Over all timestamps.
    readers: usize,
}

/// The readers at one timestamp.
#[derive(Debug)]
struct Count {
    timestamp: Timestamp,
    readers: usize,
    /// When the first of them registered, and the last. An exempt one counts as registered at the end of time.
    first: Duration,
    last: Duration,
}

/// A registered reader; dropping it ends the registration. A clone is one more reader at the same timestamp, and as old.
pub struct Reader {
    stripe: Arc<Stripe>,
    timestamp: Timestamp,
    limit: Option<Box<Limit>>,
}

/// When a reader is too old.
#[derive(Clone)]
struct Limit {
    since: Duration,
    age_max: Duration,
    env: Arc<dyn Env>,
}

impl Readers {
    /// Nobody reads. Readers that are older than `age_max` are forgotten.
    #[must_use]
    pub fn new(sequencer: Arc<Sequencer>, env: Arc<dyn Env>, age_max: Option<Duration>) -> Arc<Self> {
        let now = AtomicU64::new(nanos(env.now()));
        Arc::new(Self {
            stripes: Default::default(),
            sequencer,
            horizon: CachePadded::new(AtomicU64::new(0)),
            refreshed_at: AtomicU64::new(0),
            refreshing: Mutex::new(()),
            read_at: Mutex::new(Arc::default()),
            env,
            age_max,
            now,
            ended: AtomicU64::new(0),
        })
    }

    /// Registers a reader at a watermark.
    #[must_use]
    #[inline]
    pub fn register(&self, level: Level) -> Reader {
        let (now, limit) = match self.age_max {
            None => (Duration::from_nanos(self.now.load(Ordering::Relaxed)), None),
            Some(age_max) => {
                let now = self.env.now();
                (now, Some(Box::new(Limit { since: now, age_max, env: Arc::clone(&self.env) })))
            }
        };
        self.register_at(level, (now, now), limit)
    }

    /// Registers a reader that no maximum age ends: one of the engine's own, such as a checkpoint's.
    #[must_use]
    pub fn register_exempt(&self, level: Level) -> Reader {
        self.register_at(level, (self.env.now(), Duration::MAX), None)
    }

    #[inline]
    fn register_at(&self, level: Level, since: (Duration, Duration), limit: Option<Box<Limit>>) -> Reader {
        let stripe = &self.stripes[own_stripe()];
        let timestamp = {
            let mut readers = stripe.lock();
            stripe.set_present(readers.readers + 1);
            // Under the lock, and counted in; see the head of this file.
            let timestamp = self.sequencer.get(level);
            readers.add(timestamp, since);
            timestamp
        };
        Reader { stripe: Arc::clone(stripe), timestamp, limit }
    }

    /// The oldest timestamp that somebody reads at, and how many read.
    #[must_use]
    pub fn oldest(&self) -> (Option<OldestRegistered>, usize) {
        let now = self.env.now();
        let mut oldest: Option<(Timestamp, Duration)> = None;
        let mut count = 0;
        for stripe in &self.stripes {
            let readers = stripe.lock();
            if let Some(first) = readers.counts.front() {
                let first = (first.timestamp, first.first);
                oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
            }
            count += readers.readers;
        }
        let registered = |(timestamp, since)| OldestRegistered { timestamp, age: now.saturating_sub(since) };
        (oldest.map(registered), count)
    }

    /// Notes the time, and forgets readers that are too old; returns how many. To be called now and then.
    pub fn tick(&self) -> u64 {
        let now = self.env.now();
        self.now.fetch_max(nanos(now), Ordering::Relaxed);
        let Some(age_max) = self.age_max else { return 0 };
        let mut ended = 0;
        for stripe in &self.stripes {
            let mut readers = stripe.lock();
            // Under the lock: whoever registers later reads at or above it.
            let durable = self.sequencer.get(Level::Durable);
            ended += readers.forget(durable, |last| is_too_old(now, last, age_max));
            stripe.set_present(readers.readers);
        }
        self.ended.fetch_add(ended, Ordering::Relaxed);
        ended
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.env.now()
    }

    /// The maximum age of a reader, if there is one.
    #[must_use]
    pub const fn age_max(&self) -> Option<Duration> {
        self.age_max
    }

    /// How many readers were forgotten for their age.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// What readers ask for, as of the last time that the horizon was computed.
    pub(crate) fn read_at(&self) -> Arc<ReadAt> {
        Arc::clone(&self.read_at.lock())
    }

    /// Whether nobody is registered. Whoever registers later reads at or above any watermark that was seen before this.
    #[inline]
    pub(crate) fn nobody_reads(&self) -> bool {
        self.stripes[..stripes_in_use()].iter().all(|stripe| stripe.present.load(Ordering::SeqCst) == 0)
    }

    /// What lies below this, nobody can ask for. Computed now and then, and only grows.
    #[must_use]
    #[inline]
    pub fn horizon(&self) -> Timestamp {
        Timestamp(self.horizon.load(Ordering::SeqCst))
    }

    /// Computes the horizon anew if enough has happened since.
    #[inline]
    pub fn refresh_if_due(&self) {
        let due = self.refreshed_at.load(Ordering::Relaxed) + REFRESH_COMMITS;
        if self.sequencer.get(Level::Durable).0 >= due
            && let Some(_one_party) = self.refreshing.try_lock()
        {
            self.refresh();
        }
    }

    /// Computes the horizon now.
    pub fn refresh(&self) -> Timestamp {
        // H1: `durable` first, the registry second.
        let durable = self.sequencer.get(Level::Durable);
        let mut timestamps = Vec::new();
        for stripe in &self.stripes {
            let readers = stripe.lock();
            let below = readers.counts.iter().filter(|count| count.readers > 0 && count.timestamp < durable);
            // Each stripe's first are enough to know the first of all.
            timestamps.extend(below.map(|count| count.timestamp).take(READ_AT_MAX + 1));
        }
        timestamps.sort_unstable();
        timestamps.dedup();
        let horizon = timestamps.first().map_or(durable, |oldest| *oldest);
        // With more than that, what lies above the last is kept as if it were not durable yet.
        let from = timestamps.get(READ_AT_MAX).copied().unwrap_or(durable);
        timestamps.truncate(READ_AT_MAX);
        self.set_read_at(ReadAt { timestamps, from });
        self.refreshed_at.fetch_max(durable.0, Ordering::Relaxed);
        Timestamp(self.horizon.fetch_max(horizon.0, Ordering::SeqCst).max(horizon.0))
    }
}

impl Readers {
    /// Without readers, as mostly, it stays as it is: nobody asks then where everything begins.
    fn set_read_at(&self, new: ReadAt) {
        let mut read_at = self.read_at.lock();
        if new.has_readers() || read_at.has_readers() {
            *read_at = Arc::new(new);
        }
    }
}

impl ReadAt {
    /// Whether somebody may ask for a version that was written at `written` and followed by another at `followed`.
    pub(crate) fn may_ask(&self, written: Timestamp, followed: Timestamp) -> bool {
        let first = self.timestamps.partition_point(|timestamp| *timestamp < written);
        followed > self.from || self.timestamps.get(first).is_some_and(|timestamp| *timestamp < followed)
    }

    /// Whether there is a gap between readers in which versions may be garbage.
    pub(crate) fn has_readers(&self) -> bool {
        !self.timestamps.is_empty()
    }
}

/// The one rule by which registry and readers judge an age, so that they agree.
fn is_too_old(now: Duration, since: Duration, age_max: Duration) -> bool {
    now.saturating_sub(since) > age_max
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Reader {
    /// The timestamp read at.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// How old it is, if that is too old. To be asked after each look-up and before its result is used, which may
    /// lack what was reclaimed since (PROTOCOL V8).
    #[must_use]
    pub fn too_old(&self) -> Option<Duration> {
        let Limit { since, age_max, env } = self.limit.as_deref()?;
        let now = env.now();
        is_too_old(now, *since, *age_max).then(|| now.saturating_sub(*since))
    }
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        let mut readers = self.stripe.lock();
        readers.join(self.timestamp);
        self.stripe.set_present(readers.readers);
        Self { stripe: Arc::clone(&self.stripe), timestamp: self.timestamp, limit: self.limit.clone() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = self.stripe.lock();
        readers.remove(self.timestamp);
        self.stripe.set_present(readers.readers);
    }
}

impl Registered {
    fn add(&mut self, timestamp: Timestamp, (first, last): (Duration, Duration)) {
        self.readers += 1;
        let at = match self.counts.back() {
            Some(count) if count.timestamp >= timestamp => self.find(timestamp),
            _ => Err(self.counts.len()),
        };
        match at {
            Ok(at) => {
                let count = &mut self.counts[at];
                if count.readers == 0 {
                    self.empty -= 1;
                    (count.first, count.last) = (first, last);
                }
                count.readers += 1;
                count.last = count.last.max(last);
            }
            Err(at) => self.counts.insert(at, Count { timestamp, readers: 1, first, last }),
        }
    }

    /// One more reader where there is one. If that one has been forgotten for its age, nobody registers there any more,
    /// and the newcomer is as old.
    fn join(&mut self, timestamp: Timestamp) {
        if let Ok(at) = self.find(timestamp) {
            self.counts[at].readers += 1;
            self.readers += 1;
        }
    }

    fn remove(&mut self, timestamp: Timestamp) {
        // It may have been forgotten for its age.
        let Ok(at) = self.find(timestamp) else { return };
        self.readers -= 1;
        let count = &mut self.counts[at].readers;
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.empty += 1;
        self.trim();
        if self.empty > self.counts.len() / 2 {
            self.counts.retain(|count| count.readers > 0);
            self.empty = 0;
        }
    }

    /// The first and the last that are kept have readers.
    fn trim(&mut self) {
        while self.counts.pop_back_if(|count| count.readers == 0).is_some() {
            self.empty -= 1;
        }
        while self.counts.pop_front_if(|count| count.readers == 0).is_some() {
            self.empty -= 1;
        }
    }

    /// Forgets those below `durable` of whom the last is too old, and returns how many there were. They go
    /// altogether: no entry is left for a reader that is dropped later to count down.
    fn forget(&mut self, durable: Timestamp, is_too_old: impl Fn(Duration) -> bool) -> u64 {
        let before = self.readers;
        self.counts
            .retain(|count| count.readers > 0 && (count.timestamp >= durable || !is_too_old(count.last)));
        self.empty = 0;
        self.readers = self.counts.iter().map(|count| count.readers).sum();
        (before - self.readers) as u64
    }

    fn find(&self, timestamp: Timestamp) -> Result<usize, usize> {
        self.counts.binary_search_by_key(&timestamp, |count| count.timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_kept_exactly_if_somebody_may_ask_for_it() {
        let read_at = ReadAt { timestamps: [3, 8].map(Timestamp).to_vec(), from: Timestamp(12) };
        for written in 1..20 {
            for followed in written + 1..20 {
                let asked = (written..followed).any(|at| at == 3 || at == 8 || at >= 12);
                let kept = read_at.may_ask(Timestamp(written), Timestamp(followed));
                assert_eq!(kept, asked, "written at {written}, followed at {followed}");
            }
        }
    }

    #[test]
    fn forgetting_one_who_is_too_old_ends_no_other() {
        let (first, second) = (Duration::from_secs(1), Duration::from_secs(9));
        let mut registered = Registered::default();
        registered.add(Timestamp(1), (first, first));
        registered.add(Timestamp(2), (first, Duration::MAX));
        registered.add(Timestamp(3), (first, first));
        registered.add(Timestamp(3), (second, second));
        registered.add(Timestamp(9), (first, first));
        // Timestamp 2 is exempt, somebody registered later at 3, and others may still register at 9.
        let before = |last: Duration| last < Duration::from_secs(5);
        assert_eq!(registered.forget(Timestamp(9), before), 1);
        assert_eq!(registered.readers, 4);
        for timestamp in [1, 2, 3, 3] {
            registered.remove(Timestamp(timestamp));
        }
        assert_eq!(registered.counts.front().map(|count| count.timestamp), Some(Timestamp(9)));
    }
}
