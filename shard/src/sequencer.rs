//! The sequencer: one per engine. It hands out commit timestamps without gaps, and keeps the watermarks.
//!
//! A timestamp is taken after everything that can fail or be slow (PROTOCOL T1), and is then always used.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch_wal::{Health, SyncControl, SyncPolicy, Timestamp};
use parking_lot::Mutex;

use crate::watermark::{Reached, Watermark};

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
    state: Mutex<State>,
    applied: Arc<Watermark>,
    durable: Arc<Watermark>,
    synced: Arc<Watermark>,
    written: AtomicU64,
    held_back: HeldBack,
    log: Option<Arc<SyncControl>>,
    health: Arc<Health>,
}

struct State {
    next: u64,
    /// The timestamps from `applied + 1` on: on how many shards each is still to be applied.
    unapplied: VecDeque<u32>,
    unsynced: UnsyncedBytes,
}

/// Bytes of the commits beyond `synced`, to find how far `durable` may go ahead of it (T6). Kept only if the
/// engine has such a bound.
#[derive(Default)]
struct UnsyncedBytes {
    limit: Option<u64>,
    /// Commits `first..`.
    first: u64,
    bytes: VecDeque<u64>,
    /// Everything up to here stays within the limit; `sum` is what `first..=within` take.
    within: u64,
    sum: u64,
}

/// A commit that has been applied on one shard.
#[derive(Clone, Copy, Debug)]
pub struct AppliedPart {
    /// The commit.
    pub timestamp: Timestamp,
    /// Bytes that it logged there.
    pub bytes: u64,
}

impl Sequencer {
    /// Begins after `recovered`, the last commit that is there. Without a log, `durable` is `applied`.
    #[must_use]
    pub fn new(recovered: Timestamp, log: Option<Arc<SyncControl>>, health: &Arc<Health>) -> Arc<Self> {
        let limit = match log.as_ref().map(|log| log.policy()) {
            Some(SyncPolicy::Lazy(conditions)) => conditions.bytes,
            _ => None,
        };
        let first = recovered.next().0;
        let unsynced = UnsyncedBytes { limit, first, within: recovered.0, ..UnsyncedBytes::default() };
        let watermark = || Arc::new(Watermark::new(recovered));
        let applied = watermark();
        // Without a log, what is applied is as durable as it gets.
        let logged = || if log.is_some() { watermark() } else { Arc::clone(&applied) };
        let sequencer = Arc::new(Self {
            state: Mutex::new(State { next: first, unapplied: VecDeque::new(), unsynced }),
            durable: logged(),
            synced: logged(),
            applied,
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

    /// Takes the next timestamp, for a commit that writes to so many shards. It must be applied on all.
    ///
    /// # Panics
    /// If `shards` is zero: such a commit would never be applied.
    pub fn take(&self, shards: usize) -> Timestamp {
        assert!(shards > 0, "a commit writes somewhere");
        let mut state = self.state.lock();
        let timestamp = Timestamp(state.next);
        state.next += 1;
        state.unapplied.push_back(shards.try_into().expect("there are at most 512 shards"));
        if state.unsynced.limit.is_some() {
            state.unsynced.bytes.push_back(0);
        }
        timestamp
    }

    /// A shard has applied these, and appended them to its log before that (T3).
    pub fn applied(&self, parts: &[AppliedPart]) {
        if parts.is_empty() {
            return;
        }
        let applied = {
            let mut state = self.state.lock();
            for part in parts {
                state.part_applied(part);
            }
            while state.unapplied.pop_front_if(|shards| *shards == 0).is_some() {}
            Timestamp(state.next - 1 - state.unapplied.len() as u64)
        };
        self.applied.raise(applied);
        self.advance();
    }

    /// Recomputes what depends on the logs. Called after every advance of a log, and of `applied`: a log may
    /// have been synced before the commit in it was reported applied.
    pub fn advance(&self) {
        let Some(log) = &self.log else { return };
        // T4: `applied` first, the floors second. The other order passes commits that are not logged yet.
        let applied = self.applied.get();
        let (mut written, mut synced) = (applied, applied);
        for log in log.logs() {
            synced = synced.min(log.unsynced_floor().previous());
            written = written.min(log.unwritten_floor().previous());
        }
        log.set_synced(synced);
        self.written.fetch_max(written.0, Ordering::SeqCst);
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
                if let Some(bytes) = conditions.bytes {
                    let reach = self.state.lock().unsynced.reach(synced, applied);
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
    pub fn get(&self, level: Level) -> Timestamp {
        self.watermark(level).get()
    }

    /// The end of what survives power loss. Known before any commit in it is acknowledged: [`Level::Synced`], which
    /// those wait for whose commit must be, follows when it is also served.
    #[must_use]
    pub fn synced(&self) -> Timestamp {
        self.log.as_ref().map_or_else(|| self.applied.get(), |log| log.synced())
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
        Timestamp(self.state.lock().next - 1)
    }

    /// Waits until the watermark has reached `timestamp`, or the engine fails.
    pub fn reached(&self, level: Level, timestamp: Timestamp) -> Reached {
        if level == Level::Synced
            && let Some(log) = &self.log
        {
            log.request(timestamp);
        }
        Reached::new(Arc::clone(self.watermark(level)), Arc::clone(&self.health), timestamp)
    }

    const fn watermark(&self, level: Level) -> &Arc<Watermark> {
        match level {
            Level::Applied => &self.applied,
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

impl State {
    fn part_applied(&mut self, part: &AppliedPart) {
        let first = self.next - self.unapplied.len() as u64;
        let index = part.timestamp.0.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        let shards = index.and_then(|index| self.unapplied.get_mut(index));
        *shards.expect("S2: a part is applied once, and after its timestamp was taken") -= 1;
        self.unsynced.add(part);
    }
}

impl UnsyncedBytes {
    fn add(&mut self, part: &AppliedPart) {
        if self.limit.is_none() {
            return;
        }
        let index = part.timestamp.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(bytes) = index.and_then(|index| self.bytes.get_mut(index)) {
            *bytes += part.bytes;
        }
    }

    /// The last commit, `applied` at the most, up to which everything beyond `synced` stays within the limit.
    fn reach(&mut self, synced: Timestamp, applied: Timestamp) -> Timestamp {
        let Some(limit) = self.limit else { return Timestamp::MAX };
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
                Some(bytes) if self.within < applied.0 && self.sum + bytes <= limit => {
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
        AppliedPart { timestamp, bytes: 1 }
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
        let mut unsynced = UnsyncedBytes { limit: Some(10), first: 1, ..UnsyncedBytes::default() };
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
