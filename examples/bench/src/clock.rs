//! The one place that looks at the clock: here, real time is what is measured.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// CPU time of this thread, in nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
pub(crate) fn thread_nanoseconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// CPU time of this process, over all its threads, in seconds.
#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
pub(crate) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
