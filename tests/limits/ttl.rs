//! Times to live, by a clock that stands until the test sets it.

use std::time::Duration;

use anabranch::{Engine, EngineBuilder, Error, Eviction, IngestOptions, Vacuum};

use crate::world::{Calendar, changes, content};

const MINUTE: Duration = Duration::from_mins(1);

fn builder(calendar: &Calendar) -> EngineBuilder<u64, u64> {
    // Nothing is removed unless a test asks for it, so that reads alone must tell.
    Engine::builder().shards(2).vacuum(Vacuum::Manual).env(calendar.env())
}

#[tokio::test]
async fn an_expired_entry_is_returned_by_no_read_that_begins_later() {
    let calendar = Calendar::default();
    let engine = builder(&calendar).in_memory().await.unwrap();
    let db = engine.handle();
    db.insert(0, 0).await.unwrap();
    db.insert_with_ttl(1, 1, MINUTE).await.unwrap();
    let mut txn = db.begin();
    txn.insert_with_ttl(2, 2, 2 * MINUTE).unwrap();
    assert_eq!(txn.get(&2).unwrap().as_deref(), Some(&2));
    txn.commit().await.unwrap();
    let early = db.snapshot();

    calendar.pass(Duration::from_millis(59_999));
    assert_eq!(content(&db).len(), 3);
    calendar.pass(Duration::from_millis(1));
    assert_eq!(db.get(&1).unwrap(), None);
    assert!(!db.contains_key(&1).unwrap());
    assert_eq!(db.len().unwrap(), 2);
    assert_eq!(content(&db).into_keys().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(db.snapshot().get(&1).unwrap(), None);
    assert!(db.metadata(&1).unwrap().is_none());
    let mut txn = db.begin();
    assert_eq!(txn.get(&1).unwrap(), None);
    assert_eq!(txn.range(..).count(), 2);
    assert_eq!(db.remove(&1).await.unwrap(), None, "there is nothing to remove");
    let seen = db.update(1, |old| Some(old.map_or(100, |old| old + 1))).await.unwrap();
    assert_eq!(seen.as_deref(), Some(&100), "an update finds nothing there either");

    // A snapshot does not change while it is open.
    assert_eq!(early.get(&1).unwrap().as_deref(), Some(&1));
    assert_eq!(early.range(..).count(), 3);
}

#[tokio::test]
async fn an_insert_ends_the_time_and_an_update_keeps_it() {
    let calendar = Calendar::default();
    let engine = builder(&calendar).in_memory().await.unwrap();
    let db = engine.handle();
    for key in 0..5 {
        db.insert_with_ttl(key, 0, MINUTE).await.unwrap();
    }
    db.insert(0, 1).await.unwrap();
    db.update(1, |old| old.map(|old| old + 1)).await.unwrap();
    db.transaction(|txn| txn.update(2, |old| old.map(|old| old + 1)).map(drop)).await.unwrap();
    db.insert_with_ttl(3, 1, 2 * MINUTE).await.unwrap();
    let mut sink = db.ingest(IngestOptions::default());
    sink.update(4, |old| old.map(|old| old + 1)).await.unwrap();
    sink.finish().await.unwrap();
    assert!(content(&db).into_values().all(|value| value == 1));
    calendar.pass(MINUTE);
    assert_eq!(content(&db).into_keys().collect::<Vec<_>>(), [0, 3]);
    calendar.pass(MINUTE);
    assert_eq!(content(&db).into_keys().collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn an_expiry_survives_reopening_from_the_log_and_from_a_checkpoint() {
    let calendar = Calendar::default();
    let directory = tempfile::tempdir().unwrap();
    let engine = builder(&calendar).open(directory.path()).await.unwrap();
    let db = engine.handle();
    for key in 0..10 {
        db.insert_with_ttl(key, key, MINUTE * u32::try_from(key + 1).unwrap()).await.unwrap();
    }
    engine.checkpoint().await.unwrap();
    db.insert_with_ttl(10, 10, 3 * MINUTE).await.unwrap();
    db.insert(11, 11).await.unwrap();
    engine.close().await.unwrap();

    calendar.pass(3 * MINUTE);
    // Other shards: everything goes through a checkpoint once more.
    let engine = builder(&calendar).shards(3).open(directory.path()).await.unwrap();
    assert_eq!(content(&engine.handle()).into_keys().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 11]);
    let known = engine.handle().metadata(&3).unwrap().unwrap();
    assert_eq!(known.expires_unix_millis, Some(1_700_000_000_000 + 4 * 60_000));
    engine.close().await.unwrap();
    calendar.pass(100 * MINUTE);
    let engine = builder(&calendar).open(directory.path()).await.unwrap();
    assert_eq!(content(&engine.handle()).into_keys().collect::<Vec<_>>(), [11]);
}

#[tokio::test]
async fn expired_entries_are_removed_by_logged_commits_and_only_they_are_looked_at() {
    let calendar = Calendar::default();
    let directory = tempfile::tempdir().unwrap();
    let engine = builder(&calendar).open(directory.path()).await.unwrap();
    let db = engine.handle();
    let mut sink = db.ingest(IngestOptions::default());
    for key in 1_000..1_500 {
        sink.send(key, key).await.unwrap();
    }
    sink.finish().await.unwrap();
    for key in 0..50 {
        db.insert_with_ttl(key, key, MINUTE).await.unwrap();
    }
    assert_eq!(engine.stats().keys(), 550);
    calendar.pass(MINUTE);
    let report = engine.vacuum().await.unwrap();
    engine.sync().await.unwrap();
    engine.vacuum().await.unwrap();
    assert_eq!(engine.stats().keys(), 500, "{report:?}");
    let changes = changes(&db, engine.stats().durable).await;
    let expired: Vec<_> = changes.iter().filter(|change| change.expires_unix_millis.is_some()).collect();
    assert_eq!(expired.len(), 50);
    let removed: std::collections::BTreeSet<_> =
        changes.iter().filter(|change| change.value.is_none()).map(|change| change.key).collect();
    assert_eq!(removed, (0..50).collect());
}

#[tokio::test(start_paused = true)]
async fn an_idle_engine_removes_what_expires_by_itself() {
    let calendar = Calendar::default();
    let engine = builder(&calendar).vacuum(Vacuum::default()).in_memory().await.unwrap();
    let db = engine.handle();
    for key in 0..100 {
        db.insert_with_ttl(key, key, MINUTE).await.unwrap();
    }
    calendar.pass(MINUTE);
    // The clock of the runtime jumps to the keeper's next look.
    for _ in 0..60 {
        if engine.stats().keys() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("still there: {:?}", engine.stats());
}

#[tokio::test]
async fn a_transaction_whose_reads_expire_before_its_commit_conflicts() {
    let calendar = Calendar::default();
    for shards in [1, 4] {
        let engine = builder(&calendar).shards(shards).in_memory().await.unwrap();
        let db = engine.handle();
        db.insert_with_ttl(1, 1, MINUTE).await.unwrap();
        let mut by_key = db.begin();
        by_key.get(&1).unwrap();
        let mut by_range = db.begin();
        assert_eq!(by_range.range(..).count(), 1);
        let mut elsewhere = db.begin();
        elsewhere.get(&2).unwrap();
        calendar.pass(MINUTE);
        // Somebody else acts on its absence, and commits first.
        db.transaction(|txn| {
            assert!(txn.get(&1)?.is_none());
            txn.insert(3, 3);
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        by_key.insert(4, 4);
        assert!(matches!(by_key.commit().await, Err(Error::Conflict { .. })));
        by_range.insert(5, 5);
        assert!(matches!(by_range.commit().await, Err(Error::Conflict { .. })));
        elsewhere.insert(6, 6);
        elsewhere.commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_has_expired_once_stays_away_when_the_clock_is_set_back() {
    let calendar = Calendar::default();
    let engine = builder(&calendar).in_memory().await.unwrap();
    let db = engine.handle();
    db.insert_with_ttl(1, 1, MINUTE).await.unwrap();
    calendar.pass(2 * MINUTE);
    assert_eq!(db.get(&1).unwrap(), None);
    calendar.set_back(2 * MINUTE);
    assert_eq!(db.get(&1).unwrap(), None);
}

#[tokio::test]
async fn the_policy_of_a_time_to_live_counts_for_every_way_of_writing() {
    let calendar = Calendar::default();
    let builder = builder(&calendar).memory_limit(1 << 20, Eviction::Ttl(MINUTE));
    let engine = builder.in_memory().await.unwrap();
    let db = engine.handle();
    db.insert(0, 0).await.unwrap();
    db.update(1, |_| Some(1)).await.unwrap();
    db.transaction(|txn| {
        txn.insert(2, 2);
        txn.update(3, |_| Some(3)).map(drop)
    })
    .await
    .unwrap();
    let mut sink = db.ingest(IngestOptions::default());
    sink.send(4, 4).await.unwrap();
    sink.finish().await.unwrap();
    let mut sink = db.ingest(IngestOptions::default().exact());
    sink.send(5, 5).await.unwrap();
    sink.offset("source", 1);
    sink.finish().await.unwrap();
    db.insert_with_ttl(6, 6, 2 * MINUTE).await.unwrap();
    assert_eq!(content(&db).len(), 7);
    calendar.pass(MINUTE);
    assert_eq!(content(&db).into_keys().collect::<Vec<_>>(), [6]);
    engine.vacuum().await.unwrap();
    assert_eq!(engine.memory_info().expirations, 6);
}
