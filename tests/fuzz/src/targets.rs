//! What is fed with hostile bytes, by name. A target panics if something is not as it must be, and returns how
//! many bytes the files of its input had.

use anabranch_wal::fuzzing;

use crate::{budget, json, types};

/// A target's entry point.
pub type Target = fn(&[u8]) -> u64;

/// All of them, each with how many KiB it may allocate whatever its files' size. The name is also that of the corpus.
pub const TARGETS: [(&str, Target, usize); 7] = [
    ("segment", fuzzing::segment, 64),
    // serde lets a list take 1 MiB before it has seen an element.
    ("manifest", fuzzing::manifest, 1024 + 64),
    ("checkpoint", fuzzing::checkpoint, 64),
    ("record", fuzzing::record, 64),
    // New manifests have slots of their own.
    ("directory", fuzzing::directory, 1024),
    // The tool prints; here, what it prints is gathered.
    ("json", json::run, 256),
    // Of each byte a list may become an element, 64 bytes of them for the largest type here.
    ("types", types::run, 64),
];

/// Runs a target, and sees that it allocates no more than it may.
///
/// # Panics
/// If the target does, or if it allocates too much, or if there is none of this name.
pub fn run(name: &str, input: &[u8]) -> f64 {
    let found = TARGETS.iter().find(|(target, ..)| *target == name);
    let (_, target, base_kib) = found.expect("a target of that name");
    budget::watch(name, *target, base_kib << 10, input)
}
