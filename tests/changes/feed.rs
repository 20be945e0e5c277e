//! What the stream yields, and how it ends.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anabranch::{Durability, Error, Flush, IngestOptions, Timestamp};
use futures_core::Stream;

use crate::{builder, next, read, within};

#[tokio::test]
async fn commits_come_whole_in_order_and_without_gaps() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(4).open(directory.path()).await.unwrap();
    let db = engine.handle();
    db.insert(1, vec![1]).await.unwrap();
    let moved = |txn: &mut anabranch::Transaction<u64, Vec<u8>>| {
        for key in 10..30 {
            txn.insert(key, vec![2]);
        }
        txn.remove(&1);
        Ok::<_, Error>(())
    };
    db.transaction(moved).await.unwrap();
    db.update(10, |old| old.map(|old| [old.as_slice(), &[3]].concat())).await.unwrap();
    // Larger than a segment's window of reading, and than a batch.
    db.insert(2, vec![7; 1_000_000]).await.unwrap();
    let mut sink = db.ingest(IngestOptions::default().exact());
    sink.send(3, vec![4]).await.unwrap();
    sink.offset("source", 17);
    within(sink.finish()).await.unwrap();

    let sets = read(&db, Timestamp::ZERO, Timestamp(5)).await.unwrap();
    let timestamps: Vec<_> = sets.iter().map(|set| set.timestamp.0).collect();
    assert_eq!(timestamps, [1, 2, 3, 4, 5]);
    assert_eq!(sets[0].changes.len(), 1);
    let mut keys: Vec<_> = sets[1].changes.iter().map(|change| (change.key, change.value.clone())).collect();
    keys.sort();
    assert_eq!(keys[0], (1, None));
    assert!(keys.len() == 21 && keys[1..].iter().all(|(_, value)| *value == Some(vec![2])), "{keys:?}");
    assert_eq!(sets[2].changes[0].value, Some(vec![2, 3]));
    assert_eq!(sets[3].changes[0].value, Some(vec![7; 1_000_000]));
    assert_eq!((sets[4].changes[0].key, &sets[4].offsets), (3, &vec![("source".to_owned(), 17)]));

    let from_the_middle = read(&db, Timestamp(3), Timestamp(5)).await.unwrap();
    assert_eq!(from_the_middle, sets[3..]);
}

#[tokio::test]
async fn the_feed_waits_for_what_comes_and_is_never_ahead_of_what_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(2).open(directory.path()).await.unwrap();
    let db = engine.handle();
    let mut changes = db.changes(Timestamp::ZERO);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(Pin::new(&mut changes).poll_next(&mut context), Poll::Pending));
    let writing = tokio::spawn({
        let db = db.clone();
        async move {
            for key in 0..200 {
                db.insert(key, vec![1]).await.unwrap();
            }
        }
    });
    for commit in 1..=200 {
        let set = next(&mut changes).await.unwrap().unwrap();
        assert_eq!(set.timestamp, Timestamp(commit));
        assert!(engine.stats().synced >= set.timestamp);
    }
    within(writing).await.unwrap();
}

#[tokio::test]
async fn a_stronger_handle_yields_only_what_survives_power_loss() {
    let directory = tempfile::tempdir().unwrap();
    let relaxed = Durability::Relaxed(Flush::every(Duration::from_hours(1)));
    let engine = builder().shards(2).durability(relaxed).open(directory.path()).await.unwrap();
    let db = engine.handle();
    db.insert(1, vec![1]).await.unwrap();
    let mut changes = db.changes(Timestamp::ZERO);
    assert_eq!(next(&mut changes).await.unwrap().unwrap().timestamp, Timestamp(1));
    let mut full = db.with_durability(Durability::Full).unwrap().changes(Timestamp::ZERO);
    let set = next(&mut full).await.unwrap().unwrap();
    assert!(set.timestamp == Timestamp(1) && engine.stats().synced >= Timestamp(1));
}

#[tokio::test]
async fn without_a_log_or_from_a_commit_that_there_is_not_the_feed_says_so_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let memory = builder().in_memory().await.unwrap();
    let engine = builder().open(directory.path()).await.unwrap();
    for mut changes in [memory.handle().changes(Timestamp::ZERO), engine.handle().changes(Timestamp(1))] {
        let error = next(&mut changes).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
        assert!(next(&mut changes).await.is_none());
    }
}

#[tokio::test]
async fn a_closed_engine_ends_the_feed_which_does_not_keep_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(2).open(directory.path()).await.unwrap();
    let db = engine.handle();
    for key in 0..300 {
        db.insert(key, vec![1; 100]).await.unwrap();
    }
    let mut waiting = db.changes(Timestamp(300));
    let mut halfway = db.changes(Timestamp::ZERO);
    assert!(next(&mut halfway).await.unwrap().is_ok());
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut waiting).poll_next(&mut context).is_pending());
    within(engine.close()).await.unwrap();
    let again = within(builder().shards(2).open(directory.path())).await.unwrap();
    let error = next(&mut waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    // What was read before is still there; then it ends.
    let error = loop {
        match next(&mut halfway).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Closed), "{error}");
    drop(again);
}
