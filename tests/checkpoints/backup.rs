//! Backups of an engine that goes on writing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch::{Engine, Error};

use crate::{builder, effort, within, write};

const ACCOUNTS: u64 = 500;
const EACH: u64 = 1_000;

async fn bank(directory: &Path) -> Engine<u64, u64> {
    let engine = within(Engine::builder().shards(3).open(directory)).await.unwrap();
    let fill = |txn: &mut anabranch::Transaction<u64, u64>| {
        (0..ACCOUNTS).for_each(|account| txn.insert(account, EACH));
        Ok::<_, Error>(())
    };
    within(engine.handle().transaction(fill)).await.unwrap();
    engine
}

/// Moves money about until it is told to stop.
fn transfers(
    engine: &Engine<u64, u64>,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<Result<u64, Error>> {
    let (db, stop) = (engine.handle(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut moved = 0;
        while !stop.load(Ordering::Relaxed) {
            let (from, to) = (moved * 7 % ACCOUNTS, (moved * 13 + 1) % ACCOUNTS);
            db.transaction(|txn| {
                let balance = txn.get(&from)?.map_or(0, |balance| *balance);
                txn.insert(from, balance - balance.min(3));
                let other = txn.get(&to)?.map_or(0, |balance| *balance);
                txn.insert(to, other + balance.min(3));
                Ok::<_, Error>(())
            })
            .await?;
            moved += 1;
        }
        Ok(moved)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_transfers_is_one_moment_of_all_shards() {
    let directory = tempfile::tempdir().unwrap();
    let engine = bank(&directory.path().join("original")).await;
    let stop = Arc::default();
    let moving = transfers(&engine, &stop);
    for round in 0..effort(5, 30) {
        let copy = directory.path().join(format!("copy-{round}"));
        let seen = engine.handle().snapshot().timestamp();
        let report = within(engine.backup(&copy)).await.unwrap();
        assert!(report.timestamp >= seen, "what was seen before is in it");
        assert_eq!(report.entries, ACCOUNTS);
        // With another number of shards, too.
        let opened = within(Engine::<u64, u64>::builder().shards(round % 4 + 1).open_existing(&copy)).await;
        let opened = opened.unwrap();
        assert_eq!(opened.stats().applied, report.timestamp);
        let sum: u64 = opened.handle().range(..).map(|entry| *entry.unwrap().1).sum();
        assert_eq!(sum, ACCOUNTS * EACH);
        // It is an engine of its own.
        within(opened.handle().insert(ACCOUNTS, 1)).await.unwrap();
        within(opened.close()).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(within(moving).await.unwrap().unwrap() > 0);
    assert_eq!(engine.handle().get(&ACCOUNTS).unwrap(), None);
    assert_eq!(engine.stats().readers, 0);
}

#[tokio::test]
async fn a_backup_equals_the_snapshot_at_its_timestamp() {
    let directory = tempfile::tempdir().unwrap();
    let engine = within(builder().shards(2).open(directory.path().join("original"))).await.unwrap();
    write(&engine.handle(), 0..1_000, &[7; 50]).await.unwrap();
    for key in (0..1_000).step_by(3) {
        within(engine.handle().remove(&key)).await.unwrap();
    }
    let copy = directory.path().join("copy");
    let report = within(engine.backup(&copy)).await.unwrap();
    let snapshot = engine.handle().snapshot();
    assert_eq!(report.timestamp, snapshot.timestamp());
    let opened = within(builder().shards(2).open_existing(&copy)).await.unwrap();
    let db = opened.handle();
    let (original, copied) = (snapshot.range(..), db.range(..));
    assert!(original.map(Result::unwrap).eq(copied.map(Result::unwrap)));
}

#[tokio::test]
async fn a_backup_goes_into_an_empty_directory_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("own");
    let engine = within(builder().shards(2).open(&own)).await.unwrap();
    write(&engine.handle(), 0..100, b"value").await.unwrap();
    let into_itself = within(engine.backup(&own)).await;
    assert!(matches!(into_itself, Err(Error::Locked { .. })), "{into_itself:?}");

    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "keep me").unwrap();
    let over_something = within(engine.backup(&foreign)).await;
    assert!(matches!(&over_something, Err(Error::Unrecognized(_))), "{over_something:?}");
    assert_eq!(std::fs::read_to_string(foreign.join("letter.txt")).unwrap(), "keep me");

    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    within(engine.backup(&empty)).await.unwrap();
    let twice = within(engine.backup(&empty)).await;
    assert!(matches!(&twice, Err(Error::Unrecognized(_))), "{twice:?}");
    // The engine is none the worse.
    within(engine.handle().insert(1, vec![1])).await.unwrap();
}

#[tokio::test]
async fn a_backup_that_is_dropped_half_way_does_not_open_and_costs_the_engine_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let engine = within(builder().shards(4).open(directory.path().join("original"))).await.unwrap();
    write(&engine.handle(), 0..20_000, &[1; 100]).await.unwrap();
    let mut cut_off = 0;
    for polls in 1..effort(30, 120) {
        let copy = directory.path().join(format!("copy-{polls}"));
        let mut backup = Box::pin(engine.backup(&copy));
        let mut done = false;
        for _ in 0..polls {
            let polled =
                std::future::poll_fn(|context| std::task::Poll::Ready(backup.as_mut().poll(context)));
            done = polled.await.is_ready();
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(backup);
        if done {
            continue;
        }
        assert_eq!(engine.stats().readers, 0);
        match within(builder().open_existing(&copy)).await {
            // The manifest comes last: with it, all is there.
            Ok(opened) => assert_eq!(opened.handle().len().unwrap(), 20_000),
            Err(Error::Unrecognized(_) | Error::Corrupt { .. } | Error::Io(_) | Error::Locked { .. }) => {
                cut_off += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(cut_off > 5, "{cut_off}");
    within(engine.handle().insert(1, vec![1])).await.unwrap();
    within(engine.backup(directory.path().join("whole"))).await.unwrap();
}
