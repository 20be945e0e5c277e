//! Directories and settings that can't work: each is an error of its own, which says what to do.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anabranch::{Durability, Engine, EngineBuilder, Error, Flush, WalError};

use crate::harness::{block_on, entries, open, within};

fn builder() -> EngineBuilder<u64, u64> {
    Engine::builder().shards(2)
}

async fn fails(builder: EngineBuilder<u64, u64>, directory: impl AsRef<Path>) -> Error {
    within(builder.open(directory)).await.err().expect("this can't work")
}

/// A directory with a small database in it, closed.
async fn database() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    for key in 0..20 {
        within(engine.handle().insert(key, key)).await.unwrap();
    }
    within(engine.close()).await.unwrap();
    directory
}

#[tokio::test]
async fn a_directory_that_is_open_in_this_process_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    let error = fails(builder(), directory.path()).await;
    assert!(matches!(&error, Error::Locked { path } if path == directory.path()), "{error}");
    assert!(error.to_string().contains("close it first"), "{error}");
    let error = fails(builder(), directory.path().join(".")).await;
    assert!(matches!(error, Error::Locked { .. }), "by another name: {error}");
    within(engine.handle().insert(1, 1)).await.unwrap();
    drop(engine);
    assert_eq!(entries(open::<u64, u64>(directory.path(), 2).await.handle().snapshot().range(..)).len(), 1);
}

#[tokio::test]
async fn a_directory_that_another_process_has_is_in_use() {
    let directory = database().await;
    // A lock of another open file is to `flock` what another process is.
    let lock = File::open(directory.path().join("LOCK")).unwrap();
    lock.lock().unwrap();
    let error = fails(builder(), directory.path()).await;
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    lock.unlock().unwrap();
    assert_eq!(open::<u64, u64>(directory.path(), 2).await.handle().snapshot().timestamp().0, 20);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "in the way").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = fails(builder(), &path).await;
        assert!(matches!(error, Error::Io(_)), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "in the way");
}

#[tokio::test]
async fn an_unknown_format_version_is_refused_by_name() {
    let directory = database().await;
    let path = directory.path().join("MANIFEST");
    let intact = fs::read(&path).unwrap();
    let mut newer = intact.clone();
    for slot in [0, 131_072] {
        newer[slot + 8..slot + 12].copy_from_slice(&2_u32.to_le_bytes());
    }
    fs::write(&path, newer).unwrap();
    let error = fails(builder(), directory.path()).await;
    assert!(
        matches!(error, Error::Unrecognized(WalError::UnknownFormat { found: 2, supported: 1, .. })),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("MANIFEST") && text.contains("version 2") && text.contains("open it with"),
        "{text}"
    );
    fs::write(&path, intact).unwrap();
    assert_eq!(open::<u64, u64>(directory.path(), 2).await.handle().snapshot().timestamp().0, 20);
}

#[tokio::test]
async fn a_damaged_manifest_is_named() {
    let directory = database().await;
    let path = directory.path().join("MANIFEST");
    fs::write(&path, vec![0; 262_144]).unwrap();
    let error = fails(builder(), directory.path()).await;
    assert!(matches!(&error, Error::Corrupt { file, .. } if *file == path), "{error:?}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_that_fails_gives_the_directory_back_at_once() {
    let directory = database().await;
    let engine = open::<u64, u64>(directory.path(), 2).await;
    within(engine.checkpoint()).await.unwrap();
    within(engine.close()).await.unwrap();
    for _ in 0..200 {
        let error = within(Engine::<u64, Vec<u8>>::builder().open(directory.path())).await.err().unwrap();
        assert!(matches!(error, Error::Decode(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_directory_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("photo.jpg"), "a photo").unwrap();
    let error = fails(builder(), directory.path()).await;
    assert!(matches!(error, Error::Unrecognized(WalError::NotADatabase { .. })), "{error:?}");
    assert!(error.to_string().contains("photo.jpg"), "{error}");
    assert_eq!(fs::read_to_string(directory.path().join("photo.jpg")).unwrap(), "a photo");
    assert!(!directory.path().join("MANIFEST").exists());
}

#[tokio::test]
async fn open_existing_never_makes_a_database() {
    let parent = tempfile::tempdir().unwrap();
    for directory in [parent.path().join("missing"), parent.path().to_owned()] {
        let error = within(builder().open_existing(&directory)).await.err().unwrap();
        assert!(matches!(error, Error::Unrecognized(WalError::Missing { .. })), "{error:?}");
        assert!(error.to_string().contains("use `open`"), "{error}");
        assert!(!directory.join("MANIFEST").exists());
    }
    assert!(!parent.path().join("missing").exists());
    let directory = database().await;
    let engine = within(builder().open_existing(directory.path())).await.unwrap();
    assert_eq!(engine.handle().len().unwrap(), 20);
}

#[tokio::test]
async fn settings_that_cannot_work_are_told_at_open() {
    let directory = tempfile::tempdir().unwrap();
    let relaxed = |flush| Durability::Relaxed(flush);
    let wrong = [
        (builder().shards(0), "1 to 512"),
        (builder().shards(513), "not 513"),
        (builder().segment_bytes(100), "segment"),
        (builder().segment_bytes(2 << 30), "segment"),
        (builder().segments_max(3), "4 segments"),
        (builder().durability(relaxed(Flush::every(Duration::ZERO))), "Durability::Full"),
        (builder().durability(relaxed(Flush::after_commits(0))), "Durability::Full"),
        (
            builder().durability(relaxed(Flush::every(Duration::from_secs(1)).or_after_bytes(0))),
            "Durability::Full",
        ),
    ];
    for (builder, advice) in wrong {
        let error = fails(builder, directory.path().join("new")).await;
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(!directory.path().join("new").exists());
}

#[tokio::test]
async fn in_memory_nothing_can_be_durable() {
    for shards in [0, 513] {
        assert!(matches!(builder().shards(shards).in_memory().await, Err(Error::Config(_))));
    }
    let error = builder().durability(Durability::Full).in_memory().await.err().unwrap();
    assert!(matches!(&error, Error::Config(text) if text.contains("`open` with a directory")), "{error}");
    let engine = builder().in_memory().await.unwrap();
    let error = engine.handle().with_durability(Durability::Full).err().unwrap();
    assert!(matches!(error, Error::Config(_)), "{error}");
    let error = within(engine.checkpoint()).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    within(engine.sync()).await.unwrap();
}

#[test]
fn opening_outside_of_a_runtime_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    for error in [block_on(builder().open(directory.path())).err(), block_on(builder().in_memory()).err()] {
        let error = error.unwrap();
        assert!(matches!(&error, Error::Config(text) if text.contains("tokio runtime")), "{error}");
    }
}

#[tokio::test]
async fn keys_or_values_of_another_type_are_told_from_damage() {
    let directory = database().await;
    for checkpointed in [false, true] {
        let keys = within(Engine::<String, u64>::builder().open(directory.path())).await.err().unwrap();
        let values = within(Engine::<u64, Vec<u8>>::builder().open(directory.path())).await.err().unwrap();
        for (error, name) in [(keys, "String"), (values, "Vec<u8>")] {
            assert!(matches!(&error, Error::Decode(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("types it was written with"), "{text}");
        }
        let engine = open::<u64, u64>(directory.path(), 2).await;
        assert_eq!(engine.handle().len().unwrap(), 20, "checkpointed: {checkpointed}");
        within(engine.checkpoint()).await.unwrap();
        within(engine.close()).await.unwrap();
    }
}
