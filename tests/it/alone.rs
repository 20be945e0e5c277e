//! Whoever commits alone flushes for itself, on its own thread. Nobody waits for ever because of that, nothing is
//! acknowledged too soon, and those who commit together still share syncs.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anabranch::{Engine, Handle, SystemEnv};
use anabranch_wal::disk::RealDisk;
use anabranch_wal::{EncodedWrites, Health, Log, Reservation, Retention, RingLimits, SyncPolicy, Timestamp};
use anabranch_wal::{Wal, WalOptions};
use futures_util::future::join_all;

use crate::effort::effort;
use crate::harness::{entries, open, within};

/// After so many commits, one after the other, whoever goes on flushes for itself.
const ALONE: u64 = 50;

async fn commit_alone(db: &Handle<u64, u64>) {
    let db = db.clone();
    let commits = async move {
        for key in 0..ALONE {
            db.insert(key, key).await.unwrap();
        }
    };
    within(tokio::spawn(commits)).await.unwrap();
}

fn append(log: &Log, timestamp: u64) {
    let mut writes = EncodedWrites::new();
    let field = |bytes: &mut Vec<u8>| {
        bytes.push(7);
        Ok::<_, ()>(())
    };
    writes.put(field, field).unwrap();
    let bytes = Log::reservation_bytes(&writes, 1);
    assert!(matches!(log.reserve(bytes), Reservation::Granted));
    log.append(Timestamp(timestamp), &writes, &[log.id()], bytes);
}

fn is_synced(log: &Log) -> bool {
    log.unsynced_floor() == Timestamp::MAX
}

async fn synced(log: &Log) {
    while !is_synced(log) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_record_is_synced_when_the_call_returns_and_any_other_by_the_task() {
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions {
        shards: 1,
        policy: SyncPolicy::Always,
        limits: RingLimits { segment_bytes: 1 << 20, segments_max: 4, retention: Retention::default() },
        checkpoint_logged_min: 1 << 20,
        hash: "any".into(),
        create: true,
    };
    let disk = RealDisk::new().unwrap();
    let opened = Wal::open(&disk, directory.path(), options, &SystemEnv).await.unwrap();
    let mut tasks = opened.wal.start(&Arc::<Health>::default(), &(Arc::new(|| {}) as _)).await.unwrap();
    let (control, log) = (Arc::clone(opened.wal.control()), Arc::clone(&opened.wal.logs()[0]));
    let on_a_worker = async move {
        let mut timestamp = 0;
        let mut next = || {
            timestamp += 1;
            append(&log, timestamp);
        };
        // The task flushes for whoever comes, until nobody else has come for a while.
        assert!(!control.flush_if_alone());
        while {
            next();
            !control.flush_if_alone()
        } {
            within(synced(&log)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(is_synced(&log), "it was flushed before the call returned");
        // Two are no longer alone, and whoever waits calls the task.
        next();
        next();
        assert!(!control.flush_if_alone());
        assert!(!is_synced(&log));
        control.call_if_alone();
        within(synced(&log)).await;
        // Who does not wait is flushed for all the same.
        while {
            next();
            !control.flush_if_alone()
        } {
            within(synced(&log)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        next();
        within(synced(&log)).await;
        // Now the task is called again by those who append.
        next();
        within(synced(&log)).await;
    };
    tokio::spawn(on_a_worker).await.unwrap();
    tasks.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_one_task_side_by_side_share_syncs_soon_after_one_was_alone() {
    const TOGETHER: u64 = 4_000;
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 1).await;
    let db = engine.handle();
    commit_alone(&db).await;
    let before = engine.stats().log.syncs;
    let many = async move { join_all((0..TOGETHER).map(|key| db.insert(key, 1))).await };
    for inserted in within(tokio::spawn(many)).await.unwrap() {
        inserted.unwrap();
    }
    let syncs = engine.stats().log.syncs - before;
    assert!(syncs < TOGETHER / 10, "{syncs} syncs for {TOGETHER} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_longer_waited_for_becomes_durable_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 1).await;
    let db = engine.handle();
    for round in 0..effort(10, 50) {
        commit_alone(&db).await;
        let key = 1_000 + round;
        let writer = db.clone();
        let left = async move {
            let mut insert = pin!(writer.insert(key, key));
            poll_fn(|context| {
                let _ = insert.as_mut().poll(context);
                Poll::Ready(())
            })
            .await;
        };
        if round % 2 == 0 {
            tokio::spawn(left).await.unwrap();
        } else {
            // Not on a worker, so it can't flush for itself.
            left.await;
        }
        let durable = async {
            while db.get(&key).unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(durable).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_writers_who_come_and_go_are_acknowledged_and_all_there_after_a_restart() {
    let commits = effort(300, 3_000);
    let directory = tempfile::tempdir().unwrap();
    for shards in [1, 3] {
        let directory = directory.path().join(shards.to_string());
        let engine = open::<(u64, u64), u64>(&directory, shards).await;
        let tasks: Vec<_> = (0..3)
            .map(|task| {
                let db = engine.handle();
                tokio::spawn(async move {
                    for commit in 0..commits {
                        db.insert((task, commit), commit).await.unwrap();
                        assert_eq!(db.get(&(task, commit)).unwrap().as_deref(), Some(&commit));
                        // Each is alone for a while.
                        if commit % 100 == 30 * (task + 1) {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        drop(engine);
        let engine = open::<(u64, u64), u64>(&directory, shards).await;
        let expected = (0..3).flat_map(|task| (0..commits).map(move |commit| ((task, commit), commit)));
        assert!(entries(engine.handle().range(..)).into_iter().eq(expected));
    }
}

#[test]
fn where_the_thread_has_no_stand_in_the_task_flushes() {
    async fn work(engine: Engine<u64, u64>) {
        let db = engine.handle();
        for key in 0..2 * ALONE {
            within(db.insert(key, key)).await.unwrap();
        }
        within(engine.close()).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = |name: &str| directory.path().join(name);
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    current.block_on(async { work(open(directory("current"), 1).await).await });
    let several = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    several.block_on(async { work(open(directory("main"), 1).await).await });
    // Here tokio panics if anybody blocks.
    let local = tokio::task::LocalSet::new();
    let last = directory("local");
    let on_local = async { work(open(last, 1).await).await };
    several.block_on(local.run_until(async { tokio::task::spawn_local(on_local).await.unwrap() }));
}
