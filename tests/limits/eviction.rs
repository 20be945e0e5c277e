//! What goes when there is too much, and that it has gone for everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::{Durability, Engine, EngineBuilder, Error, Eviction, Flush};

use crate::effort::effort;
use crate::world::{changes, content};

const TASKS: u64 = 8;
const VALUE_BYTES: usize = 400;

fn builder(limit: u64, eviction: Eviction) -> EngineBuilder<u64, Vec<u8>> {
    let relaxed = Durability::Relaxed(Flush::every(Duration::from_millis(50)));
    Engine::builder().shards(2).durability(relaxed).memory_limit(limit, eviction)
}

/// Eight tasks write ten times the limit, and look at what is used after every write.
async fn write_ten_times_the_limit(eviction: Eviction) {
    let limit = match std::env::var("ANABRANCH_EFFORT").as_deref() {
        Ok("full") => 64 << 20,
        _ => effort(1 << 20, 8 << 20),
    };
    let directory = tempfile::tempdir().unwrap();
    let engine = builder(limit, eviction).open(directory.path()).await.unwrap();
    let writes = 10 * limit / (VALUE_BYTES as u64 * TASKS);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let db = engine.handle();
            tokio::spawn(async move {
                let mut most = 0;
                for write in 0..writes {
                    db.insert(write * TASKS + task, vec![1; VALUE_BYTES]).await.unwrap();
                    let info = db.memory_info();
                    // A checkpoint under way is a reader: what goes meanwhile is still there for it.
                    most = most.max(info.current_bytes.saturating_sub(info.reclaimable_bytes));
                    // Something is asked for again and again.
                    db.get(&(write % 100)).unwrap();
                }
                most
            })
        })
        .collect();
    let mut most = 0;
    for task in tasks {
        most = most.max(task.await.unwrap());
    }
    // The last evictions are commits of their own, and one more checkpoint comes after the one that may be under way.
    engine.sync().await.unwrap();
    engine.checkpoint().await.unwrap();
    engine.vacuum().await.unwrap();
    let info = engine.memory_info();
    assert!(most <= limit + limit / 20, "{most} bytes of {limit} under {eviction:?}: {info:?}");
    assert!(info.current_bytes <= limit + limit / 20, "{eviction:?} gives back what went: {info:?}");
    assert!(info.current_bytes > limit * 4 / 5, "{eviction:?} uses what there is: {info:?}");
    // Keys are new, and values of one size: more than one for each write would be wasted.
    assert!(info.evictions > 0 && info.evictions <= writes * TASKS, "{eviction:?}: {info:?}");

    let before = content(&engine.handle());
    assert_eq!(before.len() as u64, writes * TASKS - info.evictions, "{eviction:?}");
    engine.close().await.unwrap();
    let engine = builder(limit, eviction).open_existing(directory.path()).await.unwrap();
    assert!(content(&engine.handle()) == before, "under {eviction:?}");
    assert!(engine.memory_info().current_bytes <= limit);
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_recently_used_entries_go_and_stay_away() {
    write_ten_times_the_limit(Eviction::Lru).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_frequently_used_entries_go_and_stay_away() {
    write_ten_times_the_limit(Eviction::Lfu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_entries_go_and_stay_away() {
    write_ten_times_the_limit(Eviction::Random).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_with_the_least_time_left_go_and_stay_away() {
    write_ten_times_the_limit(Eviction::Ttl(Duration::from_hours(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adaptively_chosen_entries_go_and_stay_away() {
    write_ten_times_the_limit(Eviction::Arc).await;
}

#[tokio::test]
async fn an_entry_that_is_read_again_and_again_survives_a_scan_under_lru_lfu_and_arc() {
    for eviction in [Eviction::Lru, Eviction::Lfu, Eviction::Arc] {
        let engine: Engine<u64, Vec<u8>> =
            Engine::builder().shards(1).memory_limit(1 << 20, eviction).in_memory().await.unwrap();
        let db = engine.handle();
        db.insert(u64::MAX, vec![0; 100]).await.unwrap();
        for key in 0..20_000 {
            db.insert(key, vec![1; 400]).await.unwrap();
            assert!(db.get(&u64::MAX).unwrap().is_some(), "after {key} others under {eviction:?}");
        }
        assert!(engine.memory_info().evictions > 10_000);
    }
}

#[tokio::test]
async fn the_feed_of_changes_shows_evictions_as_removals() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder(1 << 20, Eviction::Lru).open(directory.path()).await.unwrap();
    let db = engine.handle();
    for key in 0..6_000 {
        db.insert(key, vec![2; 400]).await.unwrap();
    }
    engine.sync().await.unwrap();
    let changes = changes(&db, engine.stats().durable).await;
    let removed = changes.iter().filter(|change| change.value.is_none()).count();
    assert_eq!(removed as u64, engine.memory_info().evictions);
    let mut copy = BTreeMap::new();
    for change in changes {
        match change.value {
            Some(value) => copy.insert(change.key, value),
            None => copy.remove(&change.key),
        };
    }
    assert!(copy == content(&db), "the feed leads elsewhere");
}

#[tokio::test]
async fn a_snapshot_sees_no_hole_and_what_it_pins_comes_on_top() {
    let limit = 1 << 20;
    let engine: Engine<u64, Vec<u8>> =
        Engine::builder().shards(2).memory_limit(limit, Eviction::Random).in_memory().await.unwrap();
    let db = engine.handle();
    for key in 0..1_000 {
        db.insert(key, vec![3; 400]).await.unwrap();
    }
    let evicted_before = engine.memory_info().evictions;
    let snapshot = db.snapshot();
    let seen: Vec<_> = snapshot.range(..).map(|entry| entry.unwrap().0).collect();
    for key in 1_000..5_000 {
        db.insert(key, vec![3; 400]).await.unwrap();
    }
    let info = engine.memory_info();
    // H5: what the snapshot pins does not make the rest go.
    assert!(info.evictions - evicted_before <= 4_000, "{info:?}");
    assert!(info.current_bytes - info.reclaimable_bytes > limit * 4 / 5, "{info:?}");
    assert_eq!(snapshot.range(..).map(|entry| entry.unwrap().0).collect::<Vec<_>>(), seen);
    assert!(seen.iter().all(|key| snapshot.get(key).unwrap().is_some()));
    drop(snapshot);
    engine.vacuum().await.unwrap();
    let info = engine.memory_info();
    assert!(info.current_bytes <= limit, "{info:?}");
    assert_eq!(info.reclaimable_bytes, 0, "{info:?}");
}

#[tokio::test]
async fn validation_sees_an_eviction() {
    let engine: Engine<u64, Vec<u8>> =
        Engine::builder().shards(1).memory_limit(128 << 10, Eviction::Lru).in_memory().await.unwrap();
    let db = engine.handle();
    db.insert(0, vec![4; 100]).await.unwrap();
    let mut txn = db.begin();
    assert!(txn.get(&0).unwrap().is_some());
    for key in 1..2_000 {
        db.insert(key, vec![4; 400]).await.unwrap();
    }
    assert!(db.get(&0).unwrap().is_none(), "it was evicted");
    txn.insert(5_000, Vec::new());
    assert!(matches!(txn.commit().await, Err(Error::Conflict { .. })));
    let mut range = db.begin();
    assert!(range.range(..100).next().is_none());
    range.insert(5_001, Vec::new());
    range.commit().await.unwrap();
}

#[tokio::test]
async fn a_lower_limit_holds_from_the_moment_of_opening() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder(4 << 20, Eviction::Lru).open(directory.path()).await.unwrap();
    let db = engine.handle();
    for key in 0..6_000 {
        db.insert(key, vec![5; 400]).await.unwrap();
    }
    engine.close().await.unwrap();
    let engine = builder(1 << 20, Eviction::Lru).open(directory.path()).await.unwrap();
    let info = engine.memory_info();
    assert!(info.current_bytes - info.reclaimable_bytes <= 1 << 20, "{info:?}");
    assert!(info.evictions > 1_000, "{info:?}");
    let left = content(&engine.handle());
    engine.close().await.unwrap();
    let engine: Engine<u64, Vec<u8>> = Engine::builder().open(directory.path()).await.unwrap();
    assert!(content(&engine.handle()) == left, "also for an engine without a limit");
    assert_eq!(engine.memory_info().limit_bytes, None);
}

#[tokio::test]
async fn an_entry_larger_than_a_share_goes_and_the_engine_goes_on() {
    let engine: Engine<u64, Vec<u8>> =
        Engine::builder().shards(1).memory_limit(64 << 10, Eviction::Lru).in_memory().await.unwrap();
    let db = engine.handle();
    for key in 0..20 {
        db.insert(key, vec![6; 1 << 20]).await.unwrap();
    }
    engine.vacuum().await.unwrap();
    assert!(engine.memory_info().current_bytes <= 64 << 10);
    db.insert(100, vec![7; 10]).await.unwrap();
    assert!(db.get(&100).unwrap().is_some());
}

#[tokio::test]
async fn keys_that_a_transaction_over_several_shards_has_pinned_are_not_lost_to_it() {
    let engine: Engine<u64, Vec<u8>> = Engine::builder()
        .shards(4)
        .lend_turns(false)
        .memory_limit(256 << 10, Eviction::Random)
        .in_memory()
        .await
        .unwrap();
    let db = engine.handle();
    let writing = tokio::spawn({
        let db = db.clone();
        async move {
            for key in 1_000..6_000 {
                db.insert(key, vec![8; 200]).await.unwrap();
            }
        }
    });
    for round in 0..200_u64 {
        // Both, or neither, whatever is evicted meanwhile.
        db.transaction(|txn| {
            for key in 0..4 {
                txn.insert(key, vec![u8::try_from(round).unwrap(); 10]);
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        let rounds: Vec<_> =
            db.get_many(&[0, 1, 2, 3]).unwrap().into_iter().flatten().map(|v| v[0]).collect();
        assert!(rounds.windows(2).all(|two| two[0] == two[1]), "{rounds:?}");
    }
    writing.await.unwrap();
}
