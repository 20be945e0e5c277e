//! Checkpoints in earnest, and backups: when they are due, what they cost, and that commits wait for them and
//! never fail.

mod amplification;
mod backup;
#[path = "../it/effort.rs"]
mod effort;
mod triggers;

use std::time::Duration;

use anabranch::{Engine, EngineBuilder, Error, Handle};

use crate::effort::effort;

/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(2);

type Db = Handle<u64, Vec<u8>>;

/// Awaits, and fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("nothing takes that long unless it hangs")
}

fn builder() -> EngineBuilder<u64, Vec<u8>> {
    Engine::builder()
}

/// Waits until something holds.
async fn until(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Writes all of a range of keys in transactions of a hundred.
async fn write(db: &Db, keys: std::ops::Range<u64>, value: &[u8]) -> Result<(), Error> {
    for first in keys.clone().step_by(100) {
        db.transaction(|txn| {
            for key in first..keys.end.min(first + 100) {
                txn.insert(key, value.to_vec());
            }
            Ok::<_, Error>(())
        })
        .await?;
    }
    Ok(())
}
