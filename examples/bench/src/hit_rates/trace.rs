//! The keys that are asked for, one after the other. A seed decides all of them.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::Distribution;

use crate::plan::{rank, zipf};
use crate::store::Outcome;

/// Keys for each entry that fits.
const KEYS_PER_ENTRY: usize = 10;

/// What kind of keys come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trace {
    /// Of ten times as many keys as fit, by Zipf's law with this exponent.
    Zipf(f64),
    /// The same with the exponent 0.9, and every so often a scan of keys that come only once, as many as fit.
    Polluted,
    /// The same, and the favourites are others after each tenth of the time.
    Shifting,
    /// A tenth more keys than fit, in a circle.
    Loop,
}

pub(super) const ALL: [Trace; 6] =
    [Trace::Zipf(0.7), Trace::Zipf(0.9), Trace::Zipf(1.1), Trace::Polluted, Trace::Shifting, Trace::Loop];

impl Trace {
    pub(super) fn name(self) -> String {
        match self {
            Self::Zipf(exponent) => format!("zipf {exponent}"),
            Self::Polluted => "zipf 0.9 with scans".to_owned(),
            Self::Shifting => "zipf 0.9 whose favourites change".to_owned(),
            Self::Loop => "a circle a tenth too large".to_owned(),
        }
    }

    /// So many keys, where so many entries fit.
    pub(super) fn keys(self, capacity: usize, requests: usize, seed: u64) -> Outcome<Vec<u64>> {
        let range = (capacity * KEYS_PER_ENTRY).max(1);
        let exponent = if let Self::Zipf(exponent) = self { exponent } else { 0.9 };
        let zipf = zipf(range, exponent)?;
        let mut random = StdRng::seed_from_u64(seed);
        let mut draw = |shift: usize| (rank(zipf.sample(&mut random)) + shift) % range;
        let phase = (requests / 10).max(1);
        let keys = (0..requests).map(|at| match self {
            // After five times as many as fit, as many as fit are a scan.
            Self::Polluted if at % (6 * capacity) >= 5 * capacity => range + at,
            Self::Zipf(_) | Self::Polluted => draw(0),
            Self::Shifting => draw(at / phase * capacity / 2),
            Self::Loop => at % (capacity + capacity / 10).max(1),
        });
        Ok(keys.map(|key| key as u64).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_seed_decides_all_keys() {
        for trace in ALL {
            let keys = |seed| trace.keys(100, 10_000, seed).unwrap();
            assert_eq!(keys(1), keys(1), "{trace:?}");
            assert_eq!(keys(1).len(), 10_000);
            assert_eq!(keys(1) == keys(2), trace == Trace::Loop, "{trace:?}");
        }
    }

    #[test]
    fn zipf_prefers_low_keys_and_a_scan_brings_each_of_its_keys_once() {
        let counts = |trace: Trace| {
            let mut counts = BTreeMap::<u64, usize>::new();
            trace.keys(100, 60_000, 1).unwrap().iter().for_each(|key| *counts.entry(*key).or_default() += 1);
            counts
        };
        let zipf = counts(Trace::Zipf(1.1));
        assert!(zipf[&0] > 5 * zipf[&10] && zipf.keys().all(|key| *key < 1_000));
        let polluted = counts(Trace::Polluted);
        let scanned: Vec<_> = polluted.range(1_000..).collect();
        assert_eq!(scanned.len(), 10_000);
        assert!(scanned.iter().all(|(_, count)| **count == 1));
    }

    #[test]
    fn favourites_change_and_a_circle_returns() {
        let shifting = Trace::Shifting.keys(100, 10_000, 1).unwrap();
        let most =
            |keys: &[u64]| (0..1_000).max_by_key(|key| keys.iter().filter(|other| *other == key).count());
        assert_eq!((most(&shifting[..1_000]), most(&shifting[9_000..])), (Some(0), Some(450)));
        let circle = Trace::Loop.keys(100, 1_000, 1).unwrap();
        assert_eq!((circle[0], circle[109], circle[110]), (0, 109, 0));
    }
}
