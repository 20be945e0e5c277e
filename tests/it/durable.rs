//! Engines on disk: what was acknowledged is there after reopening, in every life.

use std::path::Path;

use anabranch::{Engine, Error};

use crate::effort::effort;
use crate::harness::{entries, open, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_writes_between_many_reopens_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..effort(12, 60) {
        let engine = open::<u64, u64>(directory.path(), 2).await;
        let db = engine.handle();
        let expected: Vec<_> = (0..life).map(|key| (key, key * 10)).collect();
        assert_eq!(entries(db.range(..)), expected, "in life {life}");
        assert_eq!(engine.recovery_report().created, life == 0);
        within(db.insert(life, life * 10)).await.unwrap();
        if life % 3 == 0 {
            within(engine.close()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_full_commits_are_all_there_after_a_restart() {
    const TASKS: u64 = 8;
    let commits = effort(200, 2_000);
    let directory = tempfile::tempdir().unwrap();
    for shards in [1, 3] {
        let directory = directory.path().join(shards.to_string());
        let engine = open::<(u64, u64), u64>(&directory, shards).await;
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let db = engine.handle();
                tokio::spawn(async move {
                    for commit in 0..commits {
                        if commit % 4 == 0 {
                            // Over several shards, if there are several.
                            let both = db.transaction(|txn| {
                                txn.insert((task, commit), commit);
                                txn.insert((task + 100, commit), commit);
                                Ok::<_, Error>(())
                            });
                            both.await.unwrap();
                        } else {
                            db.insert((task, commit), commit).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        drop(engine);
        let engine = open::<(u64, u64), u64>(&directory, shards).await;
        let rows = |task: u64, step: usize| {
            (0..commits).step_by(step).map(move |commit| ((task, commit), commit)).collect::<Vec<_>>()
        };
        for task in 0..TASKS {
            let db = engine.handle();
            assert_eq!(entries(db.range((task, 0)..(task + 1, 0))), rows(task, 1));
            assert_eq!(entries(db.range((task + 100, 0)..(task + 101, 0))), rows(task + 100, 4));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_removes_stay_removed() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    for key in 0..100 {
        within(engine.handle().insert(key, key)).await.unwrap();
    }
    within(engine.checkpoint()).await.unwrap();
    for key in 0..50 {
        within(engine.handle().remove(&key)).await.unwrap();
    }
    drop(engine);
    for life in 0..3 {
        let engine = open::<u64, u64>(directory.path(), 2).await;
        let left = entries(engine.handle().range(..));
        assert_eq!(left, (50..100).map(|key| (key, key)).collect::<Vec<_>>(), "in life {life}");
        if life == 1 {
            within(engine.checkpoint()).await.unwrap();
        }
        drop(engine);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_larger_than_a_segment_gets_what_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || Engine::<u64, Vec<u8>>::builder().shards(2).segment_bytes(1 << 20);
    let value = |seed: u8, len: usize| -> Vec<u8> {
        (0..=u8::MAX).cycle().take(len).map(|at| at.wrapping_mul(31) ^ seed).collect()
    };
    let engine = within(builder().open(directory.path())).await.unwrap();
    let db = engine.handle();
    within(db.insert(0, value(0, 10 << 20))).await.unwrap();
    within(db.transaction(|txn| {
        (1..=10).for_each(|key: u8| txn.insert(key.into(), value(key, 1 << 20)));
        Ok::<_, Error>(())
    }))
    .await
    .unwrap();
    let grown = within(db.update(0, |old| old.map(|old| [old.as_slice(), &vec![7; 1 << 20]].concat())))
        .await
        .unwrap();
    assert_eq!(grown.unwrap().len(), 11 << 20);
    within(db.insert(11, vec![1])).await.unwrap();
    drop(engine);
    let engine = within(builder().open(directory.path())).await.unwrap();
    let db = engine.handle();
    assert!(db.get(&0).unwrap().unwrap().starts_with(&value(0, 10 << 20)));
    for key in 1..=10_u8 {
        assert!(*db.get(&key.into()).unwrap().unwrap() == value(key, 1 << 20));
    }
    assert_eq!(db.len().unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_few_small_segments_goes_round_and_round() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || {
        Engine::<u64, Vec<u8>>::builder()
            .shards(2)
            .segment_bytes(16 << 10)
            .segments_max(4)
            .checkpoint_after_bytes(1)
    };
    let engine = within(builder().open(directory.path())).await.unwrap();
    for round in 0..effort(20_u8, 200) {
        let db = engine.handle();
        let tasks: Vec<_> = (0..8)
            .map(|key| {
                let db = db.clone();
                tokio::spawn(async move { db.insert(key, vec![round; 6_000]).await })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap().unwrap();
        }
    }
    let stats = engine.stats();
    assert!(stats.log.segments_recycled > 0 && stats.log.checkpoints > 0, "{stats:?}");
    assert_eq!(stats.checkpoint_error, None);
    drop(engine);
    let engine = within(builder().open(directory.path())).await.unwrap();
    for key in 0..8 {
        assert_eq!(engine.handle().get(&key).unwrap().as_deref(), Some(&vec![effort(20, 200) - 1; 6_000]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_writers_share_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 1).await;
    let commits = effort(100, 500);
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let db = engine.handle();
            tokio::spawn(async move {
                for commit in 0..commits {
                    db.insert(task * 10_000 + commit, commit).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = engine.stats();
    assert_eq!(stats.commits, 32 * commits);
    assert!(stats.commits >= 8 * stats.log.syncs, "{} commits, {} syncs", stats.commits, stats.log.syncs);
    assert!(stats.commits_per_sync().unwrap() >= 8.0);
}

/// So many that the log's own thread flushes for them without a word in between, until only few are left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_writers_and_then_few_are_acknowledged_and_all_there_after_a_restart() {
    const TASKS: u64 = 400;
    let commits = effort(40, 400);
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let engine = open::<(u64, u64), u64>(directory.path(), 1).await;
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let db = engine.handle();
                // All commit much, and one in fifty ten times as much.
                let commits = if task % 50 == 0 { 10 * commits } else { commits };
                tokio::spawn(async move {
                    for commit in 0..commits {
                        db.insert((task, commit), round).await.unwrap();
                        assert_eq!(db.get(&(task, commit)).unwrap().as_deref(), Some(&round));
                    }
                    commits
                })
            })
            .collect();
        let mut written = 0;
        for task in tasks {
            written += within(task).await.unwrap();
        }
        drop(engine);
        let engine = open::<(u64, u64), u64>(directory.path(), 1).await;
        let found = entries(engine.handle().range(..));
        assert_eq!(found.len() as u64, written);
        assert!(found.iter().all(|(_, value)| *value == round));
        within(engine.close()).await.unwrap();
    }
}

fn written_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_an_empty_engine_writes_little_on_any_number_of_cores() {
    for shards in [None, Some(1), Some(64), Some(512)] {
        let directory = tempfile::tempdir().unwrap();
        let builder = Engine::<u64, u64>::builder();
        let builder = match shards {
            Some(shards) => builder.shards(shards),
            None => builder,
        };
        let engine = within(builder.open(directory.path())).await.unwrap();
        let bytes = written_bytes(directory.path());
        assert!(bytes <= 16 << 20, "{bytes} bytes for {shards:?} shards");
        within(engine.close()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_writes_do_not_appear_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    let db = engine.handle();
    let mut lost = db.begin();
    lost.get(&0).unwrap();
    (0..10).for_each(|key| lost.insert(key, 1));
    within(db.insert(0, 2)).await.unwrap();
    assert!(matches!(within(lost.commit()).await, Err(Error::Conflict { .. })));
    let mut dropped = db.begin();
    (0..10).for_each(|key| dropped.insert(key, 3));
    drop(dropped);
    drop(engine);
    let engine = open::<u64, u64>(directory.path(), 2).await;
    assert_eq!(entries(engine.handle().range(..)), [(0, 2)]);
    assert_eq!(engine.recovery_report().log.commits_dropped, 0);
}
