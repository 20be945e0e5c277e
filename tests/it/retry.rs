//! Closures as transactions: reruns, the caller's own error type, bodies that await.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anabranch::{Engine, Error};

use crate::harness::{entries, in_memory, within};

#[derive(Debug, thiserror::Error)]
enum Bank {
    #[error("there is no such account")]
    NoAccount,
    #[error("the account holds too little")]
    TooPoor,
    #[error(transparent)]
    Engine(#[from] Error),
}

#[tokio::test]
async fn a_body_may_fail_with_the_callers_own_error_and_is_rolled_back() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("alice".into(), 10).await.unwrap();
    let pay = |amount: u64, to: &'static str| {
        let db = db.clone();
        async move {
            db.transaction(|txn| {
                let alice = *txn.get("alice")?.ok_or(Bank::NoAccount)?;
                txn.insert(to.into(), amount);
                txn.insert("alice".into(), alice.checked_sub(amount).ok_or(Bank::TooPoor)?);
                txn.get(if to == "nobody" { to } else { "alice" })?.ok_or(Bank::NoAccount)?;
                Ok::<_, Bank>(alice - amount)
            })
            .await
        }
    };
    assert!(matches!(pay(20, "bob").await, Err(Bank::TooPoor)));
    assert_eq!(entries(db.range(..)), [("alice".to_owned(), 10)]);
    assert_eq!(pay(4, "bob").await.unwrap(), 6);
    assert_eq!(entries(db.range(..)), [("alice".to_owned(), 6), ("bob".to_owned(), 4)]);
    engine.close().await.unwrap();
    assert!(matches!(pay(4, "bob").await, Err(Bank::Engine(Error::Closed))));
}

#[tokio::test]
async fn a_body_that_fails_is_not_run_again() {
    let engine = in_memory::<u64, u64>(2).await;
    let mut runs = 0;
    let outcome = engine
        .handle()
        .transaction(|_| {
            runs += 1;
            Err::<(), _>(Bank::NoAccount)
        })
        .await;
    assert!(matches!(outcome, Err(Bank::NoAccount)));
    assert_eq!(runs, 1);
}

#[tokio::test]
async fn a_conflict_reruns_the_body_on_what_won() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    let mut runs = 0;
    let seen = within(db.transaction_async(async |txn| {
        runs += 1;
        let seen = txn.get(&1)?.as_deref().copied();
        if runs == 1 {
            db.insert(1, 7).await?;
        }
        txn.insert(2, seen.unwrap_or(0));
        txn.insert(3, seen.unwrap_or(0));
        Ok::<_, Error>(seen)
    }))
    .await
    .unwrap();
    assert_eq!((seen, runs), (Some(7), 2));
    assert_eq!(entries(db.range(..)), [(1, 7), (2, 7), (3, 7)]);
    let stats = engine.stats();
    assert_eq!((stats.conflicts, stats.reruns), (1, 1));
}

#[tokio::test]
async fn at_the_limit_of_reruns_the_conflict_says_how_often_it_tried() {
    let engine: Engine<u64, u64> = Engine::builder().shards(2).retries_max(3).in_memory().await.unwrap();
    let db = engine.handle();
    let mut runs = 0;
    let outcome = within(db.transaction_async(async |txn| {
        runs += 1;
        txn.get(&1)?;
        db.insert(1, runs).await?;
        txn.insert(2, runs);
        Ok::<_, Error>(())
    }))
    .await;
    assert!(matches!(outcome, Err(Error::Conflict { attempts: 4 })), "{outcome:?}");
    assert_eq!(runs, 4, "once, and three reruns");
    assert_eq!(db.get(&2).unwrap(), None);
    assert_eq!(engine.stats().readers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_with_an_async_body_can_be_spawned() {
    let engine = in_memory::<String, u64>(4).await;
    let runs = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (db, runs) = (engine.handle(), Arc::clone(&runs));
            tokio::spawn(async move {
                for _ in 0..20 {
                    let runs = Arc::clone(&runs);
                    // `move`: a body that borrows is not known to be `Send` here (rust-lang/rust#110338).
                    db.transaction_async(async move |txn| {
                        runs.fetch_add(1, Ordering::Relaxed);
                        let count = txn.get("count")?.as_deref().copied().unwrap_or(0);
                        tokio::task::yield_now().await;
                        txn.insert("count".into(), count + 1);
                        Ok::<_, Error>(())
                    })
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap();
    }
    assert_eq!(engine.handle().get("count").unwrap().as_deref(), Some(&160));
    assert!(runs.load(Ordering::Relaxed) >= 160);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_can_be_spawned() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    let task = tokio::spawn(async move {
        db.transaction(|txn| {
            txn.insert("a".into(), 1);
            Ok::<_, Bank>(())
        })
        .await
    });
    within(task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cancelled_transaction_leaves_the_handle_as_it_was() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    let cancelled = db.transaction_async(async |txn| {
        txn.insert(1, 1);
        std::future::pending::<()>().await;
        Ok::<_, Error>(())
    });
    {
        let mut cancelled = Box::pin(cancelled);
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(cancelled.as_mut().poll(context).is_pending())
        });
        assert!(polled.await);
        assert_eq!(engine.stats().readers, 1);
    }
    assert_eq!(engine.stats().readers, 0);
    db.insert(2, 2).await.unwrap();
    assert_eq!(entries(db.range(..)), [(2, 2)]);
}
