//! How a sink gathers, what it reports, and how it fails.

use std::time::Duration;

use crate::Error;

/// How an [`crate::Ingest`] sink gathers and how far it runs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    pub(super) batch_rows: usize,
    pub(super) batch_bytes: usize,
    pub(super) batch_delay: Duration,
    pub(super) batches_in_flight: usize,
    pub(super) exact: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            batch_rows: 256,
            batch_bytes: 1 << 20,
            batch_delay: Duration::from_millis(5),
            batches_in_flight: 16,
            exact: false,
        }
    }
}

impl IngestOptions {
    /// Rows of one shard that are committed together; 1 at the least, by default 256. A load that waits for syncs
    /// ([`crate::Durability::Full`]) is faster with 1,024.
    #[must_use]
    pub fn batch_rows(self, rows: usize) -> Self {
        Self { batch_rows: rows.max(1), ..self }
    }

    /// A batch is begun when its rows take so many bytes of log; by default 1 MiB. In memory, and of updates,
    /// nobody knows the bytes, and only rows and time count.
    #[must_use]
    pub fn batch_bytes(self, bytes: usize) -> Self {
        Self { batch_bytes: bytes.max(1), ..self }
    }

    /// No row waits longer than this for its batch to be begun; by default 5 ms.
    #[must_use]
    pub fn batch_delay(self, delay: Duration) -> Self {
        Self { batch_delay: delay, ..self }
    }

    /// Batches that may be under way before the producers are made to wait; 1 at the least, by default 16.
    #[must_use]
    pub fn batches_in_flight(self, batches: usize) -> Self {
        Self { batches_in_flight: batches.max(1), ..self }
    }

    /// Makes offsets exact: what was sent between one [`crate::Ingest::offset`] and a later one is one commit with
    /// that offset, over all shards. After any crash the content is that of a run up to the offset and not a row
    /// further, so that a source may go on from there with rows that must not be counted twice.
    ///
    /// It costs what transactions cost: such a commit goes to several logs, one is applied after the other, and one
    /// that updates keys which others write meanwhile runs again. Rows behind the last offset wait for the next, and
    /// as many as 16 full batches of them are an error. `batch_rows` and `batch_bytes` count over all shards, and a
    /// batch ends where an offset was stated.
    #[must_use]
    pub fn exact(self) -> Self {
        Self { exact: true, ..self }
    }

    /// In exact mode, so many rows may wait for an offset.
    pub(super) const fn uncovered_rows_max(&self) -> usize {
        let rows = self.batch_rows.saturating_mul(16);
        if rows < 65_536 { 65_536 } else { rows }
    }
}

/// What a sink has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestReport {
    /// Rows that were acknowledged.
    pub rows: u64,
    /// Bytes of log that the acknowledged inserts and removals took; 0 in memory, and for updates.
    pub bytes: u64,
    /// Batches, each one commit.
    pub batches: u64,
    /// Commits of offsets alone. In exact mode they are part of the batches.
    pub offsets: u64,
    /// How often a producer had to wait for a batch.
    pub stalls: u64,
    /// Since the sink was made.
    pub elapsed: Duration,
}

impl IngestReport {
    /// Acknowledged rows per second.
    #[must_use]
    pub fn rows_per_second(&self) -> f64 {
        rate(self.rows, self.elapsed)
    }

    /// Acknowledged bytes per second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        rate(self.bytes, self.elapsed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is no count")]
fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// Why a sink takes no more.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct IngestError(Box<FailedRow>);

/// On the heap, so that a row that goes in gives back one word.
#[derive(Clone, Debug, thiserror::Error)]
#[error("row {row} of this sink did not make it: {cause}")]
struct FailedRow {
    row: u64,
    #[source]
    cause: Error,
}

impl IngestError {
    pub(super) fn new(row: u64, cause: Error) -> Self {
        Self(Box::new(FailedRow { row, cause }))
    }

    /// The first row that did not make it is this one, if it comes before the one known.
    pub(super) fn limit(&mut self, row: u64) {
        self.0.row = self.0.row.min(row);
    }

    /// The first row that did not make it, counted from 0 over everything that was sent to the sink. All rows before
    /// it are in; some of those behind it may be, except in exact mode. After [`Error::Indeterminate`] and
    /// [`Error::Closed`], the row itself may be in, too.
    #[must_use]
    pub const fn row(&self) -> u64 {
        self.0.row
    }

    /// What went wrong; see [`crate::Handle::insert`] for what there is.
    #[must_use]
    pub const fn cause(&self) -> &Error {
        &self.0.cause
    }
}

impl From<IngestError> for Error {
    fn from(error: IngestError) -> Self {
        error.0.cause
    }
}
