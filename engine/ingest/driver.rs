//! The task behind a sink: hands begun batches over, in order, and sees them to their end. It runs on the engine's
//! runtime, so the sink's producers may be anywhere, and a batch goes on although its producer sleeps.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anabranch_shard::{
    Batched, Changed, Expiry, Inside, Key, Level, Part, Partition, Refused, Row, Validation, Value,
    panic_message,
};
use anabranch_wal::{EncodedWrites, SourceOffset, Timestamp};
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::state::{Begun, Done, Flight, Numbered, State};
use crate::inner::Failed;
use crate::retry::Retry;
use crate::{Error, Handle, Transaction};

pub(super) type Shared<K, V> = Arc<Mutex<State<K, V>>>;

/// What there is for the driver to do.
enum Taken<K, V> {
    Begun(Begun<K, V>),
    Nothing,
    /// Nobody will begin anything any more, and everything has ended.
    End,
}

pub(super) struct Driver<K: Key, V: Value, P> {
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    /// What is under way, as far as no producer has it in hand.
    flights: Vec<Flight>,
    /// Half of one; runs while something gathers.
    delay: Option<Pin<Box<Sleep>>>,
}

impl<K: Key, V: Value, P> Unpin for Driver<K, V, P> {}

impl<K: Key, V: Value, P: Partition<K>> Driver<K, V, P> {
    pub(super) fn new(handle: Handle<K, V, P>, shared: Shared<K, V>) -> Self {
        Self { handle, shared, flights: Vec::new(), delay: None }
    }

    /// Takes what was begun next, and what producers have handed over.
    fn take(&mut self, context: &Context<'_>) -> Taken<K, V> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        state.begin_what_stands_before_the_failure();
        state.ripe_offsets();
        let begun = state.take_begun();
        self.flights.append(&mut state.handed_over);
        if state.has_failed_and_settled() {
            state.wake_producers();
        }
        state.driver_runs = begun.is_some();
        if let Some(begun) = begun {
            return Taken::Begun(begun);
        }
        if state.senders == 0 && self.flights.is_empty() && state.begun.is_empty() {
            return Taken::End;
        }
        if self.delay.is_none() && state.gathers() {
            self.delay = Some(Box::pin(tokio::time::sleep(state.options.batch_delay / 2)));
            state.delay_runs = true;
        }
        state.driver = Some(context.waker().clone());
        Taken::Nothing
    }

    /// Lets all flights go on, in order, and notes those that are done. `true` if there was one.
    fn drive(&mut self, context: &mut Context<'_>) -> bool {
        let mut ended = Vec::new();
        self.flights.retain_mut(|flight| match flight.as_mut().poll(context) {
            Poll::Ready(done) => {
                ended.push(done);
                false
            }
            Poll::Pending => true,
        });
        let any = !ended.is_empty();
        let mut state = self.shared.lock();
        for done in ended {
            state.done(done);
        }
        any
    }
}

impl<K: Key, V: Value, P: Partition<K>> Future for Driver<K, V, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match this.take(context) {
                Taken::Begun(begun) => {
                    let flight = take_off(&this.handle, &this.shared, begun, context);
                    this.flights.extend(flight);
                    continue;
                }
                Taken::Nothing => {}
                Taken::End => return Poll::Ready(()),
            }
            if this.drive(context) {
                continue;
            }
            let Some(delay) = &mut this.delay else { return Poll::Pending };
            if delay.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.delay = None;
            this.shared.lock().half_a_delay_passed();
        }
    }
}

impl<K: Key, V: Value, P> Drop for Driver<K, V, P> {
    fn drop(&mut self) {
        // Also when the runtime ends: producers must not wait for ever.
        let mut state = self.shared.lock();
        state.driver_is_gone = true;
        if state.senders > 0 {
            let next = state.first_open_row();
            state.fail(next, Error::Closed);
        }
        let nobody_drives = std::mem::take(&mut state.handed_over);
        drop(state);
        drop(nobody_drives);
    }
}

/// Hands a batch over from the task of a producer, since the driver is behind. It sees the batch to its end.
pub(super) fn hand_over<K: Key, V: Value, P: Partition<K>>(
    handle: &Handle<K, V, P>,
    shared: &Shared<K, V>,
    begun: Begun<K, V>,
) {
    // The driver polls it next, with a waker of its own.
    let flight = take_off(handle, shared, begun, &mut Context::from_waker(Waker::noop()));
    let Some(flight) = flight else { return };
    let mut state = shared.lock();
    if !state.driver_is_gone {
        state.handed_over.push(flight);
        state.wake_driver();
    }
}

/// Lets a batch go as far as it gets at once. Returns it if that was not to its end.
fn take_off<K: Key, V: Value, P: Partition<K>>(
    handle: &Handle<K, V, P>,
    shared: &Shared<K, V>,
    begun: Begun<K, V>,
    context: &mut Context<'_>,
) -> Option<Flight> {
    let mut flight = fly(handle.clone(), Arc::clone(shared), begun);
    match flight.as_mut().poll(context) {
        Poll::Ready(done) => {
            shared.lock().done(done);
            None
        }
        Poll::Pending => Some(flight),
    }
}

fn fly<K: Key, V: Value, P: Partition<K>>(
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    begun: Begun<K, V>,
) -> Flight {
    match begun {
        Begun::Blind { shard, first, rows, encoded, sent } => {
            Box::pin(blind(handle, shared, shard, first, rows, encoded, sent))
        }
        Begun::Mixed { shard, rows, bytes } => Box::pin(mixed(handle, shared, shard, rows, bytes)),
        Begun::Exact { first, rows, offsets, bytes } => {
            Box::pin(exact(handle, shared, first, rows, offsets, bytes))
        }
        Begun::Offset { row, offset } => Box::pin(lone_offset(handle, shared, row, offset)),
    }
}

async fn blind<K: Key, V: Value, P: Partition<K>>(
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    at: usize,
    first: u64,
    mut rows: Vec<Numbered<K, V>>,
    encoded: EncodedWrites,
    sent: u64,
) -> Done {
    let value = |row| if let Row::Put(value) = row { Some(value) } else { None };
    let mut part = Part { encoded, ..Part::new(Validation::Blind) };
    part.reserve(rows.len());
    for Numbered { key, hash, row, .. } in rows.drain(..) {
        part.write((key, hash), value(row), Expiry::NEVER);
    }
    let bytes = part.encoded.bytes() as u64;
    let submitted = handle.inner().submit_blind(at, part).await;
    {
        let mut state = shared.lock();
        state.keep_room(rows);
        state.applied(at, first, submitted.is_ok());
    }
    let outcome = match submitted {
        Ok(timestamp) => handle.inner().acknowledged(handle.level(), timestamp).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => Done { first, rows: sent, bytes, is_offset: false, failed: None },
        Err(error) => Done { first, rows: 0, bytes: 0, is_offset: false, failed: Some((first, error)) },
    }
}

async fn mixed<K: Key, V: Value, P: Partition<K>>(
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    at: usize,
    rows: Vec<Numbered<K, V>>,
    bytes: usize,
) -> Done {
    let numbers: Vec<u64> = rows.iter().map(|row| row.number).collect();
    let first = numbers[0];
    let failed = |error| Done { first, rows: 0, bytes: 0, is_offset: false, failed: Some((first, error)) };
    let batched = match handle.inner().check_writable() {
        Ok(()) => {
            let rows = rows.into_iter().map(|Numbered { key, row, .. }| (key, row)).collect();
            let batched = handle.inner().shards[at].batch(rows).await;
            handle.inner().unvalidated(batched.map(Ok))
        }
        Err(error) => Err(error),
    };
    let is_whole = batched.as_ref().is_ok_and(|batched| batched.failed.is_none());
    shared.lock().applied(at, first, is_whole);
    let Batched { timestamp, failed: failed_row } = match batched {
        Ok(batched) => batched,
        Err(error) => return failed(error),
    };
    if let Err(error) =
        handle.inner().acknowledged(handle.level(), timestamp.unwrap_or(Timestamp::ZERO)).await
    {
        return failed(error);
    }
    let count = failed_row.as_ref().map_or(numbers.len(), |(index, _)| *index);
    let failed = failed_row.map(|(index, reject)| {
        let error = Error::from_reject(reject).unwrap_or_else(|_| unreachable!("a batch is not validated"));
        (numbers[index], error)
    });
    let bytes = if failed.is_none() { bytes as u64 } else { 0 };
    Done { first, rows: count as u64, bytes, is_offset: false, failed }
}

/// Offsets are under the name of the source; its newest over all shards counts, so any shard will do: the one that the
/// engine's own hash says.
async fn lone_offset<K: Key, V: Value, P: Partition<K>>(
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    row: u64,
    offset: SourceOffset,
) -> Done {
    let inner = handle.inner();
    let at = inner.router.spread(&*offset.source);
    let mut part = Part::new(Validation::Blind);
    if inner.durable {
        part.encoded.put_offset(&offset.source, offset.offset);
    }
    part.offsets.push(offset);
    let submitted = inner.submit_blind(at, part).await;
    shared.lock().offset_applied();
    let outcome = match submitted {
        Ok(timestamp) => inner.acknowledged(handle.level(), timestamp).await,
        Err(error) => Err(error),
    };
    Done { first: row, rows: 0, bytes: 0, is_offset: true, failed: outcome.err().map(|error| (row, error)) }
}

async fn exact<K: Key, V: Value, P: Partition<K>>(
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    first: u64,
    mut rows: Vec<Numbered<K, V>>,
    offsets: Vec<SourceOffset>,
    bytes: usize,
) -> Done {
    let submitted = submit_exact(&handle, &mut rows, &offsets).await;
    shared.lock().applied(0, first, submitted.is_ok());
    let is_offset = rows.is_empty();
    let outcome = match submitted {
        Ok(timestamp) => handle.inner().acknowledged(handle.level(), timestamp).await,
        Err(error) => {
            // Nothing behind it may go in.
            shared.lock().fail(first, error.clone());
            Err(error)
        }
    };
    match outcome {
        Ok(()) => Done { first, rows: rows.len() as u64, bytes: bytes as u64, is_offset, failed: None },
        Err(error) => Done { first, rows: 0, bytes: 0, is_offset, failed: Some((first, error)) },
    }
}

/// Rows and offsets as one transaction, applied when this returns.
async fn submit_exact<K: Key, V: Value, P: Partition<K>>(
    handle: &Handle<K, V, P>,
    rows: &mut [Numbered<K, V>],
    offsets: &[SourceOffset],
) -> Result<Timestamp, Error> {
    let inner = handle.inner();
    let mut retry = Retry::new();
    loop {
        let mut transaction = handle.begin();
        transaction.set_offsets(offsets.to_vec());
        catch_unwind(AssertUnwindSafe(|| run(&mut transaction, rows)))
            .unwrap_or_else(|panic| Err(Error::Panicked { message: panic_message(&*panic) }))?;
        match transaction.try_commit(Some(&mut retry)).await {
            Ok(timestamp) => {
                retry.let_go();
                inner.acknowledged(Level::Applied, timestamp).await?;
                return Ok(timestamp);
            }
            Err(Failed::Error(error)) => return Err(error),
            Err(Failed::Conflict(newer)) => retry.again(inner, newer).await?,
        }
    }
}

fn run<K: Key, V: Value, P: Partition<K>>(
    transaction: &mut Transaction<K, V, P>,
    rows: &mut [Numbered<K, V>],
) -> Result<(), Error> {
    for Numbered { key, row, .. } in rows {
        match row {
            Row::Put(value) => transaction.set(key.clone(), Some(Arc::clone(value))),
            Row::Remove => transaction.set(key.clone(), None),
            Row::Change(change) => {
                let old = transaction.get(key)?;
                // As on a shard: it must not commit anything itself.
                let changed = {
                    let _inside = Inside::enter(Refused::Commits);
                    change(old.as_deref())
                };
                match changed {
                    Changed::Put(new) => transaction.set(key.clone(), Some(new)),
                    Changed::Remove if old.is_some() => transaction.set(key.clone(), None),
                    Changed::Remove | Changed::Keep => {}
                }
            }
        }
    }
    Ok(())
}
