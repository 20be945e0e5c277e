//! Ingest: what a sink promises, and sources that go on where they were, through every kind of crash.

mod crash;
mod offsets;
mod sink;

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::{Engine, EngineBuilder, Handle};

/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(2);

type Db = Handle<u64, u64>;

/// Awaits, and fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("nothing takes that long unless it hangs")
}

/// `small` by default, `full` with `ANABRANCH_EFFORT=ci`.
fn effort<T>(small: T, full: T) -> T {
    if std::env::var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "ci") { full } else { small }
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
