//! Panics in a user's code, wherever it runs, never hang a caller.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use anabranch::{Engine, Error};
use serde::{Deserialize, Serialize};

use crate::harness::{entries, in_memory, open, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_an_update_closure_is_returned_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let engine = if durable { open::<u64, u64>(directory.path(), 2).await } else { in_memory(2).await };
        let db = engine.handle();
        within(db.insert(1, 1)).await.unwrap();
        for key in [1, 2] {
            let error = within(db.update(key, |_| panic!("the closure's own words"))).await.unwrap_err();
            assert!(matches!(&error, Error::Panicked { message } if message == "the closure's own words"));
            assert!(error.to_string().contains("nothing was changed"));
        }
        assert_eq!(entries(db.range(..)), [(1, 1)]);
        within(db.update(1, |old| old.map(|old| old + 1))).await.unwrap();
        assert_eq!(db.get(&1).unwrap().as_deref(), Some(&2));
        assert_eq!(engine.stats().waiting(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_transactions_body_is_the_callers_own() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    let panics = tokio::spawn({
        let db = db.clone();
        async move {
            db.transaction(|txn| {
                (0..9).for_each(|key| txn.insert(key, 1));
                assert!(!txn.contains_key(&1)?, "in the body");
                Ok::<_, Error>(())
            })
            .await
        }
    });
    assert!(within(panics).await.unwrap_err().is_panic());
    assert_eq!((db.len().unwrap(), engine.stats().readers), (0, 0));
    within(db.insert(1, 1)).await.unwrap();
}

const NEVER: u8 = 0;
const ORD: u8 = 1;
const HASH: u8 = 2;
const EQ: u8 = 3;

/// A key that panics when it is told to. Each test has its own `N`, and with it its own switch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trap<const N: usize>(u64);

static SWITCHES: [AtomicU8; 3] = [const { AtomicU8::new(NEVER) }; 3];

impl<const N: usize> Trap<N> {
    fn spring(&self, place: u8) {
        assert!(self.0 != 13 || SWITCHES[N].load(SeqCst) != place, "the trap is sprung");
    }
}

impl<const N: usize> PartialEq for Trap<N> {
    fn eq(&self, other: &Self) -> bool {
        self.spring(EQ);
        self.0 == other.0
    }
}

impl<const N: usize> Eq for Trap<N> {}

impl<const N: usize> PartialOrd for Trap<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Trap<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.spring(ORD);
        self.0.cmp(&other.0)
    }
}

impl<const N: usize> Hash for Trap<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spring(HASH);
        self.0.hash(state);
    }
}

/// With the trap set, everything a caller can do ends: with a value, an error, or a panic of its own task.
async fn nobody_hangs<const N: usize>(engine: Engine<Trap<N>, u64>, place: u8) {
    for key in (0..40).filter(|key| *key != 13) {
        within(engine.handle().insert(Trap(key), 1)).await.unwrap();
    }
    SWITCHES[N].store(place, SeqCst);
    let mut callers = tokio::task::JoinSet::new();
    for round in 0..5 {
        for key in [13, 12, 14, 13, 200] {
            let db = engine.handle();
            callers.spawn(async move { db.insert(Trap(key), round).await });
            let db = engine.handle();
            callers.spawn(async move { db.update(Trap(key), |old| old.map(|old| old + 1)).await.map(drop) });
            let db = engine.handle();
            callers.spawn(async move { db.remove(&Trap(key)).await.map(drop) });
            let db = engine.handle();
            callers.spawn(async move {
                db.transaction(|txn| {
                    txn.get(&Trap(key))?;
                    txn.range(Trap(5)..Trap(20)).for_each(drop);
                    (key..key + 6).for_each(|key| txn.insert(Trap(key), round));
                    Ok::<_, Error>(())
                })
                .await
            });
            let db = engine.handle();
            callers.spawn(async move {
                db.get(&Trap(key))?;
                db.range(..).for_each(drop);
                db.len().map(drop)
            });
        }
    }
    while let Some(ended) = within(callers.join_next()).await {
        match ended {
            Ok(Ok(()) | Err(Error::Indeterminate { .. } | Error::ReadOnly { .. } | Error::Encode { .. })) => {
            }
            Ok(Err(error)) => panic!("{error:?}"),
            Err(ended) => assert!(ended.is_panic()),
        }
    }
    SWITCHES[N].store(NEVER, SeqCst);
    let after = within(engine.handle().insert(Trap(1), 1)).await;
    assert!(matches!(after, Ok(()) | Err(Error::ReadOnly { .. })), "{after:?}");
    let _ = within(engine.vacuum()).await;
    let _ = within(engine.sync()).await;
    let _ = within(engine.close()).await;
}

async fn with_traps<const N: usize>(place: u8) {
    let directory = tempfile::tempdir().unwrap();
    for shards in [1, 3] {
        nobody_hangs(in_memory::<Trap<N>, u64>(shards).await, place).await;
        let path = directory.path().join(shards.to_string());
        nobody_hangs(open::<Trap<N>, u64>(&path, shards).await, place).await;
        let reopened = open::<Trap<N>, u64>(&path, shards).await;
        assert!(reopened.handle().len().unwrap() >= 30, "what was acknowledged before is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_ord_hangs_nobody() {
    with_traps::<0>(ORD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_hash_hangs_nobody() {
    with_traps::<1>(HASH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_eq_hangs_nobody() {
    with_traps::<2>(EQ).await;
}
