//! `inspect`.

use std::ffi::OsStr;
use std::fs;

use crate::directory::{Database, SHARDS, flip, names, root};
use crate::tool::{on, once};

fn options<'a>(options: &[&'a str]) -> Vec<&'a OsStr> {
    options.iter().map(|option| OsStr::new(*option)).collect()
}

#[tokio::test]
async fn a_sound_directory_is_shown_as_it_is() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(40).await;
    let run = on(&database.path, "inspect", &options(&["--json", "--records"]));
    assert_eq!(run.status, 0, "{run:?}");
    let json = run.json();
    assert_eq!(json["locked"], true);
    let chosen: Vec<_> =
        json["slots"].as_array().unwrap().iter().filter(|slot| slot["chosen"] == true).collect();
    assert_eq!(chosen.len(), 1);
    let manifest = &chosen[0]["manifest"];
    assert_eq!(manifest["logs"].as_array().unwrap().len(), SHARDS);
    assert_eq!(manifest["synced"], database.commits.len());
    assert_eq!(manifest["database"].as_str().unwrap().len(), 16);
    let segments = json["segments"].as_array().unwrap();
    assert_eq!(segments.len(), names(&database.path, ".wal").len());
    let batches = segments.iter().flat_map(|segment| segment["batches"].as_array().unwrap());
    let mut records: Vec<_> = batches
        .flat_map(|batch| batch["contents"].as_array().into_iter().flatten())
        .map(|record| record["timestamp"].as_u64().unwrap())
        .collect();
    records.sort_unstable();
    records.dedup();
    // What the checkpoint covers may be in segments still, or not; what is behind it must be.
    for timestamp in 41..=80 {
        assert!(records.contains(&timestamp), "commit {timestamp} is not in {records:?}");
    }
    assert!(segments.iter().all(|segment| segment["problem"].is_null()), "{segments:?}");
    let checkpoints = json["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.len(), SHARDS);
    assert!(checkpoints.iter().all(|checkpoint| checkpoint["named"] == true));
    assert!(checkpoints.iter().all(|checkpoint| checkpoint["timestamp"] == 40), "{checkpoints:?}");
}

#[tokio::test]
async fn people_see_the_same_and_can_limit_it() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(30).await;
    let run = on(&database.path, "inspect", &[]);
    assert_eq!(run.status, 0, "{run:?}");
    for text in ["counts", "shard 2: log 2", "segment 1 of incarnation 1", "synced up to commit 30"] {
        assert!(run.stdout.contains(text), "{text:?} is not in {}", run.stdout);
    }
    assert!(!run.stdout.contains("batch 1 at byte 512"), "{}", run.stdout);
    let run = on(&database.path, "inspect", &options(&["--batches=2"]));
    assert!(run.stdout.contains("more batches") && run.stdout.contains("batch 2 at byte"), "{}", run.stdout);
    assert!(!run.stdout.contains("batch 3 at byte"), "{}", run.stdout);
}

#[tokio::test]
async fn damage_is_shown_and_does_not_stop_it() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(20).await;
    for name in ["MANIFEST", "log-0001-0000.wal", &names(&database.path, ".ckp")[0]] {
        flip(&database.path.join(name), 20);
    }
    flip(&database.path.join("MANIFEST"), (128 << 10) + 20);
    flip(&database.path.join("log-0000-0000.wal"), 512 + 20);
    let run = on(&database.path, "inspect", &options(&["--json"]));
    assert_eq!(run.status, 0, "{run:?}");
    let json = run.json();
    assert!(json["slots"].as_array().unwrap().iter().all(|slot| slot["state"] == "not intact"), "{json}");
    assert_eq!(json["segments"][0]["role"], "unknown");
    assert_eq!(json["segments"][0]["batch_count"], 0);
    assert!(json["segments"].as_array().unwrap().iter().any(|segment| segment["role"] == "blank"), "{json}");
    assert!(json["checkpoints"][0]["problem"].as_str().unwrap().contains("checksum"), "{json}");
    let run = on(&database.path, "inspect", &[]);
    assert!(run.stdout.contains("not intact") && run.stdout.contains("problem:"), "{run:?}");
}

#[tokio::test]
async fn a_directory_in_use_is_left_alone_unless_asked_for() {
    let root = root();
    let database = Database::new(root.path().join("db"));
    let engine = database.open().await;
    for command in ["inspect", "verify", "dump"] {
        once(&database.path, command, &[]).assert_fails(2, "in use by an engine");
    }
    for command in ["backup", "salvage"] {
        let new = root.path().join(command);
        once(&database.path, command, &[new.as_os_str()]).assert_fails(2, "in use by an engine");
        assert!(!new.exists());
    }
    let run = on(&database.path, "inspect", &options(&["--no-lock"]));
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run.stdout.contains("may be torn"), "{run:?}");
    engine.close().await.unwrap();
    assert_eq!(on(&database.path, "inspect", &[]).status, 0);
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    let root = root();
    let (empty, foreign) = (root.path().join("empty"), root.path().join("foreign"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes.txt"), "not ours").unwrap();
    let unfinished = root.path().join("unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("MANIFEST"), vec![0; 256 << 10]).unwrap();
    let (missing, new) = (root.path().join("missing"), root.path().join("new"));
    for command in ["inspect", "verify", "dump", "backup", "salvage"] {
        let takes_new = matches!(command, "backup" | "salvage");
        let more: &[&OsStr] = if takes_new { &[new.as_os_str()] } else { &[] };
        on(&empty, command, more).assert_fails(2, "no anabranch database");
        on(&missing, command, more).assert_fails(2, "no anabranch database");
        on(&foreign, command, more).assert_fails(2, "notes.txt");
        if command != "inspect" {
            on(&unfinished, command, more).assert_fails(2, "no anabranch database");
        }
        on(&foreign.join("notes.txt"), command, more).assert_fails(2, "is a file");
        assert!(!missing.exists() && !new.exists());
    }
}
