//! What an acknowledged commit survives.

use std::time::Duration;

use anabranch_wal::{SyncConditions, SyncPolicy};

use crate::Error;

/// What an acknowledged commit survives, in an engine on disk. An engine in memory survives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss: a commit is acknowledged when it, and all before it, are synced. Commits that arrive
    /// together share a sync. Whoever commits alone syncs on its own thread, if that is a worker of a tokio runtime of
    /// several threads: as [`tokio::task::block_in_place`], which holds up what the same task does side by side.
    Full,
    /// The end of the process: a commit is acknowledged when it was handed to the operating system. Power loss
    /// takes back a suffix of the commit order, never more than the [`Flush`] allows, and never a middle.
    Relaxed(Flush),
}

/// When a [`Durability::Relaxed`] engine syncs: when the first of its conditions is met. At least one is set,
/// by construction.
///
/// ```
/// use std::time::Duration;
/// use anabranch::Flush;
///
/// let flush = Flush::every(Duration::from_millis(100)).or_after_commits(1000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush(SyncConditions);

impl Flush {
    const NEVER: SyncConditions = SyncConditions { interval: None, commits: None, bytes: None };

    /// So long after the first unsynced commit. This bounds when a sync starts.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self(SyncConditions { interval: Some(interval), ..Self::NEVER })
    }

    /// So many commits at the most can be lost, over the whole engine. A hard bound: a commit beyond it is not
    /// acknowledged before the sync in flight is done. Syncs start at half the bound.
    #[must_use]
    pub const fn after_commits(commits: u64) -> Self {
        Self(SyncConditions { commits: Some(commits), ..Self::NEVER })
    }

    /// So many logged bytes at the most can be lost, over the whole engine. A hard bound, as for
    /// [`Flush::after_commits`].
    #[must_use]
    pub const fn after_bytes(bytes: u64) -> Self {
        Self(SyncConditions { bytes: Some(bytes), ..Self::NEVER })
    }

    /// Also so long after the first unsynced commit.
    #[must_use]
    pub const fn or_every(self, interval: Duration) -> Self {
        Self(SyncConditions { interval: Some(interval), ..self.0 })
    }

    /// Also after so many commits.
    #[must_use]
    pub const fn or_after_commits(self, commits: u64) -> Self {
        Self(SyncConditions { commits: Some(commits), ..self.0 })
    }

    /// Also after so many bytes.
    #[must_use]
    pub const fn or_after_bytes(self, bytes: u64) -> Self {
        Self(SyncConditions { bytes: Some(bytes), ..self.0 })
    }
}

impl Durability {
    pub(crate) fn policy(self) -> Result<SyncPolicy, Error> {
        let Self::Relaxed(Flush(conditions)) = self else { return Ok(SyncPolicy::Always) };
        let zero = conditions.interval == Some(Duration::ZERO)
            || conditions.commits == Some(0)
            || conditions.bytes == Some(0);
        if zero {
            return Err(Error::config(
                "a flush condition of zero never lets a commit be acknowledged; \
                 use Durability::Full to sync every commit",
            ));
        }
        Ok(SyncPolicy::Lazy(conditions))
    }
}
