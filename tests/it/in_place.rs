//! Values that are shown in their place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anabranch::{Error, Handle};

use crate::effort::effort;
use crate::harness::{block_on, entries, in_memory, open, within};

#[tokio::test]
async fn a_value_is_shown_as_get_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let engine =
            if durable { open(directory.path(), 3).await } else { in_memory::<String, Vec<u8>>(3).await };
        let db = engine.handle();
        db.insert("a".to_owned(), vec![1, 2, 3]).await.unwrap();
        let before = db.snapshot();
        db.insert("a".to_owned(), vec![4]).await.unwrap();
        db.insert("b".to_owned(), vec![]).await.unwrap();
        assert_eq!(db.with_value("a", Vec::len).unwrap(), Some(1));
        assert_eq!(before.with_value("a", Vec::len).unwrap(), Some(3));
        assert_eq!(db.with_value("b", Vec::is_empty).unwrap(), Some(true));
        assert_eq!(before.with_value("b", Vec::is_empty).unwrap(), None);
        let shown = db.with_value("c", |_| panic!("there is nothing to show"));
        assert_eq!(shown.unwrap(), None::<()>);
        db.remove("a").await.unwrap();
        db.insert_with_ttl("b".to_owned(), vec![5], Duration::from_millis(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        for gone in ["a", "b"] {
            assert_eq!(db.with_value(gone, Vec::len).unwrap(), None);
        }
        engine.close().await.unwrap();
        assert!(matches!(db.with_value("b", Vec::len), Err(Error::Closed)));
        assert!(matches!(before.with_value("b", Vec::len), Err(Error::Closed)));
    }
}

/// Everything that a closure can ask of an engine, and that it refuses; how much of it there is.
async fn all_are_refused(db: &Handle<u64, u64>) -> usize {
    let mut txn = db.begin();
    txn.insert(1, 1);
    let snapshot = db.snapshot();
    let outcomes = [
        db.get(&1).map(drop),
        db.get_many([&1, &2]).map(drop),
        db.contains_key(&1).map(drop),
        db.len().map(drop),
        db.with_value(&1, |_| ()).map(drop),
        db.range(..).try_for_each(|entry| entry.map(drop)),
        db.metadata(&1).map(drop),
        db.metadata_scan().try_for_each(|entry| entry.map(drop)),
        snapshot.get(&1).map(drop),
        snapshot.with_value(&1, |_| ()).map(drop),
        snapshot.is_empty().map(drop),
        snapshot.range(..).rev().try_for_each(|entry| entry.map(drop)),
        txn.get(&2).map(drop),
        txn.commit().await.map(drop),
        db.insert(1, 1).await,
        db.update(2, |_| None).await.map(drop),
        db.remove(&1).await.map(drop),
    ];
    for (number, outcome) in outcomes.iter().enumerate() {
        assert!(matches!(outcome, Err(Error::Nested)), "{number}: {outcome:?}");
    }
    outcomes.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_closure_must_not_call_the_engine_and_nothing_is_changed_by_that() {
    let engine = in_memory::<u64, u64>(1).await;
    let db = engine.handle();
    db.insert(1, 10).await.unwrap();
    let refused = db.with_value(&1, |_| block_on(all_are_refused(&db))).unwrap();
    assert_eq!(refused, Some(17));
    let refused = db.snapshot().with_value(&1, |_| block_on(all_are_refused(&db))).unwrap();
    assert_eq!(refused, Some(17));
    // What does not wait is not refused.
    let keys = db.with_value(&1, |_| engine.stats().keys()).unwrap();
    assert_eq!((keys, db.len().unwrap(), entries(db.range(..))), (Some(1), 1, vec![(1, 10)]));
    within(db.insert(2, 20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_an_update_values_are_shown_and_commits_stay_refused() {
    let engine = in_memory::<u64, u64>(2).await;
    let (db, inside) = (engine.handle(), engine.handle());
    db.insert(1, 10).await.unwrap();
    let update = db.update(2, move |_| {
        let shown = inside.with_value(&1, |value| *value).unwrap();
        assert!(matches!(block_on(inside.insert(3, 3)), Err(Error::Nested)));
        shown
    });
    assert_eq!(within(update).await.unwrap().as_deref(), Some(&10));
    within(db.insert(3, 30)).await.unwrap();
    assert_eq!(entries(db.range(..)), [(1, 10), (2, 10), (3, 30)]);
}

#[tokio::test]
async fn a_panic_while_a_value_is_shown_harms_nothing() {
    let engine = in_memory::<u64, u64>(1).await;
    let db = engine.handle();
    db.insert(1, 10).await.unwrap();
    let shown = catch_unwind(AssertUnwindSafe(|| db.with_value(&1, |_| panic!("as planned"))));
    assert!(shown.is_err());
    assert_eq!(db.get(&1).unwrap().as_deref(), Some(&10));
    within(db.insert(1, 11)).await.unwrap();
    assert_eq!(db.with_value(&1, |value| *value).unwrap(), Some(11));
}

/// Who is shown a value holds up those who write its key, and nobody waits for ever.
#[test]
fn looks_writes_removals_and_scans_go_on_side_by_side() {
    let (sender, done) = mpsc::channel();
    // On a thread that may be left behind: when this hangs, so does the whole runtime.
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
        sender.send(runtime.unwrap().block_on(side_by_side())).unwrap();
    };
    std::thread::Builder::new().spawn(run).unwrap();
    let looks = done.recv_timeout(Duration::from_mins(1)).expect("it hangs, or panicked");
    assert!(looks > 0);
}

async fn side_by_side() -> u64 {
    let engine = in_memory::<u64, u64>(1).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let looking = (0..2).map(|_| {
        let (db, is_over) = (engine.handle(), Arc::clone(&is_over));
        std::thread::Builder::new().spawn(move || {
            let mut looks = 0;
            loop {
                let is_last = is_over.load(Ordering::Acquire);
                for key in 0..8 {
                    let shown = db.with_value(&key, |value| {
                        assert!(matches!(db.get(&(7 - key)), Err(Error::Nested)));
                        assert!(matches!(db.range(..).next(), Some(Err(Error::Nested))));
                        *value
                    });
                    if let Some(value) = shown.unwrap() {
                        assert_eq!(value % 8, key);
                        looks += 1;
                    }
                }
                if is_last {
                    return looks;
                }
            }
        })
    });
    let looking: Vec<_> = looking.map(Result::unwrap).collect();
    let db = engine.handle();
    for round in 0..effort(2_000, 20_000) {
        for key in 0..8 {
            db.insert(key, 8 * round + key).await.unwrap();
        }
        assert_eq!(entries(db.range(..)).len(), 8);
        for key in 0..8 {
            db.remove(&key).await.unwrap();
        }
        engine.vacuum().await.unwrap();
    }
    db.insert(0, 0).await.unwrap();
    is_over.store(true, Ordering::Release);
    looking.into_iter().map(|thread| thread.join().unwrap()).sum()
}
