//! Who commits alone flushes for itself.
//!
//! To wake a thread for that, and to be woken by it, takes as long as a good disk. So when flush after flush had one record, the
//! task that flushes grants a number of turns. While there are some, appending a record does not call the task: whoever
//! commits looks whether it can flush here and now, and whoever waits for a watermark calls the task. After the turns the
//! task flushes once, and sees who else commits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::flusher::Flushers;

/// The turns, and what is flushed in them.
#[derive(Default)]
pub(crate) struct Alone {
    turns: AtomicU32,
    flushers: OnceLock<Weak<Flushers>>,
}

impl Alone {
    /// The task that flushes begins.
    pub(crate) fn follow(&self, flushers: &Arc<Flushers>) {
        assert!(self.flushers.set(Arc::downgrade(flushers)).is_ok(), "a log's flushers are started once");
    }

    #[inline]
    pub(crate) fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Only the task grants turns, and takes them back. It looks for records after that, which whoever appends one puts
    /// there before it asks for the turns, both under the log's lock: so one of the two sees the other.
    pub(crate) fn set_turns(&self, turns: u32) {
        if self.turns() != turns {
            self.turns.store(turns, Ordering::Relaxed);
        }
    }

    pub(crate) fn take_turn(&self) {
        let one_less = |turns: u32| turns.checked_sub(1);
        let _ = self.turns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Flushes what the caller has committed, if it is alone, and on a worker of a runtime whose other tasks another thread can
    /// take over meanwhile. Returns whether it did, or tried to.
    #[inline]
    pub(crate) fn flush(&self) -> bool {
        self.turns() > 0 && self.flush_here()
    }

    #[cold]
    fn flush_here(&self) -> bool {
        let flavor = || Handle::try_current().map(|runtime| runtime.runtime_flavor());
        let is_worker = tokio::runtime::worker_index().is_some();
        if !is_worker || !matches!(flavor(), Ok(RuntimeFlavor::MultiThread)) {
            return false;
        }
        let flushers = self.flushers.get().and_then(Weak::upgrade);
        flushers.is_some_and(|flushers| flushers.flush_one_here())
    }
}
