//! Leader and follower in one simulated world, where either may crash at any of its I/O calls. The follower applies the
//! leader's commits in exact mode, so that its content and its place are one, and is compared at ten timestamps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Durability, Engine, Error, Flush, IngestOptions, Timestamp};
use anabranch_wal::disk::sim::{CrashPolicy, SimDisk, SurvivingNames};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::sim_env::SimEnv;
use crate::{Content, Db, Set, builder, effort, read, snapshot, within};

const LEADER: &str = "leader";
/// So many moments are compared in each world.
const MOMENTS: u32 = 10;
/// A world that takes longer makes no progress.
const STEPS_MAX: u32 = 5_000;

/// One engine, and its disk.
struct Side {
    name: &'static str,
    disk: SimDisk,
    engine: Option<Engine<u64, Vec<u8>>>,
    crashes: u32,
}

impl Side {
    fn new(name: &'static str, random: &mut StdRng) -> Self {
        Self { name, disk: SimDisk::new(random.random()), engine: None, crashes: 0 }
    }

    fn db(&self) -> Db {
        self.engine.as_ref().expect("it was opened").handle()
    }

    /// What failed, if it was not that the disk had crashed.
    fn failed(&self, what: &str, error: &impl std::fmt::Display) -> Result<(), String> {
        if self.disk.crashed() { Ok(()) } else { Err(format!("the {}, {what}: {error}", self.name)) }
    }

    /// Opens it, again and again if it crashes meanwhile.
    async fn open(&mut self, random: &mut StdRng, trace: &mut Vec<String>) -> Result<(), String> {
        loop {
            self.disk.set_latency(Duration::from_millis(random.random_range(0..4)));
            self.disk.crash_at(random.random_range(20..250));
            let builder = builder()
                .shards(random.random_range(1..=3))
                .segment_bytes(16 << 10)
                .segments_max(random.random_range(8..60))
                .checkpoint_after_bytes([1, 8 << 10, 1 << 20][random.random_range(0..3)])
                .retain_log_bytes([1 << 16, 1 << 30][random.random_range(0..2)])
                .disk(Arc::new(self.disk.clone()))
                .env(Arc::new(SimEnv::new(random.random())));
            // What the leader's feed yields must survive; the follower may lose what it has not synced.
            let relaxed = self.name != LEADER && random.random_bool(0.5);
            let durability =
                if relaxed { Durability::Relaxed(Flush::after_commits(5)) } else { Durability::Full };
            match within(builder.durability(durability).open("/database")).await {
                Ok(engine) => {
                    self.engine = Some(engine);
                    return Ok(());
                }
                Err(error) => self.failed("opening", &error)?,
            }
            self.crash(random, trace);
        }
    }

    /// What the crash left becomes the disk.
    fn crash(&mut self, random: &mut StdRng, trace: &mut Vec<String>) {
        self.disk.kill();
        let power = CrashPolicy::PowerLoss { seed: random.random(), names: SurvivingNames::AnySubset };
        let policy = if random.random_bool(0.3) { CrashPolicy::Process } else { power };
        let image = self.disk.crash(&policy);
        trace.push(format!("the {} crashed: {:x}", self.name, self.disk.trace_hash()));
        self.engine = None;
        self.disk = image;
        self.crashes += 1;
    }
}

struct World {
    random: StdRng,
    leader: Side,
    follower: Side,
    /// What the leader held at some commits that the follower has not reached.
    moments: BTreeMap<Timestamp, Content>,
    compared: u32,
    begun_anew: u32,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let leader = Side::new(LEADER, &mut random);
        let follower = Side::new("follower", &mut random);
        let (moments, trace) = (BTreeMap::new(), Vec::new());
        Self { random, leader, follower, moments, compared: 0, begun_anew: 0, trace }
    }

    async fn lead(&mut self) -> Result<(), String> {
        for side in [&mut self.leader, &mut self.follower] {
            side.open(&mut self.random, &mut self.trace).await?;
        }
        for _ in 0..STEPS_MAX {
            if self.compared >= MOMENTS {
                return Ok(());
            }
            match self.random.random_range(0..4) {
                0 | 1 => self.write().await?,
                2 => {
                    let (now, content) = snapshot(&self.leader.db());
                    self.moments.insert(now, content);
                }
                _ => self.follow().await?,
            }
            self.revive().await?;
        }
        Err(format!("{} moments were compared in {STEPS_MAX} steps", self.compared))
    }

    /// Opens again what has crashed.
    async fn revive(&mut self) -> Result<(), String> {
        if self.leader.disk.crashed() {
            self.leader.crash(&mut self.random, &mut self.trace);
            self.leader.open(&mut self.random, &mut self.trace).await?;
            let (recovered, content) = snapshot(&self.leader.db());
            if self.moments.get(&recovered).is_some_and(|expected| *expected != content) {
                return Err(format!("the leader recovered to {recovered} with another content"));
            }
            // The timestamps behind it are given to other commits.
            self.moments.retain(|moment, _| *moment <= recovered);
        }
        if self.follower.disk.crashed() {
            self.follower.crash(&mut self.random, &mut self.trace);
            self.follower.open(&mut self.random, &mut self.trace).await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), String> {
        let db = self.leader.db();
        for _ in 0..self.random.random_range(1..8) {
            let key = self.random.random_range(0..30);
            let value = vec![self.random.random(); self.random.random_range(0..3_000)];
            let several = self.random.random_bool(0.4);
            let written = db.transaction(|txn| {
                txn.insert(key, value.clone());
                if several {
                    txn.insert(key + 1, value.clone());
                    txn.remove(&(key + 2));
                }
                Ok::<_, Error>(())
            });
            if let Err(error) = within(written).await {
                return self.leader.failed("writing", &error);
            }
        }
        Ok(())
    }

    /// Follows up to what the leader holds now, from where the follower is.
    async fn follow(&mut self) -> Result<(), String> {
        let (now, content) = snapshot(&self.leader.db());
        let offset = self.follower.db().source_offset(LEADER).map_err(|error| error.to_string())?;
        // 0 stands for a copy that is not whole.
        let Some(reached) = offset.filter(|offset| *offset > 0).map(Timestamp) else {
            return self.begin(now, content).await;
        };
        if reached > now {
            return Err(format!("the follower is at {reached}, and the leader went back to {now}"));
        }
        self.compare(reached)?;
        let sets = match read(&self.leader.db(), reached, now).await {
            Ok(sets) => sets,
            Err(Error::ChangesGone { .. }) => return self.begin(now, content).await,
            Err(error) => return self.leader.failed("being followed", &error),
        };
        let mut next = reached;
        // As many at once as there are up to the next moment.
        let mut sets = sets.into_iter().peekable();
        while sets.peek().is_some() {
            let mut some = Vec::new();
            for set in sets.by_ref() {
                if set.timestamp != next.next() {
                    return Err(format!("commit {} follows {next}", set.timestamp));
                }
                next = set.timestamp;
                some.push(set);
                if self.moments.contains_key(&next) {
                    break;
                }
            }
            if let Err(error) = self.apply(some).await {
                return self.follower.failed("applying", &error);
            }
            self.compare(next)?;
        }
        Ok(())
    }

    async fn apply(&self, sets: Vec<Set>) -> Result<(), String> {
        let mut sink = self.follower.db().ingest(IngestOptions::default().batch_rows(4).exact());
        for set in sets {
            for change in set.changes {
                let sent = match change.value {
                    Some(value) => within(sink.send(change.key, value)).await,
                    None => within(sink.remove(change.key)).await,
                };
                sent.map_err(|error| error.to_string())?;
            }
            sink.offset(LEADER, set.timestamp.0);
        }
        within(sink.finish()).await.map(drop).map_err(|error| error.to_string())
    }

    /// Copies a snapshot of the leader, whose changes can then be followed.
    async fn begin(&mut self, now: Timestamp, content: Content) -> Result<(), String> {
        if now == Timestamp::ZERO {
            return Ok(());
        }
        self.begun_anew += 1;
        self.trace.push(format!("the follower begins at {now}"));
        let copied = async {
            let db = self.follower.db();
            let mut sink = db.ingest(IngestOptions::default().batch_rows(4).exact());
            for key in snapshot(&db).1.into_keys() {
                sink.remove(key).await?;
                sink.offset(LEADER, 0);
            }
            for (key, value) in content {
                sink.send(key, value).await?;
                sink.offset(LEADER, 0);
            }
            sink.offset(LEADER, now.0);
            sink.finish().await
        };
        match within(copied).await {
            Ok(_) => self.compare(now),
            Err(error) => self.follower.failed("beginning", &error),
        }
    }

    /// Compares, if the leader's content at this commit is known.
    fn compare(&mut self, reached: Timestamp) -> Result<(), String> {
        let Some(expected) = self.moments.remove(&reached) else { return Ok(()) };
        let (_, content) = snapshot(&self.follower.db());
        self.trace.push(format!("compared at {reached}: {} entries", content.len()));
        self.compared += 1;
        if content == expected {
            Ok(())
        } else {
            Err(format!("at {reached}: {content:?}, and not {expected:?}"))
        }
    }
}

fn run(seed: u64) -> World {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut world = World::new(seed);
    let led = runtime.block_on(world.lead());
    for side in [&mut world.leader, &mut world.follower] {
        side.disk.kill();
        runtime.block_on(async { side.engine = None });
    }
    led.unwrap_or_else(|violation| panic!("ANABRANCH_SEED={seed}: {violation}\n{:#?}", world.trace));
    world
}

#[test]
fn leader_and_follower_crash_in_turn_and_are_identical_at_ten_timestamps() {
    if let Ok(seed) = std::env::var("ANABRANCH_SEED") {
        println!("{:#?}", run(seed.parse().expect("ANABRANCH_SEED is a number")).trace);
        return;
    }
    let seeds =
        std::env::var("ANABRANCH_SEEDS").map_or(effort(20, 500), |seeds| seeds.parse().expect("a number"));
    let (mut leader, mut follower, mut anew) = (0_u64, 0_u64, 0_u64);
    for seed in 1..=seeds {
        let world = run(seed);
        leader += u64::from(world.leader.crashes);
        follower += u64::from(world.follower.crashes);
        anew += u64::from(world.begun_anew);
    }
    println!("{seeds} seeds: the leader crashed {leader} times, the follower {follower}; {anew} times begun");
    assert!(leader > seeds && follower > seeds / 2 && anew > seeds, "{leader}, {follower}, {anew}");
}

#[test]
fn the_same_seed_leads_the_same_world() {
    for seed in [3, 14, 15] {
        let (first, second) = (run(seed), run(seed));
        assert!(first.trace.len() > 10, "{:?}", first.trace);
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.leader.disk.trace_hash(), second.leader.disk.trace_hash());
    }
}
