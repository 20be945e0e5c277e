//! Time from tokio's paused clock, randomness from the seed, and a runtime that has both.

use std::cell::Cell;
use std::panic;
use std::sync::{Mutex, Once};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::random::Random;

/// A runtime on this thread alone, whose clock jumps to the next timer when nothing else is to be done.
pub(crate) fn runtime() -> Runtime {
    count_panics();
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// The engine's view of the simulated world. To be made within the runtime.
pub(crate) struct SimEnv {
    origin: Instant,
    /// The date at the origin: it goes on from life to life.
    date: Duration,
    random: Mutex<Random>,
}

impl SimEnv {
    pub(crate) fn new(random: Random, date: Duration) -> Self {
        Self { origin: Instant::now(), date, random: Mutex::new(random) }
    }
}

impl anabranch::Env for SimEnv {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unix_millis(&self) -> u64 {
        let since = self.date + self.origin.elapsed();
        1_700_000_000_000 + u64::try_from(since.as_millis()).expect("less than an age")
    }

    fn random(&self) -> u64 {
        self.random.lock().expect("no test panics under it").next()
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// How many panics there were on this thread. A runtime catches those of its tasks, so somebody has to count.
pub(crate) fn panics() -> u64 {
    PANICS.get()
}

/// Panics of this thread are counted and not printed, until the guard is dropped: they are asked for.
pub(crate) fn quiet() -> Quiet {
    QUIET.set(true);
    Quiet
}

pub(crate) struct Quiet;

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(false);
    }
}

fn count_panics() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            if !QUIET.get() {
                before(info);
            }
        }));
    });
}
