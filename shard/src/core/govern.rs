//! Keeping within the limit of memory, and removing what has expired: by commits of the shard's own, logged like
//! any other, so that they survive recovery, and that validation, snapshots and readers of changes see them.

use std::collections::BTreeSet;

use anabranch_wal::{EncodedWrites, Log};

use super::{Publish, ShardCore, append};
use crate::codec::encode_write;
use crate::expiry::Expiry;
use crate::sequencer::AppliedPart;
use crate::{Key, Value};

/// For each entry written, so many are evicted or removed at the most: one large value may take the place of as many
/// small ones, and what is still too much goes with the next write.
pub const REMOVALS_PER_WRITE_MAX: usize = 16;
/// While an idle shard is tidied, so many removals are one commit.
const REMOVALS_PER_COMMIT: usize = 256;
/// And so many of those commits are one turn.
const COMMITS_PER_SWEEP: usize = 16;
/// How many removed entries are looked at, to be reclaimed, when they keep memory above the limit.
const SWEEPS_OVER_THE_LIMIT: usize = 64;

/// What goes, and why.
struct Removals<K> {
    keys: Vec<K>,
    evicted: usize,
}

impl<K: Key, V: Value> ShardCore<K, V> {
    /// What this shard writes on its own account after so many commits: at most one commit. It needs space in the log
    /// that is there, and makes nobody wait.
    pub(super) fn govern(&mut self, commits: usize) -> Option<AppliedPart> {
        let writes = (commits + self.upkeep.writes_beyond).max(1);
        let removed = self.remove_some(REMOVALS_PER_WRITE_MAX * writes);
        self.reclaim_over_the_limit();
        removed
    }

    /// Removes all that has expired and is too much, as far as the log has space and a turn should last.
    pub(super) fn govern_fully(&mut self) {
        for _ in 0..COMMITS_PER_SWEEP {
            let Some(applied) = self.remove_some(REMOVALS_PER_COMMIT) else { break };
            self.outbox.applied(applied);
        }
    }

    /// From which moment on there is something to remove: now, if there is too much.
    pub(super) fn next_removals(&self) -> u64 {
        if self.books.ledger.as_ref().is_some_and(|ledger| ledger.exceeds()) {
            return 0;
        }
        let first = self.books.expiring.first();
        first.and_then(|(expires, _)| expires.unix_millis()).unwrap_or(u64::MAX)
    }

    fn remove_some(&mut self, limit: usize) -> Option<AppliedPart> {
        if !self.arrivals.is_empty() {
            // What is there of the log's space is theirs.
            return None;
        }
        let mut removals = Removals { keys: self.expired(limit), evicted: 0 };
        self.choose_victims(limit, &mut removals);
        if removals.keys.is_empty() { None } else { self.remove(removals) }
    }

    fn expired(&self, limit: usize) -> Vec<K> {
        if self.books.expiring.is_empty() {
            return Vec::new();
        }
        let now = self.map.clock().now();
        let past = self.books.expiring.iter().take_while(|(expires, _)| expires.is_past(now));
        // H5: what is pinned or in line stays.
        past.take(limit).filter(|(_, key)| !self.pins.touches(key)).map(|(_, key)| key.clone()).collect()
    }

    fn choose_victims(&mut self, limit: usize, removals: &mut Removals<K>) {
        let Some(ledger) = self.books.ledger.as_mut() else { return };
        let mut excess = ledger.excess();
        if excess == 0 {
            return;
        }
        let mut chosen: BTreeSet<K> = removals.keys.iter().cloned().collect();
        while excess > 0 && removals.keys.len() < limit && chosen.len() < ledger.keys() {
            let pins = &self.pins;
            let may_go = |key: &K| !chosen.contains(key) && !pins.touches(key);
            let Some((key, candidate, freed)) = ledger.victim(&self.map, may_go) else { break };
            ledger.went(&candidate);
            excess = excess.saturating_sub(freed);
            chosen.insert(key.clone());
            removals.keys.push(key);
            removals.evicted += 1;
        }
    }

    /// One commit that removes these keys. `None` if the log has no space for it now.
    fn remove(&mut self, Removals { keys, evicted }: Removals<K>) -> Option<AppliedPart> {
        let mut encoded = EncodedWrites::new();
        let mut reservation = 0;
        if self.log.is_some() {
            for key in &keys {
                // It was encoded before, when it was written.
                encode_write::<K, V>(&mut encoded, key, None, Expiry::NEVER).ok()?;
            }
            reservation = Log::reservation_bytes(&encoded, 1);
        }
        if !self.try_reserve(reservation) {
            return None;
        }
        let timestamp = self.sequencer.take(1);
        let count = keys.len();
        for key in keys {
            let hash = self.map.hash(&key);
            self.store(timestamp, key, hash, None, Expiry::NEVER, Publish::Later);
        }
        if let Some(meters) = self.map.meters() {
            meters.count(evicted as u64, (count - evicted) as u64);
        }
        Some(append(self.log.as_deref(), timestamp, &encoded, &self.own_log, reservation))
    }

    /// What was removed or overwritten is still held, for readers or until the horizon passes it.
    fn reclaim_over_the_limit(&mut self) {
        self.write_off();
        let over = self.books.ledger.as_ref().is_some_and(|ledger| ledger.needs_reclamation());
        if over && self.sweeps && !self.upkeep.remembered.is_empty() {
            let horizon = self.readers.refresh();
            self.sweep_up_to(horizon, SWEEPS_OVER_THE_LIMIT);
        }
    }

    /// Takes what was reclaimed off the books.
    #[inline]
    pub(super) fn write_off(&mut self) {
        if let Some(ledger) = &self.books.ledger {
            ledger.reclaimed(&self.upkeep.garbage.versions[self.upkeep.garbage_written_off..]);
            self.upkeep.garbage_written_off = self.upkeep.garbage.versions.len();
        }
    }

    /// When an entry expires that is written without a time of its own.
    pub(super) fn default_expiry(&self) -> Expiry {
        self.default_ttl.and_then(|ttl| self.map.clock().after(ttl)).unwrap_or_default()
    }
}
