//! Versions that nobody can ask for any more are reclaimed, and others are not.

use anabranch::{Engine, Error, Vacuum};

use crate::effort::effort;
use crate::harness::{entries, in_memory, within};

async fn manual() -> Engine<u64, u64> {
    Engine::builder().shards(2).vacuum(Vacuum::Manual).in_memory().await.unwrap()
}

#[tokio::test]
async fn overwrites_of_one_key_are_reclaimed_as_it_is_written() {
    for engine in [in_memory::<u64, u64>(2).await, manual().await] {
        for value in 0..effort(2_000, 20_000) {
            within(engine.handle().insert(1, value)).await.unwrap();
            let versions = engine.stats().versions();
            assert!(versions <= 200, "{versions} versions after {value} overwrites");
        }
        within(engine.vacuum()).await.unwrap();
        assert_eq!((engine.stats().versions(), engine.stats().keys()), (1, 1));
    }
}

#[tokio::test]
async fn what_nobody_may_ask_for_goes_with_the_write_that_replaces_it() {
    let engine = manual().await;
    let db = engine.handle();
    let versions = || engine.stats().versions();
    for value in 0..3 {
        db.insert(1, value).await.unwrap();
        assert_eq!(versions(), 1);
    }
    let snapshot = db.snapshot();
    db.update(1, |old| old.map(|old| old + 1)).await.unwrap();
    assert_eq!((versions(), snapshot.get(&1).unwrap().as_deref()), (2, Some(&2)));
    drop(snapshot);
    assert_eq!(versions(), 2, "reading is no occasion to reclaim");
    db.insert(1, 9).await.unwrap();
    assert_eq!((versions(), db.get(&1).unwrap().as_deref()), (1, Some(&9)));
}

#[tokio::test]
async fn a_vacuum_counts_what_it_removed() {
    let engine = manual().await;
    let db = engine.handle();
    let pin = db.snapshot();
    for key in 0..10 {
        for value in 0..5 {
            db.insert(key, value).await.unwrap();
        }
    }
    for key in 0..4 {
        db.remove(&key).await.unwrap();
    }
    let before = engine.stats();
    assert_eq!((before.versions(), before.keys()), (54, 10));
    assert_eq!(engine.vacuum().await.unwrap().versions, 0, "a snapshot of before all of it is open");
    drop(pin);
    let report = engine.vacuum().await.unwrap();
    assert_eq!((report.versions, report.keys), (48, 4));
    let after = engine.stats();
    assert_eq!((after.versions(), after.keys()), (6, 6));
    assert_eq!(engine.vacuum().await.unwrap().versions, 0);
    assert_eq!(entries(db.range(..)), (4..10).map(|key| (key, 4)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_snapshot_keeps_its_versions_until_it_is_dropped() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    for key in 0..10 {
        db.insert(key, 0).await.unwrap();
    }
    let (snapshot, mut txn) = (db.snapshot(), db.begin());
    for round in 1..200 {
        for key in 0..10 {
            db.insert(key, round).await.unwrap();
        }
        if round % 50 == 0 {
            engine.vacuum().await.unwrap();
        }
    }
    let expected: Vec<_> = (0..10).map(|key| (key, 0)).collect();
    assert_eq!(entries(snapshot.range(..)), expected);
    assert_eq!(txn.get(&3).unwrap().as_deref(), Some(&0));
    let stats = engine.stats();
    assert_eq!(
        (stats.readers, stats.oldest_reader.map(|oldest| oldest.timestamp)),
        (2, Some(snapshot.timestamp()))
    );
    drop((snapshot, txn));
    engine.vacuum().await.unwrap();
    assert_eq!((engine.stats().versions(), engine.stats().readers), (10, 0));
}

#[tokio::test]
async fn removed_keys_are_taken_out_by_themselves_when_the_engine_is_idle() {
    let idle_interval = std::time::Duration::from_millis(5);
    let engine: Engine<u64, u64> =
        Engine::builder().shards(2).vacuum(Vacuum::Automatic { idle_interval }).in_memory().await.unwrap();
    for key in 0..500 {
        engine.handle().insert(key, key).await.unwrap();
    }
    for key in 0..500 {
        engine.handle().remove(&key).await.unwrap();
    }
    within(async {
        while engine.stats().keys() > 0 {
            tokio::time::sleep(idle_interval).await;
        }
    })
    .await;
    assert_eq!(engine.stats().versions(), 0);
}

#[tokio::test]
async fn aborted_writes_never_appear_before_or_after_a_vacuum() {
    let engine = manual().await;
    let db = engine.handle();
    db.insert(1, 1).await.unwrap();
    let mut lost = db.begin();
    lost.get(&1).unwrap();
    for key in 0..10 {
        lost.insert(key, 99);
    }
    let mut rolled_back = db.begin();
    rolled_back.remove(&1);
    rolled_back.insert(2, 99);
    rolled_back.rollback();
    db.insert(1, 2).await.unwrap();
    assert!(matches!(lost.commit().await, Err(Error::Conflict { .. })));
    for _ in 0..2 {
        assert_eq!(entries(db.range(..)), [(1, 2)]);
        assert_eq!(db.get(&2).unwrap(), None);
        engine.vacuum().await.unwrap();
    }
    assert_eq!(engine.stats().versions(), 1);
}

#[tokio::test]
async fn many_open_transactions_are_counted_and_let_go() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    let mut open = Vec::new();
    for key in 0..10_000 {
        open.push(db.begin());
        if key % 100 == 0 {
            db.insert(key, key).await.unwrap();
        }
    }
    assert_eq!(engine.stats().readers, 10_000);
    assert_eq!(engine.stats().oldest_reader.unwrap().timestamp.0, 0);
    open.drain(..5_000);
    assert_eq!(engine.stats().readers, 5_000);
    assert_eq!(engine.stats().oldest_reader.unwrap().timestamp.0, 50);
    drop(open);
    assert_eq!((engine.stats().readers, engine.stats().oldest_reader), (0, None));
}
