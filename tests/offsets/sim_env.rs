//! The simulated world of an engine: time from tokio's clock, randomness from a seed.

use std::sync::Mutex;
use std::time::Duration;

use anabranch::Env;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

pub(crate) struct SimEnv {
    origin: Instant,
    random: Mutex<StdRng>,
}

impl SimEnv {
    pub(crate) fn new(seed: u64) -> Self {
        Self { origin: Instant::now(), random: Mutex::new(StdRng::seed_from_u64(seed)) }
    }
}

impl Env for SimEnv {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unix_millis(&self) -> u64 {
        1_700_000_000_000
    }

    fn random(&self) -> u64 {
        self.random.lock().unwrap().random()
    }
}
