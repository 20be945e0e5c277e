//! The registry of readers, which holds back reclamation, and the horizon that follows from it.
//!
//! No global lock: readers register in stripes, by thread. A reader loads its watermark while it holds its
//! stripe's lock, and the reclaimer loads `durable` before it takes the stripes one by one. So either the
//! reclaimer finds the reader, or the reader loads after the reclaimer and reads at or above the horizon: what
//! PROTOCOL H1 asks for, with a lock in the place of the "pending" mark and the fences.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_wal::Timestamp;
use crossbeam_utils::CachePadded;

use crate::primitives::{AtomicU64, Mutex, Ordering, STRIPES, own_stripe};
use crate::sequencer::{Level, Sequencer};

/// The horizon is computed anew when so many commits were applied since the last time (H3).
const REFRESH_COMMITS: u64 = 64;

/// Who reads, at which timestamps.
pub struct Readers {
    /// By read timestamp: how many readers.
    stripes: [CachePadded<Mutex<BTreeMap<Timestamp, usize>>>; STRIPES],
    sequencer: Arc<Sequencer>,
    horizon: CachePadded<AtomicU64>,
    refreshed_at: AtomicU64,
    refreshing: Mutex<()>,
}

/// A registered reader; dropping it ends the registration.
pub struct Reader {
    readers: Arc<Readers>,
    stripe: usize,
    timestamp: Timestamp,
}

impl Readers {
    /// Nobody reads.
    #[must_use]
    pub fn new(sequencer: Arc<Sequencer>) -> Arc<Self> {
        Arc::new(Self {
            stripes: Default::default(),
            sequencer,
            horizon: CachePadded::new(AtomicU64::new(0)),
            refreshed_at: AtomicU64::new(0),
            refreshing: Mutex::new(()),
        })
    }

    /// Registers a reader at a watermark.
    #[must_use]
    pub fn register(self: &Arc<Self>, level: Level) -> Reader {
        let stripe = own_stripe();
        let timestamp = {
            let mut readers = self.stripes[stripe].lock();
            // Under the lock; see the head of this file.
            let timestamp = self.sequencer.get(level);
            *readers.entry(timestamp).or_default() += 1;
            timestamp
        };
        Reader { readers: Arc::clone(self), stripe, timestamp }
    }

    /// The oldest timestamp that somebody reads at, and how many read.
    #[must_use]
    pub fn oldest(&self) -> (Option<Timestamp>, usize) {
        let mut oldest: Option<Timestamp> = None;
        let mut count = 0;
        for stripe in &self.stripes {
            let readers = stripe.lock();
            if let Some((timestamp, _)) = readers.first_key_value() {
                oldest = Some(oldest.map_or(*timestamp, |oldest| oldest.min(*timestamp)));
            }
            count += readers.values().sum::<usize>();
        }
        (oldest, count)
    }

    /// What lies below this, nobody can ask for. Computed now and then, and only grows.
    #[must_use]
    pub fn horizon(&self) -> Timestamp {
        Timestamp(self.horizon.load(Ordering::SeqCst))
    }

    /// Computes the horizon anew if enough has happened since.
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
        let horizon = self.oldest().0.map_or(durable, |oldest| oldest.min(durable));
        self.refreshed_at.fetch_max(durable.0, Ordering::Relaxed);
        Timestamp(self.horizon.fetch_max(horizon.0, Ordering::SeqCst).max(horizon.0))
    }
}

impl Reader {
    /// The timestamp read at.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = self.readers.stripes[self.stripe].lock();
        if let Some(count) = readers.get_mut(&self.timestamp) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.timestamp);
            }
        }
    }
}
