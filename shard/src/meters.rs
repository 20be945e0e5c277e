//! What a shard with a limit of memory lets others see: how much is used, and which tick it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::access::Access;
use crate::ledger::Usage;

/// Accesses longer ago than so many ticks are told as before the oldest of these.
const TICKS_TOLD: usize = 1024;

#[derive(Default)]
pub(crate) struct Meters {
    /// Read with each access, written now and then.
    tick: CachePadded<AtomicU32>,
    /// When each of the last ticks began.
    began: Mutex<VecDeque<u64>>,
    limit: AtomicU64,
    /// All bytes, and those of live versions and their keys. The policy's own are in both. Signed, so that a value
    /// that changed its size behind our back doesn't make them run under.
    held: AtomicI64,
    live: AtomicI64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

impl Meters {
    pub(crate) fn now(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    /// The next tick begins at this moment.
    pub(crate) fn tick(&self, unix_millis: u64) {
        let mut began = self.began.lock();
        if began.len() == TICKS_TOLD {
            began.pop_front();
        }
        began.push_back(unix_millis);
        self.tick.store(self.now().wrapping_add(1), Ordering::Relaxed);
    }

    /// When the tick of an access began, as far as that is known: the first tick has no beginning.
    pub(crate) fn moment_of(&self, access: Access) -> Option<u64> {
        let began = self.began.lock();
        let age = access.age(self.now()) as usize;
        began.get(began.len().checked_sub(age + 1)?).copied()
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes more are in memory. For the writer, as all that counts.
    #[inline]
    pub(crate) fn hold(&self, bytes: i64) {
        add(&self.held, bytes);
    }

    /// So many bytes more are those of live versions and their keys.
    #[inline]
    pub(crate) fn live(&self, bytes: i64) {
        add(&self.live, bytes);
    }

    pub(crate) fn all_held(&self) -> i64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn all_live(&self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, evicted: u64, expired: u64) {
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
        self.expired.fetch_add(expired, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self) -> Usage {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let bytes = self.all_held().max(0).cast_unsigned();
        let live = self.all_live().max(0).cast_unsigned();
        Usage {
            limit: read(&self.limit),
            bytes,
            reclaimable: bytes.saturating_sub(live),
            evicted: read(&self.evicted),
            expired: read(&self.expired),
        }
    }
}

/// Without a read-modify-write: there is one writer.
#[inline]
fn add(counter: &AtomicI64, more: i64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}
