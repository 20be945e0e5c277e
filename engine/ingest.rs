//! The ingest sink: many writes, grouped per shard, with a bounded number of batches in flight.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anabranch_shard::{HashPartition, Key, Partition, Value};
use futures_sink::Sink;

use crate::{Commit, Error, Handle};

/// How an [`Ingest`] sink gathers and how far it runs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    batch_rows: usize,
    batches_in_flight: usize,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self { batch_rows: 256, batches_in_flight: 16 }
    }
}

impl IngestOptions {
    /// Rows of one shard that are committed together; 1 at the least.
    #[must_use]
    pub fn batch_rows(self, rows: usize) -> Self {
        Self { batch_rows: rows.max(1), ..self }
    }

    /// Batches that may be under way before the producer is made to wait; 1 at the least.
    #[must_use]
    pub fn batches_in_flight(self, batches: usize) -> Self {
        Self { batches_in_flight: batches.max(1), ..self }
    }
}

/// What a sink has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestReport {
    /// Rows that were acknowledged.
    pub rows: u64,
    /// Batches, each one commit of one shard.
    pub batches: u64,
    /// How often the producer had to wait for a batch.
    pub stalls: u64,
    /// Since the sink was made.
    pub elapsed: Duration,
}

type Flight = Pin<Box<dyn Future<Output = Result<Commit, Error>> + Send>>;

/// A sink for many writes. Made by [`Handle::ingest`].
///
/// Writes to one key keep their order. A batch, which is of one shard, is one commit; the sink as a whole is
/// not a transaction. Also a [`futures_sink::Sink`] of `(K, V)`.
///
/// After an error the sink takes no more; [`Ingest::finish`] returns the error again. Rows of batches that
/// were under way may be in.
#[must_use = "rows that are not flushed are lost"]
pub struct Ingest<K: Key, V: Value, P = HashPartition> {
    handle: Handle<K, V, P>,
    options: IngestOptions,
    /// What has gathered for each shard.
    gathering: Vec<Vec<(K, Option<V>)>>,
    /// In the order in which they were begun, which for each shard is the order of commit.
    in_flight: Vec<(usize, Option<Flight>)>,
    report: IngestReport,
    started: Duration,
    error: Option<Error>,
    stalled: bool,
}

impl<K: Key, V: Value, P> Unpin for Ingest<K, V, P> {}

impl<K: Key, V: Value, P: Partition<K>> Ingest<K, V, P> {
    pub(crate) fn new(handle: Handle<K, V, P>, options: IngestOptions) -> Self {
        let gathering = (0..handle.inner().router.shards()).map(|_| Vec::new()).collect();
        let started = handle.inner().env.now();
        let (in_flight, report, error) = (Vec::new(), IngestReport::default(), None);
        Self { handle, options, gathering, in_flight, report, started, error, stalled: false }
    }

    /// Adds a row, and waits if too many batches are under way. `Ok` does not mean that the row is in; see
    /// [`Ingest::flush`].
    ///
    /// Cancel safety: dropping the future drops the row, and no other.
    ///
    /// # Errors
    /// That of an earlier batch; see [`Handle::insert`] for what there is.
    pub async fn send(&mut self, key: K, value: V) -> Result<(), Error> {
        self.put(key, Some(value)).await
    }

    /// Removes a key, in its order among the other rows. As [`Ingest::send`].
    ///
    /// # Errors
    /// As for [`Ingest::send`].
    pub async fn remove(&mut self, key: K) -> Result<(), Error> {
        self.put(key, None).await
    }

    async fn put(&mut self, key: K, value: Option<V>) -> Result<(), Error> {
        poll_fn(|context| self.poll_room(context)).await?;
        self.gather(key, value);
        // Batches are begun here and now; they then go on by themselves.
        poll_fn(|context| {
            self.drive(context);
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    /// Waits until every row sent so far is acknowledged.
    ///
    /// # Errors
    /// That of a batch; see [`Handle::insert`] for what there is.
    pub async fn flush(&mut self) -> Result<IngestReport, Error> {
        poll_fn(|context| self.poll_drained(context)).await?;
        Ok(self.report())
    }

    /// [`Ingest::flush`], and the end.
    ///
    /// # Errors
    /// That of a batch, also one that [`Ingest::send`] has returned before.
    pub async fn finish(mut self) -> Result<IngestReport, Error> {
        self.flush().await
    }

    /// What the sink has done so far.
    #[must_use]
    pub fn report(&self) -> IngestReport {
        let elapsed = self.handle.inner().env.now().saturating_sub(self.started);
        IngestReport { elapsed, ..self.report }
    }

    fn gather(&mut self, key: K, value: Option<V>) {
        let shard = self.handle.inner().router.shard(&key);
        self.gathering[shard].push((key, value));
        if self.gathering[shard].len() >= self.options.batch_rows {
            self.begin_batch(shard);
        }
    }

    fn begin_batch(&mut self, shard: usize) {
        let batch = std::mem::take(&mut self.gathering[shard]);
        if batch.is_empty() {
            return;
        }
        let (rows, handle) = (batch.len(), self.handle.clone());
        let flight: Flight = Box::pin(async move { handle.commit_blind(batch).await });
        self.in_flight.push((rows, Some(flight)));
    }

    /// Lets all batches go on, in order, and takes out those that are done.
    fn drive(&mut self, context: &mut Context<'_>) {
        for (rows, flight) in &mut self.in_flight {
            let Some(running) = flight else { continue };
            let Poll::Ready(outcome) = running.as_mut().poll(context) else { continue };
            *flight = None;
            match outcome {
                Ok(_) => {
                    self.report.rows += *rows as u64;
                    self.report.batches += 1;
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                }
            }
        }
        self.in_flight.retain(|(_, flight)| flight.is_some());
    }

    fn failed(&self) -> Result<(), Error> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.failed()?;
        if self.in_flight.len() >= self.options.batches_in_flight {
            self.drive(context);
            self.failed()?;
            if self.in_flight.len() >= self.options.batches_in_flight {
                self.report.stalls += u64::from(!self.stalled);
                self.stalled = true;
                return Poll::Pending;
            }
        }
        self.stalled = false;
        Poll::Ready(Ok(()))
    }

    fn poll_drained(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.error.is_none() {
            for shard in 0..self.gathering.len() {
                self.begin_batch(shard);
            }
        }
        self.drive(context);
        self.failed()?;
        if self.in_flight.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl<K: Key, V: Value, P: Partition<K>> Sink<(K, V)> for Ingest<K, V, P> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_room(context)
    }

    fn start_send(self: Pin<&mut Self>, (key, value): (K, V)) -> Result<(), Error> {
        let this = self.get_mut();
        this.failed()?;
        this.gather(key, Some(value));
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_drained(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.get_mut().poll_drained(context))?;
        Poll::Ready(Ok(()))
    }
}
