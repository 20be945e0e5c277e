//! A key's versions. The common case, one version, takes no allocation beyond the value.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch_wal::Timestamp;

use crate::access::Access;
use crate::expiry::Expiry;
use crate::readers::ReadAt;

/// A chain is looked through for what lies between readers when it has so many older versions, and again when it has
/// twice what was left then: so that costs in proportion to what is written, and so that what is kept is at the most
/// twice what somebody may ask for, or this.
const THIN_FROM: u32 = 16;

/// What a commit made of a key: a value, or a removal.
#[derive(Debug)]
pub(crate) struct Version<V> {
    pub(crate) timestamp: Timestamp,
    pub(crate) expires: Expiry,
    pub(crate) value: Option<Arc<V>>,
}

impl<V> Version<V> {
    /// The value, as long as there is one and it has not expired. `moment` is asked only of what can expire.
    pub(crate) fn live(&self, moment: impl FnOnce() -> u64) -> Option<&Arc<V>> {
        let value = self.value.as_ref()?;
        (self.expires == Expiry::NEVER || !self.expires.is_past(moment())).then_some(value)
    }
}

/// All versions of a key that somebody may still ask for, in commit order.
#[derive(Debug)]
pub(crate) struct Chain<V> {
    newest: Version<V>,
    /// One word in the common case of no older versions.
    older: Option<Box<Older<V>>>,
    /// [`REMEMBERED`], and below it where the shard keeps the key among those to evict.
    marks: u32,
    /// When it was accessed last, and how often. Not written unless there is a limit of memory.
    access: AtomicU32,
}

/// The shard has this key on its list of keys to sweep.
const REMEMBERED: u32 = 1 << 31;

/// Older versions, of which there are some.
#[derive(Debug)]
enum Older<V> {
    /// Mostly there is one, until the next sweep.
    One(Version<V>),
    Many(Many<V>),
}

/// Ascending. A hot key gathers thousands of versions between two syncs, so looking one up is a binary search, and
/// trimming takes from the front.
#[derive(Debug)]
struct Many<V> {
    versions: VecDeque<Version<V>>,
    /// With so many, there may be some to reclaim between readers.
    thin_at: u32,
}

/// What chains have given away: versions that nobody can ask for, and the boxes that they were in, for the next.
#[derive(Debug)]
pub(crate) struct Garbage<V> {
    /// To be dropped outside the turn, as that runs a user's code.
    pub(crate) versions: Vec<Version<V>>,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    boxes: Vec<Box<Older<V>>>,
}

/// Boxes that were filled at once, by a shard that was behind with reclaiming, are not all kept.
const BOXES_KEPT: usize = 256;

impl<V> Garbage<V> {
    pub(crate) const fn new() -> Self {
        Self { versions: Vec::new(), boxes: Vec::new() }
    }

    fn boxed(&mut self, older: Older<V>) -> Box<Older<V>> {
        match self.boxes.pop() {
            Some(mut kept) => {
                *kept = older;
                kept
            }
            None => Box::new(older),
        }
    }

    fn keep_box(&mut self, emptied: Option<Box<Older<V>>>) {
        if self.boxes.len() < BOXES_KEPT {
            self.boxes.extend(emptied);
        }
    }
}

impl<V> Many<V> {
    const fn new(versions: VecDeque<Version<V>>) -> Self {
        Self { versions, thin_at: THIN_FROM }
    }

    /// Moves those that nobody may ask for to `garbage`: each but the last, which `newest` follows, is followed by
    /// the next.
    fn thin(&mut self, newest: Timestamp, read_at: &ReadAt, garbage: &mut Garbage<V>) {
        if read_at.has_readers() {
            let mut kept = VecDeque::with_capacity(self.versions.len());
            while let Some(version) = self.versions.pop_front() {
                let followed = self.versions.front().map_or(newest, |next| next.timestamp);
                if read_at.may_ask(version.timestamp, followed) {
                    kept.push_back(version);
                } else {
                    garbage.versions.push(version);
                }
            }
            kept.shrink_to(kept.len() * 2);
            self.versions = kept;
        }
        let left = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
        self.thin_at = left.saturating_mul(2).max(THIN_FROM);
    }
}

impl<V> Older<V> {
    /// The newest version at or below `timestamp`.
    fn at(&self, timestamp: Timestamp) -> Option<&Version<V>> {
        match self {
            Self::One(version) => (version.timestamp <= timestamp).then_some(version),
            Self::Many(Many { versions, .. }) => {
                let beyond = versions.partition_point(|version| version.timestamp <= timestamp);
                versions.get(beyond.checked_sub(1)?)
            }
        }
    }

    fn push(&mut self, version: Version<V>) {
        match self {
            Self::Many(many) => many.versions.push_back(version),
            Self::One(_) => {
                let two = Self::Many(Many::new(VecDeque::with_capacity(4)));
                if let (Self::One(first), Self::Many(many)) = (std::mem::replace(self, two), &mut *self) {
                    many.versions.extend([first, version]);
                }
            }
        }
    }

    /// Moves those that no reader at or above `horizon` can ask for to `garbage`.
    fn trim(&mut self, horizon: Timestamp, garbage: &mut Garbage<V>) {
        // A removal that is the oldest version says no more than no version.
        let says_nothing = |version: &Version<V>| version.value.is_none() && version.timestamp <= horizon;
        match self {
            Self::One(version) if says_nothing(version) => self.empty_into(garbage),
            Self::One(_) => {}
            Self::Many(Many { versions, .. }) => {
                let kept = versions.partition_point(|version| version.timestamp <= horizon);
                garbage.versions.extend(versions.drain(..kept.saturating_sub(1)));
                garbage.versions.extend(versions.pop_front_if(|version| says_nothing(version)));
            }
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(Many { versions, .. }) => versions.len(),
        }
    }

    fn empty_into(&mut self, garbage: &mut Garbage<V>) {
        match std::mem::replace(self, Self::Many(Many::new(VecDeque::new()))) {
            Self::One(version) => garbage.versions.push(version),
            Self::Many(Many { versions, .. }) => garbage.versions.extend(versions),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Many(Many { versions, .. }) if versions.is_empty())
    }
}

impl<V> Chain<V> {
    pub(crate) const fn new(newest: Version<V>) -> Self {
        Self { newest, older: None, marks: 0, access: AtomicU32::new(0) }
    }

    pub(crate) fn into_newest(self) -> Version<V> {
        self.newest
    }

    pub(crate) const fn is_remembered(&self) -> bool {
        self.marks & REMEMBERED != 0
    }

    pub(crate) const fn set_remembered(&mut self, remembered: bool) {
        self.marks = self.slot() | if remembered { REMEMBERED } else { 0 };
    }

    /// Where the shard keeps the key among those to evict. Only of a key with a live version.
    pub(crate) const fn slot(&self) -> u32 {
        self.marks & !REMEMBERED
    }

    pub(crate) const fn set_slot(&mut self, slot: u32) {
        self.marks = (self.marks & REMEMBERED) | slot;
    }

    pub(crate) fn access(&self) -> Access {
        Access(self.access.load(Ordering::Relaxed))
    }

    pub(crate) fn set_access(&self, access: Access) {
        self.access.store(access.0, Ordering::Relaxed);
    }

    /// Notes an access. Writes nothing if there was one in the same tick, so that readers of a hot key share its
    /// line. Two at once may count as one.
    pub(crate) fn touch(&self, tick: u32) {
        let before = self.access();
        if let Some(after) = before.touched(tick) {
            self.set_access(after);
        }
    }

    pub(crate) const fn newest(&self) -> &Version<V> {
        &self.newest
    }

    /// The newest version at or below `timestamp`.
    pub(crate) fn at(&self, timestamp: Timestamp) -> Option<&Version<V>> {
        if self.newest.timestamp <= timestamp {
            return Some(&self.newest);
        }
        self.older.as_deref()?.at(timestamp)
    }

    /// Adds a version, and gives the one before it, to be [kept](Chain::keep) if somebody may still ask for it.
    ///
    /// # Panics
    /// S1: versions of a key are added in commit order.
    pub(crate) fn replace(&mut self, version: Version<V>) -> Version<V> {
        assert!(self.newest.timestamp < version.timestamp, "S1: versions are added in commit order");
        std::mem::replace(&mut self.newest, version)
    }

    /// Keeps the version before the newest.
    pub(crate) fn keep(&mut self, previous: Version<V>, garbage: &mut Garbage<V>) {
        match &mut self.older {
            Some(older) => older.push(previous),
            None => self.older = Some(garbage.boxed(Older::One(previous))),
        }
    }

    #[cfg(test)]
    pub(crate) fn push(&mut self, version: Version<V>) {
        let previous = self.replace(version);
        self.keep(previous, &mut Garbage::new());
    }

    /// Whether so many versions have gathered that it is worth a look at what lies between readers.
    pub(crate) fn is_long(&self) -> bool {
        match self.older.as_deref() {
            Some(Older::Many(Many { versions, thin_at })) => versions.len() >= *thin_at as usize,
            _ => false,
        }
    }

    /// Moves what lies between readers, so that none can ask for it, to `garbage`. A removal that is the oldest
    /// version is kept until the horizon has passed it.
    pub(crate) fn thin(&mut self, read_at: &ReadAt, garbage: &mut Garbage<V>) {
        let newest = self.newest.timestamp;
        let Some(Older::Many(many)) = self.older.as_deref_mut() else { return };
        many.thin(newest, read_at, garbage);
        if many.versions.is_empty() {
            garbage.keep_box(self.older.take());
        }
    }

    /// Moves what no reader at or above `horizon` can ask for to `garbage`, so that values are dropped
    /// outside of any lock.
    pub(crate) fn trim(&mut self, horizon: Timestamp, garbage: &mut Garbage<V>) {
        let Some(older) = self.older.as_deref_mut() else { return };
        if self.newest.timestamp <= horizon {
            older.empty_into(garbage);
        } else {
            older.trim(horizon, garbage);
        }
        if older.is_empty() {
            garbage.keep_box(self.older.take());
        }
    }

    /// Whether a sweep may find something to reclaim here later.
    pub(crate) const fn has_leftovers(&self) -> bool {
        self.older.is_some() || self.newest.value.is_none()
    }

    /// Whether nobody at or above `horizon` finds anything here.
    pub(crate) fn is_dead(&self, horizon: Timestamp) -> bool {
        self.newest.value.is_none() && self.newest.timestamp <= horizon
    }

    /// How many versions there are.
    pub(crate) fn len(&self) -> usize {
        1 + self.older.as_deref().map_or(0, Older::count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(timestamp: u64, value: Option<u64>) -> Version<u64> {
        Version { timestamp: Timestamp(timestamp), expires: Expiry::NEVER, value: value.map(Arc::new) }
    }

    fn read(chain: &Chain<u64>, timestamp: u64) -> Option<u64> {
        chain.at(Timestamp(timestamp)).and_then(|version| version.value.as_deref().copied())
    }

    proptest! {
        #[test]
        fn trimming_changes_no_read_at_or_above_the_horizon(
            steps in prop::collection::vec((1u64..4, any::<Option<u64>>()), 1..30),
            horizon in 0u64..60,
        ) {
            let mut timestamp = 0;
            let mut versions = Vec::new();
            for (step, value) in steps {
                timestamp += step;
                versions.push((timestamp, value));
            }
            let mut chain = Chain::new(version(versions[0].0, versions[0].1));
            for (timestamp, value) in &versions[1..] {
                chain.push(version(*timestamp, *value));
            }
            let before: Vec<_> = (horizon..100).map(|at| read(&chain, at)).collect();
            let mut garbage = Garbage::new();
            chain.trim(Timestamp(horizon), &mut garbage);
            prop_assert_eq!(chain.len() + garbage.versions.len(), versions.len());
            let after: Vec<_> = (horizon..100).map(|at| read(&chain, at)).collect();
            prop_assert_eq!(before, after);
            // What is kept at or below the horizon is at most one version.
            prop_assert!(versions.iter().filter(|(at, _)| *at > horizon).count() + 1 >= chain.len());
        }

        #[test]
        fn thinning_changes_no_read_that_somebody_may_ask_for_and_leaves_nothing_else(
            steps in prop::collection::vec((1u64..4, any::<Option<u64>>()), 3..40),
            timestamps in prop::collection::btree_set(0u64..60, 1..6),
            beyond in 0u64..30,
        ) {
            let mut timestamp = 0;
            let mut chain: Option<Chain<u64>> = None;
            let mut count = 0;
            for (step, value) in steps {
                timestamp += step;
                count += 1;
                match &mut chain {
                    Some(chain) => chain.push(version(timestamp, value)),
                    None => chain = Some(Chain::new(version(timestamp, value))),
                }
            }
            let mut chain = chain.unwrap();
            let from = timestamps.last().unwrap() + 1 + beyond;
            let asked: Vec<_> = timestamps.iter().copied().chain(from..from + 100).collect();
            let read_all = |chain: &Chain<u64>| asked.iter().map(|at| read(chain, *at)).collect::<Vec<_>>();
            let before = read_all(&chain);
            let read_at = ReadAt {
                timestamps: timestamps.iter().copied().map(Timestamp).collect(),
                from: Timestamp(from),
            };
            let mut garbage = Garbage::new();
            chain.thin(&read_at, &mut garbage);
            prop_assert_eq!(before, read_all(&chain));
            prop_assert_eq!(chain.len() + garbage.versions.len(), count);
            let above = timestamp.saturating_sub(from);
            prop_assert!(chain.len() as u64 <= timestamps.len() as u64 + above + 2, "{} are left", chain.len());
        }
    }
}
