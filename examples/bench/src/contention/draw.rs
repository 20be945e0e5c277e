//! Which keys each transaction wants, drawn before the clock starts.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, Zipf};

use crate::store::Outcome;

/// A task goes through its own again and again.
const DRAWS: usize = 512;

pub(super) struct Draws {
    sets: Vec<Vec<usize>>,
    next: usize,
}

impl Draws {
    /// Sets of different keys, in no order.
    pub(super) fn new(keys: usize, zipf: f64, keys_each: usize, seed: u64) -> Outcome<Self> {
        if keys < keys_each {
            return Err(format!("{keys} keys are not enough for {keys_each} in each transaction").into());
        }
        let mut random = StdRng::seed_from_u64(seed);
        #[expect(clippy::cast_precision_loss, reason = "a count of keys")]
        let zipf = Zipf::new(keys as f64, zipf)?;
        let mut set = || {
            let mut set = Vec::with_capacity(keys_each);
            while set.len() < keys_each {
                let key = rank(zipf.sample(&mut random));
                if !set.contains(&key) {
                    set.push(key);
                }
            }
            set
        };
        Ok(Self { sets: (0..DRAWS).map(|_| set()).collect(), next: 0 })
    }

    pub(super) fn next(&mut self) -> &[usize] {
        self.next = (self.next + 1) % self.sets.len();
        &self.sets[self.next]
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank of 1 to the number of keys"
)]
fn rank(sample: f64) -> usize {
    sample as usize - 1
}
