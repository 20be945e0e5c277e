//! Batches: rows of one shard, blind writes and changes mixed, as one commit. Never a conflict.
//!
//! A row that can't be applied ends the batch: the rows before it are in, it and those behind it are not.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anabranch_wal::{EncodedWrites, Log, Timestamp};

use super::{Job, ShardCore, append};
use crate::codec::encode_write;
use crate::counters::add;
use crate::expiry::Expiry;
use crate::messages::{Batch, Batched, Changed, Row};
use crate::pins::Footprint;
use crate::refused::{Inside, Refused};
use crate::reject::{Reject, panic_message};
use crate::{Key, Value};

/// What the first rows of a batch make of its keys.
struct Outcome<K, V> {
    keys: Vec<K>,
    values: Vec<Option<Arc<V>>>,
    expires: Vec<Expiry>,
    encoded: EncodedWrites,
    /// The newest commit that a row saw and left as it is (V9).
    seen: Timestamp,
}

impl<K: Key, V: Value> ShardCore<K, V> {
    /// A batch arrives.
    pub fn batch(&mut self, mut batch: Batch<K, V>) {
        batch.keys = batch.rows.iter().map(|(key, _)| key.clone()).collect();
        let bytes = super::UPDATE_RESERVATION_BYTES;
        self.arrive(Job::Batch(batch, bytes));
    }

    pub(super) fn run_batch(&mut self, mut batch: Batch<K, V>, reservation: u64) {
        let mut outcome = self.outcome(&mut batch.rows);
        while let Err((row, reject)) = outcome {
            batch.rows.truncate(row);
            batch.failed = Some((row, reject));
            // The rows before it, once more: what is written may differ now.
            outcome = self.outcome(&mut batch.rows);
        }
        let Ok(Outcome { keys, values, expires, encoded, seen }) = outcome else {
            unreachable!("the loop ends with a success")
        };
        if keys.is_empty() {
            self.unreserve(reservation);
            let Batch { reply, failed, .. } = batch;
            // V9: what was seen must be durable before it is confirmed.
            let timestamp = (seen > Timestamp::ZERO).then_some(seen);
            return self.outbox.batch(reply, Batched { timestamp, failed });
        }
        if let Err(reject) =
            self.books.check_room(&self.map, keys.iter().zip(values.iter().map(Option::as_ref)))
        {
            self.unreserve(reservation);
            let Batch { reply, .. } = batch;
            return self.outbox.batch(reply, Batched { timestamp: None, failed: Some((0, reject)) });
        }
        let needed = if self.log.is_some() { Log::reservation_bytes(&encoded, 1) } else { 0 };
        if needed > reservation && !self.try_reserve(needed - reservation) {
            // As an update: it holds nothing while it waits (L1), and runs again when there is space.
            self.unreserve(reservation);
            self.wait_for_space(Job::Batch(batch, needed));
            if self.arrivals.len() == 1 {
                self.space_changed();
            }
            return;
        }
        add(&self.counters.batches, 1);
        let timestamp = self.sequencer.take(1);
        let writes = keys.into_iter().zip(values).zip(expires);
        self.store_all(timestamp, writes.map(|((key, value), expires)| ((key, None), value, expires)));
        let applied =
            append(self.log.as_deref(), timestamp, &encoded, &self.own_log, reservation.max(needed));
        self.outbox.applied(applied);
        let Batch { reply, failed, permit, .. } = batch;
        self.outbox.batch(reply, Batched { timestamp: Some(timestamp), failed });
        drop(permit);
    }

    /// What the rows make of their keys, or the first row that fails.
    fn outcome(&self, rows: &mut [(K, Row<V>)]) -> Result<Outcome<K, V>, (usize, Reject)> {
        // The value of each key written so far, and the last row that wrote it.
        let mut written: BTreeMap<K, (Option<Arc<V>>, Expiry, usize)> = BTreeMap::new();
        let fresh = self.default_expiry();
        let mut seen = Timestamp::ZERO;
        for (index, (key, row)) in rows.iter_mut().enumerate() {
            let (value, expires) = match row {
                Row::Put(value) => (Some(Arc::clone(value)), fresh),
                Row::Remove => (None, Expiry::NEVER),
                Row::Change(change) => {
                    let (old, expires) = match written.get(key) {
                        Some((value, expires, _)) => (value.clone(), *expires),
                        None => match self.map.newest_live(key, self.map.hash(key)) {
                            Some((timestamp, value, expires)) => {
                                seen = seen.max(timestamp);
                                (value, expires)
                            }
                            None => (None, Expiry::NEVER),
                        },
                    };
                    let expires = if old.is_some() { expires } else { fresh };
                    let changed = catch_unwind(AssertUnwindSafe(|| {
                        let _inside = Inside::enter(Refused::Commits);
                        change(old.as_deref())
                    }));
                    match changed {
                        Ok(Changed::Put(new)) => (Some(new), expires),
                        Ok(Changed::Remove) if old.is_some() => (None, Expiry::NEVER),
                        Ok(Changed::Remove | Changed::Keep) => continue,
                        Err(panic) => return Err((index, Reject::Panicked(panic_message(&*panic)))),
                    }
                }
            };
            written.insert(key.clone(), (value, expires, index));
        }
        let mut outcome = Outcome {
            keys: Vec::with_capacity(written.len()),
            values: Vec::with_capacity(written.len()),
            expires: Vec::with_capacity(written.len()),
            encoded: EncodedWrites::new(),
            seen,
        };
        for (key, (value, expires, row)) in written {
            if self.log.is_some() {
                encode_write(&mut outcome.encoded, &key, value.as_deref(), expires)
                    .map_err(|reject| (row, reject))?;
            }
            outcome.keys.push(key);
            outcome.values.push(value);
            outcome.expires.push(expires);
        }
        Ok(outcome)
    }
}

impl<K, V> Batch<K, V> {
    pub(super) fn footprint(&self) -> Footprint<'_, K> {
        Footprint { reads: &[], ranges: &[], writes: &self.keys }
    }
}
