//! An allocator that counts, and what a target may allocate: its files' size times a small constant. It counts
//! what all threads of the process do, so one target runs at a time.

use peak_alloc::PeakAlloc;

use crate::targets::Target;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// So many times the size of the files: they are in memory once as the disk and once as they were read, and
/// decoded a small record takes several times its bytes.
const TIMES: usize = 16;

/// Runs a target, which may allocate `base_bytes` whatever its files' size: a runtime, buffers. Returns which part of what was allowed the target allocated at its peak.
pub fn watch(name: &str, target: Target, base_bytes: usize, input: &[u8]) -> f64 {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let bytes = target(input);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let allowed = usize::try_from(bytes).expect("it was in memory") * TIMES + base_bytes;
    assert!(peak <= allowed, "{name}: files of {bytes} bytes, and {peak} bytes allocated");
    ratio(peak, allowed)
}

#[expect(clippy::cast_precision_loss, reason = "to be looked at")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
