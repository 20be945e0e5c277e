//! Liveness: whoever keeps losing gets through, and whoever gives up leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use anabranch::{Engine, Error, Handle, Isolation, Value};
use tokio::task::JoinHandle;

use crate::effort::effort;
use crate::harness::{open, within};

/// The run in which a transaction is through at the latest, if it touches the same keys each time.
const RUNS_MAX: u32 = 9;

/// Tasks that write single keys without a pause.
struct Storm {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Result<(), Error>>>,
}

impl Storm {
    fn over(db: &Handle<u64, u64>, keys: u64, tasks: u64) -> Self {
        let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = |task: u64| {
            let (db, stop, commits) = (db.clone(), Arc::clone(&stop), Arc::clone(&commits));
            tokio::spawn(async move {
                let mut key = task;
                while !stop.load(Ordering::Relaxed) {
                    key = (key * 7 + 13) % keys;
                    db.insert(key, 1).await?;
                    commits.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                Ok(())
            })
        };
        let tasks = (0..tasks).map(task).collect();
        Self { stop, commits, tasks }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            within(task).await.unwrap().unwrap();
        }
        self.commits.load(Ordering::Relaxed)
    }
}

/// An engine with so many keys in it, all zero.
async fn filled(isolation: Isolation, keys: u64) -> Engine<u64, u64> {
    let engine = within(Engine::builder().shards(4).isolation(isolation).in_memory()).await.unwrap();
    let fill = |txn: &mut anabranch::Transaction<u64, u64>| {
        (0..keys).for_each(|key| txn.insert(key, 0));
        Ok::<_, Error>(())
    };
    engine.handle().transaction(fill).await.unwrap();
    engine
}

async fn nothing_is_left<V: Value>(engine: &Engine<u64, V>) {
    within(async {
        loop {
            let stats = engine.stats();
            if stats.waiting() == 0 && stats.readers == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_reads_10_000_keys_gets_through_constant_writes() {
    const KEYS: u64 = 10_000;
    let engine = filled(Isolation::Serializable, KEYS).await;
    let db = engine.handle();
    let storm = Storm::over(&db, KEYS, 4);
    let mut round = 0;
    // On a machine with little time for the storm, until it has been in the way.
    while round < effort(3_u64, 20) || (engine.stats().reruns == 0 && round < 10_000) {
        round += 1;
        let runs = AtomicU32::new(0);
        let read_all = db.transaction(|txn| {
            runs.fetch_add(1, Ordering::Relaxed);
            for key in 0..KEYS {
                txn.get(&key)?;
            }
            txn.insert(KEYS + 1, round);
            Ok::<_, Error>(())
        });
        within(read_all).await.unwrap();
        let runs = runs.into_inner();
        assert!(runs <= RUNS_MAX, "{runs} runs");
    }
    let reruns = engine.stats().reruns;
    assert!(storm.end().await > 0);
    assert!(reruns > 0, "nobody was in its way, so this shows nothing");
    nothing_is_left(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_reads_a_range_gets_through_constant_writes() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let engine = filled(isolation, 1_000).await;
        let db = engine.handle();
        let storm = Storm::over(&db, 1_000, 4);
        for _ in 0..effort(3, 20) {
            let runs = AtomicU32::new(0);
            let add_up = db.transaction(|txn| {
                runs.fetch_add(1, Ordering::Relaxed);
                let mut sum = 0;
                for entry in txn.range(..1_000) {
                    sum = entry?.1.wrapping_add(sum);
                }
                (0..100).for_each(|key| txn.insert(key * 10, sum));
                Ok::<_, Error>(())
            });
            within(add_up).await.unwrap();
            assert!(runs.into_inner() <= RUNS_MAX);
        }
        storm.end().await;
        nothing_is_left(&engine).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_many_losers_on_a_small_ring_do_not_wait_for_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::<u64, Vec<u8>>::builder().shards(3).segment_bytes(16 << 10).segments_max(4);
    let engine = within(builder.open(directory.path())).await.unwrap();
    let tasks: Vec<_> = (0..12_u64)
        .map(|task| {
            let db = engine.handle();
            tokio::spawn(async move {
                for round in 0..effort(6, 60) {
                    let mut runs = 0;
                    db.transaction(|txn| {
                        runs += 1;
                        // Each loses eight times by its own doing, and then claims.
                        for key in 0..6 {
                            txn.get(&((key + task) % 8))?;
                        }
                        if runs < RUNS_MAX {
                            txn.get(&(100 + task))?;
                            lose(&db, 100 + task)?;
                        }
                        txn.insert((task + round) % 8, vec![1; 2_000]);
                        txn.insert((task + round + 1) % 8, vec![2; 2_000]);
                        Ok::<_, Error>(())
                    })
                    .await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap().unwrap();
    }
    nothing_is_left(&engine).await;
}

/// Commits to a key from within a body, so that the body's transaction conflicts.
fn lose(db: &Handle<u64, Vec<u8>>, key: u64) -> Result<(), Error> {
    let db = db.clone();
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(db.insert(key, Vec::new())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_commits_elsewhere_while_others_wait_for_it_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, Vec<u8>>(directory.path(), 2).await;
    let db = engine.handle();
    let mut runs = 0;
    let outcome = db.transaction(|txn| {
        runs += 1;
        txn.get(&1)?;
        lose(&db, 1)?;
        txn.insert(2, Vec::new());
        Ok::<_, Error>(())
    });
    assert!(matches!(within(outcome).await, Err(Error::Nested)));
    assert_eq!(runs, RUNS_MAX);
    // Its claim is gone.
    within(db.insert(1, vec![1])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_dropped_while_they_claim_leave_nothing_behind() {
    let engine = filled(Isolation::Serializable, 64).await;
    let db = engine.handle();
    let storm = Storm::over(&db, 64, 4);
    for round in 0..effort(100, 1_000_u64) {
        let db = db.clone();
        let mut task = tokio::spawn(async move {
            let read_all = |txn: &mut anabranch::Transaction<u64, u64>| {
                (0..64).try_for_each(|key| txn.get(&key).map(drop))?;
                txn.insert(round % 64, round);
                Ok::<_, Error>(())
            };
            loop {
                db.transaction(read_all).await?;
            }
            #[expect(unreachable_code, reason = "tells the type of the errors")]
            Ok::<(), Error>(())
        });
        let moment = std::time::Duration::from_micros(round * 37 % 3_000);
        assert!(tokio::time::timeout(moment, &mut task).await.is_err());
        task.abort();
        assert!(within(task).await.unwrap_err().is_cancelled());
    }
    storm.end().await;
    nothing_is_left(&engine).await;
    within(db.insert(1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_claim_whose_owner_is_not_polled_ends_by_itself() {
    let engine = filled(Isolation::Serializable, 8).await;
    let db = engine.handle();
    let other = engine.handle();
    let mut runs = 0;
    let mut losing = Box::pin(db.transaction(|txn| {
        runs += 1;
        let seen = txn.get(&1)?.map_or(0, |value| *value);
        if runs < RUNS_MAX {
            // Synchronous, so the commit is through when this returns.
            let mut insert = std::pin::pin!(other.insert(1, seen + 1));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(insert.as_mut().poll(&mut context).is_ready());
        }
        txn.insert(2, runs.into());
        Ok::<_, Error>(())
    }));
    // Poll it until it holds its claim, which is when others have to wait, and then no more.
    let claimed = within(async {
        loop {
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(losing.as_mut().poll(context)));
            assert!(polled.await.is_pending(), "it did not claim anything");
            tokio::task::yield_now().await;
            if engine.stats().shards.iter().any(|shard| shard.queues.pinned > 0) {
                return;
            }
        }
    });
    claimed.await;
    let db = engine.handle();
    within(db.insert(1, 77)).await.unwrap();
    // It has lost its claim, and claims again.
    within(losing).await.unwrap();
    assert_eq!(db.get(&1).unwrap().as_deref(), Some(&77));
    nothing_is_left(&engine).await;
}

#[tokio::test]
async fn a_task_that_commits_without_a_pause_lets_others_run() {
    let engine = filled(Isolation::Serializable, 8).await;
    let db = engine.handle();
    let endless = tokio::spawn(async move {
        loop {
            let write_all = |txn: &mut anabranch::Transaction<u64, u64>| {
                (0..8).for_each(|key| txn.insert(key, 1));
                Ok::<_, Error>(())
            };
            db.transaction(write_all).await.unwrap();
        }
    });
    // The only thread is the endless task's whenever it has it.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    endless.abort();
    assert!(within(endless).await.unwrap_err().is_cancelled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tasks_at_once_finish() {
    let tasks = effort(2_000, 10_000_u64);
    let engine = filled(Isolation::Serializable, 64).await;
    let all: Vec<_> = (0..tasks)
        .map(|task| {
            let db = engine.handle();
            tokio::spawn(async move {
                db.transaction(|txn| {
                    for key in [task % 64, task * 31 % 64] {
                        let count = txn.get(&key)?.map_or(0, |count| *count);
                        txn.insert(key, count + 1);
                    }
                    Ok::<_, Error>(())
                })
                .await
            })
        })
        .collect();
    for task in all {
        within(task).await.unwrap().unwrap();
    }
    let sum: u64 = engine.handle().range(..).map(|entry| *entry.unwrap().1).sum();
    assert_eq!(sum, tasks * 2);
    nothing_is_left(&engine).await;
}
