//! The first ten minutes: opening, dropping, reopening, other runtimes and other threads.

use std::path::Path;
use std::sync::mpsc;

use anabranch::{Engine, Error, Handle, Key, Value};
use tokio::runtime::{Builder, Runtime};

use crate::harness::{block_on, entries, fast_directory, in_memory, open, within};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[tokio::test]
async fn a_dropped_engine_can_be_reopened_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..10 {
        let engine = open::<u64, u64>(directory.path(), 2).await;
        assert_eq!(engine.handle().len().unwrap() as u64, life);
        within(engine.handle().insert(life, life)).await.unwrap();
        drop(engine);
    }
}

#[test]
fn a_current_thread_runtime_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for life in 0..2 {
            let engine = open::<u64, u64>(directory.path(), 3).await;
            let db = engine.handle();
            assert_eq!(db.len().unwrap(), if life == 0 { 0 } else { 9 });
            within(db.transaction(|txn| {
                (0..10).for_each(|key| txn.insert(key, key));
                Ok::<_, Error>(())
            }))
            .await
            .unwrap();
            within(db.remove(&3)).await.unwrap();
            within(engine.checkpoint()).await.unwrap();
            within(engine.close()).await.unwrap();
        }
    });
}

async fn use_everything(db: Handle<u64, u64>, base: u64) {
    for key in base..base + 20 {
        db.insert(key, 0).await.unwrap();
        db.update(0, |old| Some(old.copied().unwrap_or(0) + 1)).await.unwrap();
        db.transaction(|txn| {
            txn.update(1, |old| Some(old.copied().unwrap_or(0) + 1))?;
            txn.update(2, |old| Some(old.copied().unwrap_or(0) + 1))?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        assert_eq!(db.get(&key).unwrap().as_deref(), Some(&0));
    }
}

#[test]
fn a_handle_works_in_another_runtime_and_on_plain_threads() {
    let directory = tempfile::tempdir().unwrap();
    let (home, other) = (runtime(), runtime());
    for durable in [false, true] {
        let path = directory.path();
        let engine = home.block_on(async { if durable { open(path, 2).await } else { in_memory(2).await } });
        std::thread::scope(|threads| {
            for thread in 0..3 {
                let db = engine.handle();
                threads.spawn(move || block_on(use_everything(db, 100 + thread * 100)));
            }
            other.block_on(within(use_everything(engine.handle(), 1_000)));
        });
        assert_eq!(entries(engine.handle().range(0..3)), [(0, 80), (1, 80), (2, 80)]);
        block_on(engine.close()).unwrap();
    }
}

/// The runtime on which a transaction backs off is the engine's: the caller's may be none, or have no clock.
#[test]
fn a_transaction_backs_off_wherever_it_is_called() {
    let home = runtime();
    let without_a_clock = Builder::new_current_thread().build().unwrap();
    let engine = home.block_on(in_memory::<u64, u64>(2));
    let db = engine.handle();
    let transfer = async |key| {
        let mut runs = 0;
        db.transaction_async(async |txn| {
            runs += 1;
            let seen = txn.get(&key)?.as_deref().copied();
            if runs < 6 {
                db.insert(key, runs).await?;
            }
            txn.insert(key + 10, seen.unwrap_or(0));
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    };
    block_on(transfer(1));
    without_a_clock.block_on(transfer(2));
    assert_eq!(entries(db.range(..)), [(1, 5), (2, 5), (11, 5), (12, 5)]);
}

#[test]
fn an_engine_may_be_dropped_inside_and_outside_of_async_code() {
    let directory = tempfile::tempdir().unwrap();
    let home = runtime();
    for durable in [false, true] {
        let make =
            async || if durable { open::<u64, u64>(directory.path(), 2).await } else { in_memory(2).await };
        home.block_on(async { drop(make().await) });
        let outside = home.block_on(make());
        let db = outside.handle();
        drop(outside);
        assert!(matches!(db.get(&1), Err(Error::Closed)));
        let on_a_thread = home.block_on(make());
        std::thread::scope(|threads| drop(threads.spawn(move || drop(on_a_thread))));
        let in_a_task = home.block_on(make());
        home.block_on(home.spawn(async move { drop(in_a_task) })).unwrap();
        home.block_on(async { within(make().await.close()).await }).unwrap();
    }
}

async fn opened<K: Key, V: Value>(directory: &Path, number: usize) -> Box<dyn std::any::Any> {
    if number.is_multiple_of(2) {
        Box::new(in_memory::<K, V>(1).await)
    } else {
        Box::new(open::<K, V>(directory, 1).await)
    }
}

#[tokio::test]
async fn a_hundred_engines_of_different_types_fit_in_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut engines = Vec::new();
    for number in 0..100 {
        let path = directory.path().join(number.to_string());
        engines.push(match number / 2 % 4 {
            0 => opened::<u64, u64>(&path, number).await,
            1 => opened::<String, u64>(&path, number).await,
            2 => opened::<u8, u32>(&path, number).await,
            _ => opened::<Vec<u8>, u64>(&path, number).await,
        });
    }
    for (value, engine) in (0..).zip(&engines) {
        if let Some(engine) = engine.downcast_ref::<Engine<u64, u64>>() {
            within(engine.handle().insert(1, value)).await.unwrap();
        }
    }
    for (value, engine) in (0..).zip(&engines) {
        if let Some(engine) = engine.downcast_ref::<Engine<u64, u64>>() {
            assert_eq!(entries(engine.handle().range(..)), [(1, value)]);
        }
    }
}

/// Everything a handle can do, each of which says `Closed`.
async fn everything_is_closed(db: &Handle<u64, u64>) {
    let closed = |outcome: Result<(), Error>| assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    closed(db.get(&1).map(drop));
    closed(db.get_many([&1]).map(drop));
    closed(db.len().map(drop));
    closed(db.is_empty().map(drop));
    closed(db.range(..).next().unwrap().map(drop));
    closed(db.snapshot().get(&1).map(drop));
    closed(db.insert(1, 1).await);
    closed(db.remove(&1).await.map(drop));
    closed(db.update(1, |_| None).await.map(drop));
    closed(db.begin().get(&1).map(drop));
    closed(db.begin().commit().await.map(drop));
    let mut txn = db.begin();
    txn.insert(1, 1);
    txn.insert(2, 1);
    closed(txn.commit().await.map(drop));
    let body = |txn: &mut anabranch::Transaction<u64, u64>| {
        txn.insert(1, 1);
        Ok::<_, Error>(())
    };
    closed(db.transaction(body).await);
    let mut sink = db.ingest(anabranch::IngestOptions::default());
    let sent = sink.send(1, 1).await;
    closed(sent.and(sink.finish().await.map(drop)).map_err(Error::from));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_closing_every_call_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        for drops in [false, true] {
            let engine = if durable { open(directory.path(), 2).await } else { in_memory(2).await };
            let db = engine.handle();
            within(db.insert(1, 1)).await.unwrap();
            if drops {
                drop(engine);
            } else {
                within(engine.close()).await.unwrap();
            }
            within(everything_is_closed(&db)).await;
        }
    }
}

#[test]
fn when_its_runtime_ends_every_call_says_so_and_none_hangs() {
    let directory = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let home = runtime();
        let path = directory.path();
        let engine = home.block_on(async { if durable { open(path, 2).await } else { in_memory(2).await } });
        let (sender, begun) = mpsc::channel();
        std::thread::scope(|threads| {
            for thread in 0..4 {
                let (db, sender) = (engine.handle(), sender.clone());
                threads.spawn(move || {
                    let error = block_on(async {
                        for key in 0.. {
                            let outcome = if thread % 2 == 0 {
                                db.insert(key, key).await
                            } else {
                                db.transaction(|txn| {
                                    (0..5).for_each(|next| txn.insert(key + next, key));
                                    Ok::<_, Error>(())
                                })
                                .await
                            };
                            let _ = sender.send(());
                            outcome?;
                        }
                        Ok::<_, Error>(())
                    });
                    assert!(matches!(error, Err(Error::Closed)), "{error:?}");
                });
            }
            for _ in 0..50 {
                begun.recv().unwrap();
            }
            drop(home);
        });
        block_on(everything_is_closed(&engine.handle()));
        assert!(matches!(block_on(engine.vacuum()), Err(Error::Closed)));
        assert!(matches!(block_on(engine.sync()), Err(Error::Closed)));
        assert!(matches!(block_on(engine.checkpoint()), Err(Error::Closed)));
        assert!(matches!(block_on(engine.close()), Err(Error::Closed)));
    }
    let home = runtime();
    let engine = home.block_on(open::<u64, u64>(directory.path(), 2));
    assert!(engine.handle().len().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_among_commits_keeps_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    let tasks: Vec<_> = (0..8)
        .map(|task: u64| {
            let db = engine.handle();
            tokio::spawn(async move {
                for commit in 0.. {
                    match db.insert(task * 1_000_000 + commit, commit).await {
                        Ok(()) => {}
                        Err(Error::Closed) => return commit,
                        Err(error) => panic!("{error}"),
                    }
                }
                unreachable!("the engine closes")
            })
        })
        .collect();
    while engine.stats().commits < 100 {
        tokio::task::yield_now().await;
    }
    within(engine.close()).await.unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    for (task, running) in (0..).zip(tasks) {
        let acknowledged = within(running).await.unwrap();
        let found = engine.handle().range(task * 1_000_000..(task + 1) * 1_000_000).count() as u64;
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
    }
}

#[tokio::test]
async fn a_closed_engine_has_given_its_directory_back() {
    let root = fast_directory();
    let directory = root.path().join("db");
    // Large segments, so that one is still being made when the engine is closed.
    let builder = Engine::<u64, u64>::builder().shards(1).segment_bytes(64 << 20);
    let engine = within(builder.open(&directory)).await.unwrap();
    within(engine.handle().insert(1, 1)).await.unwrap();
    within(engine.close()).await.unwrap();
    // As another process would ask: one in this process waits by itself.
    let locked = anabranch_wal::inspect::SharedLock::take(&directory);
    assert!(locked.is_ok(), "{:?}", locked.err());
}
