//! A maximum age ends readers: what they do next is an error, what they held on to goes, and none of them ever reads
//! what is not there any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch::{Engine, Env, Error, SystemEnv};

use crate::effort::effort;
use crate::harness::{collect, entries, in_memory, within};

const AGE: Duration = Duration::from_mins(1);

/// A clock that the test sets, and that goes on by itself so much with each look at it.
#[derive(Default)]
struct Clock {
    nanos: AtomicU64,
    step: u64,
}

impl Clock {
    fn advance(&self, by: Duration) {
        self.nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Env for Clock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.fetch_add(self.step, Ordering::SeqCst))
    }

    fn unix_millis(&self) -> u64 {
        SystemEnv.unix_millis()
    }

    fn random(&self) -> u64 {
        SystemEnv.random()
    }
}

async fn aging(clock: &Arc<Clock>) -> Engine<u64, u64> {
    let builder = Engine::builder().shards(2).env(Arc::clone(clock) as _).max_snapshot_age(AGE);
    let engine = builder.in_memory().await.unwrap();
    for key in 0..10 {
        engine.handle().insert(key, 0).await.unwrap();
    }
    engine
}

#[expect(clippy::needless_pass_by_value, reason = "what a call has just returned")]
fn is_too_old<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::SnapshotTooOld { age, .. }) if age > AGE)
}

#[tokio::test]
async fn whatever_a_reader_does_when_it_is_too_old_is_an_error() {
    let clock = Arc::new(Clock::default());
    let engine = aging(&clock).await;
    let db = engine.handle();
    let (snapshot, mut txn, mut writer) = (db.snapshot(), db.begin(), db.begin());
    let (mut scan, mut finished) = (db.range(..), db.range(100..));
    writer.insert(5, 5);
    assert!(scan.next().unwrap().is_ok());
    let stream = db.range_stream(..);
    clock.advance(AGE);
    assert_eq!(snapshot.get(&1).unwrap().as_deref(), Some(&0), "it is as old as it may be");
    clock.advance(Duration::from_nanos(1));
    assert!(is_too_old(snapshot.get(&1)));
    assert!(is_too_old(snapshot.get_many([&1, &2])));
    assert!(is_too_old(snapshot.contains_key(&1)));
    assert!(is_too_old(snapshot.len()) && is_too_old(snapshot.is_empty()));
    assert!(is_too_old(snapshot.range(..).next().unwrap()));
    assert!(is_too_old(scan.next_back().unwrap()) && scan.next().is_none());
    assert!(is_too_old(finished.next().unwrap()), "it can't know that there was nothing");
    assert!(is_too_old(collect(stream).await.into_iter().next().unwrap()));
    assert!(is_too_old(txn.get(&1)) && is_too_old(txn.update(1, |_| None)));
    assert!(is_too_old(writer.get(&5)), "its own write, too");
    assert!(is_too_old(within(writer.commit()).await) && is_too_old(within(txn.commit()).await));
    assert_eq!(db.get(&5).unwrap().as_deref(), Some(&0));
    // Those that begin now are young, and at the same timestamp.
    let young = db.snapshot();
    assert_eq!(young.timestamp(), snapshot.timestamp());
    drop(snapshot);
    assert_eq!(entries(young.range(..)).len(), 10);
    assert_eq!(engine.stats().oldest_reader.unwrap().timestamp, young.timestamp());
}

#[tokio::test]
async fn a_reader_that_is_too_old_holds_on_to_nothing() {
    let clock = Arc::new(Clock::default());
    let engine = aging(&clock).await;
    let db = engine.handle();
    let old = db.snapshot();
    db.insert(1, 1).await.unwrap();
    clock.advance(AGE / 2);
    let younger = db.snapshot();
    for key in 0..10 {
        db.insert(key, 2).await.unwrap();
    }
    let oldest = engine.stats().oldest_reader.unwrap();
    assert_eq!((oldest.timestamp, oldest.age, oldest.commits_behind), (old.timestamp(), AGE / 2, 11));
    clock.advance(AGE / 2 + Duration::from_nanos(1));
    within(engine.vacuum()).await.unwrap();
    let stats = engine.stats();
    assert_eq!((stats.readers, stats.readers_ended), (1, 1));
    assert_eq!(stats.oldest_reader.unwrap().timestamp, younger.timestamp());
    assert_eq!(younger.get(&1).unwrap().as_deref(), Some(&1));
    assert!(is_too_old(old.get(&1)));
    drop(old);
    assert_eq!(younger.get(&1).unwrap().as_deref(), Some(&1), "the other's end is not its own");
    clock.advance(AGE);
    within(engine.vacuum()).await.unwrap();
    assert_eq!((engine.stats().versions(), engine.stats().readers), (10, 0));
}

/// Reads four keys that are always written together, and returns how often that went well.
fn read_until_it_is_over(db: &anabranch::Handle<u64, u64>) -> u64 {
    let snapshot = db.snapshot();
    let first = match snapshot.get(&0) {
        Ok(value) => *value.expect("it was written before all"),
        Err(Error::SnapshotTooOld { .. }) => return 0,
        Err(error) => panic!("{error}"),
    };
    for reads in 0.. {
        let seen = snapshot.range(..).collect::<Result<Vec<_>, _>>();
        match (seen, snapshot.get(&(reads % 4))) {
            (Ok(seen), Ok(one)) => {
                assert_eq!(one.as_deref(), Some(&first));
                assert!(seen.len() == 4 && seen.iter().all(|(_, value)| **value == first));
            }
            (Err(Error::SnapshotTooOld { .. }), _) | (_, Err(Error::SnapshotTooOld { .. })) => return reads,
            (seen, one) => panic!("{seen:?}, {one:?}"),
        }
    }
    unreachable!("it is over at some time")
}

/// Four keys on two shards, always written together, under readers that may live for a moment only.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_constant_updates_a_reader_sees_its_moment_or_is_told_that_it_is_over() {
    let age = Duration::from_micros(200);
    let engine: Engine<u64, u64> =
        Engine::builder().shards(2).max_snapshot_age(age).in_memory().await.unwrap();
    let engine = Arc::new(engine);
    let db = engine.handle();
    let both = |value| {
        move |txn: &mut anabranch::Transaction<u64, u64>| {
            (0..4).for_each(|key| txn.insert(key, value));
            Ok::<_, Error>(())
        }
    };
    db.transaction(both(0)).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (writer, writes_until) = (engine.handle(), Arc::clone(&done));
    let writing = tokio::spawn(async move {
        let mut value = 0;
        while !writes_until.load(Ordering::Relaxed) {
            value += 1;
            // A transaction is a reader, too, and may not have been given the time.
            match writer.transaction(both(value)).await {
                Ok(()) | Err(Error::SnapshotTooOld { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let (vacuumed, vacuums_until) = (Arc::clone(&engine), Arc::clone(&done));
    let vacuuming = tokio::spawn(async move {
        while !vacuums_until.load(Ordering::Relaxed) {
            vacuumed.vacuum().await.unwrap();
        }
    });
    let wanted = effort(300, 5_000);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let db = engine.handle();
            tokio::task::spawn_blocking(move || (0..wanted).map(|_| read_until_it_is_over(&db)).sum::<u64>())
        })
        .collect();
    for reader in readers {
        assert!(reader.await.unwrap() > 0, "nothing was ever read");
    }
    done.store(true, Ordering::Relaxed);
    within(writing).await.unwrap();
    within(vacuuming).await.unwrap();
}

/// The engine's own readers take as long as they need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_and_a_backup_outlive_the_maximum_age() {
    let directory = tempfile::tempdir().unwrap();
    let (main, copy) = (directory.path().join("main"), directory.path().join("copy"));
    // With each look at it, the clock goes on by more than a reader may live.
    let clock = Arc::new(Clock { nanos: AtomicU64::new(0), step: 2_000_000_000 });
    let builder = Engine::builder().shards(2).env(clock as _).max_snapshot_age(Duration::from_secs(1));
    let engine: Engine<u64, u64> = within(builder.open(&main)).await.unwrap();
    let db = engine.handle();
    let rows = || (0..2_000).map(|key| (key, 7)).collect::<Vec<_>>();
    let mut sink = db.ingest(anabranch::IngestOptions::default());
    for (key, value) in rows() {
        within(sink.send(key, value)).await.unwrap();
    }
    within(sink.finish()).await.unwrap();
    assert!(matches!(db.snapshot().get(&1), Err(Error::SnapshotTooOld { .. })));
    let (checkpointed, backed_up) = tokio::join!(engine.checkpoint(), engine.backup(&copy));
    checkpointed.unwrap();
    backed_up.unwrap();
    assert_eq!(engine.stats().readers_ended, 0);
    within(engine.close()).await.unwrap();
    for directory in [main, copy] {
        let engine = crate::harness::open::<u64, u64>(directory, 2).await;
        assert_eq!(entries(engine.handle().range(..)), rows());
    }
}

#[tokio::test]
async fn a_long_reader_under_constant_updates_costs_a_bounded_number_of_versions() {
    const KEYS: u64 = 50;
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    for key in 0..KEYS {
        db.insert(key, 0).await.unwrap();
    }
    let mut readers = vec![db.snapshot()];
    for round in 1..effort(1_000, 20_000) {
        for key in 0..KEYS {
            db.insert(key, round).await.unwrap();
        }
        if round == 10 || round == 500 {
            readers.push(db.snapshot());
        }
        // For each key: its newest, one for each reader, as many again or the sixteen that are not worth a look,
        // and what was written since the horizon was last computed.
        let versions = engine.stats().versions();
        assert!(versions <= KEYS * 18 + 200, "{versions} versions after {round} rounds");
    }
    for (reader, value) in readers.iter().zip([0, 10, 500]) {
        assert!(entries(reader.range(..)).iter().all(|(_, seen)| *seen == value));
    }
    let oldest = engine.stats().oldest_reader.unwrap();
    assert!(oldest.versions >= 3 * KEYS && oldest.timestamp == readers[0].timestamp());
}

#[tokio::test]
async fn a_maximum_age_of_zero_is_refused() {
    let built = Engine::<u64, u64>::builder().max_snapshot_age(Duration::ZERO).in_memory().await;
    assert!(matches!(built, Err(Error::Config(_))));
}
