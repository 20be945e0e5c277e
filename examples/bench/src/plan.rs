//! What each worker will do, drawn before the clock starts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use serde::{Deserialize, Serialize};

use crate::keys::Keys;
use crate::store::{Failure, Outcome};
use crate::workload::Kind;

/// Draws of all workers together, or as many as there are keys. A worker goes through its own again and again.
const DRAWS_MIN: usize = 1 << 18;
/// Of each worker.
const WORKER_DRAWS_MIN: usize = 1 << 12;

/// The knobs that say what is drawn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Draw {
    pub(crate) keys: usize,
    /// `None` is uniform.
    pub(crate) zipf: Option<f64>,
    /// The share of transfers between keys of different shards; `None` leaves it to chance.
    pub(crate) cross: Option<f64>,
    pub(crate) shards: usize,
    pub(crate) seed: u64,
}

/// Two key numbers, and a number under 100 that picks among operations.
#[derive(Clone, Copy)]
pub(crate) struct Drawn {
    pub(crate) first: u32,
    pub(crate) second: u32,
    pub(crate) percent: u8,
}

/// What all workers of a cell share.
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) keys: Keys,
    /// Keys that are there at the start.
    pub(crate) present: usize,
    pub(crate) value_bytes: usize,
    pub(crate) workers: usize,
    pub(crate) sample_every: u64,
    /// Whether workers let each other run now and then.
    pub(crate) yields: bool,
    pub(crate) stop: AtomicBool,
    /// Of each worker.
    pub(crate) operations_max: u64,
    /// Rows of a commit, where many are loaded.
    pub(crate) batch: usize,
    /// Another file of flights than the bundled one.
    pub(crate) flights: Option<PathBuf>,
    /// The next new key, where workers draw them from one source.
    pub(crate) next: AtomicU64,
    pub(crate) draws: Vec<Vec<Drawn>>,
}

impl Draw {
    /// The draws of all workers.
    pub(crate) fn workers(&self, kind: Kind, workers: usize) -> Outcome<Vec<Vec<Drawn>>> {
        let count = (DRAWS_MIN.max(self.keys) / workers).max(WORKER_DRAWS_MIN);
        (0..workers).map(|worker| self.worker(kind, worker as u64, count)).collect()
    }

    fn worker(&self, kind: Kind, worker: u64, count: usize) -> Outcome<Vec<Drawn>> {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(worker));
        let range = match kind {
            Kind::Count { keys } => keys.min(self.keys),
            Kind::Transfer { accounts: Some(accounts) } => accounts.min(self.keys),
            _ => self.keys,
        };
        let exponent =
            if matches!(kind, Kind::Ycsb(_)) { Some(self.zipf.unwrap_or(0.99)) } else { self.zipf };
        let zipf = exponent.map(|exponent| zipf(range, exponent)).transpose()?;
        let one = |random: &mut StdRng| {
            let Some(zipf) = &zipf else { return random.random_range(0..range) };
            let rank = rank(zipf.sample(random)) % range;
            // What is popular must not lie side by side; YCSB scatters, too. Newest first, where it asks for that.
            if kind == Kind::Ycsb('d') { range - 1 - rank } else { scatter(rank, range) }
        };
        let mut draw = |_| {
            let first = one(&mut random);
            let mut second = one(&mut random);
            let crossing = self.cross.map(|share| random.random_bool(share));
            for _ in 0..1000 {
                let wrong = crossing.is_some_and(|crossing| {
                    self.shards > 1 && crossing == (first % self.shards == second % self.shards)
                });
                if first != second && !wrong {
                    break;
                }
                second = one(&mut random);
            }
            let index = |index: usize| u32::try_from(index).map_err(Failure::from);
            Ok::<_, Failure>(Drawn {
                first: index(first)?,
                second: index(second)?,
                percent: random.random_range(0..100),
            })
        };
        // Exactly so large, so that there is no freed memory that would spoil the count of an engine's.
        let mut drawn = Vec::with_capacity(count);
        for at in 0..count {
            drawn.push(draw(at)?);
        }
        Ok(drawn)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of keys")]
pub(crate) fn zipf(range: usize, exponent: f64) -> Outcome<Zipf<f64>> {
    Ok(Zipf::new(range as f64, exponent)?)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank of 1 to the number of keys"
)]
pub(crate) fn rank(sample: f64) -> usize {
    sample as usize - 1
}

/// A permutation-like spread: Knuth's multiplier, reduced to the range.
fn scatter(rank: usize, range: usize) -> usize {
    (rank.wrapping_mul(2_654_435_761)) % range
}
