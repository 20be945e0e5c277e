//! The primitives under what is nearly lock-free. In a module of their own, so that `tests/loom` can put loom's
//! in their place and try every interleaving.

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

/// So far may commits be applied ahead of the first that is not, without a lock. A power of two.
pub(crate) const SLOTS: u64 = 1024;

/// Into how many stripes threads are spread, for what they would else all write at once.
pub const STRIPES: usize = 32;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// How many stripes, the first ones, belong to any thread so far.
pub(crate) fn stripes_in_use() -> usize {
    NEXT.load(Ordering::SeqCst).min(STRIPES)
}

/// This thread's stripe, less than [`STRIPES`].
#[inline]
pub fn own_stripe() -> usize {
    thread_local!(static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) });
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Ordering::SeqCst) % STRIPES);
        }
        stripe.get()
    })
}
