//! The feed of changes: whole commits in commit order, from the log, and a follower that ends up identical.

mod crash;
#[path = "../it/effort.rs"]
mod effort;
mod feed;
mod follow;
mod pair;
mod retention;
#[path = "../offsets/sim_env.rs"]
mod sim_env;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use anabranch::{ChangeSet, Changes, Durability, Engine, EngineBuilder, Error, Flush, Handle, Timestamp};
use futures_core::Stream;

use crate::effort::effort;

/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(2);

type Db = Handle<u64, Vec<u8>>;
type Content = BTreeMap<u64, Vec<u8>>;
type Set = ChangeSet<u64, Vec<u8>>;

/// Awaits, and fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("nothing takes that long unless it hangs")
}

fn builder() -> EngineBuilder<u64, Vec<u8>> {
    Engine::builder()
}

/// With logs so short that they are reused all the time, and without a sync for each commit.
fn short_logs() -> EngineBuilder<u64, Vec<u8>> {
    let relaxed = Durability::Relaxed(Flush::every(Duration::from_millis(50)));
    builder().durability(relaxed).shards(3).segment_bytes(16 << 10).checkpoint_after_bytes(8 << 10)
}

async fn next(changes: &mut Changes<u64, Vec<u8>>) -> Option<Result<Set, Error>> {
    within(poll_fn(|context| Pin::new(&mut *changes).poll_next(context))).await
}

/// The changes after `from`, up to `to`.
async fn read(db: &Db, from: Timestamp, to: Timestamp) -> Result<Vec<Set>, Error> {
    let mut changes = db.changes(from);
    let mut sets = Vec::new();
    while sets.last().map_or(from, |set: &Set| set.timestamp) < to {
        sets.push(next(&mut changes).await.expect("a feed has no end")?);
    }
    Ok(sets)
}

fn apply(content: &mut Content, set: Set) {
    for change in set.changes {
        match change.value {
            Some(value) => content.insert(change.key, value),
            None => content.remove(&change.key),
        };
    }
}

/// The content of a snapshot and its timestamp.
fn snapshot(db: &Db) -> (Timestamp, Content) {
    let snapshot = db.snapshot();
    let entries = snapshot.range(..).map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap());
    (snapshot.timestamp(), entries.collect())
}
