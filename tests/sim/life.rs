//! The life of a seed: several lives of one database, with a crash between each and the next.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use anabranch::{Engine, Error};
use anabranch_wal::disk::sim::{FaultKind, SimDisk};
use anabranch_wal::make_late;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::check::{HANG, open_twice, verify};
use crate::config::{Config, Mode, draw_crash, draw_fault};
use crate::env::{panics, runtime};
use crate::history::{History, Key, Shared, Value};
use crate::oracle::{Content, Loss};
use crate::random::{Fingerprint, Random};
use crate::rot;
use crate::workload::Worker;

/// Virtual seconds in which everything under way ends by itself.
const PATIENCE: u32 = 40;
/// No life has more.
const TASKS_MAX: u64 = 8;

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The disk freezes at an operation, or, if there are fewer, when all is done.
    AtOperation(u64),
    /// The disk freezes at a moment.
    After(Duration),
    /// As the last, and the tasks get no time to learn of it.
    AtOnceAfter(Duration),
    Close,
    Drop,
}

/// What a seed went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) lives: u64,
    pub(crate) commits: u64,
    pub(crate) operations: u64,
    /// Openings cut short by a crash.
    pub(crate) recoveries_crashed: u64,
    pub(crate) faults: u64,
    /// Damaged images that were opened.
    pub(crate) damaged: u64,
    /// Transactions over lists that the judge took for committed.
    pub(crate) judged: u64,
}

struct Seed {
    random: Random,
    config: Config,
    disk: SimDisk,
    history: Shared,
    /// The worst that happened since the content was last looked at.
    loss: Loss,
    faulty: bool,
    verbose: bool,
    tally: Tally,
    /// The engine, while tasks work on it.
    working: Weak<Engine<Key, Value>>,
    /// The fault of this life, if it strikes, takes back what the operating system had taken.
    reverts: bool,
    /// What the engine held when it was closed.
    left: Content,
}

/// Leads all lives of a seed, each with its settings set right by `bias`. `Err` says which promise was broken.
pub(crate) fn run_as(seed: u64, verbose: bool, bias: fn(&mut Config)) -> Result<Tally, String> {
    let mut random = Random::new(seed);
    let mut config = Config::draw(&mut random);
    // Chosen by the number rather than drawn, so that the seeds of `seeds.txt` mean what they meant.
    config.uniform = seed % 4 == 3;
    bias(&mut config);
    let faulty = random.percent(20);
    let disk = SimDisk::new(random.next());
    let mut history = History::default();
    history.removes_itself = config.limited;
    let history = Arc::new(Mutex::new(history));
    let (loss, tally) = (Loss::Nothing, Tally::default());
    let (working, left) = (Weak::new(), Content::default());
    let mut seed =
        Seed { random, config, disk, history, loss, faulty, verbose, tally, working, left, reverts: false };
    let lives = seed.random.between(4..=8);
    let before = panics();
    for life in 0..lives {
        let config = seed.config.clone();
        seed.live().map_err(|violation| format!("life {life}: {violation}\n  {config}"))?;
        if panics() > before {
            return Err(format!("life {life}: a task panicked\n  {config}"));
        }
        seed.config.redraw(&mut seed.random);
        seed.config.date += HANG;
        bias(&mut seed.config);
    }
    if seed.config.lists {
        let lists = &seed.history.lock().unwrap().lists;
        seed.tally.judged = lists.judge(seed.config.snapshot_isolation)?;
        seed.tally.fingerprint.add(seed.tally.judged);
    }
    Ok(seed.tally)
}

impl Seed {
    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", what());
        }
    }

    fn draw_end(&mut self) -> End {
        let moment = Duration::from_millis(self.random.between(0..=300));
        match self.random.between(0..=99) {
            0..=54 => {
                let limit = self.random.pick(&[20, 60, 200, 1000]);
                End::AtOperation(self.random.between(1..=limit))
            }
            55..=74 => End::After(moment),
            75..=84 => End::AtOnceAfter(moment),
            85..=94 => End::Close,
            _ => End::Drop,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        let end = self.draw_end();
        if let End::AtOperation(nth) = end {
            self.disk.crash_at(nth);
        }
        self.reverts = false;
        if self.faulty && self.random.percent(40) {
            let fault = draw_fault(&mut self.random);
            self.say(|| format!("    {fault:?}"));
            // A sync that fails may take back what the operating system had taken: as bad as power loss.
            self.reverts = matches!(fault.kind, FaultKind::SyncLoses | FaultKind::SyncReverts);
            self.disk.inject(fault);
        }
        self.say(|| format!("  {end:?}: {}", self.config));
        let runtime = runtime();
        let lateness = self.tally.fingerprint.0 ^ self.tally.lives;
        let _late = self.config.late.then(|| make_late(lateness));
        let lived = runtime.block_on(async {
            let lived = timeout(HANG, self.serve(end)).await;
            lived.unwrap_or_else(|_| Err(self.describe_hang()))
        });
        self.account();
        let (policy, loss) = draw_crash(&mut self.random);
        let closed = lived?;
        if closed && self.disk.faults_struck() == 0 {
            drop(runtime);
            self.disk.clear_faults();
            self.check_files()?;
            self.tally.damaged += rot::check(&self.config, &self.disk, &self.left)?;
            return Ok(());
        }
        self.disk.kill();
        let image = self.disk.crash(&policy);
        if self.random.percent(15) {
            open_twice(&self.config, &self.disk, &policy, &mut self.random)?;
        }
        drop(runtime);
        self.say(|| format!("    {policy:?}"));
        self.disk = image;
        self.loss = self.loss.max(if self.reverts { Loss::Power } else { loss });
        Ok(())
    }

    fn describe_hang(&self) -> String {
        let stats = self.working.upgrade().map(|engine| engine.stats());
        format!("it hangs (disk crashed: {}): {stats:?}", self.disk.crashed())
    }

    fn account(&mut self) {
        self.tally.lives += 1;
        self.tally.operations += self.disk.io_count();
        self.tally.faults += self.disk.faults_struck();
        self.tally.fingerprint.add(self.disk.trace_hash());
    }

    /// Opens, looks, works and ends. `true` if the engine was closed rather than cut off.
    async fn serve(&mut self, end: End) -> Result<bool, String> {
        let engine = match self.config.open(&self.disk, self.random.fork()).await {
            Ok(engine) => engine,
            Err(error) if self.disk.crashed() || self.disk.faults_struck() > 0 => {
                self.say(|| format!("    cut off while opening: {error}"));
                self.tally.recoveries_crashed += 1;
                self.history.lock().unwrap().opening_cut_off = true;
                return match error {
                    Error::Io(_) | Error::DiskFull { .. } => Ok(false),
                    other => Err(format!("opening was cut off and says {other:?}")),
                };
            }
            Err(error) => return Err(format!("opening: {error:?}")),
        };
        if self.config.limited && !self.settle(&engine).await? {
            return Ok(false);
        }
        self.look(&engine)?;
        let engine = Arc::new(engine);
        self.working = Arc::downgrade(&engine);
        let tasks = self.start_tasks(&engine);
        match end {
            End::After(moment) => {
                sleep(moment).await;
                self.disk.kill();
            }
            End::AtOnceAfter(moment) => {
                sleep(moment).await;
                for task in &tasks {
                    task.abort();
                }
                return Ok(false);
            }
            _ => {}
        }
        for task in tasks {
            task.await.map_err(|panic| format!("a task: {panic}"))??;
        }
        let engine = Arc::into_inner(engine).expect("all tasks have ended");
        self.quiesce(&engine).await?;
        if matches!(end, End::Close) && !self.cut_off() {
            self.left = Content::read(&engine.handle())?;
        }
        match end {
            End::Close => match engine.close().await {
                Ok(()) => Ok(true),
                Err(Error::ReadOnly { .. } | Error::Io(_) | Error::DiskFull { .. })
                    if self.disk.faults_struck() > 0 =>
                {
                    Ok(false)
                }
                Err(error) => Err(format!("closing: {error:?}")),
            },
            End::Drop => {
                drop(engine);
                // Opening waits until it has closed; nothing is cut off in between, so the runtime goes on.
                self.disk.clear_faults();
                let again = self.config.open(&self.disk, self.random.fork()).await;
                let again = again.map_err(|error| format!("opening after a drop: {error:?}"))?;
                self.loss = self.loss_by_fault();
                if self.config.limited && !self.settle(&again).await? {
                    return Ok(false);
                }
                self.look(&again)?;
                self.left = Content::read(&again.handle())?;
                Ok(again.close().await.is_ok())
            }
            _ => Ok(false),
        }
    }

    fn start_tasks(&mut self, engine: &Arc<Engine<Key, Value>>) -> Vec<JoinHandle<Result<(), String>>> {
        let origin = Instant::now();
        let processes = 1 + self.tally.lives * TASKS_MAX..;
        processes
            .take(usize::try_from(self.config.tasks).expect("few"))
            .map(|process| {
                let (engine, config) = (Arc::clone(engine), self.config.clone());
                let (history, random) = (Arc::clone(&self.history), self.random.fork());
                let process = u32::try_from(process).expect("few");
                tokio::spawn(Worker { engine, config, history, random, origin, process }.run())
            })
            .collect()
    }

    /// What an engine removes by itself while it opens is a commit like any other, which power loss may take back in a
    /// relaxed mode. What is looked at must stay. `false` if that was cut off.
    async fn settle(&mut self, engine: &Engine<Key, Value>) -> Result<bool, String> {
        for _ in 0..PATIENCE {
            if let Err(error) = engine.sync().await {
                self.tally.recoveries_crashed += 1;
                self.history.lock().unwrap().opening_cut_off = true;
                return if self.cut_off() { Ok(false) } else { Err(format!("syncing at first: {error:?}")) };
            }
            let stats = engine.stats();
            if stats.synced == stats.durable {
                return Ok(true);
            }
        }
        Err(format!("it never settles: {:?}", engine.stats()))
    }

    fn look(&mut self, engine: &Engine<Key, Value>) -> Result<(), String> {
        self.say(|| format!("    opened: {:?}", engine.recovery_report()));
        let mut history = self.history.lock().unwrap();
        self.tally.commits -= history.base_timestamp;
        let lossy = self.loss == Loss::Power && history.mode != Mode::Full;
        let content = verify(engine, &mut history, self.config.mode, self.loss)?;
        if self.config.lists {
            history.lists.settle(content.timestamp, lossy);
            history.lists.look(&engine.handle())?;
        }
        self.tally.commits += content.timestamp;
        self.tally.fingerprint.add(content.timestamp);
        content.tags.values().for_each(|tag| self.tally.fingerprint.add(tag.0));
        drop(history);
        self.loss = Loss::Nothing;
        Ok(())
    }

    /// I9, I10: when nobody asks for anything any more, everything gets durable, and nothing is left behind.
    async fn quiesce(&self, engine: &Engine<Key, Value>) -> Result<(), String> {
        if self.config.late || self.config.limited {
            // Commits that nobody waits for may still be on their way, for milliseconds. What has expired is removed
            // within two seconds.
            sleep(Duration::from_secs(if self.config.limited { 3 } else { 1 })).await;
        }
        let mut synced = engine.sync().await;
        let mut stats = engine.stats();
        for step in 0..PATIENCE {
            // A commit that nobody waited for may have come late, or have got its space late.
            let is_behind = synced.is_ok() && stats.synced < stats.applied;
            // A disk that is gone makes no segments.
            let has_room = self.cut_off() || self.rings_have_room(&stats);
            // A checkpoint may be under way, and is a reader.
            if stats.waiting() == 0 && stats.readers == 0 && !is_behind && has_room {
                break;
            }
            // Not in step with a checkpoint that fails and is tried again each second.
            sleep(Duration::from_millis(1_000 + 37 * u64::from(step))).await;
            // In `Full`, it is synced without being asked for.
            if is_behind && self.config.mode != Mode::Full {
                synced = engine.sync().await;
            }
            stats = engine.stats();
        }
        if stats.readers > 0 || synced.is_ok() && stats.waiting() > 0 {
            return Err(format!("left behind (after syncing: {synced:?}): {stats:?}"));
        }
        // What came after the sync may find that the disk is gone.
        let is_lost = self.cut_off();
        if synced.is_ok() && !is_lost && (stats.synced != stats.applied || stats.durable != stats.applied) {
            return Err(format!("synced, but {stats:?}"));
        }
        if synced.is_err() && !self.cut_off() {
            return Err(format!("syncing: {synced:?}"));
        }
        if synced.is_ok() && !self.cut_off() && !self.rings_have_room(&stats) {
            return Err(format!("no segment is free: {stats:?}"));
        }
        if synced.is_ok() {
            let mut history = self.history.lock().unwrap();
            history.promised = history.promised.max(stats.synced.0);
        }
        Ok(())
    }

    /// A sync that fails may take back what a relaxed mode had acknowledged, whatever ends the life.
    fn loss_by_fault(&self) -> Loss {
        if self.reverts { Loss::Power } else { Loss::Nothing }
    }

    /// I10: a log that may still grow has a segment in reserve.
    fn rings_have_room(&self, stats: &anabranch::Stats) -> bool {
        let limit = self.config.segment_bytes * self.config.segments_max as u64;
        stats
            .shards
            .iter()
            .all(|shard| shard.ring.segments_free > 0 || shard.ring.bytes + self.config.segment_bytes > limit)
    }

    /// I10: an orderly end leaves the files of the logs that there are, a checkpoint for each, and no others.
    fn check_files(&self) -> Result<(), String> {
        let (mut logs, mut checkpoints) = (BTreeSet::new(), 0);
        for (path, _) in self.disk.files() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.split('-').collect::<Vec<_>>()[..] {
                ["log", log, _] => drop(logs.insert(log.to_owned())),
                ["checkpoint", _] => checkpoints += 1,
                ["MANIFEST" | "LOCK"] => {}
                _ => return Err(format!("a stray file: {name}")),
            }
        }
        if logs.len() != self.config.shards || checkpoints > self.config.shards {
            let files = self.disk.files();
            return Err(format!("{} shards, and these files: {files:?}", self.config.shards));
        }
        Ok(())
    }

    fn cut_off(&self) -> bool {
        self.disk.crashed() || self.disk.faults_struck() > 0 || self.killed()
    }

    fn killed(&self) -> bool {
        // A disk that is alive can be asked for another lane of itself.
        anabranch::Disk::lane(&self.disk, "probe").is_err()
    }
}
