//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::LoadOptions;

/// Runs an engine under a load and shows it on a page at 127.0.0.1.
#[derive(Clone, Debug, Parser)]
#[command(version, args_override_self = true)]
pub struct Arguments {
    /// Where the engine keeps its files; by default in a temporary directory, which is removed at the end
    pub directory: Option<PathBuf>,
    /// The port of the page; 0 takes any that is free
    #[arg(long, default_value_t = 8099)]
    pub port: u16,
    /// Shards of the engine
    #[arg(long, default_value_t = 4)]
    pub shards: usize,
    /// Tasks that write, each waiting for its commit
    #[arg(long, default_value_t = 16)]
    pub tasks: usize,
    /// Keys that they write to
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 200)]
    pub value_bytes: usize,
    /// Of a hundred operations, so many are reads
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reads: u8,
    /// Of a hundred operations, so many are transactions over two keys
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub transactions: u8,
    /// Operations in a second, taken together; 0 is as many as it can do
    #[arg(long, default_value_t = 2_000)]
    pub rate: u64,
    /// Keep a snapshot open for so many seconds, then open another; 0 keeps none
    #[arg(long, default_value_t = 10)]
    pub reader_seconds: u64,
    /// End snapshots after so many seconds; 0 never does
    #[arg(long, default_value_t = 0)]
    pub max_snapshot_seconds: u64,
    /// A limit of memory in MiB, beyond which the entries go that were not accessed for the longest time; 0 is none
    #[arg(long, default_value_t = 0)]
    pub memory_limit_mib: u64,
    /// Acknowledge commits that survive the process, and sync them in the background
    #[arg(long)]
    pub relaxed: bool,
}

impl Arguments {
    /// What the load does.
    #[must_use]
    pub fn load(&self) -> LoadOptions {
        LoadOptions {
            tasks: self.tasks,
            keys: self.keys.max(1),
            value_bytes: self.value_bytes,
            reads: self.reads,
            transactions: self.transactions.min(100 - self.reads),
            rate: self.rate,
            reader: (self.reader_seconds > 0).then(|| Duration::from_secs(self.reader_seconds)),
        }
    }

    /// How many bytes the entries may take.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        (self.memory_limit_mib > 0).then(|| self.memory_limit_mib.saturating_mul(1 << 20))
    }

    /// How old a snapshot may become.
    #[must_use]
    pub fn max_snapshot_age(&self) -> Option<Duration> {
        (self.max_snapshot_seconds > 0).then(|| Duration::from_secs(self.max_snapshot_seconds))
    }
}
