//! Sources through crashes, on a disk that forgets what was not synced. A seed decides everything.
//!
//! After each crash, what is there is compared with what the rows up to the offset make; then the source goes on from
//! there, and in the end everything is in, and nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Durability, Engine, Error, Flush, IngestOptions};
use anabranch_wal::disk::sim::{CrashPolicy, SimDisk, SurvivingNames};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;

use crate::sim_env::SimEnv;
use crate::{LIMIT, add, builder, content, effort};

const ROWS: u64 = 400;
const LIVES: u32 = 6;
/// Operations of the disk that the longest life before a crash has.
const OPERATIONS_MAX: u64 = 250;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Row `n` sets or removes a key of few.
    Keyed,
    /// Row `n` adds to an aggregate and inserts a key of its own.
    Exact,
}

/// What the first `rows` rows make.
fn expected(mode: Mode, rows: u64) -> BTreeMap<u64, u64> {
    let mut content = BTreeMap::new();
    for row in 0..rows {
        let key = key_of(row);
        match mode {
            Mode::Keyed if row % 5 == 4 => {
                content.remove(&key);
            }
            Mode::Keyed => {
                content.insert(key, row);
            }
            Mode::Exact => {
                *content.entry(key).or_default() += row + 1;
                content.insert(1_000 + row, row);
            }
        }
    }
    content
}

const fn key_of(row: u64) -> u64 {
    row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59
}

/// Whether `found` is what the rows up to `offset` make, and at most later rows of those that were sent.
fn check(mode: Mode, found: &BTreeMap<u64, u64>, offset: u64, sent: u64) -> Result<(), String> {
    let exactly = expected(mode, offset);
    match mode {
        Mode::Exact if *found == exactly => Ok(()),
        Mode::Exact => Err(format!("up to offset {offset}: {found:?}\n instead of {exactly:?}")),
        Mode::Keyed => {
            for key in 0..32 {
                let states = (offset..=sent).map(|rows| expected(mode, rows).get(&key).copied());
                let mut states = std::iter::once(exactly.get(&key).copied()).chain(states);
                let found = found.get(&key).copied();
                if !states.any(|state| state == found) {
                    return Err(format!(
                        "key {key} is {found:?}, which no run from offset {offset} to {sent} gives"
                    ));
                }
            }
            Ok(())
        }
    }
}

struct Life {
    mode: Mode,
    random: StdRng,
    /// So many rows were sent at the most, in any life.
    sent: u64,
    /// An offset that was acknowledged, and that must survive.
    acknowledged: u64,
    relaxed: bool,
    /// Crashes after which the offset stood somewhere between the first and the last row.
    in_between: u32,
}

impl Life {
    async fn open(&mut self, disk: &SimDisk) -> Result<Engine<u64, u64>, Error> {
        let durability = if self.relaxed {
            Durability::Relaxed(Flush::every(Duration::from_millis(20)))
        } else {
            Durability::Full
        };
        let seed = self.random.random();
        builder()
            .shards(self.random.random_range(1..=4))
            .segment_bytes(16 << 10)
            .segments_max(6)
            .checkpoint_after_bytes([1, 4 << 10, 1 << 20][self.random.random_range(0..3)])
            .durability(durability)
            .disk(Arc::new(disk.clone()))
            .env(Arc::new(SimEnv::new(seed)))
            .open("/source")
            .await
    }

    /// Opens, looks at what is there, and goes on. `Ok(true)` if everything is in.
    async fn live(&mut self, disk: &SimDisk) -> Result<bool, String> {
        let engine = match self.open(disk).await {
            Ok(engine) => engine,
            Err(_) if disk.crashed() => return Ok(false),
            Err(error) => return Err(format!("opening: {error}")),
        };
        let db = engine.handle();
        let offset = db.source_offset("rows").map_err(|error| error.to_string())?.unwrap_or(0);
        if offset < self.acknowledged {
            return Err(format!("offset {} was acknowledged, and {offset} is there", self.acknowledged));
        }
        check(self.mode, &content(&db), offset, self.sent)?;
        self.in_between += u32::from(offset > 0 && offset < ROWS);
        self.acknowledged = offset;

        let options = IngestOptions::default().batch_rows(self.random.random_range(1..20));
        let options = options.batches_in_flight(self.random.random_range(1..6));
        let mut sink = db.ingest(if self.mode == Mode::Exact { options.exact() } else { options });
        for row in offset..ROWS {
            self.sent = self.sent.max(row + 1);
            let key = key_of(row);
            let sent = match self.mode {
                Mode::Keyed if row % 5 == 4 => sink.remove(key).await,
                Mode::Keyed => sink.send(key, row).await,
                Mode::Exact => match sink.update(key, add(row + 1)).await {
                    Ok(()) => sink.send(1_000 + row, row).await,
                    failed => failed,
                },
            };
            let mut outcome = sent;
            if self.random.random_bool(0.4) || row + 1 == ROWS {
                sink.offset("rows", row + 1);
                if outcome.is_ok() && self.random.random_bool(0.1) {
                    outcome = sink.flush().await.map(|_| self.acknowledged = row + 1);
                }
            }
            if self.random.random_bool(0.05) {
                tokio::time::sleep(Duration::from_millis(self.random.random_range(1..15))).await;
            }
            if let Err(error) = outcome {
                return if disk.crashed() { Ok(false) } else { Err(format!("row {row}: {error}")) };
            }
        }
        match sink.finish().await {
            Ok(_) => self.acknowledged = ROWS,
            Err(_) if disk.crashed() => return Ok(false),
            Err(error) => return Err(format!("finishing: {error}")),
        }
        if content(&db) != expected(self.mode, ROWS) {
            return Err(format!("in the end: {:?}", content(&db)));
        }
        Ok(true)
    }
}

/// Leads the lives of a seed; returns how many crashes left the source somewhere in between.
fn run(mode: Mode, seed: u64) -> Result<u32, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut disk = SimDisk::new(random.random());
    let (relaxed, latency) = (random.random_bool(0.3), random.random_range(0..6));
    let mut life = Life { mode, random, sent: 0, acknowledged: 0, relaxed, in_between: 0 };
    for number in 0..LIVES {
        disk.set_latency(Duration::from_millis(latency));
        if number + 1 < LIVES {
            disk.crash_at(life.random.random_range(1..OPERATIONS_MAX));
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let all_in = runtime
            .block_on(async {
                timeout(LIMIT, life.live(&disk)).await.unwrap_or_else(|_| Err("it hangs".into()))
            })
            .map_err(|violation| format!("{mode:?}, seed {seed}, life {number}: {violation}"))?;
        disk.kill();
        let power = CrashPolicy::PowerLoss { seed: life.random.random(), names: SurvivingNames::AnySubset };
        let policy = if life.random.random_bool(0.3) { CrashPolicy::Process } else { power };
        let power_was_lost = !matches!(policy, CrashPolicy::Process);
        let image = disk.crash(&policy);
        drop(runtime);
        if life.relaxed && power_was_lost {
            // What was acknowledged may be taken back then.
            life.acknowledged = 0;
        }
        if all_in && number + 1 == LIVES {
            return Ok(life.in_between);
        }
        disk = image;
    }
    Err(format!("{mode:?}, seed {seed}: the last life was cut short"))
}

fn run_all(mode: Mode) {
    if let Ok(seed) = std::env::var("ANABRANCH_SEED") {
        run(mode, seed.parse().expect("ANABRANCH_SEED is a number")).unwrap();
        return;
    }
    let mut in_between = 0_u64;
    let seeds = effort(40, 2_000);
    for seed in 1..=seeds {
        in_between += u64::from(run(mode, seed).unwrap_or_else(|violation| panic!("{violation}")));
    }
    println!("{seeds} seeds, {in_between} times the source went on in between");
    assert!(in_between > seeds / 2, "the crashes come too early or too late to test anything: {in_between}");
}

#[test]
fn with_keyed_rows_nothing_is_lost_and_nothing_is_ahead_of_what_was_sent() {
    run_all(Mode::Keyed);
}

#[test]
fn in_exact_mode_the_content_is_that_of_a_run_up_to_the_offset_and_not_a_row_further() {
    run_all(Mode::Exact);
}
