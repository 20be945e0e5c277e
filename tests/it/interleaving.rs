//! Random transactions that overlap, with each commit or conflict predicted by a model of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anabranch::{Engine, Error, Isolation, Transaction};
use proptest::prelude::*;

use crate::effort::effort;
use crate::harness::{entries, within};

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    Get(usize, u8),
    Scan(usize, Range<u8>),
    Insert(usize, u8),
    Remove(usize, u8),
    Commit(usize),
    Vacuum,
    Blind(u8),
}

const OPEN_MAX: usize = 4;
const KEYS: u8 = 10;

fn step() -> impl Strategy<Value = Step> {
    let (open, key) = (0..OPEN_MAX, 0..KEYS);
    prop_oneof![
        2 => open.clone().prop_map(Step::Begin),
        4 => (open.clone(), key.clone()).prop_map(|(open, key)| Step::Get(open, key)),
        1 => (open.clone(), key.clone(), key.clone()).prop_map(|(open, a, b)| Step::Scan(open, a.min(b)..a.max(b))),
        4 => (open.clone(), key.clone()).prop_map(|(open, key)| Step::Insert(open, key)),
        2 => (open.clone(), key.clone()).prop_map(|(open, key)| Step::Remove(open, key)),
        3 => open.prop_map(Step::Commit),
        1 => Just(Step::Vacuum),
        1 => key.prop_map(Step::Blind),
    ]
}

/// An open transaction, and what is to be known of it.
struct Open {
    txn: Transaction<u8, u64>,
    began_at: u64,
    view: BTreeMap<u8, u64>,
    read: BTreeSet<u8>,
    written: BTreeMap<u8, Option<u64>>,
}

/// What is committed, and when each key last changed.
#[derive(Default)]
struct Model {
    content: BTreeMap<u8, u64>,
    changed: BTreeMap<u8, u64>,
    now: u64,
}

impl Model {
    fn changed_since(&self, keys: impl IntoIterator<Item = u8>, since: u64) -> bool {
        keys.into_iter().any(|key| self.changed.get(&key).is_some_and(|changed| *changed > since))
    }

    fn commit(&mut self, writes: &BTreeMap<u8, Option<u64>>) {
        self.now += 1;
        for (key, value) in writes {
            self.changed.insert(*key, self.now);
            match value {
                Some(value) => self.content.insert(*key, *value),
                None => self.content.remove(key),
            };
        }
    }
}

async fn run(steps: Vec<Step>, isolation: Isolation, shards: usize) {
    let engine: Engine<u8, u64> =
        Engine::builder().shards(shards).isolation(isolation).in_memory().await.unwrap();
    let db = engine.handle();
    let mut model = Model::default();
    let mut open: [Option<Open>; OPEN_MAX] = Default::default();
    for (at, step) in (1_000..).zip(steps) {
        match step {
            Step::Begin(index) => {
                let (began_at, view) = (model.now, model.content.clone());
                let (read, written) = (BTreeSet::new(), BTreeMap::new());
                open[index] = Some(Open { txn: db.begin(), began_at, view, read, written });
            }
            Step::Get(index, key) => {
                let Some(open) = &mut open[index] else { continue };
                assert_eq!(open.txn.get(&key).unwrap().as_deref(), open.view.get(&key));
                if !open.written.contains_key(&key) {
                    open.read.insert(key);
                }
            }
            Step::Scan(index, range) => {
                let Some(open) = &mut open[index] else { continue };
                let expected: Vec<_> = open.view.range(range.clone()).map(|(k, v)| (*k, *v)).collect();
                assert_eq!(entries(open.txn.range(range.clone())), expected);
                open.read.extend(range);
            }
            Step::Insert(index, key) => {
                let Some(open) = &mut open[index] else { continue };
                open.txn.insert(key, at);
                open.view.insert(key, at);
                open.written.insert(key, Some(at));
            }
            Step::Remove(index, key) => {
                let Some(open) = &mut open[index] else { continue };
                open.txn.remove(&key);
                open.view.remove(&key);
                open.written.insert(key, None);
            }
            Step::Commit(index) => {
                let Some(Open { txn, began_at, read, written, .. }) = open[index].take() else { continue };
                let checked: BTreeSet<_> = match isolation {
                    Isolation::Serializable => read,
                    Isolation::Snapshot => written.keys().copied().collect(),
                };
                let conflict = !written.is_empty() && model.changed_since(checked, began_at);
                match within(txn.commit()).await {
                    Ok(commit) => {
                        assert!(!conflict, "a commit that should have been a conflict");
                        if !written.is_empty() {
                            model.commit(&written);
                            assert_eq!(commit.timestamp().0, model.now);
                        }
                    }
                    Err(Error::Conflict { .. }) => assert!(conflict, "a conflict over nothing"),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Vacuum => drop(engine.vacuum().await.unwrap()),
            Step::Blind(key) => {
                db.insert(key, at).await.unwrap();
                model.commit(&BTreeMap::from([(key, Some(at))]));
            }
        }
    }
    let expected: Vec<_> = model.content.into_iter().collect();
    assert_eq!(entries(db.range(..)), expected);
    drop(open);
    assert_eq!((engine.stats().readers, engine.stats().waiting()), (0, 0));
}

#[test]
fn overlapping_transactions_commit_or_conflict_as_the_rules_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config =
        ProptestConfig { cases: effort(150, 5_000), failure_persistence: None, ..ProptestConfig::default() };
    let isolation = prop_oneof![Just(Isolation::Serializable), Just(Isolation::Snapshot)];
    let steps = prop::collection::vec(step(), 1..120);
    proptest!(config, |(steps in steps, isolation in isolation, shards in prop_oneof![Just(1_usize), Just(3)])| {
        runtime.block_on(run(steps, isolation, shards));
    });
}
