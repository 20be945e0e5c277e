//! The sequencer: one per engine. It hands out commit timestamps without gaps, and keeps the watermarks.
//!
//! A timestamp is taken after everything that can fail or be slow (PROTOCOL T1), and is then always used.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_wal::{Health, SyncControl, SyncPolicy, Timestamp};
use parking_lot::Mutex;

use crate::front::Front;
use crate::watermark::{Reached, ReachedHere, Watermark};

/// The watermark that a read or an acknowledgement goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In memory on all its shards.
    Applied,
    /// What the engine's durability promises.
    Durable,
    /// Survives power loss, and is [`Level::Durable`].
    Synced,
}

/// Hands out timestamps, and knows how far the engine has come.
pub struct Sequencer {
    front: Front,
    apart: Apart,
    /// Only if there is a bound that asks for it.
    unsynced: Option<Mutex<UnsyncedBytes>>,
    durable: Arc<Watermark>,
    synced: Arc<Watermark>,
    written: AtomicU64,
    held_back: HeldBack,
    log: Option<Arc<SyncControl>>,
    health: Arc<Health>,
}

/// Commits whose shards report them one by one.
#[derive(Default)]
struct Apart {
    /// How many there are: mostly none, and then nobody looks further.
    count: AtomicU64,
    /// How many shards still have to apply each.
    left: Mutex<BTreeMap<Timestamp, usize>>,
}

/// Bytes of the commits beyond `synced`, to find how far `durable` may go ahead of it (T6).
#[derive(Default)]
struct UnsyncedBytes {
    limit: u64,
    /// Commits `first..`.
    first: u64,
    bytes: VecDeque<u64>,
    /// Everything up to here stays within the limit; `sum` is what `first..=within` take.
    within: u64,
    sum: u64,
}

/// A commit that has been applied, or a part of one that was taken for several.
#[derive(Clone, Copy, Debug)]
pub struct AppliedPart {
    /// The commit.
    pub timestamp: Timestamp,
    /// Bytes that were logged of it.
    pub bytes: u64,
    /// Whether it counts as applied already: then there are only those to wake who wait for it.
    pub published: bool,
}

impl Sequencer {
    /// Begins after `recovered`, the last commit that is there. Without a log, `durable` is `applied`.
    #[must_use]
    pub fn new(recovered: Timestamp, log: Option<Arc<SyncControl>>, health: &Arc<Health>) -> Arc<Self> {
        let limit = match log.as_ref().map(|log| log.policy()) {
            Some(SyncPolicy::Lazy(conditions)) => conditions.bytes,
            _ => None,
        };
        let unsynced = |limit| UnsyncedBytes {
            limit,
            first: recovered.next().0,
            within: recovered.0,
            ..UnsyncedBytes::default()
        };
        let front = Front::new(recovered);
        // Without a log, what is applied is as durable as it gets.
        let logged = || match log {
            Some(_) => Arc::new(Watermark::new(recovered)),
            None => Arc::clone(front.applied()),
        };
        let sequencer = Arc::new(Self {
            durable: logged(),
            synced: logged(),
            front,
            apart: Apart::default(),
            unsynced: limit.map(|limit| Mutex::new(unsynced(limit))),
            written: AtomicU64::new(recovered.0),
            held_back: HeldBack::default(),
            log,
            health: Arc::clone(health),
        });
        let woken = Arc::downgrade(&sequencer);
        health.on_fault(move || {
            if let Some(sequencer) = woken.upgrade() {
                sequencer.wake_all();
            }
        });
        sequencer
    }

    /// The engine's state of health.
    #[must_use]
    pub const fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Takes the next timestamp, for a commit that so many parts of will be reported. It must be applied.
    ///
    /// # Panics
    /// If `parts` is zero: such a commit would never be applied.
    #[inline]
    pub fn take(&self, parts: usize) -> Timestamp {
        assert!(parts > 0, "a commit writes somewhere");
        if parts == 1 {
            return self.front.take();
        }
        let mut left = self.apart.left.lock();
        let timestamp = self.front.take();
        left.insert(timestamp, parts);
        self.apart.count.store(left.len() as u64, Ordering::SeqCst);
        timestamp
    }

    /// These are applied, and were appended to the logs before that (T3).
    #[inline]
    pub fn applied(&self, parts: &[AppliedPart]) {
        if parts.is_empty() {
            return;
        }
        if let Some(unsynced) = &self.unsynced {
            let mut unsynced = unsynced.lock();
            for part in parts {
                unsynced.add(part);
            }
        }
        for part in parts {
            if part.published {
                self.front.applied().wake_reached();
            } else if self.apart.ends_with_part(part.timestamp) {
                self.front.apply(part.timestamp);
            }
        }
        self.advance();
    }

    /// A commit without a log is applied, which wakes nobody yet: it is to be reported as published. Returns whether it
    /// is behind the watermark.
    #[inline]
    pub(crate) fn publish(&self, timestamp: Timestamp) -> bool {
        self.front.apply_quietly(timestamp);
        self.front.applied().get() >= timestamp
    }

    /// Recomputes what depends on the logs. Called after every advance of a log, and of `applied`: a log may
    /// have been synced before the commit in it was reported applied.
    #[inline]
    pub fn advance(&self) {
        let Some(log) = &self.log else { return };
        // T4: `applied` first, the floors second. The other order passes commits that are not logged yet.
        let applied = self.front.applied().get();
        let (mut written, mut synced) = (applied, applied);
        for log in log.logs() {
            synced = synced.min(log.unsynced_floor().previous());
            written = written.min(log.unwritten_floor().previous());
        }
        log.set_synced(synced);
        if self.written.load(Ordering::SeqCst) < written.0 {
            self.written.fetch_max(written.0, Ordering::SeqCst);
        }
        match log.policy() {
            SyncPolicy::Always => self.durable.raise(synced),
            SyncPolicy::Lazy(conditions) => {
                let mut bound = written;
                if let Some(commits) = conditions.commits {
                    // T6: so many commits at the most are acknowledged and not synced.
                    bound = bound.min(Timestamp(synced.0.saturating_add(commits)));
                    if applied.0 - synced.0.min(applied.0) >= commits.div_ceil(2) {
                        log.request(applied);
                    }
                }
                if let (Some(bytes), Some(unsynced)) = (conditions.bytes, &self.unsynced) {
                    let reach = unsynced.lock().reach(synced, applied);
                    bound = bound.min(reach);
                    // A commit of several logs counts as a whole until it is synced in all of them. So it may be
                    // held back although little is unsynced: what is left of it, in the last of its logs.
                    if reach < applied || log.unsynced_bytes() >= bytes.div_ceil(2) {
                        log.request(applied);
                    }
                }
                if bound < written {
                    self.held_back.add(bound, written);
                }
                self.durable.raise(bound);
            }
        }
        // The last: whoever waits for it reads at `durable` next.
        self.synced.raise(synced);
    }

    /// Where a watermark is.
    #[must_use]
    #[inline]
    pub fn get(&self, level: Level) -> Timestamp {
        self.watermark(level).get()
    }

    /// The end of what survives power loss. Known before any commit in it is acknowledged: [`Level::Synced`], which
    /// those wait for whose commit must be, follows when it is also served.
    #[must_use]
    pub fn synced(&self) -> Timestamp {
        self.log.as_ref().map_or_else(|| self.front.applied().get(), |log| log.synced())
    }

    /// The end of what was handed to the operating system.
    #[must_use]
    pub fn written(&self) -> Timestamp {
        Timestamp(self.written.load(Ordering::SeqCst))
    }

    /// How many commits had to wait for a sync, written though they were, as a crash could have lost too much (T6).
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.held_back.commits.load(Ordering::Relaxed)
    }

    /// The last timestamp taken.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.front.last()
    }

    /// Waits until the watermark has reached `timestamp`, or the engine fails.
    #[inline]
    pub fn reached(&self, level: Level, timestamp: Timestamp) -> ReachedHere<'_> {
        self.request(level, timestamp);
        Reached::new(self.watermark(level), &self.health, timestamp)
    }

    /// [`Sequencer::reached`] that may outlive the sequencer.
    pub fn reached_later(&self, level: Level, timestamp: Timestamp) -> Reached {
        self.request(level, timestamp);
        Reached::new(Arc::clone(self.watermark(level)), Arc::clone(&self.health), timestamp)
    }

    fn request(&self, level: Level, timestamp: Timestamp) {
        let Some(log) = &self.log else { return };
        log.call_if_alone();
        if level == Level::Synced {
            log.request(timestamp);
        }
    }

    /// For those who commit, before they wait for that to be durable: see [`SyncControl::flush_if_alone`].
    #[inline]
    pub fn flush_if_alone(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.flush_if_alone())
    }

    #[inline]
    const fn watermark(&self, level: Level) -> &Arc<Watermark> {
        match level {
            Level::Applied => self.front.applied(),
            Level::Durable => &self.durable,
            Level::Synced => &self.synced,
        }
    }

    fn wake_all(&self) {
        for level in [Level::Applied, Level::Durable, Level::Synced] {
            self.watermark(level).wake_all();
        }
    }
}

/// Commits that were written and held back by a bound on what a crash can lose.
#[derive(Default)]
struct HeldBack {
    commits: AtomicU64,
    /// The last of them.
    up_to: AtomicU64,
}

impl HeldBack {
    /// Those after `bound` and up to `written` are held back. Each is counted once.
    fn add(&self, bound: Timestamp, written: Timestamp) {
        let counted = self.up_to.fetch_max(written.0, Ordering::Relaxed);
        let more = written.0.saturating_sub(counted.max(bound.0));
        self.commits.fetch_add(more, Ordering::Relaxed);
    }
}

impl Apart {
    /// Counts a part of this commit as applied. Whether that was the last of it.
    #[inline]
    fn ends_with_part(&self, timestamp: Timestamp) -> bool {
        // Whoever reports a part was told its timestamp after this was raised for it.
        if self.count.load(Ordering::SeqCst) == 0 {
            return true;
        }
        let mut left = self.left.lock();
        let Some(parts) = left.get_mut(&timestamp) else { return true };
        *parts -= 1;
        if *parts > 0 {
            return false;
        }
        left.remove(&timestamp);
        self.count.store(left.len() as u64, Ordering::SeqCst);
        true
    }
}

impl UnsyncedBytes {
    fn add(&mut self, part: &AppliedPart) {
        let index = part.timestamp.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(index) = index else { return };
        if self.bytes.len() <= index {
            self.bytes.resize(index + 1, 0);
        }
        self.bytes[index] += part.bytes;
    }

    /// The last commit, `applied` at the most, up to which everything beyond `synced` stays within the limit.
    fn reach(&mut self, synced: Timestamp, applied: Timestamp) -> Timestamp {
        while self.first <= synced.0 {
            let Some(bytes) = self.bytes.pop_front() else { break };
            if self.first <= self.within {
                self.sum -= bytes;
            } else {
                self.within = self.first;
            }
            self.first += 1;
        }
        loop {
            let next = usize::try_from(self.within + 1 - self.first).ok();
            match next.and_then(|next| self.bytes.get(next)) {
                Some(bytes) if self.within < applied.0 && self.sum + bytes <= self.limit => {
                    self.sum += bytes;
                    self.within += 1;
                }
                _ => return Timestamp(self.within),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Arc<Sequencer> {
        Sequencer::new(Timestamp::ZERO, None, &Arc::default())
    }

    fn part(timestamp: Timestamp) -> AppliedPart {
        AppliedPart { timestamp, bytes: 1, published: false }
    }

    #[test]
    fn applied_is_the_end_of_a_front_without_holes() {
        let sequencer = memory();
        let (first, second, third) = (sequencer.take(1), sequencer.take(2), sequencer.take(1));
        sequencer.applied(&[part(third), part(second)]);
        assert_eq!(sequencer.get(Level::Applied), Timestamp::ZERO);
        sequencer.applied(&[part(first)]);
        assert_eq!(sequencer.get(Level::Applied), first);
        sequencer.applied(&[part(second)]);
        assert_eq!(sequencer.get(Level::Applied), third);
        assert_eq!(sequencer.get(Level::Durable), third);
    }

    #[test]
    fn a_commit_that_is_held_back_twice_counts_once() {
        let held_back = HeldBack::default();
        for (bound, written) in [(2, 5), (2, 5), (3, 6), (4, 4), (8, 9)] {
            held_back.add(Timestamp(bound), Timestamp(written));
        }
        assert_eq!(held_back.commits.load(Ordering::Relaxed), 3 + 1 + 1);
    }

    #[test]
    fn the_reach_never_passes_the_limit_of_bytes() {
        let mut unsynced = UnsyncedBytes { limit: 10, first: 1, ..UnsyncedBytes::default() };
        unsynced.bytes.extend([4, 6, 1, 20, 3]);
        let all = Timestamp(5);
        assert_eq!(unsynced.reach(Timestamp(0), Timestamp(1)), Timestamp(1));
        assert_eq!(unsynced.reach(Timestamp(0), all), Timestamp(2));
        assert_eq!(unsynced.reach(Timestamp(1), all), Timestamp(3));
        // A commit beyond the limit by itself waits for its own sync.
        assert_eq!(unsynced.reach(Timestamp(3), all), Timestamp(3));
        assert_eq!(unsynced.reach(Timestamp(4), all), Timestamp(5));
        assert_eq!(unsynced.reach(Timestamp(5), all), Timestamp(5));
    }
}
