//! A clock that the test sets.

use std::sync::Arc;
use std::time::Duration;

use anabranch_wal::Env;

use crate::primitives::{AtomicU64, Ordering};

pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0)))
    }

    pub(crate) fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::SeqCst);
    }
}

impl Env for Clock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn unix_millis(&self) -> u64 {
        0
    }

    fn random(&self) -> u64 {
        0
    }
}
