//! A closed database whose files were changed: opening it is an error or finds everything, never anything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anabranch::{Engine, EngineBuilder, Error};

use crate::effort::{effort, is_full};
use crate::harness::{entries, fast_directory, within};

type Content = BTreeMap<String, u64>;

fn builder() -> EngineBuilder<String, u64> {
    Engine::builder().shards(2).segment_bytes(16 << 10)
}

/// Fills a directory: a checkpoint, records behind it, removals, transactions over both shards, two lives.
async fn fill(directory: &Path, seed: u64) -> Content {
    for life in 0..2 {
        let engine = within(builder().open(directory)).await.unwrap();
        let db = engine.handle();
        for key in 0..40 {
            within(db.insert(format!("{seed}-{key}"), seed + key + life)).await.unwrap();
        }
        within(db.remove(&format!("{seed}-3"))).await.unwrap();
        if life == 0 {
            within(engine.checkpoint()).await.unwrap();
        }
        within(db.transaction(|txn| {
            (100..110).for_each(|key| txn.insert(format!("{seed}-{key}"), key * life));
            Ok::<_, Error>(())
        }))
        .await
        .unwrap();
        within(engine.close()).await.unwrap();
    }
    content(directory).await.unwrap()
}

async fn content(directory: &Path) -> Result<Content, Error> {
    let engine = loop {
        match within(builder().open(directory)).await {
            // The open before, which failed, may still hold it: see `bad_input::an_open_that_fails_...`.
            Err(Error::Locked { .. }) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            other => break other?,
        }
    };
    let content = entries(engine.handle().range(..)).into_iter().collect();
    within(engine.close()).await?;
    Ok(content)
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Opens a changed copy. Whether the change was noticed.
async fn is_reported(directory: &Path, expected: &Content, change: &str) -> bool {
    match content(directory).await {
        Ok(found) => {
            assert!(
                found == *expected,
                "{change}: opened with {} entries that are not the same",
                found.len()
            );
            false
        }
        Err(Error::Corrupt { .. } | Error::Unrecognized(_)) => true,
        Err(error) => panic!("{change}: {error:?}"),
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_reported_or_harmless() {
    let root = fast_directory();
    let (intact, changed) = (root.path().join("intact"), root.path().join("changed"));
    let expected = fill(&intact, 1).await;
    let mut reported = 0;
    for file in files(&intact) {
        let bytes = fs::read(&file).unwrap();
        let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0 || at % 997 == 0).collect();
        let step = if is_full() { 1 } else { (used.len() / effort(60, 1)).max(1) };
        for at in used.into_iter().step_by(step) {
            copy(&intact, &changed);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(changed.join(file.file_name().unwrap()), flipped).unwrap();
            let change = format!("byte {at} of {} flipped", file.display());
            reported += usize::from(is_reported(&changed, &expected, &change).await);
        }
    }
    assert!(reported > 20, "only {reported} flips were reported");
}

#[tokio::test]
async fn a_deleted_file_is_reported_or_harmless() {
    let root = fast_directory();
    let (intact, changed) = (root.path().join("intact"), root.path().join("changed"));
    let expected = fill(&intact, 1).await;
    let mut reported = Vec::new();
    for file in files(&intact) {
        copy(&intact, &changed);
        let name = file.file_name().unwrap().to_str().unwrap();
        fs::remove_file(changed.join(name)).unwrap();
        if is_reported(&changed, &expected, &format!("{name} deleted")).await {
            reported.push(name.to_owned());
        }
    }
    assert!(reported.contains(&"MANIFEST".to_owned()), "{reported:?}");
    assert!(reported.iter().any(|name| is_a(name, ".ckp")), "{reported:?}");
    assert!(reported.iter().any(|name| is_a(name, ".wal")), "{reported:?}");
    for kind in [".wal", ".ckp"] {
        copy(&intact, &changed);
        for file in files(&changed).iter().filter(|file| is_a(file.to_str().unwrap(), kind)) {
            fs::remove_file(file).unwrap();
        }
        assert!(is_reported(&changed, &expected, &format!("all {kind} deleted")).await);
    }
}

#[tokio::test]
async fn a_truncated_file_is_reported_or_harmless() {
    let root = fast_directory();
    let (intact, changed) = (root.path().join("intact"), root.path().join("changed"));
    let expected = fill(&intact, 1).await;
    for file in files(&intact) {
        let bytes = fs::read(&file).unwrap();
        let lengths = [0, 1, 511, 512, 1_024, 4_096, bytes.len() / 2, bytes.len().saturating_sub(1)];
        for length in lengths.into_iter().filter(|length| *length < bytes.len()) {
            copy(&intact, &changed);
            fs::write(changed.join(file.file_name().unwrap()), &bytes[..length]).unwrap();
            is_reported(&changed, &expected, &format!("{} cut to {length}", file.display())).await;
        }
    }
}

#[tokio::test]
async fn files_of_another_database_are_reported_or_harmless() {
    let root = fast_directory();
    let (intact, other) = (root.path().join("intact"), root.path().join("other"));
    let changed = root.path().join("changed");
    let expected = fill(&intact, 1).await;
    fill(&other, 2).await;
    let mut reported = 0;
    for file in files(&other) {
        copy(&intact, &changed);
        fs::copy(&file, changed.join(file.file_name().unwrap())).unwrap();
        reported +=
            usize::from(is_reported(&changed, &expected, &format!("{} mixed in", file.display())).await);
    }
    assert!(reported >= 3, "a manifest, a checkpoint and a segment at the least: {reported}");
}

#[tokio::test]
async fn files_of_a_former_day_are_reported_or_harmless() {
    let root = fast_directory();
    let (intact, former) = (root.path().join("intact"), root.path().join("former"));
    let changed = root.path().join("changed");
    let before = fill(&intact, 1).await;
    copy(&intact, &former);
    let expected = fill(&intact, 1_000).await;
    assert!(expected.len() > before.len());
    for file in files(&former) {
        copy(&intact, &changed);
        fs::copy(&file, changed.join(file.file_name().unwrap())).unwrap();
        is_reported(&changed, &expected, &format!("{} of a former day", file.display())).await;
    }
}

/// Whether a file's name ends so.
fn is_a(name: &str, ending: &str) -> bool {
    name.ends_with(ending)
}
