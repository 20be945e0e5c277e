//! The adaptive replacement cache of Megiddo and Modha, with draws in the place of its lists.
//!
//! Entries accessed once are *recent*, others *frequent*. Of each kind, the keys that were evicted last are
//! remembered as ghosts. A ghost that comes back says that its kind had too little: `recent_target` moves, and
//! whichever kind has more than its part among those drawn gives the victim, its least recently used one.

use std::collections::{BTreeMap, VecDeque};

use super::{Candidate, Policy, highest};

/// Parts of the memory are counted in this many pieces.
const WHOLE: usize = 1 << 16;
/// What a ghost takes: an entry of the queue and one of the tree.
const GHOST_BYTES: u64 = 40;

#[derive(Default)]
pub(super) struct Arc {
    /// The part of all keys that is to be recent ones, in `WHOLE`ths.
    recent_target: usize,
    recent: Ghosts,
    frequent: Ghosts,
}

impl Policy for Arc {
    fn victim(&mut self, candidates: &[Candidate]) -> usize {
        let is_recent = |candidate: &Candidate| candidate.accesses < 2;
        let recent = candidates.iter().filter(|candidate| is_recent(candidate)).count();
        // With nothing learnt yet, recent ones go first.
        let takes_recent = recent * WHOLE > self.recent_target * candidates.len();
        highest(candidates, |candidate| (is_recent(candidate) == takes_recent, candidate.age))
    }

    fn came(&mut self, hash: u64, keys: usize) -> u32 {
        // A step is larger the fewer ghosts of this kind there are beside the other kind's.
        let step = |own: usize, other: usize| (WHOLE / keys.max(1)).max(1) * (other / own.max(1)).max(1);
        let (recent, frequent) = (self.recent.order.len(), self.frequent.order.len());
        if self.recent.take(hash) {
            self.recent_target = (self.recent_target + step(recent, frequent)).min(WHOLE);
            2
        } else if self.frequent.take(hash) {
            self.recent_target = self.recent_target.saturating_sub(step(frequent, recent));
            2
        } else {
            1
        }
    }

    fn went(&mut self, victim: &Candidate, keys: usize) {
        let ghosts = if victim.accesses < 2 { &mut self.recent } else { &mut self.frequent };
        // Together as many as there are keys.
        ghosts.add(victim.hash, keys / 2);
    }

    fn bytes(&self) -> u64 {
        GHOST_BYTES * (self.recent.order.len() + self.frequent.order.len()) as u64
    }
}

/// Hashes of keys that were evicted, the last few of them.
#[derive(Default)]
struct Ghosts {
    order: VecDeque<u64>,
    /// How often each is in `order`. One that came back stays there until its turn, and does not count.
    live: BTreeMap<u64, u32>,
}

impl Ghosts {
    fn add(&mut self, hash: u64, limit: usize) {
        self.order.push_back(hash);
        *self.live.entry(hash).or_default() += 1;
        while self.order.len() > limit.max(1) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.lose(oldest);
        }
    }

    fn lose(&mut self, hash: u64) {
        if let Some(count) = self.live.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&hash);
            }
        }
    }

    fn take(&mut self, hash: u64) -> bool {
        self.live.remove(&hash).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidate;
    use super::*;

    #[test]
    fn what_comes_back_moves_the_target_to_its_kind() {
        let mut arc = Arc::default();
        arc.went(&candidate(1, 1), 100);
        assert_eq!(arc.came(1, 100), 2);
        let moved = arc.recent_target;
        assert!(moved > 0);
        assert_eq!(arc.came(1, 100), 1, "a ghost comes back once");
        arc.went(&candidate(2, 5), 100);
        assert_eq!(arc.came(2, 100), 2);
        assert!(arc.recent_target < moved);
    }

    #[test]
    fn ghosts_are_no_more_than_keys() {
        let mut arc = Arc::default();
        for hash in 0..1_000 {
            arc.went(&candidate(hash, 1 + hash % 2), 100);
        }
        assert_eq!(arc.bytes(), 100 * GHOST_BYTES);
    }
}
