//! Planted bugs: classic mistakes of storage engines as switches, so that the tests can prove that they find
//! each. Compiled only for tests (feature `testing`); otherwise [`is_planted`] is the constant `false`.
//!
//! A switch holds for one thread: a simulation runs on one, and others beside it stay sound.

/// A mistake that others have made; the comment says which rule of RELIABILITY it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "tests alone name the bugs"))]
pub enum Bug {
    /// R1: a batch is accepted wherever it stands, whoever wrote it.
    StaleBatchAccepted,
    /// R4, R9: a batch is believed by its header; its payload is not checked.
    PayloadUnchecked,
    /// R4: a batch's length is used before anything has vouched for it.
    LengthTrusted,
    /// R12, P3: what was written is acknowledged as if it were synced.
    AcknowledgedBeforeSync,
    /// R22: segments are given back before the manifest says so.
    RecycledBeforeManifest,
    /// R15: a full segment is not synced before the next is written.
    SealNotSynced,
    /// R12: a failed sync is tried again, and believed.
    SyncRetried,
    /// R2: reading goes on behind a break.
    BadBatchSkipped,
    /// R21: the manifest is overwritten in place.
    ManifestInPlace,
    /// R13: recovery does not write again what it accepted.
    NotPersistedAgain,
    /// R10: recovery gives the last segment back for writing.
    TailSegmentReused,
    /// R10: the log goes on behind the end that recovery found, in the same segment.
    AppendedToTail,
    /// R11: no segment is kept in reserve, and an open that finds none free overwrites the oldest.
    NoSpareSegment,
    /// R10, L5: what was cut off by a recovery is not fenced.
    NoFence,
    /// R3: promises are never made.
    NoPromises,
    /// R32: a checkpoint holds what is not decided.
    CheckpointUndecided,
    /// R20: the directory is not synced after a checkpoint was made.
    DirectoryNotSynced,
    /// V5: what has waited in line is not validated again. The shard's, not the log's.
    #[cfg(feature = "testing")]
    NotValidatedAgain,
}

#[cfg(feature = "testing")]
impl Bug {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::StaleBatchAccepted,
        Self::PayloadUnchecked,
        Self::LengthTrusted,
        Self::AcknowledgedBeforeSync,
        Self::RecycledBeforeManifest,
        Self::SealNotSynced,
        Self::SyncRetried,
        Self::BadBatchSkipped,
        Self::ManifestInPlace,
        Self::NotPersistedAgain,
        Self::TailSegmentReused,
        Self::AppendedToTail,
        Self::NoSpareSegment,
        Self::NoFence,
        Self::NoPromises,
        Self::CheckpointUndecided,
        Self::DirectoryNotSynced,
        Self::NotValidatedAgain,
    ];
}

#[cfg(feature = "testing")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local!(static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) });

    /// Plants a bug on this thread until the guard is dropped.
    #[must_use]
    pub fn plant(bug: Bug) -> Planted {
        PLANTED.set(Some(bug));
        Planted(())
    }

    /// Takes the bug out again when it is dropped.
    #[derive(Debug)]
    pub struct Planted(());

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }

    /// Whether this bug is planted on this thread.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "testing")]
pub use switch::{Planted, is_planted, plant};

#[cfg(not(feature = "testing"))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}
