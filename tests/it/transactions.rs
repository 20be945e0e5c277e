//! Transactions: their own writes, savepoints, rolling back, tickets.

use std::sync::Arc;

use anabranch::Error;

use crate::harness::{collect, entries, in_memory, open, within};

#[tokio::test]
async fn a_transaction_reads_its_own_writes_and_nobody_else_does() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("a".into(), 1).await.unwrap();
    let mut txn = db.begin();
    txn.insert("a".into(), 10);
    txn.insert("b".into(), 20);
    assert_eq!(txn.get("a").unwrap().as_deref(), Some(&10));
    assert!(txn.contains_key("b").unwrap());
    txn.remove("a");
    assert_eq!(txn.get("a").unwrap(), None);
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&1));
    assert_eq!(db.get("b").unwrap(), None);
    assert_eq!(db.begin().get("b").unwrap(), None);
    txn.commit().await.unwrap();
    assert_eq!(db.get("a").unwrap(), None);
    assert_eq!(db.get("b").unwrap().as_deref(), Some(&20));
}

#[tokio::test]
async fn scans_of_a_transaction_show_its_own_writes_on_top() {
    for shards in [1, 4] {
        let engine = in_memory::<u64, u64>(shards).await;
        let db = engine.handle();
        for key in [1, 3, 5, 7] {
            db.insert(key, key).await.unwrap();
        }
        let mut txn = db.begin();
        txn.insert(0, 100);
        txn.insert(3, 103);
        txn.insert(4, 104);
        txn.remove(&5);
        txn.remove(&6);
        txn.insert(8, 108);
        let expected = [(0, 100), (1, 1), (3, 103), (4, 104), (7, 7), (8, 108)];
        assert_eq!(entries(txn.range(..)), expected);
        let mut backwards = entries(txn.range(..).rev());
        backwards.reverse();
        assert_eq!(backwards, expected);
        assert_eq!(entries(txn.range(3..=4)), [(3, 103), (4, 104)]);
        let streamed = collect(txn.range_stream(1..8)).await;
        assert_eq!(entries(streamed.into_iter()), expected[1..5]);
        assert_eq!(entries(db.range(..)), [(1, 1), (3, 3), (5, 5), (7, 7)]);
    }
}

#[tokio::test]
async fn prefixes_of_a_transaction_show_its_own_writes_on_top() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("user:1".into(), 1).await.unwrap();
    db.insert("users".into(), 2).await.unwrap();
    let mut txn = db.begin();
    txn.insert("user:2".into(), 3);
    txn.insert("use".into(), 4);
    let found = entries(txn.prefix("user:"));
    assert_eq!(found, [("user:1".to_owned(), 1), ("user:2".to_owned(), 3)]);
    assert_eq!(entries(collect(txn.prefix_stream("user:")).await.into_iter()), found);
}

#[tokio::test]
async fn a_scan_keeps_what_the_transaction_had_written_when_it_began() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    let mut txn = db.begin();
    txn.insert(1, 1);
    let scan = txn.range(..);
    txn.insert(2, 2);
    txn.remove(&1);
    assert_eq!(entries(scan), [(1, 1)]);
    assert_eq!(entries(txn.range(..)), [(2, 2)]);
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_or_dropped_leaves_nothing() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    db.insert(1, 1).await.unwrap();
    let mut txn = db.begin();
    txn.insert(1, 2);
    txn.insert(2, 2);
    txn.rollback();
    let mut txn = db.begin();
    txn.remove(&1);
    drop(txn);
    assert_eq!(entries(db.range(..)), [(1, 1)]);
    assert_eq!(engine.stats().commits, 1);
    assert_eq!(engine.stats().readers, 0);
}

#[tokio::test]
async fn an_update_within_a_transaction_reads_its_own_writes() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    let mut txn = db.begin();
    for expected in 1..=3 {
        let new = txn.update("n".into(), |old| Some(old.copied().unwrap_or(0) + 1)).unwrap();
        assert_eq!(new.as_deref(), Some(&expected));
    }
    assert_eq!(txn.update("m".into(), |_| None).unwrap(), None);
    txn.commit().await.unwrap();
    assert_eq!(db.get("n").unwrap().as_deref(), Some(&3));
    assert_eq!(db.get("m").unwrap(), None);
}

#[tokio::test]
async fn rolling_back_to_a_savepoint_undoes_what_came_after_it() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("kept".into(), 0).await.unwrap();
    let mut txn = db.begin();
    txn.insert("a".into(), 1);
    txn.savepoint("first");
    txn.insert("a".into(), 2);
    txn.insert("b".into(), 2);
    txn.savepoint("second");
    txn.remove("kept");
    txn.remove("a");
    txn.rollback_to("second").unwrap();
    assert_eq!(txn.get("a").unwrap().as_deref(), Some(&2));
    assert_eq!(txn.get("kept").unwrap().as_deref(), Some(&0));
    txn.insert("c".into(), 3);
    txn.rollback_to("first").unwrap();
    let left = [("a".to_owned(), 1), ("kept".to_owned(), 0)];
    assert_eq!(entries(txn.range(..)), left);
    txn.commit().await.unwrap();
    assert_eq!(entries(db.range(..)), left);
}

#[tokio::test]
async fn rolling_back_consumes_the_savepoint_and_those_after_it() {
    let engine = in_memory::<u64, u64>(1).await;
    let mut txn = engine.handle().begin();
    txn.savepoint("first");
    txn.insert(1, 1);
    txn.savepoint("second");
    txn.insert(2, 2);
    txn.rollback_to("first").unwrap();
    for gone in ["first", "second"] {
        let error = txn.rollback_to(gone).unwrap_err();
        assert!(matches!(&error, Error::UnknownSavepoint { name } if name == gone), "{error}");
    }
    txn.insert(3, 3);
    assert!(txn.rollback_to("first").is_err());
    assert_eq!(entries(txn.range(..)), [(3, 3)], "a failed rollback undoes nothing");
}

#[tokio::test]
async fn of_savepoints_with_one_name_the_newest_counts() {
    let engine = in_memory::<u64, u64>(1).await;
    let mut txn = engine.handle().begin();
    txn.savepoint("here");
    txn.insert(1, 1);
    txn.savepoint("here");
    txn.insert(2, 2);
    txn.rollback_to("here").unwrap();
    assert_eq!(entries(txn.range(..)), [(1, 1)]);
    txn.rollback_to("here").unwrap();
    assert_eq!(entries(txn.range(..)), []);
}

#[tokio::test]
async fn what_was_read_before_rolling_back_to_a_savepoint_still_counts() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    let mut txn = db.begin();
    txn.savepoint("before");
    txn.get(&1).unwrap();
    txn.rollback_to("before").unwrap();
    txn.insert(2, 2);
    db.insert(1, 1).await.unwrap();
    assert!(matches!(txn.commit().await, Err(Error::Conflict { attempts: 1 })));
}

#[tokio::test]
async fn a_transaction_sees_the_moment_it_began() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    db.insert(1, 1).await.unwrap();
    let (mut txn, snapshot) = (db.begin(), db.snapshot());
    db.insert(1, 2).await.unwrap();
    db.insert(2, 2).await.unwrap();
    db.remove(&1).await.unwrap();
    assert_eq!(entries(txn.range(..)), [(1, 1)]);
    assert_eq!(txn.get(&1).unwrap().as_deref(), Some(&1));
    assert_eq!(entries(snapshot.range(..)), [(1, 1)]);
    assert_eq!(snapshot.get_many([&1, &2]).unwrap(), [Some(Arc::new(1)), None]);
    assert_eq!((snapshot.len().unwrap(), snapshot.is_empty().unwrap()), (1, false));
    assert_eq!(snapshot.timestamp(), txn.read_timestamp());
}

#[tokio::test]
async fn timestamps_of_commits_are_dense_and_in_commit_order() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    let mut last = 0;
    for key in 0..50 {
        let mut txn = db.begin();
        for offset in 0..=key % 4 {
            txn.insert(key + offset, key);
        }
        let commit = txn.commit().await.unwrap();
        assert_eq!(commit.timestamp().0, last + 1);
        last = commit.timestamp().0;
    }
    let read_only = db.begin().commit().await.unwrap();
    assert_eq!(read_only.timestamp().0, last, "a commit that wrote nothing takes no place of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_gives_the_place_at_once_and_durability_later() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    let db = engine.handle();
    let mut tickets = Vec::new();
    for key in 0..50 {
        let mut txn = db.begin();
        txn.insert(key, key);
        txn.insert(key + 1_000, key);
        let ticket = within(txn.submit()).await.unwrap();
        assert_eq!(db.begin().get(&key).unwrap().as_deref(), Some(&key), "transactions see it already");
        tickets.push((key, ticket));
    }
    for (key, ticket) in tickets {
        let place = ticket.timestamp();
        let commit = within(ticket.durable()).await.unwrap();
        assert_eq!(commit.timestamp(), place);
        assert!(engine.stats().synced >= place);
        assert_eq!(db.get(&key).unwrap().as_deref(), Some(&key), "acknowledged, so seen by every read");
    }
}

#[tokio::test]
async fn a_dropped_ticket_does_not_take_the_commit_back() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 1).await;
    let mut txn = engine.handle().begin();
    txn.insert(1, 1);
    drop(txn.submit().await.unwrap());
    within(engine.close()).await.unwrap();
    let engine = open::<u64, u64>(directory.path(), 1).await;
    assert_eq!(engine.handle().get(&1).unwrap().as_deref(), Some(&1));
}
