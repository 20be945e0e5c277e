//! The front of the commit order: hands out timestamps without gaps, and finds how far all of them are applied.
//!
//! No lock on the way of a commit: a timestamp is one addition; to apply it is to write it into its slot of a ring,
//! and to move the watermark over the slots behind it that are written, too. As a disruptor with several producers
//! does it (Thompson et al., LMAX, 2011). The next one after the watermark moves that at once. Whoever has written a slot,
//! or moved the watermark, looks at the slots behind it after that, so of two who close a gap together, the later one
//! in the order of all these steps finds both.
//!
//! A slot is written again only once the watermark has passed what was in it. What is applied further ahead than that,
//! because a commit of several shards is on its way for long, waits aside.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_wal::Timestamp;
use crossbeam_utils::CachePadded;

use crate::primitives::{AtomicU64, Mutex, Ordering, SLOTS};
use crate::watermark::Watermark;

pub(crate) struct Front {
    /// The last timestamp taken.
    last: CachePadded<AtomicU64>,
    /// The slot of a timestamp holds it once it is applied.
    slots: Box<[AtomicU64]>,
    applied: Arc<Watermark>,
    ahead: Ahead,
}

/// What is applied too far ahead of the watermark for its slot.
struct Ahead {
    /// How many there are.
    count: AtomicU64,
    timestamps: Mutex<BTreeSet<u64>>,
}

impl Front {
    /// Begins after `recovered`.
    pub(crate) fn new(recovered: Timestamp) -> Self {
        Self {
            last: CachePadded::new(AtomicU64::new(recovered.0)),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            applied: Arc::new(Watermark::new(recovered)),
            ahead: Ahead { count: AtomicU64::new(0), timestamps: Mutex::new(BTreeSet::new()) },
        }
    }

    /// How far all is applied.
    pub(crate) const fn applied(&self) -> &Arc<Watermark> {
        &self.applied
    }

    /// The last timestamp taken.
    pub(crate) fn last(&self) -> Timestamp {
        Timestamp(self.last.load(Ordering::SeqCst))
    }

    /// Takes the next timestamp.
    #[inline]
    pub(crate) fn take(&self) -> Timestamp {
        Timestamp(self.last.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// This timestamp is applied. Moves the watermark as far as it goes.
    #[inline]
    pub(crate) fn apply(&self, timestamp: Timestamp) {
        if self.apply_quietly(timestamp) {
            self.applied.wake_reached();
        }
    }

    /// [`Front::apply`] without waking anybody: [`Watermark::wake_reached`] is due if this moved the watermark.
    #[inline]
    pub(crate) fn apply_quietly(&self, timestamp: Timestamp) -> bool {
        // Mostly it is the next one, and needs no slot: nobody else can move the watermark past it.
        if self.applied.step_quietly(timestamp) {
            self.advance();
            return true;
        }
        let timestamp = timestamp.0;
        if self.has_slot(timestamp) {
            self.slot(timestamp).store(timestamp, Ordering::SeqCst);
        } else {
            let mut ahead = self.ahead.timestamps.lock();
            ahead.insert(timestamp);
            self.ahead.count.store(ahead.len() as u64, Ordering::SeqCst);
        }
        self.advance()
    }

    #[inline]
    fn advance(&self) -> bool {
        let mut moved = false;
        let mut end = self.applied.get().0;
        loop {
            let start = end;
            while self.slot(end + 1).load(Ordering::SeqCst) == end + 1 {
                end += 1;
            }
            if end > start {
                moved |= self.applied.raise_quietly(Timestamp(end));
            }
            if self.ahead.count.load(Ordering::SeqCst) > 0 {
                self.bring_up();
            }
            // The next slot may be free, or be written again: then the watermark has passed it meanwhile. Or it was
            // brought up just now.
            end = self.applied.get().0;
            if self.slot(end + 1).load(Ordering::SeqCst) != end + 1 {
                return moved;
            }
        }
    }

    /// Gives a slot to what was too far ahead and no longer is.
    fn bring_up(&self) {
        let mut ahead = self.ahead.timestamps.lock();
        while let Some(timestamp) = ahead.first().copied().filter(|first| self.has_slot(*first)) {
            ahead.pop_first();
            self.slot(timestamp).store(timestamp, Ordering::SeqCst);
        }
        self.ahead.count.store(ahead.len() as u64, Ordering::SeqCst);
    }

    #[inline]
    fn has_slot(&self, timestamp: u64) -> bool {
        let distance = timestamp.checked_sub(self.applied.get().0);
        distance.expect("S2: a commit is applied once, and then the watermark passes it") <= SLOTS
    }

    #[inline]
    fn slot(&self, timestamp: u64) -> &AtomicU64 {
        let slot = usize::try_from(timestamp & (SLOTS - 1));
        &self.slots[slot.expect("fewer slots than memory has addresses")]
    }
}
