//! The corpus: what a campaign of the fuzzer found worth keeping, and every input that once failed.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// The files of a target's corpus with their names, in order.
pub(crate) fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = directory(target);
    let entries = fs::read_dir(&directory).expect("the corpus comes with the tests");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a directory that can be read");
            let bytes = fs::read(entry.path()).expect("a file that can be read");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}
