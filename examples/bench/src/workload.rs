//! The workloads: what is done, at which level of durability, by how many tasks.

use serde::{Deserialize, Serialize};

use crate::store::Level;

/// What a worker does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Inserts all keys into an empty engine.
    Load,
    /// Inserts as many new keys as there are already.
    Insert,
    Get,
    /// Overwrites a value.
    Update,
    /// Adds 1 to one of so many keys.
    Count {
        keys: usize,
    },
    /// Reads 10 keys at one moment.
    Read,
    /// Between two of so many accounts; all keys if `None`.
    Transfer {
        accounts: Option<usize>,
    },
    Scan {
        rows: usize,
        backwards: bool,
    },
    Ycsb(char),
    /// Loads all keys in the fastest way that the engine has.
    Ingest,
    /// Loads the 250,000 flights of `examples/data` in the fastest way that the engine has.
    Flights,
    /// Transfers, with vacuum and checkpoints going on beside them.
    Mixed,
    /// Begins and drops a transaction while so many others are open.
    Begin {
        open: usize,
    },
    /// Opens a directory with all keys, half of them in checkpoints as far as the engine has any.
    Reopen,
    /// Bytes of resident memory for each key.
    Memory,
}

/// How many work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tasks {
    Exactly(usize),
    /// As many as there are runtime workers.
    Workers,
    /// What `--tasks` says.
    Given,
}

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) level: Level,
    pub(crate) tasks: Tasks,
    pub(crate) about: &'static str,
}

const fn memory(name: &'static str, kind: Kind, tasks: Tasks, about: &'static str) -> Workload {
    Workload { name, kind, level: Level::Memory, tasks, about }
}

const fn full(name: &'static str, kind: Kind, tasks: Tasks, about: &'static str) -> Workload {
    Workload { name, kind, level: Level::Full, tasks, about }
}

const fn relaxed(name: &'static str, kind: Kind, tasks: Tasks, about: &'static str) -> Workload {
    Workload { name, kind, level: Level::Relaxed, tasks, about }
}

const ONE: Tasks = Tasks::Exactly(1);
const UNIFORM: Kind = Kind::Transfer { accounts: None };
const HOT: Kind = Kind::Transfer { accounts: Some(16) };

/// In the order in which they run.
pub(crate) const ALL: &[Workload] = &[
    memory("load", Kind::Load, Tasks::Given, "insert all keys into an empty engine, one commit each"),
    memory("insert", Kind::Insert, Tasks::Given, "insert new keys beside as many others"),
    memory("get-1", Kind::Get, ONE, "read one key, by one task"),
    memory("get", Kind::Get, Tasks::Workers, "read one key, by as many tasks as workers"),
    memory("update-1", Kind::Update, ONE, "overwrite a value, by one task"),
    memory("update", Kind::Update, Tasks::Given, "overwrite a value"),
    memory("hot-counter", Kind::Count { keys: 1 }, Tasks::Given, "read-modify-write of one key"),
    memory("counters-1000", Kind::Count { keys: 1000 }, Tasks::Given, "read-modify-write of 1,000 keys"),
    memory("read-10", Kind::Read, Tasks::Workers, "read-only transaction of 10 gets"),
    memory("transfer", UNIFORM, Tasks::Given, "transfer between two accounts, see --cross"),
    memory("transfer-hot", HOT, Tasks::Given, "transfer among 16 accounts"),
    memory("scan-100", Kind::Scan { rows: 100, backwards: false }, Tasks::Workers, "read 100 rows in order"),
    memory("scan-100-back", Kind::Scan { rows: 100, backwards: true }, Tasks::Workers, "the same, backwards"),
    memory(
        "scan-1000",
        Kind::Scan { rows: 1000, backwards: false },
        Tasks::Workers,
        "read 1,000 rows in order",
    ),
    memory(
        "scan-1000-back",
        Kind::Scan { rows: 1000, backwards: true },
        Tasks::Workers,
        "the same, backwards",
    ),
    memory("ycsb-a", Kind::Ycsb('a'), Tasks::Given, "zipf: 50 % get, 50 % update"),
    memory("ycsb-b", Kind::Ycsb('b'), Tasks::Given, "zipf: 95 % get, 5 % update"),
    memory("ycsb-c", Kind::Ycsb('c'), Tasks::Given, "zipf: get"),
    memory("ycsb-d", Kind::Ycsb('d'), Tasks::Given, "95 % get of what is new, 5 % insert"),
    memory("ycsb-e", Kind::Ycsb('e'), Tasks::Given, "zipf: 95 % scan of 1 to 100 rows, 5 % insert"),
    memory("ycsb-f", Kind::Ycsb('f'), Tasks::Given, "zipf: 50 % get, 50 % read-modify-write"),
    memory("ingest", Kind::Ingest, ONE, "load all keys in the fastest way there is"),
    memory("flights", Kind::Flights, ONE, "load the 250,000 flights of examples/data in the fastest way"),
    memory("begin-drop", Kind::Begin { open: 0 }, ONE, "begin and drop a transaction"),
    memory("begin-drop-10k", Kind::Begin { open: 10_000 }, ONE, "the same, while 10,000 others are open"),
    memory("memory", Kind::Memory, ONE, "resident memory for each key"),
    full("full-update-1", Kind::Update, ONE, "durable overwrite, by one task"),
    full("full-update", Kind::Update, Tasks::Given, "durable overwrite"),
    full("full-update-256", Kind::Update, Tasks::Exactly(256), "durable overwrite, by 256 tasks"),
    full("full-insert", Kind::Insert, Tasks::Given, "durable insert of new keys"),
    full("full-transfer", UNIFORM, Tasks::Given, "durable transfer"),
    full("full-hot-counter", Kind::Count { keys: 1 }, Tasks::Given, "durable read-modify-write of one key"),
    full("full-ingest", Kind::Ingest, ONE, "durable load in the fastest way there is"),
    full("full-flights", Kind::Flights, ONE, "durable load of the flights"),
    full("reopen", Kind::Reopen, ONE, "open a directory that has all keys"),
    relaxed("relaxed-update", Kind::Update, Tasks::Given, "overwrite, synced within 100 ms"),
    relaxed("relaxed-transfer", UNIFORM, Tasks::Given, "transfer, synced within 100 ms"),
    relaxed("relaxed-insert", Kind::Insert, Tasks::Given, "insert of new keys, synced within 100 ms"),
    relaxed("relaxed-flights", Kind::Flights, ONE, "load of the flights, synced within 1 s"),
    relaxed("mixed", Kind::Mixed, Tasks::Given, "transfers beside vacuum and checkpoints"),
];

impl Workload {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|workload| workload.name == name)
    }

    /// What its number counts.
    pub(crate) const fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Memory => "bytes/key",
            Kind::Load | Kind::Insert | Kind::Ingest | Kind::Reopen => "keys/s",
            Kind::Flights => "rows/s",
            Kind::Scan { .. } => "scans/s",
            _ => "ops/s",
        }
    }

    pub(crate) const fn lower_is_better(&self) -> bool {
        matches!(self.kind, Kind::Memory)
    }
}
