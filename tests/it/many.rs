//! Many keys at once: read side by side, or written by one commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch::{Engine, Error, Vacuum};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::effort::effort;
use crate::harness::{entries, in_memory, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_many_of_more_keys_than_are_held_at_once_is_one_moment() {
    const ACCOUNTS: u64 = 100;
    let engine = in_memory::<u64, u64>(3).await;
    let db = engine.handle();
    for account in 0..ACCOUNTS {
        db.insert(account, 1_000).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let payers = (0..4).map(|seed| {
        let (db, done) = (engine.handle(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while !done.load(Ordering::Relaxed) {
                let (from, to) = (random.random_range(0..ACCOUNTS), random.random_range(0..ACCOUNTS));
                let pay = |transaction: &mut anabranch::Transaction<u64, u64>| {
                    transaction.update(from, |sum| Some(sum.copied().unwrap() - 1))?;
                    transaction.update(to, |sum| Some(sum.copied().unwrap() + 1))?;
                    Ok::<_, Error>(())
                };
                within(db.transaction(pay)).await.unwrap();
            }
        })
    });
    let payers: Vec<_> = payers.collect();
    // Each twice, from the last on, and in between some that are not there.
    let keys: Vec<u64> = (0..ACCOUNTS).rev().flat_map(|key| [key, ACCOUNTS + key, key]).collect();
    for _ in 0..effort(300, 3_000) {
        let found = db.get_many(&keys).unwrap();
        assert_eq!(found.len(), keys.len());
        let sum: u64 = found.iter().flatten().map(|sum| **sum).sum();
        assert_eq!(sum, 2 * 1_000 * ACCOUNTS);
        for triple in found.chunks(3) {
            assert_eq!(triple[0], triple[2]);
            assert_eq!(triple[1], None);
        }
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    for payer in payers {
        within(payer).await.unwrap();
    }
}

#[tokio::test]
async fn commits_of_few_and_of_many_writes_equal_a_model() {
    for seed in 0..effort(20, 200) {
        let mut random = StdRng::seed_from_u64(seed);
        let shards = random.random_range(1..4);
        let builder = Engine::<u64, u64>::builder().shards(shards).vacuum(Vacuum::Manual);
        let engine = builder.in_memory().await.unwrap();
        let db = engine.handle();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        for round in 0..20 {
            let mut transaction = db.begin();
            for _ in 0..random.random_range(0..300) {
                let key = random.random_range(0..250);
                if random.random_bool(0.3) {
                    transaction.remove(&key);
                    model.remove(&key);
                } else if random.random_bool(0.02) {
                    transaction.insert_with_ttl(key, round, Duration::from_hours(1)).unwrap();
                    model.insert(key, round);
                } else {
                    transaction.insert(key, round);
                    model.insert(key, round);
                }
            }
            transaction.commit().await.unwrap();
            kept.push((db.snapshot(), model.clone()));
            if random.random_bool(0.5) {
                kept.remove(random.random_range(0..kept.len()));
            }
        }
        let all: Vec<u64> = (0..250).collect();
        for (snapshot, model) in &kept {
            assert_eq!(entries(snapshot.range(..)), Vec::from_iter(model.clone()), "seed {seed}");
            let found = snapshot.get_many(&all).unwrap();
            for (key, found) in all.iter().zip(found) {
                assert_eq!(found.as_deref(), model.get(key), "seed {seed}, {key}");
            }
        }
        kept.clear();
        engine.vacuum().await.unwrap();
        let stats = engine.stats();
        assert_eq!((stats.versions(), stats.keys()), (model.len() as u64, model.len()), "seed {seed}");
        assert_eq!(entries(db.range(..)), Vec::from_iter(model), "seed {seed}");
    }
}

/// So many that each stripe of the hash map is locked several times.
#[tokio::test]
async fn a_commit_of_thousands_of_keys_is_whole() {
    const KEYS: u64 = 10_000;
    let engine = in_memory::<u64, u64>(1).await;
    let db = engine.handle();
    let mut model = BTreeMap::new();
    for round in 1..=3 {
        let mut transaction = db.begin();
        for key in (0..KEYS).filter(|key| key % round == 0) {
            if key % 7 == round {
                transaction.remove(&key);
                model.remove(&key);
            } else {
                transaction.insert(key, round);
                model.insert(key, round);
            }
        }
        within(transaction.commit()).await.unwrap();
        assert_eq!(entries(db.range(..)), Vec::from_iter(model.clone()), "round {round}");
        assert_eq!(db.len().unwrap(), model.len(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reads_what_it_likes() {
    let engine = in_memory::<u64, u64>(1).await;
    let db = engine.handle();
    for key in 0..100 {
        db.insert(key, 0).await.unwrap();
    }
    let tasks = (0..4u64).map(|task| {
        let db = engine.handle();
        tokio::spawn(async move {
            for round in 0..effort(200, 2_000) {
                let inside = db.clone();
                let key = (task * 7 + round) % 100;
                let change = move |old: Option<&u64>| {
                    assert_eq!(inside.get(&key).unwrap().as_deref(), old);
                    assert_eq!(inside.get_many(&[1, key]).unwrap()[1].as_deref(), old);
                    assert_eq!(inside.range(key..=key).count(), 1);
                    old.map(|old| old + 1)
                };
                within(db.update(key, change)).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        within(task).await.unwrap();
    }
    let sum: u64 = entries(db.range(..)).iter().map(|(_, value)| value).sum();
    assert_eq!(sum, 4 * effort(200, 2_000));
}
