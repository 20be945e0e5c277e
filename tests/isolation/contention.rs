//! How often commits are refused, against how much transactions want the same keys: Zipf's exponent from 0.5 to
//! 1.2, and 2 to 16 keys in each. Prints a table with commas, to be plotted. Reruns are the engine's: they wait for
//! the commit that won, and back off.

use std::collections::BTreeSet;

use anabranch::{Engine, Error, Isolation};

use crate::effort::effort;
use crate::lists::{Db, Store, Txn};
use crate::random::Random;

const KEYS: u32 = 1_000;
const CLIENTS: u64 = 16;

/// Draws keys so that the n-th is as likely as 1/n to the power of an exponent.
#[derive(Clone)]
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=KEYS).map(|key| f64::from(key).powf(-exponent));
        let cumulated = weights.map(|weight| {
            sum += weight;
            sum
        });
        Self { cumulated: cumulated.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let part = f64::from(u32::try_from(random.below(1 << 32)).expect("32 bits")) / f64::from(u32::MAX);
        let all = self.cumulated.last().copied().unwrap_or_default();
        self.cumulated.partition_point(|sum| *sum < part * all).min(self.cumulated.len() - 1)
    }

    /// So many different keys.
    fn keys(&self, random: &mut Random, count: usize) -> BTreeSet<usize> {
        let mut keys = BTreeSet::new();
        while keys.len() < count {
            keys.insert(self.draw(random));
        }
        keys
    }
}

/// Counts up all keys in one transaction, with a chance for others after each.
async fn count_up(db: &Db, keys: BTreeSet<usize>) {
    let body = async move |txn: &mut Txn| {
        for key in &keys {
            let key = format!("{key:04}");
            let count = txn.get(&key)?.map_or(0, |count| count[0]);
            txn.insert(key, vec![count + 1]);
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(())
    };
    db.transaction_async(body).await.expect("it gets through before the limit of reruns");
}

/// Refused tries in a thousand.
async fn refused_per_mille(isolation: Isolation, exponent: f64, keys: usize, transactions: u64) -> u64 {
    let builder = Engine::builder().shards(4).isolation(isolation);
    let engine: Store = builder.in_memory().await.expect("nothing is wrong with these settings");
    let zipf = Zipf::new(exponent);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (db, zipf) = (engine.handle(), zipf.clone());
            tokio::spawn(async move {
                let mut random = Random::new(client);
                for _ in 0..transactions / CLIENTS {
                    count_up(&db, zipf.keys(&mut random, keys)).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no client panics");
    }
    let commits = transactions / CLIENTS * CLIENTS;
    let tries = commits + engine.stats().conflicts;
    let counted: u64 = engine.handle().range(..).map(|entry| entry.expect("the engine is open").1[0]).sum();
    assert_eq!(counted, commits * keys as u64, "no update is lost");
    let refused = (tries - commits) * 1_000 / tries;
    println!("{isolation:?},{exponent},{keys},{commits},{tries},{refused}");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_more_keys_transactions_have_the_more_are_refused_and_no_update_is_lost() {
    println!("isolation,zipf,keys,commits,tries,refused per mille");
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let mut rates = Vec::new();
        for exponent in [0.5, 0.8, 1.0, 1.2] {
            for keys in [2, 4, 8, 16] {
                rates.push(refused_per_mille(isolation, exponent, keys, effort(320, 8_000)).await);
            }
        }
        // Where keys are hot, reruns that back off leave less to refuse, so only the first line surely rises.
        assert!(rates[0] < rates[3], "{rates:?}");
    }
}
