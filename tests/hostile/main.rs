//! Bytes that nobody wrote in good faith: the corpus of the fuzzer (`tests/fuzz`), and changes to it drawn from a
//! seed. No decoder panics, none runs without end, and none allocates more than its files' size times a small
//! constant.

#[path = "../fuzz/src/budget.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's binaries use it from outside")]
mod budget;
mod corpus;
#[path = "../fuzz/src/json.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's binaries use it from outside")]
mod json;
mod mutation;
mod seeds;
#[path = "../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's binaries use it from outside")]
mod targets;
#[path = "../fuzz/src/types.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's binaries use it from outside")]
mod types;
#[path = "../sim/watchdog.rs"]
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Changes tried of each file in a corpus.
fn changes() -> u64 {
    if std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "ci") { 400 } else { 12 }
}

/// Runs a target on an input. A failure names the file, and the change that replays it.
fn run(target: &str, input: &[u8], what: &str) -> f64 {
    let _watched = watchdog::watch(format!("{target} on {what}"));
    catch_unwind(AssertUnwindSafe(|| targets::run(target, input))).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("{target} on {what}: {message}")
    })
}

/// One test for all targets: the allocator counts what every thread of the process does.
#[test]
fn hostile_bytes_neither_panic_nor_hang_nor_take_memory() {
    for (target, ..) in targets::TARGETS {
        let files = corpus::files(target);
        assert!(!files.is_empty(), "{target} has no corpus");
        let (mut runs, mut most) = (0, 0.0_f64);
        for (index, (name, bytes)) in files.iter().enumerate() {
            most = most.max(run(target, bytes, name));
            for change in 0..changes() {
                let mut random = StdRng::seed_from_u64((index as u64) << 32 | change);
                let (_, other) = &files[(index + usize::try_from(change).expect("few")) % files.len()];
                let changed = mutation::change(bytes, other, &mut random);
                most = most.max(run(target, &changed, &format!("{name}, change {change}")));
                runs += 1;
            }
        }
        println!(
            "{target}: {} files, {runs} changes, at most {:.0} % of what may be allocated",
            files.len(),
            100.0 * most
        );
    }
}
