//! Late messages, shown to do what they are for: commits overtake each other, the same way each time.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch::Engine;
use anabranch_wal::make_late;

use crate::env::{SimEnv, runtime};
use crate::random::Random;

const COMMITS: u64 = 8;

/// In which order commits took place that were begun one after another, by a task each. Half of them are on two
/// shards.
fn order(lateness: Option<u64>) -> Vec<u64> {
    let _late = lateness.map(make_late);
    runtime().block_on(async {
        let env = Arc::new(SimEnv::new(Random::new(1)));
        let engine = Engine::<u64, u64>::builder().shards(3).lend_turns(false).env(env).in_memory().await;
        let engine = engine.expect("nothing is wrong with these settings");
        let commits: Vec<_> = (0..COMMITS)
            .map(|number| {
                let mut transaction = engine.handle().begin();
                for key in 0..=number % 2 * 5 {
                    transaction.insert(number * 100 + key, 0);
                }
                tokio::spawn(transaction.commit())
            })
            .collect();
        let mut order = Vec::new();
        for (number, commit) in (0..).zip(commits) {
            let commit = commit.await.expect("no commit panics").expect("blind writes conflict with nothing");
            order.push((commit.timestamp(), number));
        }
        order.sort_unstable();
        order.into_iter().map(|(_, number)| number).collect()
    })
}

#[test]
fn late_messages_overtake_each_other_the_same_way_for_the_same_seed() {
    assert_eq!(order(None), order(None));
    let orders: BTreeSet<_> = (0..20).map(|seed| order(Some(seed))).collect();
    assert!(orders.len() > 10, "20 seeds give {} orders: {orders:?}", orders.len());
    assert!((0..20).all(|seed| order(Some(seed)) == order(Some(seed))));
}
