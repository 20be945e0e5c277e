//! An allocator that counts, and what a target may allocate: its files' size times a small constant. It counts
//! what all threads of the process do, so one target runs at a time.

use peak_alloc::PeakAlloc;

use crate::targets::Target;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// So many times the size of the files: they are in memory once as the disk and once as they were read, and
/// decoded a small record takes several times its bytes.
const TIMES: usize = 24;
/// What does not depend on the files: a runtime, a new manifest with its two slots, buffers.
const BASE_BYTES: usize = 2 << 20;

/// Returns which part of what was allowed the target allocated at its peak.
pub fn watch(name: &str, target: Target, input: &[u8]) -> f64 {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let bytes = target(input);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let allowed = usize::try_from(bytes).expect("it was in memory") * TIMES + BASE_BYTES;
    assert!(peak <= allowed, "{name}: files of {bytes} bytes, and {peak} bytes allocated");
    ratio(peak, allowed)
}

#[expect(clippy::cast_precision_loss, reason = "to be looked at")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
