//! What a life of a database is like: handed to the worker through its environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch::{Durability, Engine, EngineBuilder, Flush};

use crate::random::Random;
use crate::row::{Key, Value};

/// When the engine syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Full,
    Interval,
    Commits,
    Bytes,
}

pub(crate) const MODES: [Mode; 4] = [Mode::Full, Mode::Interval, Mode::Commits, Mode::Bytes];

impl Mode {
    fn durability(self) -> Durability {
        match self {
            Self::Full => Durability::Full,
            Self::Interval => Durability::Relaxed(Flush::every(Duration::from_millis(5))),
            Self::Commits => Durability::Relaxed(Flush::after_commits(20)),
            Self::Bytes => Durability::Relaxed(Flush::after_bytes(10_000)),
        }
    }
}

/// What the worker's tasks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A bit of everything.
    Mixed,
    /// The same, and one task begins with a value larger than a segment, so that it waits for a new one.
    HugeFirst,
    /// One task, and a backup beside the directory.
    Backup,
}

const WORKS: [Work; 3] = [Work::Mixed, Work::HugeFirst, Work::Backup];

/// Decides a life, together with what the operating system does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) directory: PathBuf,
    /// Lives of one directory have different numbers.
    pub(crate) life: u64,
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    pub(crate) work: Work,
    /// Of each task.
    pub(crate) operations: u64,
}

/// So many that only a kill ends it.
pub(crate) const WITHOUT_END: u64 = 1 << 20;
const VARIABLE: &str = "ANABRANCH_WORKER";
const DIRECTORY: &str = "ANABRANCH_WORKER_DIRECTORY";

impl Plan {
    pub(crate) fn new(directory: &Path, life: u64, random: &mut Random, mode: Mode) -> Self {
        let directory = directory.to_owned();
        Self { directory, life, seed: random.next(), mode, work: Work::Mixed, operations: WITHOUT_END }
    }

    /// The variables that tell a worker its plan.
    pub(crate) fn to_environment(&self) -> [(&'static str, String); 2] {
        let Self { directory, life, seed, mode, work, operations } = self;
        let directory = directory.to_str().expect("temporary directories have plain names").to_owned();
        let plan = format!("{life} {seed} {} {} {operations}", *mode as usize, *work as usize);
        [(VARIABLE, plan), (DIRECTORY, directory)]
    }

    pub(crate) fn from_environment() -> Option<Self> {
        let plan = std::env::var(VARIABLE).ok()?;
        let numbers: Vec<u64> = plan.split(' ').map(|word| word.parse().expect("a number")).collect();
        let index = |at: usize| usize::try_from(numbers[at]).expect("a small number");
        Some(Self {
            directory: std::env::var_os(DIRECTORY).expect("both are set").into(),
            life: numbers[0],
            seed: numbers[1],
            mode: MODES[index(2)],
            work: WORKS[index(3)],
            operations: numbers[4],
        })
    }

    pub(crate) fn shards(&self) -> usize {
        if self.work == Work::HugeFirst {
            return 1;
        }
        // Seldom others: with every change the next opening moves all keys.
        let choices = [1, 2, 3, 4];
        Random::new(self.seed % 5 / 4 + self.life / 6).pick(&choices)
    }

    pub(crate) fn tasks(&self) -> u64 {
        match self.work {
            Work::Backup => 1,
            Work::Mixed | Work::HugeFirst => Random::new(self.seed).between(3..=6),
        }
    }

    /// Small segments and frequent checkpoints: a short life goes through all of it.
    pub(crate) fn builder(&self) -> EngineBuilder<Key, Value> {
        let mut random = Random::new(self.seed ^ 1);
        let (segment_bytes, checkpoint_bytes) = match self.work {
            Work::HugeFirst => (16 << 10, 1 << 30),
            Work::Mixed | Work::Backup => {
                (random.pick(&[16 << 10, 32 << 10, 64 << 10]), random.pick(&[1 << 10, 16 << 10, 128 << 10]))
            }
        };
        Engine::builder()
            .shards(self.shards())
            .segment_bytes(segment_bytes)
            .segments_max(usize::try_from(random.between(4..=24)).expect("few"))
            .checkpoint_after_bytes(checkpoint_bytes)
            .durability(self.mode.durability())
    }
}

#[test]
fn a_plan_survives_its_environment() {
    let plan = Plan::new(Path::new("/some/where"), 7, &mut Random::new(3), Mode::Bytes);
    let [(_, text), (_, directory)] = plan.to_environment();
    assert_eq!((text, directory.as_str()), (format!("7 {} 3 0 {WITHOUT_END}", plan.seed), "/some/where"));
    assert!(MODES.iter().enumerate().all(|(index, mode)| *mode as usize == index));
    assert!(WORKS.iter().enumerate().all(|(index, work)| *work as usize == index));
}
