//! The numbers through the `metrics` facade and the events through `tracing`, as their own test tools see them. Needs
//! the features: `cargo test --features metrics,tracing --test metrics`.

mod listener;

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::{Engine, Error, Eviction, Stats};
use anabranch_wal::disk::sim::{Fault, FaultKind, Operation, SimDisk, Times};
use listener::Listener;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// What a recorder has, by name and labels.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, DebugValue> {
    let rows = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
        let (_, key) = key.into_parts();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        (format!("{} {}", key.name(), labels.join(" ")), value)
    });
    rows.collect()
}

fn counter(rows: &BTreeMap<String, DebugValue>, name: &str) -> u64 {
    match rows.get(name) {
        Some(DebugValue::Counter(value)) => *value,
        other => panic!("{name} is {other:?}"),
    }
}

fn gauge(rows: &BTreeMap<String, DebugValue>, name: &str) -> f64 {
    match rows.get(name) {
        Some(DebugValue::Gauge(value)) => value.0,
        other => panic!("{name} is {other:?}"),
    }
}

fn values(rows: &BTreeMap<String, DebugValue>, name: &str) -> Vec<f64> {
    match rows.get(name) {
        Some(DebugValue::Histogram(values)) => values.iter().map(|value| value.0).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

async fn named(directory: &std::path::Path) -> Engine<u64, u64> {
    Engine::builder().shards(2).metrics_name("books").open(directory).await.unwrap()
}

#[tokio::test]
async fn metrics_are_the_numbers_of_stats() {
    let directory = tempfile::tempdir().unwrap();
    let engine = named(directory.path()).await;
    let db = engine.handle();
    for key in 0..20 {
        db.insert(key, key).await.unwrap();
        db.update(key, |old| old.map(|old| old + 1)).await.unwrap();
    }
    let pin = db.snapshot();
    db.insert(1, 1).await.unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || engine.record_metrics());
    let stats = engine.stats();
    let rows = recorded(&snapshotter);
    assert_eq!(counter(&rows, "anabranch_commits_total engine=books kind=update"), 20);
    assert_eq!(counter(&rows, "anabranch_commits_total engine=books kind=in_line"), stats.kinds.in_line);
    assert_eq!(counter(&rows, "anabranch_syncs_total engine=books"), stats.log.syncs);
    assert_eq!(counter(&rows, "anabranch_log_record_bytes_total engine=books"), stats.log.record_bytes);
    assert!((gauge(&rows, "anabranch_live_keys engine=books") - 20.0).abs() < f64::EPSILON);
    assert!((gauge(&rows, "anabranch_oldest_reader_commits_behind engine=books") - 1.0).abs() < f64::EPSILON);
    assert!((gauge(&rows, "anabranch_watermark engine=books level=durable") - 41.0).abs() < f64::EPSILON);
    let flushes = values(&rows, "anabranch_flush_seconds engine=books");
    assert_eq!(flushes.len() as u64, stats.log.flushes);
    assert!(flushes.iter().all(|seconds| (0.0..60.0).contains(seconds)));
    let records: f64 = values(&rows, "anabranch_flush_records engine=books").iter().sum();
    assert!((records - 41.0).abs() < f64::EPSILON, "each flush had one record");
    drop(pin);
}

#[tokio::test]
async fn memory_under_a_limit_is_told_with_what_went_for_it() {
    let limit = 256 << 10;
    let builder = Engine::<u64, Vec<u8>>::builder().shards(2).memory_limit(limit, Eviction::Lru);
    let engine = builder.in_memory().await.unwrap();
    for key in 0..2_000 {
        engine.handle().insert(key, vec![0; 400]).await.unwrap();
    }
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || engine.record_metrics());
    let (rows, memory) = (recorded(&snapshotter), engine.stats().memory);
    assert_eq!(memory, engine.memory_info());
    let bytes = |state| gauge(&rows, &format!("anabranch_memory_bytes engine=default state={state}"));
    assert!((bytes("limit") - 262_144.0).abs() < f64::EPSILON);
    assert!(bytes("current") > 200_000.0 && bytes("current") - bytes("reclaimable") <= bytes("limit"));
    assert!(memory.evictions > 1_000);
    assert_eq!(counter(&rows, "anabranch_evictions_total engine=default"), memory.evictions);
    assert_eq!(counter(&rows, "anabranch_expirations_total engine=default"), 0);
}

#[tokio::test]
async fn recording_again_adds_what_came_since_to_histograms() {
    let directory = tempfile::tempdir().unwrap();
    let engine = named(directory.path()).await;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let mut flushes = 0;
    for round in 0..3u64 {
        for key in 0..=round {
            engine.handle().insert(key, round).await.unwrap();
        }
        metrics::with_local_recorder(&recorder, || engine.record_metrics());
        // Reading takes a histogram's values out.
        flushes += values(&recorded(&snapshotter), "anabranch_flush_seconds engine=books").len() as u64;
        assert_eq!(flushes, engine.stats().log.flushes);
    }
    metrics::with_local_recorder(&recorder, || engine.record_metrics());
    let rows = recorded(&snapshotter);
    assert!(values(&rows, "anabranch_flush_seconds engine=books").is_empty());
    assert_eq!(counter(&rows, "anabranch_commits_total engine=books kind=in_line"), 6);
}

#[tokio::test(start_paused = true)]
async fn an_engine_records_by_itself_as_often_as_it_is_told_to() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let builder = Engine::<u64, u64>::builder().shards(1).metrics_every(Duration::from_secs(10));
    let engine = builder.in_memory().await.unwrap();
    engine.handle().insert(1, 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(recorded(&snapshotter).is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(counter(&recorded(&snapshotter), "anabranch_commits_total engine=default kind=in_line"), 1);
    let zero = Engine::<u64, u64>::builder().metrics_every(Duration::ZERO).in_memory().await;
    assert!(matches!(zero, Err(Error::Config(_))));
}

#[tokio::test]
async fn the_life_of_an_engine_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::new();
    let _heard = listener.listen();
    let engine = named(directory.path()).await;
    // So many that both shards have some: each database hashes in its own way.
    for key in 0..60 {
        engine.handle().insert(key, key).await.unwrap();
    }
    engine.checkpoint().await.unwrap();
    engine.handle().insert(99, 99).await.unwrap();
    engine.close().await.unwrap();
    let opened = listener.find("opened").remove(0);
    assert!(opened.contains("created=true") && opened.contains("recovered_to=0"), "{opened}");
    assert!(!listener.find("ring grown").is_empty());
    assert_eq!((listener.find("checkpoint begun").len(), listener.find("checkpoint ended").len()), (2, 2));
    assert_eq!(listener.find("closed").len(), 1);
    assert!(listener.find("read-only").is_empty() && listener.find("slow").is_empty());
    let _again = named(directory.path()).await;
    let reopened = listener.find("opened").remove(1);
    assert!(reopened.contains("created=false") && reopened.contains("recovered_to=61"), "{reopened}");
    assert!(reopened.contains("checkpoint_entries=60"), "{reopened}");
}

#[tokio::test]
async fn what_is_slow_is_told_and_single_operations_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::new();
    let _heard = listener.listen();
    let builder = Engine::builder().shards(1).slow_after(Duration::ZERO);
    let engine: Engine<u64, u64> = builder.open(directory.path()).await.unwrap();
    engine.handle().insert(1, 1).await.unwrap();
    engine.checkpoint().await.unwrap();
    engine.close().await.unwrap();
    let slow = listener.find("slow").join("\n");
    for operation in ["flush", "sync", "checkpoint", "acknowledgement"] {
        assert!(slow.contains(&format!("operation={operation}")), "{operation} in {slow}");
    }
    let memory: Engine<u64, u64> = Engine::builder().shards(1).in_memory().await.unwrap();
    let before = listener.count();
    for key in 0..1_000 {
        memory.handle().insert(key, key).await.unwrap();
        memory.handle().get(&key).unwrap();
        memory.handle().snapshot().get(&key).unwrap();
    }
    assert_eq!(listener.count(), before);
}

#[tokio::test(start_paused = true)]
async fn readers_that_are_ended_for_their_age_are_told_of() {
    let listener = Listener::new();
    let _heard = listener.listen();
    let builder = Engine::<u64, u64>::builder().shards(1).max_snapshot_age(Duration::from_nanos(1));
    let engine = builder.in_memory().await.unwrap();
    let _old = engine.handle().snapshot();
    engine.handle().insert(1, 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ended = listener.find("readers ended by age");
    assert!(ended.len() == 1 && ended[0].contains("readers=1"), "{ended:?}");
}

#[tokio::test]
async fn a_fault_is_told_with_its_cause() {
    let listener = Listener::new();
    let _heard = listener.listen();
    let disk = SimDisk::new(1);
    let engine: Engine<u64, u64> =
        Engine::builder().shards(1).disk(std::sync::Arc::new(disk.clone()) as _).open("books").await.unwrap();
    engine.handle().insert(1, 1).await.unwrap();
    for operation in [Operation::Write, Operation::Sync] {
        let (nth, times, kind) = (1, Times::Once, FaultKind::Eio);
        disk.inject(Fault { operation, path_contains: None, nth, times, kind });
    }
    assert!(engine.handle().insert(2, 2).await.is_err());
    let told = listener.find("read-only");
    assert!(told.len() == 1 && told[0].contains("cause="), "{told:?}");
}

#[tokio::test]
async fn stats_are_the_same_with_and_without_a_recorder() {
    let engine: Engine<u64, u64> = Engine::builder().shards(1).in_memory().await.unwrap();
    engine.handle().insert(1, 1).await.unwrap();
    let before: Stats = engine.stats();
    engine.record_metrics();
    assert_eq!(engine.stats(), before);
}
