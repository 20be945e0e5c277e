//! What a limit of memory counts, beside what the allocator counts.

use anabranch::{Engine, Eviction, GetSize, Key, Value};

use super::{ALLOCATOR, ALONE};

/// A million by default: the error depends on how full the tables are.
const KEYS: u64 = 1_000_000;

/// How many percent the books are off.
async fn off_by<K: Key + GetSize, V: Value + GetSize>(key: fn(u64) -> K, value: fn(u64) -> V) -> i64 {
    let engine: Engine<K, V> =
        Engine::builder().shards(2).memory_limit(1 << 40, Eviction::Lru).in_memory().await.unwrap();
    let db = engine.handle();
    let before = ALLOCATOR.allocated();
    let mut sink = db.ingest(anabranch::IngestOptions::default());
    for row in 0..KEYS {
        // In no order.
        let row = row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        sink.send(key(row), value(row)).await.unwrap();
    }
    sink.finish().await.unwrap();
    // The ordered index is complete once somebody asks.
    assert!(db.range(..).next().is_some());
    engine.vacuum().await.unwrap();
    let allocated = i64::try_from(ALLOCATOR.allocated() - before).unwrap();
    let counted = i64::try_from(engine.memory_info().current_bytes).unwrap();
    let off = (counted - allocated) * 100 / allocated;
    println!("counted {counted}, allocated {allocated}: {off} %");
    engine.close().await.unwrap();
    drop(db);
    // What the engine's tasks held goes with them.
    for _ in 0..1_000 {
        if ALLOCATOR.allocated() < before + (10 << 20) {
            return off;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} bytes are left", ALLOCATOR.allocated() - before);
}

#[tokio::test]
async fn the_books_are_within_15_percent_of_the_allocator_at_a_million_keys() {
    let _alone = ALONE.lock().await;
    let shapes = [
        off_by(|row| row, |row| vec![1_u8; 64 + usize::try_from(row % 128).unwrap()]).await,
        off_by(|row| format!("user/{row:016}"), |row| format!("{row:0100}")).await,
    ];
    assert!(shapes.iter().all(|off| off.abs() <= 15), "{shapes:?}");
}
