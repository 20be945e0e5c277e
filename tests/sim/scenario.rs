//! Short scripts for the enumerations: each goes through one delicate moment of an engine's life.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anabranch::{Engine, Error};
use anabranch_wal::disk::sim::SimDisk;
use tokio::time::sleep;

use crate::config::{Config, Mode};
use crate::env::runtime;
use crate::history::{History, Key, Outcome, Tag, Value};
use crate::random::Random;

/// One step of a script. Each writes, so that its outcome can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A commit of so many keys with values of so many bytes.
    Put(u64, u64),
    /// So many commits at once, of one key each.
    Group(u64, u64),
    Checkpoint,
    Sync,
    Rest(u64),
    Close,
}

use Step::{Checkpoint, Close, Group, Put, Rest, Sync};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) shards_before: usize,
    pub(crate) shards: usize,
    pub(crate) mode: Mode,
    pub(crate) before: &'static [Step],
    pub(crate) script: &'static [Step],
}

const fn full(
    name: &'static str,
    (shards_before, shards): (usize, usize),
    before: &'static [Step],
    script: &'static [Step],
) -> Scenario {
    Scenario { name, shards_before, shards, mode: Mode::Full, before, script }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    full("a new engine and its first commits", (2, 2), &[], &[Put(1, 10), Put(3, 10)]),
    full("groups of commits, and rotation", (2, 2), &[], &[Group(6, 900), Put(2, 9_000), Group(6, 3_000)]),
    full("a commit larger than segments", (2, 2), &[], &[Put(2, 10), Put(2, 40_000), Put(2, 10)]),
    full(
        "checkpoint and recycling",
        (2, 2),
        &[Put(6, 5_000), Put(6, 5_000)],
        &[Put(3, 3_000), Checkpoint, Put(4, 5_000), Checkpoint, Put(4, 5_000), Put(4, 5_000)],
    ),
    full(
        "reopening after a crash",
        (3, 3),
        &[Group(6, 900), Put(4, 5_000), Checkpoint, Put(3, 100)],
        &[Put(2, 10)],
    ),
    full("more shards", (1, 3), &[Put(4, 100), Checkpoint, Put(3, 900)], &[Put(4, 10)]),
    full("fewer shards", (3, 1), &[Put(4, 100), Checkpoint, Put(3, 900)], &[Put(4, 10)]),
    full("an orderly end", (2, 2), &[Put(4, 100)], &[Put(3, 100), Rest(200), Sync, Close]),
    full(
        "a full ring",
        (1, 1),
        &[],
        &[Put(1, 14_000), Put(1, 14_000), Put(1, 14_000), Put(1, 14_000), Put(1, 14_000)],
    ),
    Scenario {
        name: "relaxed",
        shards_before: 2,
        shards: 2,
        mode: Mode::Commits(3),
        before: &[Put(2, 100)],
        script: &[Group(5, 300), Put(2, 100), Sync, Group(4, 300), Checkpoint, Group(2, 10)],
    },
];

/// What every run of a scenario starts from.
pub(crate) struct Prepared {
    pub(crate) disk: SimDisk,
    pub(crate) history: History,
}

impl Scenario {
    pub(crate) fn config(&self) -> Config {
        Config {
            shards: self.shards,
            segment_bytes: 16 << 10,
            segments_max: 4,
            checkpoint_bytes: 1 << 20,
            mode: self.mode,
            snapshot_isolation: false,
            keys: 8,
            tasks: 1,
            operations: 1,
            value_max: 10,
            huge_percent: 0,
            counters: false,
            latency: Duration::ZERO,
        }
    }

    pub(crate) fn prepare(&self) -> Prepared {
        let disk = SimDisk::new(1);
        let history = Mutex::new(History::default());
        history.lock().unwrap().mode = self.mode;
        if !self.before.is_empty() {
            let config = Config { shards: self.shards_before, ..self.config() };
            runtime().block_on(async {
                let engine = config.open(&disk, Random::new(1)).await.expect("a new engine");
                perform(engine, &history, self.before)
                    .await
                    .expect("nothing fails yet")
                    .expect("nothing fails");
            });
        }
        disk.kill();
        Prepared { disk: disk.process_crash(), history: history.into_inner().unwrap() }
    }

    /// Opens and performs the script. What the engine says when it fails is the inner result.
    pub(crate) async fn run(
        &self,
        disk: &SimDisk,
        history: &Mutex<History>,
    ) -> Result<Result<(), Error>, String> {
        match self.config().open(disk, Random::new(2)).await {
            Ok(engine) => perform(engine, history, self.script).await,
            Err(error) => Ok(Err(error)),
        }
    }
}

async fn perform(
    engine: Engine<Key, Value>,
    history: &Mutex<History>,
    script: &[Step],
) -> Result<Result<(), Error>, String> {
    let mut failed = Ok(());
    for (number, step) in script.iter().enumerate() {
        let outcome = match *step {
            Put(keys, length) => commit(&engine, history, number as u64, keys, length).await,
            Group(commits, length) => {
                let engine = &engine;
                let mut outcome = Ok(());
                let mut tickets = Vec::new();
                for index in 0..commits {
                    match hand_over(engine, history, number as u64 + index, 1, length).await {
                        Ok(ticket) => tickets.push(ticket),
                        Err(error) => outcome = Err(error),
                    }
                }
                for (attempt, ticket) in tickets {
                    match ticket.durable().await {
                        Ok(_) => acknowledge(history, attempt),
                        Err(error) => outcome = Err(error),
                    }
                }
                outcome
            }
            Checkpoint => engine.checkpoint().await,
            Sync => {
                let last = history.lock().unwrap().last_known();
                let synced = engine.sync().await;
                if synced.is_ok() {
                    history.lock().unwrap().promised = last;
                }
                synced
            }
            Rest(millis) => {
                sleep(Duration::from_millis(millis)).await;
                Ok(())
            }
            Close => return Ok(engine.close().await),
        };
        failed = failed.and(outcome);
    }
    // Whatever failed, the engine answers, and closes.
    let snapshot = engine.handle().snapshot();
    if snapshot.len().is_err() && failed.is_ok() {
        return Err("a snapshot can't be read".to_owned());
    }
    drop(snapshot);
    if failed.is_err() {
        drop(engine.close().await);
    }
    Ok(failed)
}

async fn hand_over(
    engine: &Engine<Key, Value>,
    history: &Mutex<History>,
    first: u64,
    keys: u64,
    length: u64,
) -> Result<(usize, anabranch::Ticket), Error> {
    let mut transaction = engine.handle().begin();
    let mut writes = BTreeMap::<Key, Option<Tag>>::new();
    for index in 0..keys {
        let key = format!("key/{}", (first * 3 + index) % 8);
        let tag = history.lock().unwrap().new_tag(length);
        transaction.insert(key.clone(), tag.value());
        writes.insert(key, Some(tag));
    }
    let attempt = history.lock().unwrap().begin(writes, false);
    match transaction.submit().await {
        Ok(ticket) => {
            history.lock().unwrap().attempts[attempt].timestamp = Some(ticket.timestamp().0);
            Ok((attempt, ticket))
        }
        Err(error) => {
            history.lock().unwrap().failed(attempt, &error);
            Err(error)
        }
    }
}

async fn commit(
    engine: &Engine<Key, Value>,
    history: &Mutex<History>,
    first: u64,
    keys: u64,
    length: u64,
) -> Result<(), Error> {
    let (attempt, ticket) = hand_over(engine, history, first, keys, length).await?;
    ticket.durable().await?;
    acknowledge(history, attempt);
    Ok(())
}

fn acknowledge(history: &Mutex<History>, attempt: usize) {
    history.lock().unwrap().attempts[attempt].outcome = Outcome::Acknowledged(Duration::ZERO);
}
