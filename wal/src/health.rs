//! Whether the engine may still accept commits. A state, not a string, and it only gets worse: open, closed
//! or poisoned, for ever (RELIABILITY R12: a failed sync is never retried).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::WalError;

/// Why an engine accepts no more commits.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It was closed, or its runtime has ended.
    #[error("the engine is closed")]
    Closed,
    /// A write or a sync failed.
    #[error("a write to the log failed, and what reached the disk is not known: {0}")]
    Log(#[source] WalError),
    /// Code under the engine's locks panicked: most likely a key's `Ord`, `Hash` or `Eq`.
    #[error("a shard panicked, and its content can't be vouched for: {0}")]
    Panic(Arc<str>),
}

type Listener = Box<dyn Fn() + Send + Sync>;

/// The engine's state of health, shared by everything that commits or waits.
#[derive(Default)]
pub struct Health {
    failed: AtomicBool,
    fault: OnceLock<Fault>,
    listeners: Mutex<Vec<Listener>>,
}

impl Health {
    /// The fault, if there is one.
    #[must_use]
    #[inline]
    pub fn fault(&self) -> Option<&Fault> {
        // One relaxed load on the path of every commit; the OnceLock orders the rest.
        if self.failed.load(Ordering::Relaxed) { self.fault.get() } else { None }
    }

    /// `Err` with the fault, if there is one.
    pub fn check(&self) -> Result<(), Fault> {
        self.fault().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Sets the fault, unless there is one already, and wakes everybody who waits.
    pub fn fail(&self, fault: Fault) {
        if self.fault.set(fault).is_ok() {
            self.failed.store(true, Ordering::SeqCst);
            for listener in &*self.listeners.lock() {
                listener();
            }
        }
    }

    /// Calls `listener` when a fault is set; at once, if there is one.
    pub fn on_fault(&self, listener: impl Fn() + Send + Sync + 'static) {
        let mut listeners = self.listeners.lock();
        if self.failed.load(Ordering::SeqCst) {
            listener();
        }
        listeners.push(Box::new(listener));
    }
}
