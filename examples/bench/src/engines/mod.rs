//! The engines that are measured. Each is driven through [`Store`](crate::store::Store).

pub(crate) mod anabranch;
#[cfg(any(
    feature = "surrealmx",
    feature = "surrealkv",
    feature = "fjall",
    feature = "redb",
    feature = "txn-db"
))]
mod bytes;
pub(crate) mod dash_map;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "fluxmap")]
mod fluxmap;
mod raw_file;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "surrealkv")]
mod surrealkv;
#[cfg(feature = "surrealmx")]
mod surrealmx;
#[cfg(feature = "txn-db")]
mod txn_db;

use crate::cell::run;
use crate::keys::Key;
use crate::outcome::{Measured, Order};
use crate::store::{Level, Outcome};

/// An engine as the command line knows it.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) role: Role,
    pub(crate) run: fn(&Order) -> Outcome<Measured>,
}

/// What an engine is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is anabranch.
    Own,
    /// anabranch once more, set up in another way: only where it is asked for.
    Variant,
    /// To compare anabranch with.
    Peer,
    /// Not an engine, but what the machine could do.
    Limit,
}

const fn engine(
    role: Role,
    name: &'static str,
    about: &'static str,
    run: fn(&Order) -> Outcome<Measured>,
) -> Engine {
    Engine { name, about, role, run }
}

/// All that this binary was built with; anabranch first.
pub(crate) const ALL: &[Engine] = &[
    engine(Role::Own, "anabranch", "this one", run::<anabranch::Anabranch<Key>>),
    engine(
        Role::Variant,
        "anabranch-strings",
        "the same with keys of type String, so an allocation each; only if named",
        run::<anabranch::Anabranch<String>>,
    ),
    #[cfg(feature = "surrealmx")]
    engine(
        Role::Peer,
        "surrealmx",
        "in memory, with an optional append-only log",
        run::<surrealmx::SurrealMx<false>>,
    ),
    #[cfg(feature = "surrealmx")]
    engine(
        Role::Peer,
        "surrealmx-few",
        "on disk, with as many threads as workers",
        run::<surrealmx::SurrealMx<true>>,
    ),
    #[cfg(feature = "surrealkv")]
    engine(Role::Peer, "surrealkv", "LSM tree on disk, snapshot isolation", run::<surrealkv::SurrealKv>),
    #[cfg(feature = "fluxmap")]
    engine(Role::Peer, "fluxmap", "skip list in memory, with an optional log", run::<fluxmap::FluxMap>),
    #[cfg(feature = "fjall")]
    engine(Role::Peer, "fjall", "LSM tree on disk, optimistic transactions", run::<fjall::Fjall>),
    #[cfg(feature = "redb")]
    engine(Role::Peer, "redb", "B-tree on disk, one writer at a time", run::<redb::Redb>),
    #[cfg(feature = "txn-db")]
    engine(Role::Peer, "txn-db", "in memory, with an optional commit log", run::<txn_db::TxnDb>),
    engine(Role::Limit, "dashmap", "limit in memory: a bare DashMap of Arc<V>", run::<dash_map::BareDashMap>),
    engine(
        Role::Limit,
        "raw-file",
        "limit on disk: write and fdatasync, 4 KiB each",
        run::<raw_file::RawFile>,
    ),
];

impl Engine {
    /// Whether it has this durability, for an estimate of how long a run takes. An engine says by itself what it
    /// can't do.
    pub(crate) fn keeps(&self, level: Level) -> bool {
        match self.name {
            "dashmap" => level == Level::Memory,
            "raw-file" | "surrealmx-few" => level == Level::Full,
            "surrealkv" | "fjall" => level != Level::Memory,
            "redb" | "txn-db" => level != Level::Relaxed,
            _ => true,
        }
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Engine> {
    ALL.iter().find(|engine| engine.name == name)
}
