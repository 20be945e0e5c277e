//! What an engine must do to be measured.

use std::any::Any;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::keys::{Key, Value};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Outcome<T> = Result<T, Failure>;

/// What an acknowledged commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Level {
    /// Nothing.
    Memory,
    /// The log goes to the operating system; a sync follows within 100 ms.
    Relaxed,
    /// Power loss.
    Full,
}

/// How an engine wants to be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Tasks on a tokio runtime.
    Tasks,
    /// Plain threads: as many as there would be tasks where commits wait for the disk, else as many as there are
    /// workers of the runtime.
    Threads,
}

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where it may keep its files. Engines in memory ignore it.
    pub(crate) directory: PathBuf,
    pub(crate) level: Level,
    pub(crate) shards: Option<usize>,
    /// Keys go to shards by their number, so that the share of transfers across shards can be set.
    pub(crate) by_number: bool,
    /// How long `Relaxed` may leave something unsynced.
    pub(crate) sync_every: Duration,
    /// Of anabranch, in bytes; the least recently used entries go.
    pub(crate) memory_limit: Option<u64>,
}

/// What an engine tells about its own work.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Syncs of the log; `None` if the engine doesn't say.
    pub(crate) syncs: Option<u64>,
    /// Bytes that it wrote to its files; `None` if the engine doesn't say.
    pub(crate) written: Option<u64>,
}

/// An engine, as the workloads see it. `number` is the number in the value; see [`Value`].
pub(crate) trait Store: Clone + Send + Sync + Sized + 'static {
    const STYLE: Style;
    /// Threads are never more than the workers of the runtime.
    const FEW_THREADS: bool = false;
    /// Whether what was written can be read, and so checked.
    const READABLE: bool = true;

    fn open(setup: &Setup) -> impl Future<Output = Outcome<Self>> + Send;

    fn get(&self, key: &str) -> impl Future<Output = Outcome<Option<u64>>> + Send;

    /// Writes a value, in a commit of its own, whatever was there.
    fn put(&self, key: &str, value: &Value) -> impl Future<Output = Outcome<()>> + Send;

    /// Adds to a value's number. Returns how often it ran.
    fn add(&self, key: &str, by: u64) -> impl Future<Output = Outcome<u64>> + Send;

    /// Reads several keys at one moment. Returns the sum of their numbers.
    fn read(&self, keys: &[&str]) -> impl Future<Output = Outcome<u64>> + Send;

    /// Moves 1 from one number to another, serializably where the engine can. Returns how often it ran.
    fn transfer(&self, from: &str, to: &str) -> impl Future<Output = Outcome<u64>> + Send;

    /// Reads `rows` entries in order, from `start` on upwards, or backwards from below `start`. Returns how many
    /// there were, and fails if they are out of order.
    fn scan(&self, start: &str, rows: usize, backwards: bool) -> impl Future<Output = Outcome<usize>> + Send;

    /// Rows of a commit with which [`Store::load`] was fastest, among 64 to 16,384 of the flights.
    fn batch_rows(level: Level) -> usize {
        if level == Level::Full { 4096 } else { 256 }
    }

    /// Takes many rows in the fastest way that the engine has, `batch` of them in a commit.
    fn load(
        &self,
        rows: impl Iterator<Item = (Key, Value)> + Send,
        batch: usize,
    ) -> impl Future<Output = Outcome<()>> + Send;

    /// Begins a read-write transaction, which ends when the box is dropped.
    fn begin(&self) -> Outcome<Box<dyn Any + Send>>;

    /// Vacuum and checkpoint, as far as the engine has them.
    fn maintain(&self) -> impl Future<Output = Outcome<()>> + Send;

    fn counters(&self) -> Counters;

    fn close(self) -> impl Future<Output = Outcome<()>> + Send;
}

/// An entry is missing, so the engine lost it.
pub(crate) fn missing(key: &str) -> Failure {
    format!("{key} is missing").into()
}

/// Checks the order of a scan as it goes.
#[derive(Default)]
pub(crate) struct InOrder {
    last: Vec<u8>,
    pub(crate) rows: usize,
}

impl InOrder {
    pub(crate) fn next(&mut self, key: &[u8], backwards: bool) -> Outcome<()> {
        let right = if backwards { key < self.last.as_slice() } else { key > self.last.as_slice() };
        if self.rows > 0 && !right {
            return Err("a scan out of order".into());
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.rows += 1;
        Ok(())
    }
}
