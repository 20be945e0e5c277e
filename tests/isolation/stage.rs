//! Where the named anomalies play: two rows and a place for a third, on one shard or on several.

use anabranch::{Engine, Error, Isolation};

use crate::lists::{Db, Store, Txn};

pub(crate) struct Stage {
    pub(crate) engine: Store,
    pub(crate) db: Db,
    pub(crate) is_serializable: bool,
    /// Holds 10 at the beginning.
    pub(crate) x: String,
    /// Holds 20.
    pub(crate) y: String,
    /// There is none at the beginning; it sorts after the others.
    pub(crate) z: String,
}

impl Stage {
    /// Both isolation levels, each with all rows on the only shard, on one of several, and on different ones.
    pub(crate) async fn all() -> Vec<Self> {
        let mut stages = Vec::new();
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            for (shards, apart) in [(1, false), (4, false), (4, true)] {
                stages.push(Self::new(isolation, shards, apart).await);
            }
        }
        stages
    }

    pub(crate) async fn new(isolation: Isolation, shards: usize, apart: bool) -> Self {
        let builder = Engine::builder().shards(shards).isolation(isolation);
        let engine: Store = builder.in_memory().await.expect("nothing is wrong with these settings");
        let [x, y, z] = names(&engine, apart).await;
        let db = engine.handle();
        db.insert(x.clone(), vec![10]).await.expect("the engine is open");
        db.insert(y.clone(), vec![20]).await.expect("the engine is open");
        Self { engine, db, is_serializable: isolation == Isolation::Serializable, x, y, z }
    }

    /// What is committed: the rows `x`, `y` and `z`, 0 for one that is not there.
    pub(crate) fn rows(&self) -> [u64; 3] {
        [&self.x, &self.y, &self.z].map(|key| {
            let value = self.db.get(key.as_str()).expect("the engine is open");
            value.map_or(0, |value| value[0])
        })
    }
}

/// Three names whose keys are on one shard, or on three. Leaves nothing in the engine.
async fn names(engine: &Store, apart: bool) -> [String; 3] {
    let db = engine.handle();
    let mut chosen: Vec<(usize, String)> = Vec::new();
    for number in 0.. {
        let name = format!("row{number:04}");
        let keys = || engine.stats().shards.iter().map(|shard| shard.keys).collect::<Vec<_>>();
        let before = keys();
        db.insert(name.clone(), vec![0]).await.expect("the engine is open");
        let after = keys();
        let shard = (0..before.len()).find(|shard| before[*shard] != after[*shard]).expect("it has a shard");
        db.remove(name.as_str()).await.expect("the engine is open");
        engine.vacuum().await.expect("the engine is open");
        let fits = |(other, _): &(usize, String)| (*other == shard) != apart;
        if chosen.iter().all(fits) {
            chosen.push((shard, name));
        }
        if chosen.len() == 3 {
            break;
        }
    }
    let names: Vec<_> = chosen.into_iter().map(|(_, name)| name).collect();
    names.try_into().expect("there are three")
}

pub(crate) fn put(txn: &mut Txn, key: &str, value: u64) {
    txn.insert(key.to_owned(), vec![value]);
}

/// A row as a transaction sees it, 0 if there is none.
pub(crate) fn get(txn: &mut Txn, key: &str) -> u64 {
    txn.get(key).expect("the engine is open").map_or(0, |value| value[0])
}

/// All rows that a transaction sees whose value is a multiple of `divisor`.
pub(crate) fn multiples(txn: &mut Txn, divisor: u64) -> Vec<u64> {
    let rows = txn.range(..).map(|entry| entry.expect("the engine is open").1[0]);
    rows.filter(|value| value.is_multiple_of(divisor)).collect()
}

/// Whether it commits. What else could happen is a conflict.
pub(crate) async fn commits(txn: Txn) -> bool {
    let limit = std::time::Duration::from_mins(1);
    match tokio::time::timeout(limit, txn.commit()).await.expect("nothing takes that long unless it hangs") {
        Ok(_) => true,
        Err(Error::Conflict { attempts: 1 }) => false,
        Err(error) => panic!("neither a commit nor a conflict: {error}"),
    }
}
