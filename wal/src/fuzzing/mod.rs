//! Entry points for whoever feeds the decoders bytes that nobody wrote in good faith: the fuzzer (`tests/fuzz`)
//! and the tests that run its corpus again (`tests/hostile`). Compiled only for tests (feature `testing`).
//!
//! Each takes arbitrary bytes, decodes them as they are and once more with checksums that match, since no fuzzer
//! guesses a checksum, and panics if something is not as it must be. Each returns how many bytes the files of
//! its input had: what may be allocated is measured against that.

mod archive;
mod directory;
mod files;
mod memory;
mod repair;

use std::future::Future;

pub use archive::{File, pack};
pub use directory::directory;
pub use files::{checkpoint, manifest, record, segment};

/// Runs a future to its end on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O and timers asks the system for nothing").block_on(future)
}
