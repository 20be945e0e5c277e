//! What a commit costs, layer by layer, through the crates' own interfaces; and what [`Demands`] makes of that.
//!
//! Each layer is run alone, over and over on one thread, with keys and values as the workloads have them. The whole
//! is measured beside them, so that what no layer accounts for shows. What counts is CPU time, and of all rounds the
//! least: other programs on the machine change either little.

use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anabranch::{Durability, Engine, Flush};
use anabranch_shard::{
    AppliedPart, Commit, Expiry, HASH_NAME, Level, Part, Readers, Sequencer, ShardCore, ShardMap, Validation,
    encode_write,
};
use anabranch_wal::{
    EncodedWrites, Health, Log, Reservation, Retention, RingLimits, SyncConditions, SyncPolicy, SystemEnv,
    Timestamp, Wal, WalOptions,
};
use tokio::sync::{Semaphore, oneshot};

use crate::clock;
use crate::keys::{Key, Keys, Value};
use crate::model::Demands;
use crate::store::Outcome;
use crate::table::short;

const KEYS: usize = 100_000;
const RUNS: usize = 100_000;
const ROUNDS: usize = 9;
const VALUE_BYTES: usize = 8;
/// Keys that a part names as read, where validation is measured.
const READS: usize = 8;
/// So many that a flush has something to gather.
const TASKS_LOGGED: usize = 32;

type Core = ShardCore<Key, Value>;

/// Nanoseconds of one run. `prepare` isn't counted.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
fn nanoseconds<P>(mut prepare: impl FnMut() -> P, mut run: impl FnMut(&mut P, usize)) -> f64 {
    let rounds = (0..ROUNDS).map(|round| {
        let mut prepared = prepare();
        let started = clock::thread_nanoseconds();
        for step in 0..RUNS {
            // Keys in no order, as the workloads draw them.
            run(&mut prepared, (step + round * 31).wrapping_mul(7919) % KEYS);
        }
        (clock::thread_nanoseconds() - started) / RUNS as f64
    });
    rounds.fold(f64::MAX, f64::min)
}

/// Nanoseconds of each layer for one commit of one write.
struct Layers {
    part: f64,
    encode: f64,
    validate: f64,
    sequence: f64,
    /// As above, while a second thread does the same.
    sequence_contended: f64,
    log: f64,
    apply: f64,
    acknowledge: f64,
    /// A whole `insert` in memory, and by many tasks into a log that is synced now and then.
    insert: f64,
    insert_logged: f64,
    /// `insert` in memory by two workers at once.
    two_workers: f64,
    /// By the clock instead of by CPU time.
    insert_clock: f64,
    two_workers_clock: f64,
}

pub(crate) fn print() -> Outcome<ExitCode> {
    let layers = measure()?;
    table(&layers);
    model(&layers);
    Ok(ExitCode::SUCCESS)
}

fn measure() -> Outcome<Layers> {
    let keys = Keys::new(KEYS);
    let value = Arc::new(Value::new(1, VALUE_BYTES));
    let part = nanoseconds(|| (), |(), index| drop(black_box(new_part(&keys, index, &value, 0))));
    let encode = nanoseconds(
        || (),
        |(), index| {
            let mut writes = EncodedWrites::new();
            black_box(encode_write(&mut writes, &keys.get(index).clone(), Some(&*value), Expiry::NEVER)).ok();
        },
    );
    // The key's copy is counted with the part already.
    let copy = nanoseconds(|| (), |(), index| drop(black_box(keys.get(index).clone())));
    let sequence = nanoseconds(memory_sequencer, |sequencer, _| sequence_one(sequencer));
    let acknowledge = acknowledge();
    let blind = commits(&keys, &value, 0);
    let validated = commits(&keys, &value, READS);
    let reads = nanoseconds(|| (), |(), index| drop(black_box(new_part(&keys, index, &value, READS))));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let directory = tempfile::tempdir()?;
    let in_memory = runtime.block_on(Engine::<Key, Value>::builder().in_memory())?;
    let (insert, insert_clock) = whole(&runtime, &in_memory, &keys, 1)?;
    let (two_workers, two_workers_clock) = whole(&runtime, &in_memory, &keys, 2)?;
    let every = Durability::Relaxed(Flush::every(Duration::from_millis(100)));
    let logged = Engine::<Key, Value>::builder().durability(every).open(directory.path().join("engine"));
    let (insert_logged, _) = whole(&runtime, &runtime.block_on(logged)?, &keys, TASKS_LOGGED)?;
    Ok(Layers {
        part,
        encode: encode - copy,
        validate: ((validated - reads) - (blind - part)) / f64::from(u32::try_from(READS)?),
        sequence,
        sequence_contended: contended()?.unwrap_or_else(|| {
            println!(
                "the machine is too busy for two threads at once, so the sequencer's contention is a guess"
            );
            3.0 * sequence
        }),
        log: log(&runtime, &directory.path().join("log"), &keys, &value)?,
        apply: blind - part - sequence - acknowledge,
        acknowledge,
        insert,
        insert_logged,
        two_workers,
        insert_clock,
        two_workers_clock,
    })
}

fn new_part(keys: &Keys, index: usize, value: &Arc<Value>, reads: usize) -> Part<Key, Value> {
    let validation = if reads > 0 { Validation::Reads(Timestamp::MAX) } else { Validation::Blind };
    let mut part = Part::new(validation);
    part.reads.extend((0..reads).map(|read| keys.get((index + read * 7919) % keys.len()).clone()));
    part.writes.push(keys.get(index).clone());
    part.values.push(Some(Arc::clone(value)));
    part
}

fn memory_sequencer() -> Arc<Sequencer> {
    Sequencer::new(Timestamp::ZERO, None, &Arc::<Health>::default())
}

fn sequence_one(sequencer: &Arc<Sequencer>) {
    let timestamp = sequencer.take(1);
    sequencer.applied(&[AppliedPart { timestamp, bytes: 0, published: false }]);
}

/// The permit, the channel of the answer, and the look at the watermark.
fn acknowledge() -> f64 {
    let sequencer = memory_sequencer();
    let permits = Arc::new(Semaphore::new(4096));
    nanoseconds(
        || (),
        |(), _| {
            let permit = Arc::clone(&permits).try_acquire_owned();
            let (reply, mut answer) = oneshot::channel::<Timestamp>();
            let _ = reply.send(Timestamp::ZERO);
            let timestamp = answer.try_recv().unwrap_or(Timestamp::ZERO);
            let reached = std::pin::pin!(sequencer.reached(Level::Durable, timestamp));
            let polled = reached.poll(&mut Context::from_waker(Waker::noop()));
            drop(black_box((permit, matches!(polled, Poll::Ready(Ok(()))))));
        },
    )
}

/// Whole commits of one shard in memory, over keys that are there, with all that is between part and answer.
fn commits(keys: &Keys, value: &Arc<Value>, reads: usize) -> f64 {
    let permits = Arc::new(Semaphore::new(4096));
    let prepare = || {
        let sequencer = memory_sequencer();
        let map = Arc::new(ShardMap::new(1));
        for index in 0..KEYS {
            map.load(keys.get(index).clone(), Timestamp::ZERO, Some(Arc::clone(value)), Expiry::NEVER);
        }
        let readers = Readers::new(Arc::clone(&sequencer), Arc::new(SystemEnv), None);
        (Core::new(map, readers, Arc::clone(&sequencer), None, true, None), sequencer)
    };
    nanoseconds(prepare, |(core, sequencer), index| {
        let part = new_part(keys, index, value, reads);
        let (reply, mut answer) = oneshot::channel();
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { return };
        core.commit(Commit { part, reply, reader: None, permit });
        core.finish_batch().deliver(sequencer);
        let timestamp = answer.try_recv().ok().and_then(Result::ok).unwrap_or(Timestamp::ZERO);
        let reached = std::pin::pin!(sequencer.reached(Level::Durable, timestamp));
        let _ = black_box(reached.poll(&mut Context::from_waker(Waker::noop())));
    })
}

/// Reserving space and appending the record, while a flusher takes what gathers.
fn log(runtime: &tokio::runtime::Runtime, directory: &Path, keys: &Keys, value: &Value) -> Outcome<f64> {
    let conditions =
        SyncConditions { interval: Some(Duration::from_millis(100)), ..SyncConditions::default() };
    let options = WalOptions {
        shards: 1,
        policy: SyncPolicy::Lazy(conditions),
        limits: RingLimits { segment_bytes: 64 << 20, segments_max: 64, retention: Retention::default() },
        checkpoint_logged_min: u64::MAX,
        hash: HASH_NAME.to_owned(),
        create: true,
    };
    let disk = anabranch_wal::RealDisk::new()?;
    let opened = runtime.block_on(Wal::open(&disk, directory, options, &SystemEnv))?;
    let health = Arc::<Health>::default();
    let tasks = runtime.block_on(opened.wal.start(&health, &(Arc::new(|| ()) as _)))?;
    let log = opened.wal.logs().swap_remove(0);
    let mut writes = EncodedWrites::new();
    encode_write(&mut writes, &keys.get(0).clone(), Some(value), Expiry::NEVER)
        .map_err(|_| "a value can't be encoded")?;
    let bytes = Log::reservation_bytes(&writes, 1);
    let mut timestamp = 0;
    let cost = nanoseconds(
        // What is full is flushed before the clock starts.
        || {
            log.withdraw();
            while log.buffered_bytes() > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(20));
        },
        |(), _| {
            while !matches!(log.reserve(bytes), Reservation::Granted) {
                std::thread::sleep(Duration::from_micros(50));
            }
            timestamp += 1;
            log.append(Timestamp(timestamp), &writes, &[log.id()], bytes);
        },
    );
    drop(tasks);
    Ok(cost)
}

/// Nanoseconds of one commit in the sequencer while two threads go through it as fast as they can: by the clock,
/// since only one is in it at a time. Rounds in which a busy machine let one run after the other don't count.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
fn contended() -> Outcome<Option<f64>> {
    let mut rounds = Vec::new();
    for _ in 0..20 * ROUNDS {
        let sequencer = memory_sequencer();
        let (started, started_cpu) = (clock::now(), clock::cpu_seconds());
        let both = std::thread::scope(|scope| {
            let thread = scope.spawn(|| (0..RUNS).for_each(|_| sequence_one(&sequencer)));
            (0..RUNS).for_each(|_| sequence_one(&sequencer));
            thread.join()
        });
        both.map_err(|_| "a thread panicked")?;
        let (clock, cpu) = (started.elapsed().as_secs_f64(), clock::cpu_seconds() - started_cpu);
        if cpu > 1.3 * clock {
            rounds.push(clock * 1e9 / (2 * RUNS) as f64);
        }
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds.get(rounds.len() / 2).copied())
}

/// Nanoseconds of one `insert` over keys that are there, with so many tasks: of all threads, and by the clock.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
fn whole(
    runtime: &tokio::runtime::Runtime,
    engine: &Engine<Key, Value>,
    keys: &Keys,
    tasks: usize,
) -> Outcome<(f64, f64)> {
    let keys = Arc::new(Keys::new(keys.len()));
    let (mut least, mut least_clock) = (f64::MAX, f64::MAX);
    for round in 0..=ROUNDS {
        let (started, started_clock) = (clock::cpu_seconds(), clock::now());
        let workers: Vec<_> = (0..tasks)
            .map(|task| {
                let (db, keys) = (engine.handle(), Arc::clone(&keys));
                runtime.spawn(async move {
                    for step in 0..RUNS / tasks {
                        let index = (step + task * 31_013).wrapping_mul(7919) % KEYS;
                        db.insert(keys.get(index).clone(), Value::new(1, VALUE_BYTES)).await?;
                    }
                    Ok::<_, anabranch::Error>(())
                })
            })
            .collect();
        for worker in workers {
            runtime.block_on(worker)??;
        }
        // The first round inserts new keys.
        if round > 0 {
            let operations = (RUNS / tasks * tasks) as f64;
            least = least.min((clock::cpu_seconds() - started) * 1e9 / operations);
            least_clock = least_clock.min(started_clock.elapsed().as_nanos() as f64 / operations);
        }
    }
    Ok((least, least_clock))
}

fn table(layers: &Layers) {
    let Layers { part, encode, validate, sequence, log, apply, acknowledge, insert, insert_logged, .. } =
        layers;
    let rest = insert - part - sequence - apply - acknowledge;
    let rest_logged = insert_logged - insert - encode - log;
    println!("| layer | ns | what |\n|---|---:|---|");
    for (layer, cost, what) in [
        ("part", part, "copy the key, gather the write for its shard"),
        ("sequence", sequence, "take a timestamp, report it applied, raise the watermarks"),
        ("apply", apply, "pins, the map and the version chain, the sweep, the end of the batch"),
        ("acknowledge", acknowledge, "permit, channel of the answer, look at the watermark"),
        ("rest", &rest, "routing, the turn, futures, tokio's budget: the whole less the layers above"),
        ("**insert, in memory**", insert, "the whole, by one task"),
        ("encode", encode, "key and value to MessagePack, on the caller's task"),
        ("log", log, "reserve space, append the record"),
        (
            "rest of the log",
            &rest_logged,
            "watermarks over the logs; the flusher's and the I/O threads' share, 32 commits at a time",
        ),
        ("**insert, logged**", insert_logged, "the whole, by 32 tasks, synced every 100 ms"),
        ("validate", validate, "for each key that a transaction read, with the pinning of it"),
        ("sequence, by two threads", &layers.sequence_contended, "as above, both at it without a pause"),
        ("insert, by two workers", &layers.two_workers, "in memory, CPU time of both for each commit"),
    ] {
        println!("| {layer} | {cost:.0} | {what} |");
    }
}

fn model(layers: &Layers) {
    let turn = layers.apply;
    let sequencer = layers.sequence_contended;
    let side_by_side = layers.insert - turn - layers.sequence;
    let demands = Demands { side_by_side, turn, sequencer };
    let side_by_side_logged = side_by_side + layers.insert_logged - layers.insert - layers.log;
    let logged = Demands { side_by_side: side_by_side_logged, turn: turn + layers.log, sequencer };
    println!(
        "\nThe model: {side_by_side:.0} ns side by side, {turn:.0} ns under a shard's turn, {sequencer:.0} ns in the \
         sequencer; with a log {:.0} and {:.0}.\n",
        logged.side_by_side, logged.turn
    );
    println!("| cores, and as many shards | update/s, in memory | update/s, logged |\n|---:|---:|---:|");
    for cores in [1, 2, 4, 8, 16, 32, 64] {
        let of = |demands: &Demands| {
            let (least, most) = (demands.throughput(cores, cores), demands.at_most(cores, cores));
            format!("{} to {}", short(least), short(most))
        };
        println!("| {cores} | {} | {} |", of(&demands), of(&logged));
    }
    println!("\nNo number of cores gets past {}/s, which is the sequencer.", short(demands.limit(64)));
    println!(
        "Measured here, in memory: one worker {}/s by the clock, two {}/s; by CPU time {}/s and {}/s.",
        short(1e9 / layers.insert_clock),
        short(1e9 / layers.two_workers_clock),
        short(1e9 / layers.insert),
        short(2e9 / layers.two_workers)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_through_the_layers_is_validated_and_acknowledged() {
        let (keys, value) = (Keys::new(1), Arc::new(Value::new(1, 8)));
        let sequencer = memory_sequencer();
        let map = Arc::new(ShardMap::new(1));
        let readers = Readers::new(Arc::clone(&sequencer), Arc::new(SystemEnv), None);
        let mut core = Core::new(Arc::clone(&map), readers, Arc::clone(&sequencer), None, true, None);
        let permits = Arc::new(Semaphore::new(1));
        let (reply, mut answer) = oneshot::channel();
        let permit = permits.try_acquire_owned().unwrap();
        core.commit(Commit { part: new_part(&keys, 0, &value, 1), reply, reader: None, permit });
        core.finish_batch().deliver(&sequencer);
        assert_eq!(answer.try_recv().unwrap().unwrap(), Timestamp(1));
        assert_eq!(sequencer.get(Level::Durable), Timestamp(1));
        assert!(map.get(keys.get(0), map.hash(keys.get(0)), || Timestamp(1), None).is_some());
    }
}
