//! What `stats()` tells, and that it is true.

use std::time::Duration;

use anabranch::{Durability, Engine, Error, Flush, IngestOptions, Stats};

use crate::harness::{in_memory, open, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_is_counted_once_under_the_way_that_it_went() {
    for lends_turns in [true, false] {
        let builder = Engine::builder().shards(2).lend_turns(lends_turns);
        let engine: Engine<u64, u64> = builder.in_memory().await.unwrap();
        let db = engine.handle();
        for key in 0..10 {
            within(db.insert(key, key)).await.unwrap();
        }
        for _ in 0..5 {
            within(db.update(1, |old| old.map(|old| old + 1))).await.unwrap();
        }
        within(db.update(77, |_| None)).await.unwrap();
        within(db.remove(&9)).await.unwrap();
        let over_all = within(db.transaction(|txn| {
            (0..10).for_each(|key| txn.insert(key, 0));
            Ok::<_, Error>(())
        }));
        over_all.await.unwrap();
        let mut sink = db.ingest(IngestOptions::default());
        for key in 0..100 {
            within(sink.update(key, |old| Some(old.copied().unwrap_or(0) + 1))).await.unwrap();
        }
        within(sink.finish()).await.unwrap();
        let stats = engine.stats();
        let kinds = stats.kinds;
        assert_eq!(kinds.sum(), stats.commits, "{kinds:?}");
        assert_eq!(kinds.updates, 6, "a change that changes nothing is no commit");
        assert!(kinds.batches >= 2, "each shard has got one");
        let (in_line, by_message) = (kinds.in_line, (kinds.one_phase, kinds.two_phase));
        if lends_turns {
            assert_eq!((in_line, by_message), (11, (0, 0)));
        } else {
            assert_eq!((in_line, by_message), (0, (10, 1)));
            assert!(stats.batch_messages.count > 0 && stats.batch_messages.max >= 1);
        }
        let by_shard: u64 = stats.shards.iter().map(|shard| shard.commits).sum();
        assert_eq!(by_shard + kinds.two_phase, stats.commits);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_and_syncs_are_counted_and_timed() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    for key in 0..20 {
        within(engine.handle().insert(key, key)).await.unwrap();
    }
    let log = engine.stats().log;
    assert_eq!(log.flush_nanos.count, log.flushes);
    assert_eq!((log.flush_records.count, log.flush_records.sum), (log.flushes, log.records));
    assert_eq!(log.records, 20);
    assert!(log.sync_nanos.count > 0 && log.sync_nanos.count <= log.syncs);
    assert!(log.sync_nanos.max > 0 && log.sync_nanos.quantile(0.5) <= log.sync_nanos.max);
    assert!(log.flush_nanos.sum >= log.flush_nanos.max);
    let stats = engine.stats();
    assert_eq!(stats.lag, stats.applied.0 - stats.durable.0);
    let ring = stats.shards[0].ring;
    assert!(ring.segments >= ring.segments_free && ring.segments_max == 128, "{ring:?}");
    within(engine.close()).await.unwrap();
}

#[tokio::test]
async fn live_keys_are_those_with_a_value_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..2 {
        let engine = open::<u64, u64>(directory.path(), 2).await;
        let db = engine.handle();
        if life == 0 {
            for key in 0..20 {
                within(db.insert(key, key)).await.unwrap();
                within(db.insert(key, key + 1)).await.unwrap();
            }
            for key in 0..5 {
                within(db.remove(&key)).await.unwrap();
            }
            within(db.remove(&500)).await.unwrap();
        }
        assert_eq!(engine.stats().live_keys(), 15);
        within(db.insert(1, 1)).await.unwrap();
        within(db.remove(&1)).await.unwrap();
        assert_eq!(engine.stats().live_keys(), 15);
        within(engine.vacuum()).await.unwrap();
        let stats = engine.stats();
        assert_eq!((stats.live_keys(), stats.keys(), stats.versions()), (15, 15, 15));
        within(engine.close()).await.unwrap();
    }
}

#[tokio::test]
async fn the_oldest_reader_tells_what_it_holds_on_to() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    for key in 0..10 {
        db.insert(key, 0).await.unwrap();
    }
    assert_eq!(engine.stats().oldest_reader, None);
    let (older, younger) = (db.snapshot(), db.begin());
    for key in 0..7 {
        db.insert(key, 1).await.unwrap();
    }
    let oldest = engine.stats().oldest_reader.unwrap();
    assert_eq!((oldest.timestamp, oldest.commits_behind), (older.timestamp(), 7));
    assert_eq!(oldest.versions, 7);
    drop((older, younger));
    assert_eq!(engine.stats().oldest_reader, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_wait_for_space_or_for_a_bound_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let relaxed = Durability::Relaxed(Flush::after_commits(2));
    let builder = Engine::builder().shards(1).durability(relaxed).segment_bytes(16 << 10).segments_max(4);
    let engine: Engine<u64, Vec<u8>> = within(builder.open(directory.path())).await.unwrap();
    let mut rounds = 0;
    let stalled = |stats: &Stats| stats.stalls.space > 0 && stats.stalls.bounds > 0;
    while !stalled(&engine.stats()) {
        rounds += 1;
        assert!(rounds < 1_000, "{:?}", engine.stats().stalls);
        let writes: Vec<_> = (0..32)
            .map(|key| {
                let db = engine.handle();
                tokio::spawn(async move { db.insert(key, vec![1; 4_000]).await })
            })
            .collect();
        for write in writes {
            within(write).await.unwrap().unwrap();
        }
    }
    assert!(engine.stats().stalls.space_time > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_come_back_from_their_serialised_form() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 2).await;
    for key in 0..20 {
        within(engine.handle().insert(key, key)).await.unwrap();
    }
    let _pin = engine.handle().snapshot();
    let stats = engine.stats();
    let text = serde_json::to_string(&stats).unwrap();
    assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats);
    // What a later version adds, an earlier document lacks.
    assert_eq!(serde_json::from_str::<Stats>("{\"commits\": 3}").unwrap().commits, 3);
}
