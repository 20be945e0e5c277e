//! Many tasks on few keys: everybody gets through, and whoever leaves early leaves nothing behind.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anabranch::{Engine, Error, Handle};

use crate::effort::effort;
use crate::harness::{entries, in_memory, open, within};

fn add_one(db: &Handle<u64, u64>, keys: Vec<u64>) -> impl Future<Output = u32> + Send + 'static {
    let db = db.clone();
    async move {
        let mut runs = 0;
        let added = db.transaction(|txn| {
            runs += 1;
            for key in &keys {
                txn.update(*key, |old| Some(old.copied().unwrap_or(0) + 1))?;
            }
            Ok::<_, Error>(())
        });
        added.await.unwrap();
        runs
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_over_one_two_and_all_shards_with_colliding_keys_all_get_through() {
    for shards in [1, 2, 4] {
        let engine = in_memory::<u64, u64>(shards).await;
        let (tasks, rounds) = (12, effort(40, 400));
        let running: Vec<_> = (0..tasks)
            .map(|task: u64| {
                let db = engine.handle();
                tokio::spawn(async move {
                    for round in 0..rounds {
                        // One key, two keys in either order, and so many that they touch every shard.
                        let keys = match (task + round) % 4 {
                            0 => vec![0],
                            1 => vec![0, 1],
                            2 => vec![1, 0],
                            _ => (0..16).rev().collect(),
                        };
                        add_one(&db, keys).await;
                    }
                })
            })
            .collect();
        for task in running {
            within(task).await.unwrap();
        }
        let all = tasks * rounds;
        let values = entries(engine.handle().range(..));
        assert_eq!((values[0], values[1], values[15]), ((0, all), (1, all * 3 / 4), (15, all / 4)));
        let stats = engine.stats();
        assert_eq!((stats.waiting(), stats.readers), (0, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_on_sixteen_hot_keys_rerun_less_than_three_times_in_the_median() {
    for durable in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let engine = if durable { open(directory.path(), 2).await } else { in_memory(2).await };
        let tasks: Vec<_> = (0..64)
            .map(|task: u64| {
                let db = engine.handle();
                tokio::spawn(async move {
                    let mut reruns = Vec::new();
                    for round in 0..effort(10, 100) {
                        let (a, b) = ((task * 7 + round * 3) % 16, (task * 5 + round * 11 + 1) % 16);
                        reruns.push(add_one(&db, vec![a, b]).await - 1);
                    }
                    reruns
                })
            })
            .collect();
        let mut reruns = Vec::new();
        for task in tasks {
            reruns.extend(within(task).await.unwrap());
        }
        reruns.sort_unstable();
        let (median, worst) = (reruns[reruns.len() / 2], reruns[reruns.len() - 1]);
        assert!(median < 3, "median {median}, worst {worst}, durable {durable}");
        let sum: u64 = entries(engine.handle().range(..)).into_iter().map(|entry| entry.1).sum();
        assert_eq!(sum, 64 * effort(10, 100) * 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_meet_a_busy_shard_get_through_by_two_phases() {
    for round in 0..effort(5, 50) {
        let engine = in_memory::<u64, u64>(4).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (entered, inside) = tokio::sync::oneshot::channel();
        let (db, mut entered) = (engine.handle(), Some(entered));
        let busy = tokio::spawn(async move {
            db.update(100 + round, move |_| {
                entered.take().map(|entered| entered.send(()));
                let _ = held.recv();
                Some(1)
            })
            .await
        });
        within(inside).await.unwrap();
        let tasks: Vec<_> = (0..40_u64)
            .map(|task| {
                // The busy shard's key is among them, whatever the hash makes of the others.
                let keys = if task % 2 == 0 {
                    (0..12).chain([100 + round]).collect()
                } else {
                    (0..12).rev().step_by(3).collect()
                };
                tokio::spawn(add_one(&engine.handle(), keys))
            })
            .collect();
        within(async {
            while engine.stats().two_phase == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
        release.send(()).unwrap();
        for task in tasks {
            within(task).await.unwrap();
        }
        within(busy).await.unwrap().unwrap();
        assert_eq!(
            entries(engine.handle().range(..12)).iter().map(|entry| entry.1).sum::<u64>(),
            20 * 12 + 20 * 4
        );
        assert_eq!((engine.stats().waiting(), engine.stats().readers), (0, 0));
    }
}

/// Polls so often, and then drops the future.
fn poll_and_drop(future: impl Future, polls: usize) {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    for _ in 0..polls {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        std::thread::yield_now();
    }
}

async fn dropped_commits_leave_nothing(engine: &Engine<u64, u64>) {
    let db = engine.handle();
    for round in 0..1_000 {
        let keys: Vec<_> = (0..=round % 3).map(|key| (round / 7 + key * 5) % 16).collect();
        let polls = usize::try_from(round * 2_654_435_761 % 5).unwrap();
        match round % 4 {
            0 => poll_and_drop(db.insert(keys[0], round), polls),
            1 => poll_and_drop(db.update(keys[0], move |_| Some(round)), polls),
            2 => poll_and_drop(add_one(&db, keys), polls),
            _ => {
                let mut txn = db.begin();
                for key in keys {
                    txn.get(&key).unwrap();
                    txn.insert(key, round);
                }
                poll_and_drop(txn.commit(), polls);
            }
        }
        if round % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let settled = async {
        loop {
            let stats = engine.stats();
            let in_flight: usize = stats.shards.iter().map(|shard| shard.in_flight).sum();
            if (stats.waiting(), stats.readers, in_flight) == (0, 0, 0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    within(settled).await;
    // All keys can be locked, read and written as before.
    within(add_one(&db, (0..16).collect())).await;
    for key in 0..16 {
        within(db.insert(key, 1)).await.unwrap();
    }
    assert_eq!(entries(db.range(..)), (0..16).map(|key| (key, 1)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_commits_dropped_at_any_point_leave_no_pin_behind() {
    for shards in [1, 4] {
        dropped_commits_leave_nothing(&in_memory(shards).await).await;
        let directory = tempfile::tempdir().unwrap();
        dropped_commits_leave_nothing(&open(directory.path(), shards).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_tasks_leave_no_pin_behind() {
    let engine = Arc::new(in_memory::<u64, u64>(4).await);
    for round in 0..effort(50, 500) {
        let tasks: Vec<_> = (0..8)
            .map(|task: u64| tokio::spawn(add_one(&engine.handle(), vec![task % 4, (task + round) % 4, 9])))
            .collect();
        tokio::task::yield_now().await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        for task in tasks {
            let _ = within(task).await;
        }
    }
    within(add_one(&engine.handle(), (0..10).collect())).await;
    let stats = engine.stats();
    assert_eq!((stats.waiting(), stats.readers), (0, 0), "{stats:?}");
}

#[test]
fn a_future_that_is_never_polled_does_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = in_memory::<u64, u64>(1).await;
        drop(engine.handle().insert(1, 1));
        assert!(matches!(
            std::pin::pin!(engine.sync()).as_mut().poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Ok(()))
        ));
        assert_eq!(engine.handle().get(&1).unwrap(), None);
    });
}
