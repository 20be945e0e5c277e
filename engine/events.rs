//! Events of the engine's life and of what was slow, for `tracing`: a few in a minute, never one for an operation.
//! Without the feature, nothing of this is there but empty functions.
//!
//! All have the target `anabranch`. A subscriber is called where the event happens, in one case (a fault) while a
//! shard's turn may be held, so it must not call back into the engine.

#![cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "only the feature looks at them"))]

use std::sync::Arc;
use std::time::Duration;

use anabranch_wal::Health;

use crate::{Error, RecoveryReport};

/// An event, if anybody can listen.
macro_rules! event {
    ($level:ident, $($fields:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "anabranch", $($fields)*);
    };
}

/// The engine has opened.
pub(crate) fn opened(report: &RecoveryReport, shards: usize, durable: bool) {
    event!(
        info,
        shards,
        durable,
        created = report.created,
        recovered_to = report.log.recovered_to.0,
        checkpoint_entries = report.checkpoint_entries,
        records = report.records,
        writes = report.writes,
        moved_from_shards = report.moved_from_shards,
        elapsed = ?report.elapsed,
        "opened"
    );
}

/// The engine has closed.
pub(crate) fn closed(outcome: &Result<(), Error>) {
    match outcome {
        Ok(()) => {
            event!(info, "closed");
        }
        Err(error) => {
            event!(error, %error, "closed after a failure");
        }
    }
}

/// Tells of the fault that makes the engine read-only.
pub(crate) fn follow(health: &Arc<Health>) {
    #[cfg(feature = "tracing")]
    {
        let followed = Arc::downgrade(health);
        health.on_fault(move || {
            let Some(health) = followed.upgrade() else { return };
            if let Some(fault) = health.fault()
                && !matches!(fault, anabranch_wal::Fault::Closed)
            {
                event!(error, cause = %fault, "read-only");
            }
        });
    }
}

/// A checkpoint begins.
pub(crate) fn checkpoint_begun(shard: usize) {
    event!(debug, shard, "checkpoint begun");
}

/// A checkpoint has ended.
pub(crate) fn checkpoint_ended(
    shard: usize,
    outcome: &Result<(), Error>,
    elapsed: Duration,
    slow_after: Duration,
) {
    match outcome {
        Ok(()) if elapsed >= slow_after => {
            event!(warn, operation = "checkpoint", shard, ?elapsed, "slow");
        }
        Ok(()) => {
            event!(info, shard, ?elapsed, "checkpoint ended");
        }
        Err(error) => {
            event!(warn, shard, ?elapsed, %error, "checkpoint failed");
        }
    }
}

/// Readers were ended for their age.
pub(crate) fn readers_ended(readers: u64, age_max: Option<Duration>) {
    event!(warn, readers, ?age_max, "readers ended by age");
}

/// Waits for a commit's acknowledgement, and tells if that took long.
#[cfg(feature = "tracing")]
pub(crate) async fn slow_if_waited(
    env: &dyn anabranch_wal::Env,
    slow_after: Duration,
    timestamp: anabranch_wal::Timestamp,
    reached: anabranch_shard::ReachedHere<'_>,
) -> Result<(), anabranch_wal::Fault> {
    let started = env.now();
    let outcome = reached.await;
    let elapsed = env.now().saturating_sub(started);
    if elapsed >= slow_after {
        event!(warn, operation = "acknowledgement", commit = timestamp.0, ?elapsed, "slow");
    }
    outcome
}
