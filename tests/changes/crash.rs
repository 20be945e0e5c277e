//! A follower through the crashes of the engine it follows, on a disk that forgets what was not synced.

use std::sync::Arc;
use std::time::Duration;

use anabranch::{Engine, Error, Timestamp};
use anabranch_wal::disk::sim::{CrashPolicy, SimDisk, SurvivingNames};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;

use crate::sim_env::SimEnv;
use crate::{Content, Db, LIMIT, apply, builder, effort, read, snapshot};

const LIVES: u32 = 6;

/// A copy, and the commit that it has reached.
#[derive(Default)]
struct Follower {
    content: Content,
    reached: Timestamp,
    followed: u64,
    began_anew: u32,
}

impl Follower {
    /// Follows up to what is durable now, and compares.
    async fn follow(&mut self, db: &Db) -> Result<(), String> {
        let (now, expected) = snapshot(db);
        if self.reached > now {
            return Err(format!("the copy is at {}, and what it follows went back to {now}", self.reached));
        }
        match read(db, self.reached, now).await {
            Ok(sets) => {
                for set in sets {
                    if set.timestamp != self.reached.next() {
                        return Err(format!("commit {} follows {}", set.timestamp, self.reached));
                    }
                    self.reached = set.timestamp;
                    self.followed += 1;
                    apply(&mut self.content, set);
                    if self.reached == now {
                        break;
                    }
                }
            }
            Err(Error::ChangesGone { after, oldest }) if after < oldest => {
                self.began_anew += 1;
                (self.reached, self.content) = (now, expected.clone());
            }
            Err(error) => return Err(format!("following: {error}")),
        }
        if self.reached == now && self.content != expected {
            return Err(format!("at {now}: {:?}, and not {expected:?}", self.content));
        }
        Ok(())
    }
}

async fn open(disk: &SimDisk, random: &mut StdRng, shards: usize) -> Result<Engine<u64, Vec<u8>>, Error> {
    let env = SimEnv::new(random.random());
    let builder = builder()
        .shards(shards)
        .segment_bytes(16 << 10)
        .segments_max(random.random_range(4..40))
        .checkpoint_after_bytes([1, 8 << 10, 1 << 20][random.random_range(0..3)])
        .disk(Arc::new(disk.clone()))
        .env(Arc::new(env));
    let builder = match random.random_range(0..3) {
        0 => builder,
        1 => builder.retain_log_bytes(64 << 10),
        _ => builder.retain_log_bytes(1 << 30),
    };
    builder.open("/followed").await
}

/// `Err` of the disk once it has crashed is no failure.
async fn live(
    disk: &SimDisk,
    random: &mut StdRng,
    shards: usize,
    follower: &mut Follower,
) -> Result<(), String> {
    let engine = match open(disk, random, shards).await {
        Ok(engine) => engine,
        Err(_) if disk.crashed() => return Ok(()),
        Err(error) => return Err(format!("opening: {error}")),
    };
    let db = engine.handle();
    let outcome = follower.follow(&db).await;
    if disk.crashed() {
        return Ok(());
    }
    outcome?;
    for round in 0..random.random_range(1..30) {
        let mut writes = Vec::new();
        for _ in 0..random.random_range(1..8) {
            let (db, key) = (db.clone(), random.random_range(0..30));
            let value = vec![random.random(); random.random_range(0..3_000)];
            let several = random.random_bool(0.4);
            writes.push(tokio::spawn(async move {
                db.transaction(|txn| {
                    txn.insert(key, value.clone());
                    if several {
                        txn.insert(key + 1, value.clone());
                        txn.remove(&(key + 2));
                    }
                    Ok::<_, Error>(())
                })
                .await
            }));
        }
        for write in writes {
            let outcome = write.await.map_err(|error| error.to_string())?;
            if let Err(error) = outcome {
                return if disk.crashed() { Ok(()) } else { Err(format!("writing: {error}")) };
            }
        }
        if round % 3 == 0 {
            let outcome = follower.follow(&db).await;
            if disk.crashed() {
                return Ok(());
            }
            outcome?;
        }
    }
    Ok(())
}

fn run(seed: u64) -> Result<(u64, u32), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut disk = SimDisk::new(random.random());
    let shards = random.random_range(1..=4);
    let mut follower = Follower::default();
    for number in 0..LIVES {
        disk.set_latency(Duration::from_millis(random.random_range(0..4)));
        if number + 1 < LIVES {
            disk.crash_at(random.random_range(1..600));
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime
            .block_on(async {
                let lived = timeout(LIMIT, live(&disk, &mut random, shards, &mut follower)).await;
                lived.unwrap_or_else(|_| Err("it hangs".into()))
            })
            .map_err(|violation| format!("seed {seed}, life {number}: {violation}"))?;
        disk.kill();
        let power = CrashPolicy::PowerLoss { seed: random.random(), names: SurvivingNames::AnySubset };
        let image = disk.crash(&if random.random_bool(0.3) { CrashPolicy::Process } else { power });
        drop(runtime);
        disk = image;
    }
    Ok((follower.followed, follower.began_anew))
}

#[test]
fn a_follower_stays_identical_through_crashes_of_what_it_follows() {
    if let Ok(seed) = std::env::var("ANABRANCH_SEED") {
        run(seed.parse().expect("ANABRANCH_SEED is a number")).unwrap();
        return;
    }
    let (mut followed, mut began_anew) = (0, 0);
    let seeds =
        std::env::var("ANABRANCH_SEEDS").map_or(effort(30, 1_000), |seeds| seeds.parse().expect("a number"));
    // In the last one a log's reader was behind, in a segment that had nothing for it and was given back.
    for seed in (1..=seeds).chain([386]) {
        let (commits, anew) = run(seed).unwrap_or_else(|violation| panic!("{violation}"));
        followed += commits;
        began_anew += u64::from(anew);
    }
    println!("{seeds} seeds, {followed} commits followed, {began_anew} times begun anew");
    assert!(
        followed > 20 * seeds && began_anew > 0,
        "{followed} commits followed, {began_anew} times begun anew"
    );
}
