//! Transactions in line: with the turns of all participants held at once, there is nothing to prepare and nothing
//! to vote on.
//!
//! Only if every turn is free and nothing that is pinned or in line conflicts; otherwise
//! everything is released and the coordinator takes over (PROTOCOL F1). Such a commit never joins a line (F2),
//! and the coordinator's turn is not needed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anabranch_wal::{LogId, Timestamp};

use crate::core::Leftovers;
use crate::counters::add;
use crate::handle::Shard;
use crate::part::{Few, Part};
use crate::reject::Reject;
use crate::sequencer::{AppliedPart, Sequencer};
use crate::turn::Held;
use crate::{Key, Value};

/// What became of a commit in line.
pub enum Inline<T, W> {
    /// It was decided.
    Done(T),
    /// Something is in the way: the work comes back, to be sent.
    InTheWay(W),
    /// A user's code panicked under the turns, and the engine is poisoned.
    Poisoned,
}

/// The outcome of [`commit_inline`].
pub type InlineCommit<K, V> = Inline<Result<Timestamp, Reject>, Vec<(usize, Part<K, V>)>>;

/// Tries to commit a transaction in line. The parts are in the order of their shards, and one of them writes.
pub fn commit_inline<K: Key, V: Value>(
    shards: &[Shard<K, V>],
    sequencer: &Arc<Sequencer>,
    mut parts: Vec<(usize, Part<K, V>)>,
) -> InlineCommit<K, V> {
    let mut held: Few<Held<'_, K, V>> = Few::new();
    for (shard, _) in &parts {
        let turn = shards[*shard].turn();
        let Some((turn, core)) = turn.and_then(|turn| Some((turn, turn.try_hold()?))) else {
            return Inline::InTheWay(parts);
        };
        held.push((turn, core));
    }
    let participants = participants(shards, &parts);
    let mut leftovers = Few::new();
    let run = AssertUnwindSafe(|| run(&mut held, sequencer, &mut parts, &participants, &mut leftovers));
    match catch_unwind(run) {
        Ok(Ok(Some(applied))) => {
            let turn = held.first().map(|(turn, _)| *turn);
            for (turn, core) in held {
                turn.note(&core);
            }
            // Outside all turns (F3).
            if let Some(turn) = turn {
                turn.report(&[applied], &mut leftovers);
            }
            Inline::Done(Ok(applied.timestamp))
        }
        Ok(Ok(None)) => Inline::InTheWay(parts),
        Ok(Err(reject)) => Inline::Done(Err(reject)),
        Err(panic) => {
            for (turn, core) in &mut held {
                turn.poison(&*panic);
                core.abandon();
            }
            Inline::Poisoned
        }
    }
}

/// With all turns held: makes every part ready, takes the timestamp, and applies them. Adds what that leaves.
/// `Ok(None)` if something is in the way.
fn run<K: Key, V: Value>(
    held: &mut Few<Held<'_, K, V>>,
    sequencer: &Arc<Sequencer>,
    parts: &mut [(usize, Part<K, V>)],
    participants: &[LogId],
    leftovers: &mut Few<Leftovers<V>>,
) -> Result<Option<AppliedPart>, Reject> {
    // T1: everything that can fail comes before the timestamp.
    let mut reservations = Few::new();
    for ((_, core), (_, part)) in held.iter().zip(&*parts) {
        match core.ready(part, participants.len()) {
            Ok(Some(reservation)) => reservations.push(reservation),
            failed => {
                for ((_, core), reservation) in held.iter().zip(reservations) {
                    core.not_needed(reservation);
                }
                return failed.map(|_| None);
            }
        }
    }
    if let Some((_, first)) = held.first() {
        add(&first.counters().in_line, 1);
    }
    // All its parts are reported as one.
    let timestamp = sequencer.take(1);
    let mut applied = AppliedPart { timestamp, bytes: 0, published: false };
    for (((_, core), (_, part)), reservation) in held.iter_mut().zip(parts).zip(reservations) {
        if !part.is_read_only() {
            applied.bytes += core.apply(timestamp, part, participants, reservation).bytes;
        }
    }
    leftovers.extend(held.iter_mut().filter_map(|(_, core)| core.finish_at_once()));
    Ok(Some(applied))
}

fn participants<K: Key, V: Value>(shards: &[Shard<K, V>], parts: &[(usize, Part<K, V>)]) -> Few<LogId> {
    let written = parts.iter().filter(|(_, part)| !part.is_read_only());
    written.filter_map(|(shard, _)| Some(shards[*shard].log()?.id())).collect()
}
