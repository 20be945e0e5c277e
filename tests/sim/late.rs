//! Late messages, shown to do what they are for: commits overtake each other, the same way each time.

use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch::{Engine, Error, Transaction};
use anabranch_wal::make_late;

use crate::env::{SimEnv, runtime};
use crate::random::Random;

const COMMITS: u64 = 8;

/// In which order commits took place that were begun one after another, by a task each. Half of them are on two
/// shards.
fn order(lateness: Option<u64>) -> Vec<u64> {
    let _late = lateness.map(make_late);
    runtime().block_on(async {
        let env = Arc::new(SimEnv::new(Random::new(1), std::time::Duration::ZERO));
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

/// Winners overwrite a row, with another on a second shard, and losers read it. Returns the timestamps of the winners,
/// and the moments that each run of each loser saw.
async fn win_and_lose(seed: u64) -> (Vec<u64>, Vec<Vec<u64>>) {
    let env = Arc::new(SimEnv::new(Random::new(seed), std::time::Duration::ZERO));
    let engine = Engine::<u64, u64>::builder().shards(3).lend_turns(false).env(env).in_memory().await;
    let engine = Arc::new(engine.expect("nothing is wrong with these settings"));
    let winners: Vec<_> = (1..=4)
        .map(|winner| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let mut won = Vec::new();
                for _ in 0..6 {
                    let mut transaction = engine.handle().begin();
                    transaction.insert(0, winner);
                    transaction.insert(winner, winner);
                    won.push(transaction.commit().await.expect("it is blind").timestamp().0);
                }
                won
            })
        })
        .collect();
    let losers: Vec<_> = (11..=14)
        .map(|loser| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let mut transactions = Vec::new();
                for _ in 0..4 {
                    let mut runs = Vec::new();
                    let body = |transaction: &mut Transaction<u64, u64>| {
                        runs.push(transaction.read_timestamp().0);
                        transaction.get(&0)?;
                        transaction.insert(loser, loser);
                        Ok::<_, Error>(())
                    };
                    engine
                        .handle()
                        .transaction(body)
                        .await
                        .expect("it commits in the ninth run at the latest");
                    transactions.push(runs);
                }
                transactions
            })
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for winner in winners {
        won.extend(winner.await.expect("no winner panics"));
    }
    for loser in losers {
        lost.extend(loser.await.expect("no loser panics"));
    }
    (won, lost)
}

/// With late messages, a commit that won is often not visible yet when the loser learns of it. A rerun that did not
/// wait for it would see what the last run saw, and lose again.
#[test]
fn a_rerun_sees_the_commit_that_won() {
    let mut reruns = 0;
    for seed in 0..40 {
        let _late = make_late(seed);
        let (won, lost) = runtime().block_on(win_and_lose(seed));
        for pair in lost.iter().flat_map(|runs| runs.windows(2)) {
            let (before, after) = (pair[0], pair[1]);
            let winner = won.iter().find(|timestamp| before < **timestamp && **timestamp <= after);
            assert!(winner.is_some(), "seed {seed}: a run at {before}, then one at {after}; won: {won:?}");
            reruns += 1;
        }
    }
    assert!(reruns > 40, "only {reruns} runs were run again");
}
