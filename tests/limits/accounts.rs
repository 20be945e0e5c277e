//! The books come out even, whatever was done.

use anabranch::{Engine, Error, Eviction};

#[tokio::test]
async fn nothing_is_left_in_the_books_when_everything_is_removed() {
    let engine: Engine<u64, Vec<u8>> =
        Engine::builder().shards(2).memory_limit(16 << 20, Eviction::Lru).in_memory().await.unwrap();
    let db = engine.handle();
    let empty = engine.memory_info().current_bytes;
    for round in 0..3_u8 {
        let snapshot = (round == 1).then(|| db.snapshot());
        for key in 0..500 {
            db.insert(key, vec![round; 10 + usize::try_from(key).unwrap()]).await.unwrap();
            db.update(key / 2, |old| old.map(|old| [old.as_slice(), &[1, 2, 3]].concat())).await.unwrap();
        }
        db.transaction(|txn| {
            for key in 400..600 {
                txn.remove(&key);
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        drop(snapshot);
    }
    engine.vacuum().await.unwrap();
    let info = engine.memory_info();
    assert_eq!(info.reclaimable_bytes, 0, "{info:?}");
    assert!(info.current_bytes > empty);
    for key in 0..600 {
        db.remove(&key).await.unwrap();
    }
    engine.vacuum().await.unwrap();
    assert_eq!(engine.memory_info().current_bytes, empty);
    assert_eq!(engine.memory_info().evictions, 0);
}

#[tokio::test]
async fn an_engine_without_a_limit_counts_nothing() {
    let engine: Engine<u64, u64> = Engine::builder().in_memory().await.unwrap();
    engine.handle().insert(1, 1).await.unwrap();
    assert_eq!(engine.memory_info(), anabranch::MemoryInfo::default());
}
