//! The whole face in one page: open, write, read, scan, transact, look back.
//!
//! Run it with `cargo run --example quickstart`.

use anabranch::{Engine, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    // In memory, so that it leaves nothing behind. `open("some/directory")` makes it durable.
    let engine: Engine<String, u64> = Engine::builder().in_memory().await?;
    let db = engine.handle(); // cheap to clone, for any task or thread

    // One key at a time. None of these ever conflicts.
    db.insert("user:alice".into(), 100).await?;
    db.insert("user:bob".into(), 50).await?;
    db.insert("user:carol".into(), 7).await?;
    let hits = db.update("hits".into(), |old| Some(old.copied().unwrap_or(0) + 1)).await?;
    let removed = db.remove("user:carol").await?;
    println!("alice has {:?}", db.get("user:alice")?); // a memory read: nothing to await
    println!("hits are now {hits:?}, carol had {removed:?}");

    // Several keys at once: all or nothing. The body runs again by itself if somebody was faster.
    let before = db.snapshot();
    let moved = db
        .transaction(|txn| {
            let alice = txn.get("user:alice")?.map_or(0, |balance| *balance);
            let bob = txn.get("user:bob")?.map_or(0, |balance| *balance);
            txn.insert("user:alice".into(), alice - 30);
            txn.insert("user:bob".into(), bob + 30);
            Ok::<_, Error>(30)
        })
        .await?;
    println!("moved {moved}");

    // The same by hand, with a way back.
    let mut txn = db.begin();
    txn.insert("user:dave".into(), 1);
    txn.savepoint("before erin");
    txn.insert("user:erin".into(), 2);
    txn.rollback_to("before erin")?;
    let commit = txn.commit().await?;
    println!("committed as number {} in the commit order", commit.timestamp());

    // Scans are in key order, from either end, at one moment.
    for entry in db.prefix("user:") {
        let (key, balance) = entry?;
        println!("  {key:<12} {balance:>4}");
    }
    let last = db.range("user:".to_owned()..).next_back().transpose()?;
    println!("the last user is {:?}", last.map(|(key, _)| key));

    // The snapshot still shows how things were before the transfer.
    println!("alice had {:?} before the transfer", before.get("user:alice")?);

    engine.close().await
}
