//! Reopening with another number of shards, or another partitioner.

use std::time::Duration;

use anabranch::{Durability, Engine, Eviction, Flush, Partition, default_shards};

use crate::harness::{entries, open, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_shards_may_change_with_every_open() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = None;
    let mut expected = Vec::new();
    for (life, shards) in (0..).zip([3, 1, 1, 8, 2, 2, 5, 1, 4]) {
        let engine = open::<u64, u64>(directory.path(), shards).await;
        assert_eq!(entries(engine.handle().range(..)), expected, "{shards} shards in life {life}");
        let moved = before.filter(|before| *before != shards);
        assert_eq!(engine.recovery_report().moved_from_shards, moved);
        for key in 0..30 {
            let key = life * 100 + key;
            within(engine.handle().insert(key, life)).await.unwrap();
            expected.push((key, life));
        }
        let gone = expected.remove(expected.len() / 2).0;
        within(engine.handle().remove(&gone)).await.unwrap();
        if life % 2 == 0 {
            within(engine.checkpoint()).await.unwrap();
        }
        before = Some(shards);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_not_told_keeps_the_number_of_shards_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let created = open::<u64, u64>(directory.path(), 5).await;
    within(created.handle().insert(1, 2)).await.unwrap();
    within(created.close()).await.unwrap();
    let every = Durability::Relaxed(Flush::every(Duration::from_millis(100)));
    for durability in [Durability::Full, every] {
        let builder = Engine::<u64, u64>::builder().durability(durability);
        let engine = within(builder.open(directory.path())).await.unwrap();
        assert_eq!(engine.recovery_report().moved_from_shards, None);
        assert_eq!(engine.stats().shards.len(), 5);
        within(engine.close()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_engine_has_as_many_shards_as_its_durability_and_its_memory_ask_for() {
    let every = Durability::Relaxed(Flush::every(Duration::from_millis(100)));
    for durability in [Durability::Full, every] {
        let directory = tempfile::tempdir().unwrap();
        let builder = Engine::<u64, u64>::builder().durability(durability);
        let engine = within(builder.open(directory.path())).await.unwrap();
        assert_eq!(engine.stats().shards.len(), default_shards(Some(durability)));
    }
    let engine = within(Engine::<u64, u64>::builder().in_memory()).await.unwrap();
    assert_eq!(engine.stats().shards.len(), default_shards(None));
    let small = Engine::<u64, u64>::builder().memory_limit(100_000, Eviction::Lru);
    let engine = within(small.in_memory()).await.unwrap();
    assert_eq!(engine.stats().shards.len(), 1, "a second one's share would be too small");
}

#[derive(Clone)]
struct Shifted(usize);

impl Partition<u64> for Shifted {
    fn shard(&self, key: &u64, _: u64, shards: usize) -> usize {
        (usize::try_from(*key).unwrap() + self.0) % shards
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_partitioner_may_change_with_every_open() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..5 {
        let builder = Engine::<u64, u64>::builder().shards(3).partition(Shifted(life % 3));
        let engine = within(builder.open(directory.path())).await.unwrap();
        let db = engine.handle();
        for key in 0..30 {
            assert_eq!(
                db.get(&key).unwrap().as_deref().copied(),
                life.checked_sub(1).map(|life| life as u64)
            );
            within(db.insert(key, life as u64)).await.unwrap();
        }
        assert_eq!(db.range(..).count(), 30);
    }
    let engine = open::<u64, u64>(directory.path(), 3).await;
    assert_eq!(entries(engine.handle().range(..)), (0..30).map(|key| (key, 4)).collect::<Vec<_>>());
}
