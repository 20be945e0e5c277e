//! What is fed with hostile bytes, by name. A target panics if something is not as it must be, and returns how
//! many bytes the files of its input had.

use anabranch_wal::fuzzing;

use crate::{budget, json, types};

/// A target's entry point.
pub type Target = fn(&[u8]) -> u64;

/// All of them. The name is also that of the corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("segment", fuzzing::segment),
    ("manifest", fuzzing::manifest),
    ("checkpoint", fuzzing::checkpoint),
    ("record", fuzzing::record),
    ("directory", fuzzing::directory),
    ("json", json::run),
    ("types", types::run),
];

/// Runs a target, and sees that it allocates no more than it may.
///
/// # Panics
/// If the target does, or if it allocates too much, or if there is none of this name.
pub fn run(name: &str, input: &[u8]) -> f64 {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, target) = found.expect("a target of that name");
    budget::watch(name, *target, input)
}
