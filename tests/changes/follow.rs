//! A fresh engine that the changes are replayed into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch::{Durability, Error, IngestOptions, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Content, Db, apply, builder, effort, next, short_logs, snapshot, within};

/// Writes in every way there is, until it is told to stop.
async fn write(db: Db, seed: u64, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sink = db.ingest(IngestOptions::default().batch_rows(10));
    while !stop.load(Ordering::SeqCst) {
        let key = random.random_range(0..60);
        let value = vec![random.random(); random.random_range(0..400)];
        match random.random_range(0..6) {
            0 => db.insert(key, value).await.unwrap(),
            1 => drop(db.remove(&key).await.unwrap()),
            2 => drop(db.update(key, move |old| old.is_none().then(|| value.clone())).await.unwrap()),
            3 => {
                let written = db.transaction(|txn| {
                    let there = txn.contains_key(&key)?;
                    for other in key..key + 5 {
                        txn.insert(other, value.clone());
                    }
                    if there {
                        txn.remove(&key);
                    }
                    Ok::<_, Error>(())
                });
                written.await.unwrap();
            }
            4 => {
                for row in 0..5 {
                    sink.send(key + row, value.clone()).await.unwrap();
                }
                sink.offset("source", key);
            }
            _ => sink.remove(key).await.unwrap(),
        }
    }
    sink.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_replayed_into_a_fresh_engine_give_an_identical_one_at_ten_timestamps() {
    let directory = tempfile::tempdir().unwrap();
    let engine = short_logs()
        .durability(Durability::Full)
        .retain_log_bytes(1 << 30)
        .segments_max(4_000)
        .open(directory.path())
        .await
        .unwrap();
    let db = engine.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..3).map(|seed| tokio::spawn(write(db.clone(), seed, Arc::clone(&stop)))).collect();

    let fresh = builder().shards(2).in_memory().await.unwrap();
    let copy = fresh.handle();
    let mut changes = db.changes(Timestamp::ZERO);
    // Each moment is looked at after this many more commits, and compared once the copy has reached it.
    let mut moments: BTreeMap<Timestamp, Content> = BTreeMap::new();
    let mut compared = 0;
    let mut followed = 0;
    while compared < 10 {
        let set = next(&mut changes).await.unwrap().unwrap();
        followed += 1;
        assert_eq!(set.timestamp, Timestamp(followed), "no commit is left out");
        let timestamp = set.timestamp;
        let applied = copy.transaction(|txn| {
            for change in &set.changes {
                match &change.value {
                    Some(value) => txn.insert(change.key, value.clone()),
                    None => txn.remove(&change.key),
                }
            }
            Ok::<_, Error>(())
        });
        within(applied).await.unwrap();
        if let Some(expected) = moments.remove(&timestamp) {
            assert_eq!(snapshot(&copy).1, expected, "at commit {timestamp}");
            compared += 1;
        }
        if followed % effort(200, 2_000) == 0 {
            let (timestamp, content) = snapshot(&db);
            if timestamp > Timestamp(followed) {
                moments.insert(timestamp, content);
            }
            within(engine.checkpoint()).await.unwrap();
        }
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        within(writer).await.unwrap();
    }
    assert!(engine.stats().log.checkpoints >= 10, "checkpoints went on");
    // And at the end.
    let (last, expected) = snapshot(&db);
    let mut content = snapshot(&copy).1;
    for set in crate::read(&db, Timestamp(followed), last).await.unwrap() {
        apply(&mut content, set);
    }
    assert_eq!(content, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_and_the_changes_after_it_start_a_follower() {
    let directory = tempfile::tempdir().unwrap();
    let engine = short_logs()
        .durability(Durability::Full)
        .retain_log_bytes(1 << 20)
        .segments_max(500)
        .open(directory.path())
        .await
        .unwrap();
    let db = engine.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(db.clone(), 7, Arc::clone(&stop)));
    while db.snapshot().timestamp() < Timestamp(300) {
        tokio::task::yield_now().await;
    }
    let (begun, mut content) = snapshot(&db);
    while db.snapshot().timestamp() < Timestamp(begun.0 + 300) {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::SeqCst);
    within(writer).await.unwrap();
    let (last, expected) = snapshot(&db);
    for set in crate::read(&db, begun, last).await.unwrap() {
        apply(&mut content, set);
    }
    assert_eq!(content, expected);
}
