//! Ranges that were read: nothing in them may have changed when the reader commits.

use std::ops::Bound;

use anabranch::{Engine, Error, Isolation};

use crate::harness::{in_memory, within};

/// Scans `10..20`, lets `change` be committed, and tells whether the scanner then conflicts.
async fn conflicts(
    engine: &Engine<u64, u64>,
    change: impl AsyncFnOnce(&anabranch::Handle<u64, u64>),
) -> bool {
    let db = engine.handle();
    for key in 0..30 {
        db.remove(&key).await.unwrap();
    }
    for key in [5, 10, 15, 20, 25] {
        db.insert(key, key).await.unwrap();
    }
    let mut txn = db.begin();
    assert_eq!(txn.range(10..20).count(), 2);
    txn.insert(100, 1);
    change(&db).await;
    match within(txn.commit()).await {
        Ok(_) => false,
        Err(Error::Conflict { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_insert_an_update_or_a_remove_within_the_range_is_a_conflict() {
    for shards in [1, 4] {
        let engine = in_memory(shards).await;
        assert!(conflicts(&engine, async |db| db.insert(12, 0).await.unwrap()).await);
        assert!(conflicts(&engine, async |db| db.insert(15, 0).await.unwrap()).await);
        assert!(conflicts(&engine, async |db| drop(db.remove(&10).await.unwrap())).await);
        assert!(conflicts(&engine, async |db| drop(db.update(19, |_| Some(0)).await.unwrap())).await);
        let came_and_went = async |db: &anabranch::Handle<u64, u64>| {
            db.insert(12, 0).await.unwrap();
            db.remove(&12).await.unwrap();
        };
        assert!(conflicts(&engine, came_and_went).await);
        let of_several_shards = async |db: &anabranch::Handle<u64, u64>| {
            let insert_all = |txn: &mut anabranch::Transaction<u64, u64>| {
                for key in [1, 2, 3, 17] {
                    txn.insert(key, 0);
                }
                Ok::<_, Error>(())
            };
            db.transaction(insert_all).await.unwrap();
        };
        assert!(conflicts(&engine, of_several_shards).await);
    }
}

#[tokio::test]
async fn a_change_outside_of_the_range_is_none() {
    for shards in [1, 4] {
        let engine = in_memory(shards).await;
        assert!(!conflicts(&engine, async |_| ()).await);
        for key in [0, 5, 9, 20, 21, 25, 29] {
            assert!(!conflicts(&engine, async |db| db.insert(key, 0).await.unwrap()).await, "{key}");
            assert!(!conflicts(&engine, async |db| drop(db.remove(&key).await.unwrap())).await, "{key}");
        }
        assert!(
            !conflicts(&engine, async |db| drop(db.remove(&12).await.unwrap())).await,
            "it was not there"
        );
    }
}

#[tokio::test]
async fn a_range_found_empty_stays_empty_or_conflicts() {
    for shards in [1, 4] {
        let engine = in_memory::<u64, u64>(shards).await;
        let db = engine.handle();
        let mut txn = db.begin();
        assert_eq!(txn.range(..).count(), 0);
        txn.insert(100, 1);
        db.insert(50, 1).await.unwrap();
        assert!(matches!(txn.commit().await, Err(Error::Conflict { .. })));
    }
}

#[tokio::test]
async fn a_range_counts_as_read_however_little_of_it_is_consumed() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    for key in 0..10 {
        db.insert(key, key).await.unwrap();
    }
    let mut txn = db.begin();
    assert!(txn.range(..).next().is_some());
    txn.insert(100, 1);
    db.insert(9, 0).await.unwrap();
    assert!(matches!(txn.commit().await, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn a_prefix_that_was_read_is_a_range_that_was_read() {
    for (changed, conflict) in [("user:9", true), ("user:", true), ("user", false), ("user;", false)] {
        let engine = in_memory::<String, u64>(4).await;
        let db = engine.handle();
        let mut txn = db.begin();
        assert_eq!(txn.prefix("user:").count(), 0);
        txn.insert("a".into(), 1);
        db.insert(changed.into(), 1).await.unwrap();
        assert_eq!(txn.commit().await.is_err(), conflict, "{changed}");
    }
}

#[tokio::test]
async fn excluded_bounds_are_not_read() {
    for (key, conflict) in [(10, false), (11, true), (19, true), (20, false)] {
        let engine = in_memory::<u64, u64>(2).await;
        let db = engine.handle();
        let mut txn = db.begin();
        assert_eq!(txn.range((Bound::Excluded(10), Bound::Excluded(20))).count(), 0);
        txn.insert(100, 1);
        db.insert(key, 1).await.unwrap();
        assert_eq!(txn.commit().await.is_err(), conflict, "{key}");
    }
}

#[tokio::test]
async fn of_two_that_count_a_range_and_insert_into_it_one_commits() {
    for shards in [1, 2, 8] {
        for round in 0..10 {
            let engine = in_memory::<u64, u64>(shards).await;
            let db = engine.handle();
            let (mut first, mut second) = (db.begin(), db.begin());
            for (txn, key) in [(&mut first, round), (&mut second, round + 1)] {
                assert_eq!(txn.range(..).count(), 0);
                txn.insert(key, 1);
            }
            let (first, second) =
                within(Box::pin(async { tokio::join!(first.commit(), second.commit()) })).await;
            assert_ne!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
            assert_eq!(db.len().unwrap(), 1);
        }
    }
}

#[tokio::test]
async fn snapshot_isolation_does_not_check_ranges() {
    let engine: Engine<u64, u64> =
        Engine::builder().shards(4).isolation(Isolation::Snapshot).in_memory().await.unwrap();
    assert!(!conflicts(&engine, async |db| db.insert(12, 0).await.unwrap()).await);
}
