//! Memory stays flat under overwrites, counted by the allocator. A binary of its own: the allocator counts
//! what all of a process's threads do.

mod opening;

use std::alloc::System;
use std::future::Future;

use anabranch::{Engine, Error};
use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// One test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

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
