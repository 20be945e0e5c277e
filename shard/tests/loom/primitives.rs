//! Loom's primitives under the names that the crate's own go by.

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::Ordering;
use loom::sync::atomic::fence;

/// So few that commits get ahead of them.
pub(crate) const SLOTS: u64 = 1;

/// Few enough for every interleaving.
pub(crate) const STRIPES: usize = 2;

pub(crate) const fn stripes_in_use() -> usize {
    STRIPES
}

/// The last: the reclaimer passes by the other first.
pub(crate) const fn own_stripe() -> usize {
    STRIPES - 1
}

/// Loom takes `SeqCst` accesses for `AcqRel` ones, and so raises false alarms; its fences are what they should
/// be. So each such access stands between two of them here.
#[derive(Debug, Default)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

fn in_sequence<T>(ordering: Ordering, access: impl FnOnce() -> T) -> T {
    if ordering != Ordering::SeqCst {
        return access();
    }
    fence(Ordering::SeqCst);
    let done = access();
    fence(Ordering::SeqCst);
    done
}

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u64 {
        in_sequence(ordering, || self.0.load(ordering))
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        in_sequence(ordering, || self.0.store(value, ordering));
    }

    pub(crate) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        in_sequence(ordering, || self.0.fetch_add(value, ordering))
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        in_sequence(success, || self.0.compare_exchange(current, new, success, failure))
    }

    pub(crate) fn fetch_max(&self, value: u64, ordering: Ordering) -> u64 {
        in_sequence(ordering, || self.0.fetch_max(value, ordering))
    }
}

/// With the interface of `parking_lot`'s.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(content: T) -> Self {
        Self(loom::sync::Mutex::new(content))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the model")
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
