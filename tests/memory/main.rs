//! Memory stays flat under overwrites, counted by the allocator. A binary of its own: the allocator counts
//! what all of a process's threads do.

mod opening;

use std::alloc::System;
use std::future::Future;
use std::time::Duration;

use anabranch::{Durability, Engine, Error, Flush};
use cap::Cap;
use tokio::sync::Mutex;

mod accounting;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Tests run one at a time: the allocator counts for all of them.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What is allocated after so many rounds of the same work, four times in a row.
async fn allocated_after_each<F: Future<Output = ()>>(
    engine: &Engine<u64, Vec<u8>>,
    work: impl Fn() -> F,
) -> Vec<usize> {
    let mut allocated = Vec::new();
    for _ in 0..4 {
        work().await;
        engine.vacuum().await.unwrap();
        allocated.push(ALLOCATOR.allocated());
    }
    allocated
}

/// The first round warms up; the rest differ by less than a tenth.
fn assert_flat(allocated: &[usize]) {
    let (first, last) = (allocated[1], allocated[allocated.len() - 1]);
    assert!(last * 10 <= first * 11, "it grows: {allocated:?}");
}

#[tokio::test]
async fn memory_is_flat_under_overwrites_reads_and_aborted_transactions() {
    let _alone = ALONE.lock().await;
    let engine: Engine<u64, Vec<u8>> = Engine::builder().shards(2).in_memory().await.unwrap();
    let db = engine.handle();
    let overwrites = allocated_after_each(&engine, async || {
        for _ in 0..20_000 {
            db.insert(1, vec![1; 100]).await.unwrap();
        }
    });
    assert_flat(&overwrites.await);
    assert_eq!(engine.stats().versions(), 1);

    let reads = allocated_after_each(&engine, async || {
        for _ in 0..20_000 {
            let mut txn = db.begin();
            txn.get(&1).unwrap();
            txn.commit().await.unwrap();
            drop(db.snapshot());
        }
    });
    assert_flat(&reads.await);

    let aborted = allocated_after_each(&engine, async || {
        for key in 0..5_000 {
            let mut txn = db.begin();
            txn.get(&key).unwrap();
            txn.insert(key, vec![2; 100]);
            txn.rollback();
            let failed = db.transaction(|txn| {
                txn.insert(key, vec![3; 100]);
                Err::<(), _>(Error::Nested)
            });
            assert!(failed.await.is_err());
        }
    });
    assert_flat(&aborted.await);

    let churn = allocated_after_each(&engine, async || {
        for key in 0..10_000 {
            db.insert(key, vec![4; 100]).await.unwrap();
            db.remove(&key).await.unwrap();
        }
    });
    assert_flat(&churn.await);
}

/// Who reads while keys are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Nobody,
    /// A snapshot that takes the place of the one before every so many updates.
    NowAndThen(u64),
    /// One snapshot for all the time.
    Throughout,
}

#[tokio::test]
async fn memory_is_flat_under_millions_of_updates_whoever_reads() {
    const KEYS: u64 = 1_000;
    let _alone = ALONE.lock().await;
    let updates: u64 = match std::env::var("ANABRANCH_EFFORT").as_deref() {
        Ok("full") => 10_000_000,
        Ok("ci") => 1_000_000,
        _ => 400_000,
    };
    for reading in [Reading::Nobody, Reading::NowAndThen(updates / 40), Reading::Throughout] {
        let engine: Engine<u64, Vec<u8>> = Engine::builder().shards(2).in_memory().await.unwrap();
        let db = engine.handle();
        for key in 0..KEYS {
            db.insert(key, vec![0; 100]).await.unwrap();
        }
        let first = db.snapshot();
        let mut snapshot = (reading != Reading::Nobody).then_some(first);
        let mut allocated = Vec::new();
        for update in 0..updates {
            let old_value = |old: Option<&Vec<u8>>| old.cloned();
            db.update(update * 7 % KEYS, old_value).await.unwrap();
            if matches!(reading, Reading::NowAndThen(every) if update % every == 0) {
                // The new one begins before the old one ends.
                snapshot = Some(db.snapshot());
            }
            if update % (updates / 20) == 0 {
                allocated.push(ALLOCATOR.allocated());
            }
        }
        // Chains grow to sixteen versions and shrink again, all at about the same time, so peaks are compared.
        let (first, second) = allocated[2..].split_at(9);
        let [before, after] = [first, second].map(|half| half.iter().max().copied().unwrap_or(0));
        assert!(after * 10 <= before * 13, "{reading:?}: it grows: {allocated:?}");
        let versions = engine.stats().versions();
        assert!(versions <= KEYS * 18 + 200, "{reading:?}: {versions} versions");
        if let Some(snapshot) = snapshot {
            assert_eq!(snapshot.len().unwrap(), 1_000);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_dropped_gives_its_memory_back_in_every_mode() {
    let _alone = ALONE.lock().await;
    let relaxed = Durability::Relaxed(Flush::every(Duration::from_millis(5)));
    let directory = tempfile::tempdir().unwrap();
    for (mode, durability) in [("memory", None), ("relaxed", Some(relaxed)), ("full", Some(Durability::Full))]
    {
        let path = directory.path().join(mode);
        let life = async |rows: u64| {
            let builder = Engine::builder().shards(2).max_snapshot_age(Duration::from_mins(10));
            let engine: Engine<u64, Vec<u8>> = match durability {
                None => builder.in_memory().await.unwrap(),
                Some(durability) => builder.durability(durability).open(&path).await.unwrap(),
            };
            let db = engine.handle();
            let mut sink = db.ingest(anabranch::IngestOptions::default());
            for key in 0..rows {
                sink.send(key, vec![1; 1_000]).await.unwrap();
            }
            sink.finish().await.unwrap();
            let pin = db.snapshot();
            for key in 0..100 {
                db.update(key, |_| Some(vec![2; 1_000])).await.unwrap();
            }
            drop(db.begin());
            let held = ALLOCATOR.allocated();
            drop((pin, db));
            if mode == "memory" {
                // There is nothing to wait for: its tasks end by themselves.
                drop(engine);
            } else {
                engine.close().await.unwrap();
            }
            held
        };
        // What a process sets up once, it keeps.
        life(10).await;
        let before = ALLOCATOR.allocated();
        let held = life(10_000).await;
        assert!(held > before + 10_000_000, "{mode}: the rows were there");
        let limit = before + 1_000_000;
        let gone = async {
            while ALLOCATOR.allocated() > limit {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), gone).await;
        assert!(
            waited.is_ok(),
            "{mode}: {} of {held} bytes are left, {before} before",
            ALLOCATOR.allocated()
        );
    }
}
