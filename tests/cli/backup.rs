//! `backup`.

use std::fs;

use crate::directory::{Database, content, flip, names, root};
use crate::tool::on;

#[tokio::test]
async fn a_copy_holds_the_same_and_goes_on_by_itself() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(40).await;
    database.live(70).await;
    let new = root.path().join("deep").join("copy");
    let run = on(&database.path, "backup", &[new.as_os_str()]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run.stdout.contains("up to commit 150"), "{run:?}");
    assert_eq!(on(&new, "verify", &[]).status, 0);
    let mut copy = Database { path: new, commits: database.commits.clone() };
    assert!(content(&copy.path).await.unwrap() == database.last());
    copy.live_with_checkpoint(30).await;
    copy.live(3).await;
    assert!(content(&copy.path).await.unwrap() == copy.last());
    assert!(content(&database.path).await.unwrap() == database.last());
}

#[tokio::test]
async fn a_copy_of_a_copy_and_of_nothing_is_a_copy() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(0).await;
    let (first, second) = (root.path().join("first"), root.path().join("second"));
    assert_eq!(on(&database.path, "backup", &[first.as_os_str()]).status, 0);
    let mut copy = Database::new(first);
    copy.live(100).await;
    assert_eq!(on(&copy.path, "backup", &[second.as_os_str()]).status, 0);
    assert!(content(&second).await.unwrap() == copy.last());
}

#[tokio::test]
async fn a_damaged_database_is_not_copied() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(20).await;
    let new = root.path().join("new");
    fs::remove_file(database.path.join("log-0000-0000.wal")).unwrap();
    on(&database.path, "backup", &[new.as_os_str()]).assert_fails(1, "log 0");
    assert!(!new.exists());
    let mut database = Database::new(root.path().join("other"));
    database.live_with_checkpoint(20).await;
    flip(&database.path.join(&names(&database.path, ".ckp")[0]), 100);
    on(&database.path, "backup", &[new.as_os_str()]).assert_fails(1, "checksum");
    assert!(!new.join("MANIFEST").exists(), "an unfinished copy does not open");
}

#[tokio::test]
async fn a_record_larger_than_a_segment_is_copied() {
    let root = root();
    let database = Database::new(root.path().join("db"));
    let engine = database.open().await;
    let (small, large) = ("s".repeat(700), "l".repeat(9 << 20));
    for number in 0..40 {
        engine.handle().insert(format!("{number}"), small.clone()).await.unwrap();
    }
    engine.handle().insert("large".into(), large.clone()).await.unwrap();
    engine.handle().insert("last".into(), small.clone()).await.unwrap();
    engine.close().await.unwrap();
    let new = root.path().join("new");
    assert_eq!(on(&database.path, "backup", &[new.as_os_str()]).status, 0);
    let copied = content(&new).await.unwrap();
    assert_eq!(copied.len(), 42);
    assert!(copied["large"] == large && copied["last"] == small && copied["7"] == small);
}
