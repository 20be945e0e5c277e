//! What transactions that run at the same time may see of each other, in both isolation levels.

use anabranch::{Engine, Error, Isolation};

use crate::harness::{entries, in_memory, within};

const SHARDS: [usize; 3] = [1, 2, 8];

async fn engine_of(isolation: Isolation, shards: usize) -> Engine<u64, u64> {
    Engine::builder().shards(shards).isolation(isolation).in_memory().await.unwrap()
}

fn is_conflict<T: std::fmt::Debug>(outcome: Result<T, Error>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(Error::Conflict { attempts: 1 }) => true,
        other => panic!("neither a commit nor a conflict: {other:?}"),
    }
}

/// Two transactions read both keys, and each writes one of them. Whether the second conflicts.
async fn write_skew_is_refused(isolation: Isolation, shards: usize, (a, b): (u64, u64)) -> bool {
    let engine = engine_of(isolation, shards).await;
    let db = engine.handle();
    for present in [a, b].into_iter().filter(|key| *key < 100) {
        db.insert(present, 1).await.unwrap();
    }
    let (mut first, mut second) = (db.begin(), db.begin());
    for txn in [&mut first, &mut second] {
        txn.get(&a).unwrap();
        txn.get(&b).unwrap();
    }
    first.insert(a, 0);
    second.insert(b, 0);
    within(first.commit()).await.unwrap();
    is_conflict(within(second.commit()).await)
}

#[tokio::test]
async fn write_skew_on_existing_keys_is_refused_when_serializable_and_allowed_by_snapshot() {
    for shards in SHARDS {
        for b in 1..8 {
            assert!(write_skew_is_refused(Isolation::Serializable, shards, (0, b)).await);
            assert!(!write_skew_is_refused(Isolation::Snapshot, shards, (0, b)).await);
        }
    }
}

#[tokio::test]
async fn write_skew_on_absent_keys_is_refused_when_serializable_and_allowed_by_snapshot() {
    for shards in SHARDS {
        for b in 101..108 {
            assert!(write_skew_is_refused(Isolation::Serializable, shards, (100, b)).await);
            assert!(!write_skew_is_refused(Isolation::Snapshot, shards, (100, b)).await);
        }
    }
}

#[tokio::test]
async fn an_update_is_never_lost_in_either_isolation() {
    for shards in SHARDS {
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            let engine = engine_of(isolation, shards).await;
            let db = engine.handle();
            db.insert(1, 10).await.unwrap();
            let (mut first, mut second) = (db.begin(), db.begin());
            for txn in [&mut first, &mut second] {
                let old = *txn.get(&1).unwrap().unwrap();
                txn.insert(1, old + 1);
                txn.insert(2, old);
            }
            within(first.commit()).await.unwrap();
            assert!(is_conflict(within(second.commit()).await), "{isolation:?}");
            assert_eq!(db.get(&1).unwrap().as_deref(), Some(&11));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_from_many_tasks_are_all_counted_in_either_isolation() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let engine = engine_of(isolation, 2).await;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let db = engine.handle();
                tokio::spawn(async move {
                    for _ in 0..100 {
                        db.transaction(|txn| {
                            for key in 0..2 {
                                txn.update(key, |old| Some(old.copied().unwrap_or(0) + 1))?;
                            }
                            Ok::<_, Error>(())
                        })
                        .await
                        .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        assert_eq!(entries(engine.handle().range(..)), [(0, 800), (1, 800)], "{isolation:?}");
    }
}

#[tokio::test]
async fn of_two_that_insert_what_both_found_absent_one_commits() {
    for shards in SHARDS {
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            let engine = engine_of(isolation, shards).await;
            let db = engine.handle();
            let (mut first, mut second) = (db.begin(), db.begin());
            for (txn, value) in [(&mut first, 1), (&mut second, 2)] {
                assert_eq!(txn.get(&7).unwrap(), None);
                txn.insert(7, value);
            }
            let (first, second) =
                within(Box::pin(async { tokio::join!(first.commit(), second.commit()) })).await;
            assert_ne!(is_conflict(first), is_conflict(second), "{isolation:?} on {shards}");
        }
    }
}

#[tokio::test]
async fn what_was_found_absent_and_came_and_went_is_a_conflict() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    let mut txn = db.begin();
    assert_eq!(txn.get(&1).unwrap(), None);
    db.insert(1, 1).await.unwrap();
    db.remove(&1).await.unwrap();
    engine.vacuum().await.unwrap();
    txn.insert(2, 2);
    assert!(is_conflict(txn.commit().await));
}

#[tokio::test]
async fn what_was_removed_after_it_was_read_is_a_conflict() {
    for vacuum in [false, true] {
        let engine = in_memory::<u64, u64>(2).await;
        let db = engine.handle();
        db.insert(1, 1).await.unwrap();
        let mut txn = db.begin();
        assert!(txn.contains_key(&1).unwrap());
        db.remove(&1).await.unwrap();
        if vacuum {
            engine.vacuum().await.unwrap();
        }
        txn.insert(2, 2);
        assert!(is_conflict(txn.commit().await));
    }
}

#[tokio::test]
async fn blind_writes_conflict_with_nothing_when_serializable() {
    for shards in SHARDS {
        let engine = engine_of(Isolation::Serializable, shards).await;
        let db = engine.handle();
        let (mut first, mut second) = (db.begin(), db.begin());
        for (txn, value) in [(&mut first, 1), (&mut second, 2)] {
            for key in 0..8 {
                txn.insert(key, value);
            }
        }
        let (first, second) = within(Box::pin(async { tokio::join!(first.commit(), second.commit()) })).await;
        let last = first.unwrap().timestamp() < second.unwrap().timestamp();
        let expected = if last { 2 } else { 1 };
        assert_eq!(entries(db.range(..)), (0..8).map(|key| (key, expected)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_transaction_that_only_read_always_commits() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    let mut txn = db.begin();
    txn.get(&1).unwrap();
    assert_eq!(txn.range(..).count(), 0);
    let read_at = txn.read_timestamp();
    db.insert(1, 1).await.unwrap();
    assert_eq!(txn.commit().await.unwrap().timestamp(), read_at);
}

/// Ten accounts over the shards, transfers among them, and auditors who sum them in every way there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_half_a_commit() {
    const ACCOUNTS: u64 = 10;
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let engine = engine_of(isolation, 4).await;
        let db = engine.handle();
        db.transaction(|txn| {
            (0..ACCOUNTS).for_each(|account| txn.insert(account, 100));
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        let transfers: Vec<_> = (0..4)
            .map(|task| {
                let db = db.clone();
                tokio::spawn(async move {
                    for round in 0..250 {
                        let (from, to) = ((task + round) % ACCOUNTS, (task * 3 + round * 7 + 1) % ACCOUNTS);
                        db.transaction(|txn| {
                            txn.update(from, |old| old.map(|old| old.wrapping_sub(5)))?;
                            txn.update(to, |old| old.map(|old| old.wrapping_add(5)))?;
                            Ok::<_, Error>(())
                        })
                        .await
                        .unwrap();
                    }
                })
            })
            .collect();
        let total = ACCOUNTS * 100;
        let sum = |values: Vec<u64>| values.into_iter().fold(0, u64::wrapping_add);
        within(async {
            while !transfers.iter().all(tokio::task::JoinHandle::is_finished) {
                let accounts: Vec<_> = (0..ACCOUNTS).collect();
                assert_eq!(sum(entries(db.range(..)).into_iter().map(|entry| entry.1).collect()), total);
                let many = db.get_many(&accounts).unwrap();
                assert_eq!(sum(many.into_iter().map(|value| *value.unwrap()).collect()), total);
                let mut txn = db.begin();
                let read = accounts.iter().map(|account| *txn.get(account).unwrap().unwrap());
                assert_eq!(sum(read.collect()), total);
                assert_eq!(db.len().unwrap(), 10);
                tokio::task::yield_now().await;
            }
            for transfer in transfers {
                transfer.await.unwrap();
            }
        })
        .await;
        assert_eq!(engine.stats().waiting(), 0);
    }
}
