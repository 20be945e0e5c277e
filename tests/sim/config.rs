//! What a seed decides: sizes, modes, and what goes wrong.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Durability, Engine, Error, Eviction, Flush};
use anabranch_wal::disk::sim::{CrashPolicy, Fault, FaultKind, Operation, SimDisk, SurvivingNames, Times};

use crate::env::SimEnv;
use crate::history::{Key, Value};
use crate::oracle::Loss;
use crate::random::Random;

/// When a life's engine syncs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Full,
    Commits(u64),
    Bytes(u64),
    Interval(Duration),
}

impl Mode {
    fn draw(random: &mut Random) -> Self {
        match random.between(0..=9) {
            0..=5 => Self::Full,
            6 | 7 => Self::Commits(random.pick(&[1, 2, 5, 20])),
            8 => Self::Bytes(random.pick(&[1, 500, 8_000, 60_000])),
            _ => Self::Interval(Duration::from_millis(random.between(1..=100))),
        }
    }

    fn durability(self) -> Durability {
        match self {
            Self::Full => Durability::Full,
            Self::Commits(commits) => Durability::Relaxed(Flush::after_commits(commits)),
            Self::Bytes(bytes) => Durability::Relaxed(Flush::after_bytes(bytes)),
            Self::Interval(interval) => Durability::Relaxed(Flush::every(interval)),
        }
    }
}

/// The settings of one life.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "settings that have nothing to do with one another")]
pub(crate) struct Config {
    pub(crate) shards: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) segments_max: usize,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) mode: Mode,
    pub(crate) snapshot_isolation: bool,
    pub(crate) keys: u64,
    pub(crate) tasks: u64,
    pub(crate) operations: u64,
    /// Longest ordinary value, and how many in a hundred are of up to three segments.
    pub(crate) value_max: u64,
    pub(crate) huge_percent: u64,
    pub(crate) counters: bool,
    pub(crate) latency: Duration,
    /// All values are of the longest ordinary length, so that what is written later looks like what it replaces.
    pub(crate) uniform: bool,
    /// Messages are late, so that those of different senders overtake each other.
    pub(crate) late: bool,
    /// Idle shards run commits without a message.
    pub(crate) lends_turns: bool,
    /// Most transactions are over lists, which are judged.
    pub(crate) lists: bool,
    /// Memory is limited, and some values expire: entries go by themselves.
    pub(crate) limited: bool,
    /// When this life begins.
    pub(crate) date: Duration,
}

impl Config {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let segment_bytes = random.pick(&[16 << 10, 16 << 10, 32 << 10, 64 << 10]);
        Self {
            shards: usize::try_from(random.pick(&[1, 2, 2, 3, 4, 8])).expect("few"),
            segment_bytes,
            segments_max: usize::try_from(random.between(4..=16)).expect("few"),
            checkpoint_bytes: random.pick(&[1, 4 << 10, 64 << 10, 1 << 20]),
            mode: Mode::draw(random),
            snapshot_isolation: random.percent(20),
            keys: random.pick(&[1, 4, 12, 40]),
            tasks: random.between(1..=8),
            operations: random.between(1..=20),
            value_max: random.pick(&[0, 20, 600, 3000]),
            huge_percent: random.pick(&[0, 0, 1, 10]),
            counters: random.percent(40),
            latency: Duration::from_millis(random.pick(&[0, 2, 5, 12])),
            uniform: false,
            late: false,
            lends_turns: true,
            lists: false,
            limited: false,
            date: Duration::ZERO,
        }
    }

    /// Another life of the same database may be led otherwise.
    pub(crate) fn redraw(&mut self, random: &mut Random) {
        let other = Self::draw(random);
        if random.percent(25) {
            self.shards = other.shards;
        }
        if random.percent(25) {
            self.mode = other.mode;
        }
        if random.percent(15) {
            (self.segment_bytes, self.segments_max) = (other.segment_bytes, other.segments_max);
        }
        (self.tasks, self.operations, self.checkpoint_bytes) =
            (other.tasks, other.operations, other.checkpoint_bytes);
        (self.latency, self.counters) = (other.latency, other.counters);
    }

    pub(crate) async fn open(&self, disk: &SimDisk, random: Random) -> Result<Engine<Key, Value>, Error> {
        self.open_at("/database", disk, random).await
    }

    pub(crate) async fn open_at(
        &self,
        directory: &str,
        disk: &SimDisk,
        random: Random,
    ) -> Result<Engine<Key, Value>, Error> {
        disk.set_latency(self.latency);
        let isolation = if self.snapshot_isolation {
            anabranch::Isolation::Snapshot
        } else {
            anabranch::Isolation::Serializable
        };
        let policies = [Eviction::Lru, Eviction::Lfu, Eviction::Random, Eviction::Arc];
        let eviction = policies[usize::try_from(self.operations).expect("few") % policies.len()];
        let builder = Engine::builder();
        let builder = if self.limited {
            builder.memory_limit((64 << 10) * self.shards as u64, eviction)
        } else {
            builder
        };
        builder
            .shards(self.shards)
            .segment_bytes(self.segment_bytes)
            .segments_max(self.segments_max)
            .checkpoint_after_bytes(self.checkpoint_bytes)
            .durability(self.mode.durability())
            .isolation(isolation)
            .lend_turns(self.lends_turns)
            .disk(Arc::new(disk.clone()))
            .env(Arc::new(SimEnv::new(random, self.date)))
            .open(directory)
            .await
    }
}

impl fmt::Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} shards of {} segments of {} KiB, checkpoints every {} B, {:?}, {} tasks of {} operations on {} \
             keys, values of {} B, {} % huge, counters {}, snapshot isolation {}, latency {:?}, uniform {}, late {}, lends turns {}, lists {}, limited {}",
            self.shards,
            self.segments_max,
            self.segment_bytes >> 10,
            self.checkpoint_bytes,
            self.mode,
            self.tasks,
            self.operations,
            self.keys,
            self.value_max,
            self.huge_percent,
            self.counters,
            self.snapshot_isolation,
            self.latency,
            self.uniform,
            self.late,
            self.lends_turns,
            self.lists,
            self.limited,
        )
    }
}

/// How the machine goes down, drawn.
pub(crate) fn draw_crash(random: &mut Random) -> (CrashPolicy, Loss) {
    match random.between(0..=9) {
        0..=2 => (CrashPolicy::Process, Loss::Process),
        3 => (CrashPolicy::SyncedOnly, Loss::Power),
        other => {
            let names = if other < 7 { SurvivingNames::Prefix } else { SurvivingNames::AnySubset };
            (CrashPolicy::PowerLoss { seed: random.next(), names }, Loss::Power)
        }
    }
}

/// What goes wrong besides, drawn: nothing that lies, as no engine could keep its word then.
pub(crate) fn draw_fault(random: &mut Random) -> Fault {
    use FaultKind::{Eio, Enospc, Interrupted, ShortWrite, SyncLoses, SyncReverts};
    let (operation, kinds): (_, &[FaultKind]) = random.pick(&[
        (Operation::Write, &[Eio, Enospc, ShortWrite, Interrupted][..]),
        (Operation::Sync, &[Eio, SyncLoses, SyncReverts]),
        (Operation::Create, &[Eio, Enospc]),
        (Operation::ZeroFill, &[Eio, Enospc]),
        (Operation::SyncDir, &[Eio]),
        (Operation::Remove, &[Eio]),
        (Operation::Open, &[Eio]),
        (Operation::Read, &[Eio]),
    ]);
    let kind = random.pick(kinds);
    // What is interrupted for ever never ends.
    let once = random.percent(70) || kind == Interrupted;
    let times = if once { Times::Once } else { Times::Forever };
    Fault { operation, path_contains: None, nth: random.between(1..=60), times, kind }
}
