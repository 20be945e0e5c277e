//! Random operations on an engine and on a `BTreeMap`, side by side.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use anabranch::{Engine, Error, Handle, Snapshot, Transaction};
use proptest::prelude::*;

use crate::effort::effort;
use crate::harness::{entries, in_memory, open, within};

type Model = BTreeMap<u8, u32>;
type Bounds = (Bound<u8>, Bound<u8>);

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u8, u32),
    Remove(u8),
    Update(u8),
    Get(u8),
    Range(Bounds, bool),
    Savepoint(u8),
    RollbackTo(u8),
}

#[derive(Clone, Debug)]
enum Operation {
    Alone(Step),
    Transaction(Vec<Step>, bool),
    Snapshot,
    Vacuum,
    Checkpoint,
    Reopen(usize),
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![
        (0..24_u8).prop_map(Bound::Included),
        (0..24_u8).prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..24_u8, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => (0..24_u8).prop_map(Step::Remove),
        2 => (0..24_u8).prop_map(Step::Update),
        2 => (0..24_u8).prop_map(Step::Get),
        2 => ((bound(), bound()), any::<bool>()).prop_map(|(bounds, back)| Step::Range(bounds, back)),
        1 => (0..3_u8).prop_map(Step::Savepoint),
        1 => (0..3_u8).prop_map(Step::RollbackTo),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => step().prop_map(Operation::Alone),
        4 => (prop::collection::vec(step(), 0..12), any::<bool>())
            .prop_map(|(steps, commit)| Operation::Transaction(steps, commit)),
        1 => Just(Operation::Snapshot),
        1 => Just(Operation::Vacuum),
        1 => Just(Operation::Checkpoint),
        1 => (1..5_usize).prop_map(Operation::Reopen),
    ]
}

/// What an update makes of a value: it counts, wraps, and sometimes removes.
fn next(old: Option<&u32>) -> Option<u32> {
    match old {
        Some(old) if old % 5 == 0 => None,
        Some(old) => Some(old.wrapping_add(1)),
        None => Some(1),
    }
}

fn in_range(model: &Model, bounds: Bounds) -> Vec<(u8, u32)> {
    model.iter().filter(|entry| bounds.contains(entry.0)).map(|(key, value)| (*key, *value)).collect()
}

fn in_order(mut found: Vec<(u8, u32)>, backwards: bool) -> Vec<(u8, u32)> {
    if backwards {
        found.reverse();
    }
    found
}

async fn alone(db: &Handle<u8, u32>, model: &mut Model, step: Step) {
    match step {
        Step::Insert(key, value) => {
            db.insert(key, value).await.unwrap();
            model.insert(key, value);
        }
        Step::Remove(key) => {
            assert_eq!(db.remove(&key).await.unwrap().as_deref().copied(), model.remove(&key));
        }
        Step::Update(key) => {
            let new = next(model.get(&key));
            assert_eq!(db.update(key, next).await.unwrap().as_deref().copied(), new);
            match new {
                Some(new) => model.insert(key, new),
                None => model.remove(&key),
            };
        }
        Step::Get(key) => assert_eq!(db.get(&key).unwrap().as_deref(), model.get(&key)),
        Step::Range(bounds, back) => {
            let scan = db.range(bounds);
            let found = if back { entries(scan.rev()) } else { entries(scan) };
            assert_eq!(in_order(found, back), in_range(model, bounds));
        }
        Step::Savepoint(_) | Step::RollbackTo(_) => assert_eq!(db.len().unwrap(), model.len()),
    }
}

fn within_transaction(
    txn: &mut Transaction<u8, u32>,
    (model, savepoints): (&mut Model, &mut Vec<(u8, Model)>),
    step: Step,
) {
    match step {
        Step::Insert(key, value) => {
            txn.insert(key, value);
            model.insert(key, value);
        }
        Step::Remove(key) => {
            txn.remove(&key);
            model.remove(&key);
        }
        Step::Update(key) => {
            let new = next(model.get(&key));
            assert_eq!(txn.update(key, next).unwrap().as_deref().copied(), new);
            match new {
                Some(new) => model.insert(key, new),
                None => model.remove(&key),
            };
        }
        Step::Get(key) => assert_eq!(txn.get(&key).unwrap().as_deref(), model.get(&key)),
        Step::Range(bounds, back) => {
            let scan = txn.range(bounds);
            let found = if back { entries(scan.rev()) } else { entries(scan) };
            assert_eq!(in_order(found, back), in_range(model, bounds));
        }
        Step::Savepoint(name) => {
            txn.savepoint(name.to_string());
            savepoints.push((name, model.clone()));
        }
        Step::RollbackTo(name) => {
            let found = savepoints.iter().rposition(|savepoint| savepoint.0 == name);
            assert_eq!(txn.rollback_to(&name.to_string()).is_ok(), found.is_some());
            if let Some(found) = found {
                *model = savepoints[found].1.clone();
                savepoints.truncate(found);
            }
        }
    }
}

async fn run(operations: Vec<Operation>, mut engine: Engine<u8, u32>, directory: Option<&std::path::Path>) {
    let mut model = Model::new();
    let mut snapshots: Vec<(Snapshot<u8, u32>, Model)> = Vec::new();
    for operation in operations {
        let db = engine.handle();
        match operation {
            Operation::Alone(step) => alone(&db, &mut model, step).await,
            Operation::Transaction(steps, commit) => {
                let (mut copy, mut savepoints) = (model.clone(), Vec::new());
                let mut txn = db.begin();
                for step in steps {
                    within_transaction(&mut txn, (&mut copy, &mut savepoints), step);
                }
                if commit {
                    txn.commit().await.unwrap();
                    model = copy;
                }
            }
            Operation::Snapshot => snapshots.push((db.snapshot(), model.clone())),
            Operation::Vacuum => drop(engine.vacuum().await.unwrap()),
            Operation::Checkpoint => match engine.checkpoint().await {
                Ok(()) => assert!(directory.is_some()),
                Err(error) => assert!(matches!(error, Error::Config(_)) && directory.is_none(), "{error}"),
            },
            Operation::Reopen(shards) => {
                if let Some(directory) = directory {
                    snapshots.clear();
                    drop(engine);
                    engine = open(directory, shards).await;
                }
            }
        }
        assert_eq!(engine.handle().is_empty().unwrap(), model.is_empty());
    }
    for (snapshot, model) in snapshots {
        assert_eq!(entries(snapshot.range(..)), in_range(&model, (Bound::Unbounded, Bound::Unbounded)));
    }
    assert_eq!(entries(engine.handle().range(..)), in_range(&model, (Bound::Unbounded, Bound::Unbounded)));
    assert_eq!(engine.stats().readers, 0);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn an_engine_in_memory_does_what_a_sorted_map_does() {
    let runtime = runtime();
    let cases = effort(64, 2_000);
    let operations = prop::collection::vec(operation(), 1..60);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(operations in operations, shards in prop_oneof![Just(1_usize), Just(4)])| {
        runtime.block_on(within(async { Box::pin(run(operations, in_memory(shards).await, None)).await }));
    });
}

#[test]
fn an_engine_on_disk_does_what_a_sorted_map_does_over_many_lives() {
    let runtime = runtime();
    let cases = effort(12, 300);
    let operations = prop::collection::vec(operation(), 1..40);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(operations in operations, shards in 1..4_usize)| {
        let directory = crate::harness::fast_directory();
        runtime.block_on(within(async {
            let engine = open(directory.path(), shards).await;
            Box::pin(run(operations, engine, Some(directory.path()))).await;
        }));
    });
}
