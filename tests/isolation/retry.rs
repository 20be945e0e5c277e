//! Reruns: they back off further each time, say how often they ran, and nobody runs again and again while
//! somebody else's commit can't end. That a rerun sees what won, and that a body's own error is not retried, is
//! in `tests/it/retry.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anabranch::{Engine, Env, Error, Isolation, SystemEnv};

use crate::lists::{Store, with};
use crate::stage::{Stage, get, put};

/// Randomness that makes every pause as long as it can be, and counts the pauses.
#[derive(Default)]
struct Longest {
    asked: AtomicU32,
}

impl Env for Longest {
    fn now(&self) -> Duration {
        SystemEnv.now()
    }

    fn unix_millis(&self) -> u64 {
        SystemEnv.unix_millis()
    }

    fn random(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst);
        // One less than the longest limit, which is a multiple of all the others.
        12_800_000 - 1
    }
}

#[tokio::test(start_paused = true)]
async fn each_rerun_backs_off_further_up_to_a_limit() {
    let env = Arc::new(Longest::default());
    let engine: Store = Engine::builder().shards(2).env(env.clone()).in_memory().await.unwrap();
    let db = engine.handle();
    let asked = env.asked.load(Ordering::SeqCst);
    let mut began = Vec::new();
    let result = db.transaction_async(async |txn| {
        began.push(tokio::time::Instant::now());
        txn.get("a")?;
        if began.len() <= 16 {
            db.update("a".into(), |old| Some(with(old, 1))).await?;
        }
        put(txn, "b", 1);
        Ok::<_, Error>(())
    });
    result.await.unwrap();
    assert_eq!(began.len(), 17);
    assert_eq!(env.asked.load(Ordering::SeqCst) - asked, 16, "a random pause before each rerun");
    let pauses: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[0] <= Duration::from_millis(2), "{pauses:?}");
    let longest = Duration::from_millis(12)..=Duration::from_millis(15);
    assert!(pauses[12..].iter().all(|pause| longest.contains(pause)), "{pauses:?}");
}

#[tokio::test]
async fn the_engine_counts_every_rerun_and_every_conflict() {
    let engine: Store = Engine::builder().shards(2).retries_max(5).in_memory().await.unwrap();
    let db = engine.handle();
    let mut runs = 0;
    let result = db.transaction_async(async |txn| {
        runs += 1;
        txn.get("a")?;
        db.update("a".into(), |old| Some(with(old, 1))).await?;
        put(txn, "b", 1);
        Ok::<_, Error>(())
    });
    let error = result.await.unwrap_err();
    assert!(matches!(error, Error::Conflict { attempts: 6 }), "{error:?}");
    assert!(error.to_string().contains('6'), "the message says how often it ran: {error}");
    let stats = engine.stats();
    assert_eq!((runs, stats.conflicts, stats.reruns), (6, 6, 5));
}

/// A commit over two shards can't end, as one of them is busy. Whoever wants its keys on the other must wait, not
/// run again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_meets_a_commit_that_can_not_end_yet_waits_for_it_instead_of_running_again() {
    let stage = Stage::new(Isolation::Serializable, 4, true).await;
    let (db, x, y) = (stage.db.clone(), stage.x.clone(), stage.y.clone());
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let mut entered = Some(entered);
    let busy = {
        let (db, y) = (db.clone(), y.clone());
        let wait = move |old: Option<&Vec<u64>>| {
            entered.take().map(|entered| entered.send(()));
            let _ = held.recv();
            old.cloned()
        };
        tokio::spawn(async move { db.update(y, wait).await })
    };
    inside.await.unwrap();
    let mut winner = db.begin();
    put(&mut winner, &x, 11);
    put(&mut winner, &y, 21);
    let winner = tokio::spawn(winner.commit());
    let runs = Arc::new(AtomicU32::new(0));
    let losers: Vec<_> = (0..8)
        .map(|_| {
            let (db, x, runs) = (db.clone(), x.clone(), Arc::clone(&runs));
            tokio::spawn(async move {
                db.transaction(|txn| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    let value = get(txn, &x);
                    put(txn, &x, value + 100);
                    Ok::<_, Error>(())
                })
                .await
            })
        })
        .collect();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let while_busy = runs.load(Ordering::SeqCst);
    release.send(()).unwrap();
    for loser in losers {
        loser.await.unwrap().unwrap();
    }
    winner.await.unwrap().unwrap();
    busy.await.unwrap().unwrap();
    assert!(while_busy <= 8 * 8, "eight transactions ran {while_busy} times while they could not win");
    let [x, y, _] = stage.rows();
    assert!([811, 11, 111, 211, 311, 411, 511, 611, 711].contains(&x), "{x}");
    assert_eq!(y, 21);
}
