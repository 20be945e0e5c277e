//! `verify`.

use std::ffi::OsStr;
use std::fs;

use crate::directory::{Database, content, copy, files, flip, names, root};
use crate::tool::{Run, on};

fn json(database: &std::path::Path) -> Run {
    on(database, "verify", &[OsStr::new("--json")])
}

#[tokio::test]
async fn a_sound_directory_is_sound() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(0).await;
    assert_eq!(on(&database.path, "verify", &[]).status, 0);
    database.live_with_checkpoint(30).await;
    database.live(5).await;
    let run = on(&database.path, "verify", &[]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run.stdout.contains("is sound"), "{run:?}");
    let json = json(&database.path).json();
    assert_eq!(
        (&json["sound"], &json["recovered_to"], &json["promised"]),
        (&true.into(), &65.into(), &65.into())
    );
    assert_eq!(json["checkpoints"], 3);
}

#[tokio::test]
async fn damage_is_named_with_file_and_byte() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(30).await;
    let changed = root.path().join("changed");
    let checkpoint = names(&database.path, ".ckp")[1].clone();

    copy(&database.path, &changed);
    flip(&changed.join(&checkpoint), 100);
    let run = json(&changed);
    assert_eq!(run.status, 1, "{run:?}");
    let damage = run.json()["damage"].clone();
    assert!(damage[0]["file"].as_str().unwrap().ends_with(&checkpoint), "{damage}");
    assert!(damage[0]["offset"].as_u64().unwrap() >= 64, "{damage}");
    let text = on(&changed, "verify", &[]);
    assert!(text.stdout.contains("is damaged") && text.stdout.contains("salvage"), "{text:?}");

    // A second wound does not hide the first.
    fs::remove_file(changed.join("log-0002-0000.wal")).unwrap();
    let run = json(&changed);
    assert_eq!(run.status, 1);
    let damage = run.json()["damage"].to_string();
    assert!(damage.contains(&checkpoint) && damage.contains("log 2"), "{damage}");

    copy(&database.path, &changed);
    flip(&changed.join("MANIFEST"), 40);
    flip(&changed.join("MANIFEST"), (128 << 10) + 40);
    let run = json(&changed);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stdout.contains("MANIFEST"), "{run:?}");

    fs::remove_file(changed.join("MANIFEST")).unwrap();
    assert_eq!(json(&changed).status, 1);
}

#[tokio::test]
async fn lost_commits_are_named() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live(30).await;
    let first = database.path.join("log-0000-0000.wal");
    flip(&first, 512 + 112 + 8);
    let run = json(&database.path);
    assert_eq!(run.status, 1, "{run:?}");
    let damage = run.json()["damage"].clone();
    let commits = damage.as_array().unwrap().iter().find_map(|damage| damage["commits"].as_array());
    let commits = commits.unwrap_or_else(|| panic!("{damage}"));
    assert_eq!(commits[1], 30, "{damage}");
    assert!(on(&database.path, "verify", &[]).stdout.contains("to 30)"));
}

#[tokio::test]
async fn it_says_what_an_engine_would() {
    let root = root();
    let mut database = Database::new(root.path().join("db"));
    database.live_with_checkpoint(25).await;
    database.live(25).await;
    let (intact, changed) = (database.path.clone(), root.path().join("changed"));
    let (mut sound, mut damaged) = (0, 0);
    for (name, bytes) in files(&intact) {
        let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let step = (used.len() / if effort() { 60 } else { 4 }).max(1);
        for at in used.into_iter().step_by(step) {
            copy(&intact, &changed);
            flip(&changed.join(&name), at);
            let run = json(&changed);
            let opened = content(&changed).await;
            assert_eq!(run.status == 0, opened.is_ok(), "byte {at} of {name}: {run:?}, {opened:?}");
            match opened {
                Ok(content) => {
                    assert!(content == database.last(), "byte {at} of {name}");
                    sound += 1;
                }
                Err(_) => damaged += 1,
            }
        }
        copy(&intact, &changed);
        fs::remove_file(changed.join(&name)).unwrap();
        let run = json(&changed);
        let opened = content(&changed).await;
        assert_eq!(run.status == 0, opened.is_ok(), "without {name}: {run:?}, {opened:?}");
    }
    assert!(sound > 0 && damaged > 5, "{sound} sound, {damaged} damaged");
}

pub(crate) fn effort() -> bool {
    std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "ci")
}
