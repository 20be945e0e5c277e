//! Short scripts for the enumerations: each goes through one delicate moment of an engine's life.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anabranch::{Engine, Error};
use anabranch_wal::disk::sim::{CrashPolicy, SimDisk};
use tokio::time::{Instant, sleep};

use crate::check::verify;
use crate::config::{Config, Mode};
use crate::env::runtime;
use crate::history::{History, Key, Outcome, Tag, Value};
use crate::oracle::{COUNTER, Content, Loss, check_prefix};
use crate::random::Random;

/// One step of a script. Each writes, so that its outcome can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A commit of so many keys with values of so many bytes.
    Put(u64, u64),
    /// So many commits at once, of one key each.
    Group(u64, u64),
    /// A commit that removes so many keys.
    Remove(u64),
    /// So many updates of a counter.
    Count(u64),
    Checkpoint,
    Sync,
    Rest(u64),
    /// A backup, and a commit meanwhile. The copy is opened.
    Backup,
    /// Close, open, and look.
    Reopen,
    Close,
}

use Step::{Backup, Checkpoint, Close, Count, Group, Put, Remove, Reopen, Rest, Sync};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) shards_before: usize,
    pub(crate) shards: usize,
    pub(crate) mode: Mode,
    /// What went before: lives that each ended with the process.
    pub(crate) before: &'static [&'static [Step]],
    pub(crate) script: &'static [Step],
}

const fn full(
    name: &'static str,
    (shards_before, shards): (usize, usize),
    before: &'static [&'static [Step]],
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
        &[&[Put(6, 5_000), Put(6, 5_000)]],
        &[Put(3, 3_000), Checkpoint, Put(4, 5_000), Checkpoint, Put(4, 5_000), Put(4, 5_000)],
    ),
    full(
        "reopening after a crash",
        (3, 3),
        &[&[Group(6, 900), Put(4, 5_000), Checkpoint, Put(3, 100)]],
        &[Put(2, 10)],
    ),
    full("more shards", (1, 3), &[&[Put(4, 100), Checkpoint, Put(3, 900)]], &[Put(4, 10)]),
    full("fewer shards", (3, 1), &[&[Put(4, 100), Checkpoint, Put(3, 900)]], &[Put(4, 10)]),
    full("an orderly end", (2, 2), &[&[Put(4, 100)]], &[Put(3, 100), Rest(200), Sync, Close]),
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
        before: &[&[Put(2, 100)]],
        script: &[Group(5, 300), Put(2, 100), Sync, Group(4, 300), Checkpoint, Group(2, 10)],
    },
    Scenario {
        name: "relaxed by bytes",
        shards_before: 2,
        shards: 2,
        mode: Mode::Bytes(500),
        before: &[],
        script: &[Group(5, 300), Remove(2), Put(2, 700), Group(3, 10)],
    },
    Scenario {
        name: "relaxed by time",
        shards_before: 2,
        shards: 2,
        mode: Mode::Interval(Duration::from_millis(10)),
        before: &[&[Put(2, 100)]],
        script: &[Put(2, 100), Rest(30), Group(3, 300), Sync, Put(1, 10), Rest(5), Put(1, 10)],
    },
    full(
        "a crash loop",
        (2, 2),
        &[&[Put(2, 900)], &[Put(2, 900)], &[Put(2, 900)], &[Put(1, 10)], &[], &[Put(2, 900)]],
        &[Put(2, 900), Put(1, 10)],
    ),
    full(
        "removals and orderly reopenings",
        (2, 2),
        &[&[Put(6, 300)]],
        &[Remove(4), Reopen, Put(2, 300), Remove(3), Reopen, Put(1, 10)],
    ),
    full("a backup while commits go on", (2, 2), &[&[Put(4, 900)]], &[Put(2, 100), Backup, Put(1, 10)]),
    full("counters", (2, 2), &[&[Count(2)]], &[Count(3), Checkpoint, Count(2), Reopen, Count(1)]),
    full(
        "a checkpoint replaces another",
        (1, 1),
        &[&[Put(8, 900), Checkpoint, Remove(3)]],
        &[Put(2, 900), Checkpoint, Remove(8), Checkpoint, Put(1, 10), Checkpoint],
    ),
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
            uniform: false,
            late: false,
            lends_turns: true,
            lists: false,
            limited: false,
            date: Duration::ZERO,
        }
    }

    pub(crate) fn prepare(&self) -> Prepared {
        let mut disk = SimDisk::new(1);
        let history = Mutex::new(History::default());
        history.lock().unwrap().mode = self.mode;
        let config = Config { shards: self.shards_before, ..self.config() };
        for script in self.before {
            runtime().block_on(async {
                let engine = config.open(&disk, Random::new(1)).await.expect("nothing fails yet");
                let actor = Actor::new(&config, &disk, &history);
                let performed = actor.perform(engine, script).await;
                performed.expect("nothing is violated yet").expect("nothing fails");
            });
            disk.kill();
            disk = disk.process_crash();
        }
        Prepared { disk, history: history.into_inner().unwrap() }
    }

    /// Opens and performs the script. What the engine says when it fails is the inner result.
    pub(crate) async fn run(
        &self,
        disk: &SimDisk,
        history: &Mutex<History>,
    ) -> Result<Result<(), Error>, String> {
        let config = self.config();
        match config.open(disk, Random::new(2)).await {
            Ok(engine) => Actor::new(&config, disk, history).perform(engine, self.script).await,
            Err(error) => Ok(Err(error)),
        }
    }
}

type Db = Engine<Key, Value>;

/// Performs scripts.
pub(crate) struct Actor<'a> {
    config: &'a Config,
    disk: &'a SimDisk,
    history: &'a Mutex<History>,
    origin: Instant,
}

impl<'a> Actor<'a> {
    pub(crate) fn new(config: &'a Config, disk: &'a SimDisk, history: &'a Mutex<History>) -> Self {
        Self { config, disk, history, origin: Instant::now() }
    }

    pub(crate) async fn perform(&self, engine: Db, script: &[Step]) -> Result<Result<(), Error>, String> {
        let mut engine = engine;
        let mut failed = Ok(());
        for (number, step) in script.iter().enumerate() {
            let number = number as u64;
            let outcome = match *step {
                Put(keys, length) => self.put(&engine, number, keys, length).await,
                Group(commits, length) => self.group(&engine, number, commits, length).await,
                Remove(keys) => self.remove(&engine, number, keys).await,
                Count(times) => self.count(&engine, times).await,
                Checkpoint => engine.checkpoint().await,
                Sync => self.sync(&engine).await,
                Rest(millis) => {
                    sleep(Duration::from_millis(millis)).await;
                    Ok(())
                }
                Backup => self.back_up(&engine, number).await?,
                Reopen => {
                    if let Err(error) = engine.close().await {
                        return Ok(Err(error));
                    }
                    engine = match self.config.open(self.disk, Random::new(5)).await {
                        Ok(engine) => engine,
                        Err(error) => return Ok(Err(error)),
                    };
                    let mut history = self.history.lock().unwrap();
                    verify(&engine, &mut history, self.config.mode, Loss::Nothing)?;
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

    async fn put(&self, engine: &Db, first: u64, keys: u64, length: u64) -> Result<(), Error> {
        let handed_over = self.hand_over(engine, first, keys, Some(length)).await?;
        self.acknowledged(handed_over).await
    }

    async fn remove(&self, engine: &Db, first: u64, keys: u64) -> Result<(), Error> {
        let handed_over = self.hand_over(engine, first, keys, None).await?;
        self.acknowledged(handed_over).await
    }

    async fn group(&self, engine: &Db, first: u64, commits: u64, length: u64) -> Result<(), Error> {
        let mut outcome = Ok(());
        let mut tickets = Vec::new();
        for index in 0..commits {
            match self.hand_over(engine, first + index, 1, Some(length)).await {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => outcome = Err(error),
            }
        }
        for handed_over in tickets {
            let acknowledged = self.acknowledged(handed_over).await;
            outcome = outcome.and(acknowledged);
        }
        outcome
    }

    /// Begins a commit of so many keys, which writes values of a length or removes.
    async fn hand_over(
        &self,
        engine: &Db,
        first: u64,
        keys: u64,
        length: Option<u64>,
    ) -> Result<(usize, anabranch::Ticket), Error> {
        let mut transaction = engine.handle().begin();
        let mut writes = BTreeMap::<Key, Option<Tag>>::new();
        for index in 0..keys {
            let key = format!("key/{}", (first * 3 + index) % 8);
            let tag = length.map(|length| self.history.lock().unwrap().new_tag(length));
            match tag {
                Some(tag) => transaction.insert(key.clone(), tag.value()),
                None => transaction.remove(&key),
            }
            writes.insert(key, tag);
        }
        let attempt = self.history.lock().unwrap().begin(writes, false);
        match transaction.submit().await {
            Ok(ticket) => {
                self.history.lock().unwrap().attempts[attempt].timestamp = Some(ticket.timestamp().0);
                Ok((attempt, ticket))
            }
            Err(error) => {
                self.history.lock().unwrap().failed(attempt, &error);
                Err(error)
            }
        }
    }

    async fn acknowledged(&self, (attempt, ticket): (usize, anabranch::Ticket)) -> Result<(), Error> {
        ticket.durable().await?;
        let mut history = self.history.lock().unwrap();
        history.attempts[attempt].outcome = Outcome::Acknowledged(self.origin.elapsed());
        Ok(())
    }

    async fn count(&self, engine: &Db, times: u64) -> Result<(), Error> {
        for _ in 0..times {
            let key = format!("{COUNTER}1");
            self.history.lock().unwrap().counters.entry(key.clone()).or_default().begun += 1;
            let increment = |old: Option<&Value>| Some((old.map_or(0, |old| old.0) + 1, String::new()));
            engine.handle().update(key.clone(), increment).await?;
            let mut history = self.history.lock().unwrap();
            history.counters.get_mut(&key).expect("begun above").acknowledged += 1;
        }
        Ok(())
    }

    async fn sync(&self, engine: &Db) -> Result<(), Error> {
        let last = self.history.lock().unwrap().last_known();
        engine.sync().await?;
        self.history.lock().unwrap().promised = last;
        Ok(())
    }

    /// A backup that was acknowledged survives power loss, and holds a prefix.
    async fn back_up(&self, engine: &Db, first: u64) -> Result<Result<(), Error>, String> {
        let (report, committed) = tokio::join!(engine.backup("/backup"), self.put(engine, first, 2, 500));
        let report = match report {
            Ok(report) => report,
            Err(error) => return Ok(committed.and(Err(error))),
        };
        let image = self.disk.crash(&CrashPolicy::SyncedOnly);
        let copy = self.config.open_at("/backup", &image, Random::new(6)).await;
        let copy = copy.map_err(|error| format!("opening a backup: {error:?}"))?;
        let content = Content::read(&copy.handle())?;
        if content.timestamp != report.timestamp.0 {
            return Err(format!("a backup at {} is at {}", report.timestamp, content.timestamp));
        }
        check_prefix(&self.history.lock().unwrap(), &content)?;
        copy.close().await.map_err(|error| format!("closing a backup: {error:?}"))?;
        Ok(committed)
    }
}
