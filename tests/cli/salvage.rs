//! `salvage`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anabranch::{Engine, Partition};
use serde_json::Value;

use crate::directory::{Database, content, copy, files, flip, names, root};
use crate::tool::{Run, on};
use crate::verify::effort;

fn salvage(source: &Path, new: &Path) -> Run {
    let _ = fs::remove_dir_all(new);
    on(source, "salvage", &[new.as_os_str(), OsStr::new("--json")])
}

/// The salvaged content is what the database held at the commit that the report names.
async fn assert_prefix(database: &Database, report: &Value, new: &Path, change: &str) -> usize {
    assert_eq!(report["prefix"], true, "{change}: {report}");
    let saved_to = usize::try_from(report["saved_to"].as_u64().unwrap()).unwrap();
    let saved = content(new).await.unwrap();
    assert!(saved == database.at(saved_to), "{change}: not the content at commit {saved_to}: {report}");
    saved_to
}

#[tokio::test]
async fn of_a_sound_database_all_is_saved() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(30).await;
    database.live(30).await;
    let new = root.path().join("new");
    let run = salvage(&database.path, &new);
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(run.json()["complete"], true);
    assert_eq!(assert_prefix(&database, &run.json(), &new, "sound").await, 90);
    // It goes on as a database of its own.
    let mut copy = Database { path: new, commits: database.commits.clone() };
    copy.live_with_checkpoint(10).await;
    assert!(content(&copy.path).await.unwrap() == copy.last());
    assert!(content(&database.path).await.unwrap() == database.last());
}

#[tokio::test]
async fn of_damaged_logs_the_longest_prefix_is_saved() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(60).await;
    database.live(60).await;
    let (changed, new) = (root.path().join("changed"), root.path().join("new"));
    let mut prefixes = Vec::new();
    for (name, bytes) in files(&database.path).into_iter().filter(|(name, _)| is_a(name, "wal")) {
        let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let step = (used.len() / if effort() { 40 } else { 3 }).max(1);
        for at in used.into_iter().step_by(step) {
            copy(&database.path, &changed);
            flip(&changed.join(&name), at);
            let change = format!("byte {at} of {name}");
            prefixes.push(check(&database, &changed, &new, &change).await);
        }
        copy(&database.path, &changed);
        fs::remove_file(changed.join(&name)).unwrap();
        prefixes.push(check(&database, &changed, &new, &format!("without {name}")).await);
    }
    assert!(prefixes.iter().any(|prefix| (10..100).contains(prefix)), "{prefixes:?}");
}

async fn check(database: &Database, changed: &Path, new: &Path, change: &str) -> usize {
    let sound = on(changed, "verify", &[]).status == 0;
    let run = salvage(changed, new);
    assert_eq!(run.status, i32::from(!sound), "{change}: {run:?}");
    let report = run.json();
    let saved_to = assert_prefix(database, &report, new, change).await;
    if saved_to < database.commits.len() {
        assert_eq!(report["missing_commits"], serde_json::json!([saved_to + 1, database.commits.len()]));
        assert!(!report["damage"].as_array().unwrap().is_empty(), "{change}: {report}");
    }
    saved_to
}

fn is_a(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == ending)
}

#[tokio::test]
async fn a_segment_without_its_header_is_known_by_its_batches() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(80).await;
    let new = root.path().join("new");
    for name in names(&database.path, ".wal") {
        let segment = database.path.join(name);
        // A spare one that was being made when the engine was closed may be empty.
        if fs::metadata(&segment).unwrap().len() > 0 {
            flip(&segment, 30);
        }
    }
    let run = salvage(&database.path, &new);
    assert_eq!(run.status, 1, "{run:?}");
    assert_eq!(assert_prefix(&database, &run.json(), &new, "no headers").await, 80);
}

#[tokio::test]
async fn of_a_damaged_checkpoint_the_other_blocks_are_saved_and_the_rest_counted() {
    let root = root();
    let database = Database::new(root.path().join("db"));
    let engine = database.open().await;
    let db = engine.handle();
    // Several blocks of 256 KiB in each checkpoint.
    let mut expected = 0;
    for number in 0..30 {
        let value = "x".repeat(100 << 10);
        db.insert(format!("big-{number}"), value).await.unwrap();
        expected += 1;
    }
    engine.checkpoint().await.unwrap();
    db.insert("small".into(), "after".into()).await.unwrap();
    engine.close().await.unwrap();
    let new = root.path().join("new");
    let checkpoint = database.path.join(&names(&database.path, ".ckp")[0]);
    flip(&checkpoint, 64 + 32 + 1_000);
    let run = salvage(&database.path, &new);
    assert_eq!(run.status, 1, "{run:?}");
    let report = run.json();
    assert_eq!((&report["prefix"], &report["complete"]), (&false.into(), &false.into()));
    let lost = report["logs"][0]["entries_lost"].as_u64().unwrap();
    assert!((1..10).contains(&lost), "{report}");
    assert_eq!(report["logs"][1]["entries_lost"], 0);
    assert!(report["damage"][0]["file"].as_str().unwrap().contains("checkpoint-"), "{report}");
    let saved = content(&new).await.unwrap();
    assert_eq!(saved.len() as u64, expected + 1 - lost);
    assert_eq!(saved["small"], "after");
    let text = on(&database.path, "salvage", &[root.path().join("again").as_os_str()]);
    assert!(text.stdout.contains("keys can't be told") && text.stdout.contains("has holes"), "{text:?}");

    // Its header alone costs nothing; the whole file costs one shard.
    flip(&checkpoint, 64 + 32 + 1_000);
    flip(&checkpoint, 20);
    let run = salvage(&database.path, &new);
    assert_eq!((run.status, run.json()["prefix"].clone()), (1, true.into()), "{run:?}");
    assert_eq!(content(&new).await.unwrap().len() as u64, expected + 1);
    fs::remove_file(&checkpoint).unwrap();
    let run = salvage(&database.path, &new);
    assert_eq!((run.status, run.json()["prefix"].clone()), (1, false.into()), "{run:?}");
    assert_eq!(run.json()["logs"][0]["entries"], 0);
    assert!(!content(&new).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_slot_of_the_manifest_is_enough_and_none_is_not() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(20).await;
    let (changed, new) = (root.path().join("changed"), root.path().join("new"));
    for at in [24, (128 << 10) + 24] {
        copy(&database.path, &changed);
        flip(&changed.join("MANIFEST"), at);
        let run = salvage(&changed, &new);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(run.json()["damage"].to_string().contains("slot"), "{run:?}");
        assert_eq!(assert_prefix(&database, &run.json(), &new, "one slot").await, 40);
    }
    flip(&changed.join("MANIFEST"), 24);
    let run = salvage(&changed, &new);
    run.assert_fails(1, "neither slot");
    assert!(!new.exists());
    fs::remove_file(changed.join("MANIFEST")).unwrap();
    salvage(&changed, &new).assert_fails(1, "manifest is missing");
    assert!(!new.exists());
}

#[tokio::test]
async fn it_writes_only_where_nothing_is() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(5).await;
    let taken = root.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("file"), "mine").unwrap();
    for command in ["salvage", "backup"] {
        on(&database.path, command, &[taken.as_os_str()]).assert_fails(2, "not empty");
        assert_eq!(files(&taken).len(), 1, "nothing was added");
        on(&database.path, command, &[database.path.as_os_str()]).assert_fails(2, "lies within");
        on(&database.path, command, &[database.path.join("sub").as_os_str()]).assert_fails(2, "lies within");
    }
}

/// Even keys on shard 0, odd ones on shard 1.
#[derive(Clone)]
struct ByParity;

impl Partition<u64> for ByParity {
    fn shard(&self, key: &u64, _: u64, shards: usize) -> usize {
        usize::try_from(*key).unwrap() % shards
    }
}

#[tokio::test]
async fn what_a_younger_checkpoint_hides_is_said_to_be_possibly_missing() {
    let root = root();
    let path = root.path().join("db");
    let builder = || {
        let builder = Engine::<u64, u64>::builder().shards(2).partition(ByParity);
        builder.segment_bytes(16 << 10).checkpoint_after_bytes(64 << 10)
    };
    let engine = builder().open(&path).await.unwrap();
    let db = engine.handle();
    for key in 0..6 {
        db.insert(2 * key + 1, key).await.unwrap();
    }
    // Shard 0 alone logs enough for a checkpoint.
    let mut key = 0;
    while engine.stats().log.checkpoints == 0 {
        key += 2;
        db.insert(key, key).await.unwrap();
        assert!(key < 100_000, "no checkpoint comes");
    }
    engine.close().await.unwrap();
    // The second batch of shard 1.
    flip(&path.join("log-0001-0000.wal"), 1024 + 112 + 10);
    let new = root.path().join("new");
    let run = salvage(&path, &new);
    assert_eq!(run.status, 1, "{run:?}");
    let report = run.json();
    let (whole, cut) = (&report["logs"][0], &report["logs"][1]);
    assert_eq!((&report["prefix"], &whole["may_lack"]), (&false.into(), &Value::Null), "{report}");
    let checkpointed = whole["checkpoint"].as_u64().unwrap();
    assert_eq!(cut["checkpoint"], Value::Null, "{report}");
    // Of the first batch, nothing promises more than what stands before it.
    assert_eq!(cut["may_lack"][1], checkpointed, "{report}");
    assert!(cut["may_lack"][0].as_u64().unwrap() <= 2, "{report}");

    let engine = builder().open(&new).await.unwrap();
    let db = engine.handle();
    let odd: Vec<_> = (0..6).filter(|key| db.contains_key(&(2 * key + 1)).unwrap()).collect();
    assert_eq!(odd, [0], "the first batch is whole");
    let saved_to = report["saved_to"].as_u64().unwrap();
    // Commits 1 to 6 wrote odd keys, each later one the next even key.
    assert_eq!(db.len().unwrap() as u64, 1 + saved_to - 6, "{report}");
    engine.close().await.unwrap();
}
