//! What is known about entries, and evicting one by hand.

use std::time::Duration;

use anabranch::{Engine, Eviction};

use crate::world::Calendar;

#[tokio::test]
async fn metadata_tells_what_there_is_to_know() {
    let calendar = Calendar::default();
    let builder = Engine::builder().shards(2).env(calendar.env()).memory_limit(1 << 20, Eviction::Lru);
    let engine: Engine<String, Vec<u8>> = builder.in_memory().await.unwrap();
    let db = engine.handle();
    db.insert("a".into(), vec![1; 1000]).await.unwrap();
    let snapshot = db.snapshot();
    let second = db.begin().read_timestamp().next();
    db.insert_with_ttl("a".into(), vec![2; 500], Duration::from_secs(9)).await.unwrap();
    let known = db.metadata("a").unwrap().unwrap();
    assert_eq!((known.timestamp, known.versions), (second, 2));
    assert_eq!(known.expires_unix_millis, Some(1_700_000_009_000));
    let bytes = known.bytes.unwrap();
    assert!((500..700).contains(&bytes), "{known:?}");
    assert!(known.accesses.unwrap() >= 1, "{known:?}");
    drop(snapshot);
    assert_eq!(db.metadata("b").unwrap(), None);
}

#[tokio::test]
async fn reads_count_as_accesses_and_asking_does_not() {
    let calendar = Calendar::default();
    let builder = Engine::builder().shards(1).env(calendar.env()).memory_limit(4 << 20, Eviction::Lfu);
    let engine: Engine<u64, u64> = builder.in_memory().await.unwrap();
    let db = engine.handle();
    db.insert(1, 1).await.unwrap();
    db.insert(2, 2).await.unwrap();
    for key in 0..2_000 {
        calendar.pass(Duration::from_millis(10));
        db.insert(100 + key, 0).await.unwrap();
        db.get(&1).unwrap();
        db.metadata(&2).unwrap();
        drop(db.range(..).next());
    }
    let (read, unread) = (db.metadata(&1).unwrap().unwrap(), db.metadata(&2).unwrap().unwrap());
    assert!(read.accesses.unwrap() > 10 && unread.accesses.unwrap() == 1, "{read:?} {unread:?}");
    let accessed = read.accessed_unix_millis.unwrap();
    assert!(accessed > 1_700_000_018_000 && accessed <= 1_700_000_020_000, "{read:?}");
    assert!(unread.accessed_unix_millis.is_none_or(|accessed| accessed < 1_700_000_001_000), "{unread:?}");
}

#[tokio::test]
async fn a_scan_of_metadata_meets_every_entry_once() {
    let engine: Engine<u64, u64> = Engine::builder().shards(3).in_memory().await.unwrap();
    let db = engine.handle();
    for key in 0..2_000 {
        db.insert(key, key).await.unwrap();
    }
    db.remove(&7).await.unwrap();
    let scan = db.metadata_scan();
    db.insert(5_000, 0).await.unwrap();
    let mut keys: Vec<_> = scan
        .map(|known| known.unwrap())
        .map(|(key, known)| {
            assert_eq!((known.bytes, known.accesses, known.accessed_unix_millis), (None, None, None));
            key
        })
        .collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq((0..2_000).filter(|key| *key != 7)));
}

#[tokio::test]
async fn evicting_by_hand_is_a_logged_removal() {
    let directory = tempfile::tempdir().unwrap();
    let engine: Engine<String, u64> = Engine::builder().open(directory.path()).await.unwrap();
    let db = engine.handle();
    db.insert("a".into(), 1).await.unwrap();
    let snapshot = db.snapshot();
    assert!(db.evict("a").await.unwrap());
    assert!(!db.evict("a").await.unwrap());
    assert_eq!(db.get("a").unwrap(), None);
    assert_eq!(snapshot.get("a").unwrap().as_deref(), Some(&1));
    drop(snapshot);
    engine.close().await.unwrap();
    let engine: Engine<String, u64> = Engine::builder().open(directory.path()).await.unwrap();
    assert!(engine.handle().is_empty().unwrap());
}
