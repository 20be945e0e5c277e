//! The clock that entries expire by. It comes from `Env`, does not go back while an engine is open, and is not
//! even looked at before something may expire.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch_wal::{Env, SystemEnv};

use crate::expiry::Expiry;

/// An engine's clock. Moments are milliseconds since the Unix epoch.
pub struct Clock {
    env: Arc<dyn Env>,
    /// Whether anything was ever given an expiry. Set before such a write is applied, and never unset.
    in_use: AtomicBool,
    /// The latest moment that anybody was told: what has expired once has expired for all who look later.
    latest: AtomicU64,
}

impl Clock {
    /// The clock of this environment.
    #[must_use]
    pub fn new(env: Arc<dyn Env>) -> Self {
        Self { env, in_use: AtomicBool::new(false), latest: AtomicU64::new(0) }
    }

    /// The present moment. It never goes back, even if the machine's clock is set back.
    #[must_use]
    pub fn now(&self) -> u64 {
        let now = self.env.unix_millis();
        let latest = self.latest.load(Ordering::Acquire);
        if now <= latest {
            return latest;
        }
        // At most one write to the shared line for each millisecond and thread.
        self.latest.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// The present moment for somebody who will look for a while, as for a snapshot. The epoch, at which nothing
    /// has expired, as long as nothing can expire: whatever gets an expiry later is too young for them.
    #[must_use]
    pub fn moment(&self) -> u64 {
        if self.is_in_use() { self.now() } else { 0 }
    }

    /// Whether anything was ever given an expiry.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Acquire)
    }

    /// The moment after so long, from now; `None` if it is beyond what can be written.
    #[must_use]
    pub fn after(&self, ttl: Duration) -> Option<Expiry> {
        let millis = u64::try_from(ttl.as_millis()).ok()?;
        let at = self.now().checked_add(millis)?;
        (at < u64::MAX).then(|| Expiry::new(Some(at)))
    }

    /// Something gets this expiry.
    pub(crate) fn note(&self, expires: Expiry) {
        if expires != Expiry::NEVER && !self.is_in_use() {
            self.in_use.store(true, Ordering::Release);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Arc::new(SystemEnv))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Clock").field("in_use", &self.in_use).finish_non_exhaustive()
    }
}
