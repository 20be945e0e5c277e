//! The manual policy, and settings that can't work.

use std::time::Duration;

use anabranch::{Durability, Engine, Error, Eviction, Flush, IngestOptions};

use crate::world::content;

async fn full(shards: usize, directory: &std::path::Path) -> Engine<u64, Vec<u8>> {
    let relaxed = Durability::Relaxed(Flush::every(Duration::from_millis(50)));
    let builder = Engine::builder().shards(shards).durability(relaxed);
    let engine = builder.memory_limit(128 << 10 << shards, Eviction::Manual).open(directory).await.unwrap();
    let db = engine.handle();
    let mut refused = 0;
    // A quarter more than any seed of the hash spreads so that it fits.
    for key in 0..4_000 {
        match db.insert(key, vec![1; 200]).await {
            Ok(()) => {}
            Err(Error::MemoryLimit) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0);
    engine
}

#[tokio::test]
async fn a_write_beyond_the_limit_fails_and_changes_nothing() {
    for shards in [1, 3] {
        let directory = tempfile::tempdir().unwrap();
        let engine = full(shards, directory.path()).await;
        let db = engine.handle();
        let (before, commits) = (content(&db), engine.stats().commits);
        let too_much = |_: Option<&Vec<u8>>| Some(vec![2; 100_000]);
        assert!(matches!(db.update(0, too_much).await, Err(Error::MemoryLimit)));
        let over_all_shards = db.transaction(|txn| {
            for key in 20_000..20_100 {
                txn.insert(key, vec![2; 10_000]);
            }
            txn.remove(&1);
            Ok::<_, Error>(())
        });
        assert!(matches!(over_all_shards.await, Err(Error::MemoryLimit)));
        let mut sink = db.ingest(IngestOptions::default());
        let sent = sink.send(30_000, vec![2; 100_000]).await;
        let finished = sink.finish().await.map(drop);
        let failed = sent.and(finished).unwrap_err();
        assert!(matches!(failed.cause(), Error::MemoryLimit), "{failed:?}");
        assert!(content(&db) == before);
        assert_eq!(engine.stats().commits, commits, "no timestamp was taken");

        // What takes no more than it replaces, and removals, go through, and make room.
        let kept = *before.keys().next().unwrap();
        db.insert(kept, vec![3; 200]).await.unwrap();
        db.remove(&kept).await.unwrap();
        db.insert(kept, vec![4; 200]).await.unwrap();
        let after = content(&db);
        engine.close().await.unwrap();
        let engine: Engine<u64, Vec<u8>> =
            Engine::builder().shards(shards).open(directory.path()).await.unwrap();
        assert!(content(&engine.handle()) == after);
    }
}

#[tokio::test]
async fn a_transaction_that_the_coordinator_has_is_refused_before_it_has_a_timestamp() {
    let engine: Engine<u64, Vec<u8>> = Engine::builder()
        .shards(4)
        .lend_turns(false)
        .memory_limit(256 << 10, Eviction::Manual)
        .in_memory()
        .await
        .unwrap();
    let db = engine.handle();
    let large = db.transaction(|txn| {
        for key in 0..100 {
            txn.insert(key, vec![1; 10_000]);
        }
        Ok::<_, Error>(())
    });
    assert!(matches!(large.await, Err(Error::MemoryLimit)));
    assert_eq!(engine.stats().commits, 0);
    assert!(db.is_empty().unwrap());
    let small = db.transaction(|txn| {
        for key in 0..100 {
            txn.insert(key, vec![1; 10]);
        }
        Ok::<_, Error>(())
    });
    small.await.unwrap();
    assert_eq!(db.len().unwrap(), 100);
}

#[tokio::test]
async fn a_limit_that_can_t_work_is_refused_with_what_to_do() {
    let open =
        |bytes, eviction| Engine::<u64, u64>::builder().shards(4).memory_limit(bytes, eviction).in_memory();
    let refused = async |bytes, eviction, hint: &str| match open(bytes, eviction).await {
        Err(Error::Config(message)) => assert!(message.contains(hint), "{message}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{bytes} bytes and {eviction:?} were taken"),
    };
    refused(0, Eviction::Lru, "raise it").await;
    refused((256 << 10) - 1, Eviction::Manual, "raise it").await;
    refused(1 << 20, Eviction::Ttl(Duration::ZERO), "longer time to live").await;
    refused(1 << 20, Eviction::Ttl(Duration::MAX), "without one").await;
    open(256 << 10, Eviction::Lru).await.unwrap();

    let engine: Engine<u64, u64> = Engine::builder().in_memory().await.unwrap();
    let db = engine.handle();
    let zero = db.insert_with_ttl(1, 1, Duration::ZERO).await;
    assert!(matches!(zero, Err(Error::Config(message)) if message.contains("longer")));
    let for_ever = db.insert_with_ttl(1, 1, Duration::MAX).await;
    assert!(matches!(for_ever, Err(Error::Config(message)) if message.contains("without one")));
    let mut txn = db.begin();
    assert!(matches!(txn.insert_with_ttl(1, 1, Duration::ZERO), Err(Error::Config(_))));
    assert_eq!(txn.get(&1).unwrap(), None);
    assert!(db.is_empty().unwrap());
}
