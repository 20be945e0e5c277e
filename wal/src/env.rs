//! Clock and randomness. Everything in the engine that asks for either goes through [`Env`], so that a
//! simulation can replay a whole life from a seed.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the engine gets its time and its random numbers.
pub trait Env: Send + Sync + 'static {
    /// Monotonic time since an arbitrary origin that is fixed within the process.
    fn now(&self) -> Duration;

    /// Milliseconds since the Unix epoch.
    fn unix_millis(&self) -> u64;

    /// A random number, uniform over all of `u64`.
    fn random(&self) -> u64;
}

/// The machine's clock and the operating system's randomness.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEnv;

impl Env for SystemEnv {
    #[expect(clippy::disallowed_methods, reason = "this is the module that provides the clock")]
    fn now(&self) -> Duration {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that provides the clock")]
    fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the module that provides randomness")]
    fn random(&self) -> u64 {
        rand::random()
    }
}
