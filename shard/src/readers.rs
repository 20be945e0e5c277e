//! The registry of readers, which holds back reclamation, and the horizon that follows from it.
//!
//! No global lock: readers register in stripes, by thread. A reader loads its watermark while it holds its
//! stripe's lock, and the reclaimer loads `durable` before it takes the stripes one by one. So either the
//! reclaimer finds the reader, or the reader loads after the reclaimer and reads at or above the horizon: what
//! PROTOCOL H1 asks for, with a lock in the place of the "pending" mark and the fences.

use std::collections::VecDeque;
use std::sync::Arc;

use anabranch_wal::Timestamp;
use crossbeam_utils::CachePadded;

use crate::primitives::{AtomicU64, Mutex, Ordering, STRIPES, own_stripe};
use crate::sequencer::{Level, Sequencer};

/// The horizon is computed anew when so many commits were applied since the last time (H3).
const REFRESH_COMMITS: u64 = 64;

/// Who reads, at which timestamps.
pub struct Readers {
    /// Each shared with its readers, so that they count references on their own thread's line.
    stripes: [Arc<Stripe>; STRIPES],
    sequencer: Arc<Sequencer>,
    horizon: CachePadded<AtomicU64>,
    refreshed_at: AtomicU64,
    refreshing: Mutex<()>,
}

type Stripe = CachePadded<Mutex<Registered>>;

/// How many readers there are at each timestamp, ascending. Most come at the end and leave there or in front, so
/// there is no tree and nothing is allocated. Timestamps without readers are kept in between, up to half of all.
#[derive(Debug, Default)]
struct Registered {
    counts: VecDeque<(Timestamp, usize)>,
    empty: usize,
}

/// A registered reader; dropping it ends the registration.
pub struct Reader {
    stripe: Arc<Stripe>,
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
    pub fn register(&self, level: Level) -> Reader {
        let stripe = &self.stripes[own_stripe()];
        let timestamp = {
            let mut readers = stripe.lock();
            // Under the lock; see the head of this file.
            let timestamp = self.sequencer.get(level);
            readers.add(timestamp);
            timestamp
        };
        Reader { stripe: Arc::clone(stripe), timestamp }
    }

    /// The oldest timestamp that somebody reads at, and how many read.
    #[must_use]
    pub fn oldest(&self) -> (Option<Timestamp>, usize) {
        let mut oldest: Option<Timestamp> = None;
        let mut count = 0;
        for stripe in &self.stripes {
            let readers = stripe.lock();
            if let Some(timestamp) = readers.oldest() {
                oldest = Some(oldest.map_or(timestamp, |oldest| oldest.min(timestamp)));
            }
            count += readers.count();
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
        self.stripe.lock().remove(self.timestamp);
    }
}

impl Registered {
    fn add(&mut self, timestamp: Timestamp) {
        let at = match self.counts.back() {
            Some((last, _)) if *last >= timestamp => self.find(timestamp),
            _ => Err(self.counts.len()),
        };
        match at {
            Ok(at) => {
                let count = &mut self.counts[at].1;
                self.empty -= usize::from(*count == 0);
                *count += 1;
            }
            Err(at) => self.counts.insert(at, (timestamp, 1)),
        }
    }

    fn remove(&mut self, timestamp: Timestamp) {
        let Ok(at) = self.find(timestamp) else { return };
        let count = &mut self.counts[at].1;
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.empty += 1;
        while self.counts.pop_back_if(|(_, count)| *count == 0).is_some() {
            self.empty -= 1;
        }
        while self.counts.pop_front_if(|(_, count)| *count == 0).is_some() {
            self.empty -= 1;
        }
        if self.empty > self.counts.len() / 2 {
            self.counts.retain(|(_, count)| *count > 0);
            self.empty = 0;
        }
    }

    fn find(&self, timestamp: Timestamp) -> Result<usize, usize> {
        self.counts.binary_search_by_key(&timestamp, |(timestamp, _)| *timestamp)
    }

    /// The first and the last that are kept have readers.
    fn oldest(&self) -> Option<Timestamp> {
        self.counts.front().map(|(timestamp, _)| *timestamp)
    }

    fn count(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}
