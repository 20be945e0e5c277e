//! A simulated disk: an in-memory file system that forgets what was not synced.
//!
//! It keeps apart what programs read (the cache) and what power loss leaves behind (the disk), both for the
//! content of files and for their names. A crash makes a new [`SimDisk`] out of it, so the same moment can
//! yield many images. Everything is decided by a seed: no clock, no thread, no hash order.
//!
//! - [`SimDisk::crash_at`] freezes the disk in the middle of the n-th operation.
//! - [`SimDisk::inject`] makes chosen operations fail, as file systems do (RELIABILITY R12-R19).
//! - [`SimDisk::flip_bit`] and its neighbours damage files behind the engine's back.

mod crash;
mod fault;
mod file_system;
mod inode;
mod lock;
mod operations;
mod random;
mod rot;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use crash::{CrashPolicy, SurvivingNames};
pub use fault::{Fault, FaultKind, Operation, Times};
pub use inode::{FILE_BYTES_MAX, SECTOR_BYTES};

use lock::{DirectoryLock, Register};
use state::State;

/// A disk in memory. Clones share it; [`SimDisk::crash`] makes a new one.
///
/// The roots `/` and the empty path (for relative paths) always exist; every other directory is created like
/// a file, and its name is as perishable as a file's until its parent is synced.
#[derive(Clone)]
pub struct SimDisk {
    core: Arc<Core>,
    /// Held by the disk that [`super::Disk::lock`] returned and by what was opened through it.
    lock: Option<Arc<DirectoryLock>>,
}

struct Core {
    state: Mutex<State>,
    register: Register,
}

impl SimDisk {
    /// An empty disk. The seed decides latencies, and how much of an operation a fault or a crash lets happen.
    pub fn new(seed: u64) -> Self {
        Self::with_state(State::new(seed))
    }

    fn with_state(state: State) -> Self {
        Self { core: Arc::new(Core { state: Mutex::new(state), register: Register::default() }), lock: None }
    }

    /// Makes every operation take a random time below `max`. Zero switches it off, as it is at first.
    ///
    /// Needs a runtime with a timer, whose resolution is a millisecond; it is meant for a paused clock.
    pub fn set_latency(&self, max: Duration) {
        self.core.state.lock().latency_max = max;
    }

    /// Limits the sum of all files' lengths. What would go beyond fails with `StorageFull`; a write of which
    /// a part fits is a short write. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.core.state.lock().files.capacity = bytes;
    }

    /// Freezes the disk at the n-th operation from now; `1` is the next one.
    ///
    /// That operation takes place, or doesn't, or a write does in part. It and all later ones fail with
    /// "simulated crash". What survives is then up to [`SimDisk::crash`].
    pub fn crash_at(&self, nth: u64) {
        self.core.state.lock().fuse = Some(nth.max(1));
    }

    /// Whether the disk froze at the operation chosen by [`SimDisk::crash_at`].
    pub fn crashed(&self) -> bool {
        self.core.state.lock().is_frozen()
    }

    /// Ends this disk: every further operation on it and on files opened through it fails, so that tasks left
    /// over from a dead engine change nothing. Images can still be taken.
    pub fn kill(&self) {
        self.core.state.lock().kill();
        self.core.register.wake();
    }

    /// How many operations there were, including the one that crashed; none is counted after that. Every call
    /// of an `async` method of [`super::Disk`] or [`super::DiskFile`] is one.
    pub fn io_count(&self) -> u64 {
        self.core.state.lock().io_count
    }

    /// A hash over operation, path, offset and length of every counted call, in order.
    pub fn trace_hash(&self) -> u64 {
        self.core.state.lock().trace.finish()
    }

    /// Prepares a fault. When several strike the same operation, the one injected first wins.
    pub fn inject(&self, fault: Fault) {
        self.core.state.lock().faults.inject(fault);
    }

    /// Forgets all prepared faults. What they did stays done.
    pub fn clear_faults(&self) {
        self.core.state.lock().faults.clear();
    }

    /// How many operations a fault has struck, so that a test can tell that it tested something.
    pub fn faults_struck(&self) -> u64 {
        self.core.state.lock().faults.struck()
    }
}
