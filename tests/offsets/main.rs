//! Ingest: what a sink promises, and sources that go on where they were, through every kind of crash.

mod crash;
#[path = "../it/effort.rs"]
mod effort;
mod offsets;
mod sim_env;
mod sink;

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::{Engine, EngineBuilder, Handle};

use crate::effort::effort;

/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(2);

type Db = Handle<u64, u64>;

/// Awaits, and fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("nothing takes that long unless it hangs")
}

fn builder() -> EngineBuilder<u64, u64> {
    Engine::builder()
}

/// All entries.
fn content(db: &Db) -> BTreeMap<u64, u64> {
    db.range(..).map(|entry| entry.map(|(key, value)| (key, *value)).expect("the engine is open")).collect()
}

/// A change that adds.
fn add(amount: u64) -> impl FnMut(Option<&u64>) -> Option<u64> + Send + 'static {
    move |old| Some(old.copied().unwrap_or(0) + amount)
}
