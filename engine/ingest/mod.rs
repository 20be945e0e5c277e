//! The ingest sink: many writes, grouped per shard, with a bounded number of batches in flight, and the offsets of
//! the sources that they come from.

mod driver;
mod options;
mod state;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anabranch_shard::{
    Changed, Expiry, HashPartition, Key, KeyHash, Level, Partition, Row, Value, encode_write,
};
use anabranch_wal::EncodedWrites;
use futures_core::Stream;
use futures_sink::Sink;
use parking_lot::Mutex;

use self::driver::{Driver, Shared, hand_over};
use self::state::{Next, State};
use crate::{Error, Handle};

pub use self::options::{IngestError, IngestOptions, IngestReport};

/// A sink for many writes. Made by [`Handle::ingest`].
///
/// Writes to one key keep their order. A batch is one commit; the sink as a whole is not a transaction. Also a
/// [`futures_sink::Sink`] of `(K, V)`. Clones are further ways into the same sink, for other tasks: rows of all of
/// them share batches and bounds, and each task's rows keep their order.
///
/// After an error the sink takes no more: [`IngestError::row`] names the first row that did not make it, and
/// everything before it is in. Every further call returns the error again.
///
/// # Sources that go on where they were
///
/// [`Ingest::offset`] states that everything sent so far belongs to an offset of a source: a line number, a byte, a
/// place in a queue. The offset is committed like the rows. After any crash, [`Handle::source_offset`] tells how far
/// the source is in:
///
/// - by default, everything up to the offset is in, and at most some rows behind it. The source sends these again,
///   which changes nothing where rows are inserts and removals by key. It costs one small commit each time that all
///   rows before a stated offset are applied, and nobody waits for it.
/// - with [`IngestOptions::exact`], everything up to the offset is in, and nothing behind it. For updates, which must
///   not be counted twice.
///
/// A name belongs to one ordered producer; parallel producers use one name each, for instance one for each partition.
#[must_use = "rows that are not flushed are lost"]
pub struct Ingest<K: Key, V: Value, P = HashPartition> {
    handle: Handle<K, V, P>,
    shared: Shared<K, V>,
    exact: bool,
    started: Duration,
    /// A row's encoding, and its shard and hash.
    scratch: EncodedWrites,
    place: (usize, KeyHash),
    /// This producer was made to wait.
    stalled: bool,
    /// It lets others run before its next row.
    gives_way: bool,
    /// A flush under way waits for what stands before this row.
    flushing: Option<u64>,
}

impl<K: Key, V: Value, P> Clone for Ingest<K, V, P> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self::producer(self.handle.clone(), Arc::clone(&self.shared), self.exact, self.started)
    }
}

impl<K: Key, V: Value, P> Ingest<K, V, P> {
    /// One more way into a sink.
    fn producer(handle: Handle<K, V, P>, shared: Shared<K, V>, exact: bool, started: Duration) -> Self {
        Self {
            handle,
            shared,
            exact,
            started,
            scratch: EncodedWrites::new(),
            place: (0, KeyHash::default()),
            stalled: false,
            gives_way: false,
            flushing: None,
        }
    }
}

impl<K: Key, V: Value, P> Drop for Ingest<K, V, P> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.wake_driver();
        }
    }
}

impl<K: Key, V: Value, P> Unpin for Ingest<K, V, P> {}

impl<K: Key, V: Value, P: Partition<K>> Ingest<K, V, P> {
    pub(crate) fn new(handle: Handle<K, V, P>, options: IngestOptions) -> Self {
        let inner = handle.inner();
        let state = State::new(options, inner.router.shards(), inner.durable, inner.default_ttl.is_some());
        let shared = Arc::new(Mutex::new(state));
        let started = inner.env.now();
        inner.runtime.spawn(Driver::new(handle.clone(), Arc::clone(&shared)));
        Self::producer(handle, shared, options.exact, started)
    }

    /// Adds a row, and waits if too many batches are under way. `Ok` does not mean that the row is in; see
    /// [`Ingest::flush`].
    ///
    /// Cancel safety: dropping the future drops the row, and no other.
    ///
    /// # Errors
    /// That of an earlier batch, or of this row; see [`Handle::insert`] for what there is.
    pub fn send(&mut self, key: K, value: V) -> impl Future<Output = Result<(), IngestError>> + Send {
        self.row(key, Row::Put(Arc::new(value)))
    }

    /// Removes a key, in its order among the other rows. As [`Ingest::send`].
    ///
    /// # Errors
    /// As for [`Ingest::send`].
    pub fn remove(&mut self, key: K) -> impl Future<Output = Result<(), IngestError>> + Send {
        self.row(key, Row::Remove)
    }

    /// Changes a key on its shard, next to its value, in its order among the other rows. As [`Handle::update`], whose
    /// closure this is, and as [`Ingest::send`]. A conflict with nobody, except in exact mode, where it is rerun.
    ///
    /// # Errors
    /// As for [`Ingest::send`]; later also [`Error::Panicked`].
    pub fn update(
        &mut self,
        key: K,
        mut change: impl FnMut(Option<&V>) -> Option<V> + Send + 'static,
    ) -> impl Future<Output = Result<(), IngestError>> + Send {
        let change = move |old: Option<&V>| match change(old) {
            Some(new) => Changed::Put(Arc::new(new)),
            None => Changed::Remove,
        };
        self.row(key, Row::Change(Box::new(change)))
    }

    /// Sends everything that the stream yields.
    ///
    /// # Errors
    /// As for [`Ingest::send`].
    pub async fn send_all(&mut self, stream: impl Stream<Item = (K, V)>) -> Result<(), IngestError> {
        let mut stream = pin!(stream);
        while let Some((key, value)) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            self.send(key, value).await?;
        }
        Ok(())
    }

    /// States that everything sent so far, by this producer and, in a sink of several, by the others, belongs to this
    /// offset of the source. It is in with the rows or after them, never before: see [`Ingest`].
    ///
    /// Costs little, so it may be called after each row.
    pub fn offset(&mut self, source: &str, offset: u64) {
        self.shared.lock().mark(source.into(), offset);
    }

    async fn row(&mut self, key: K, row: Row<V>) -> Result<(), IngestError> {
        if let Err(cause) = self.encode(&key, &row) {
            return self.refuse(cause).await;
        }
        let Self { shared, scratch, place, stalled, gives_way, .. } = &mut *self;
        let shared: &Mutex<_> = shared;
        let room = poll_fn(|context| {
            ready!(poll_turn(gives_way, context));
            let mut state = shared.lock();
            state.poll_room(context, stalled).map_ok(move |()| state)
        });
        let next = room.await?.gather(*place, key, row, scratch);
        self.go_on(next);
        Ok(())
    }

    /// A row that can't be taken in. Returns once everything before it is in.
    async fn refuse(&mut self, cause: Error) -> Result<(), IngestError> {
        poll_fn(|context| self.poll_room(context)).await?;
        self.shared.lock().refuse(cause);
        poll_fn(|context| self.poll_room(context)).await
    }

    /// Waits until every row sent so far is acknowledged, and so are the offsets stated. In exact mode, rows behind
    /// the last offset wait for the next one.
    ///
    /// Cancel safety: dropping the future takes nothing back.
    ///
    /// # Errors
    /// That of a batch; see [`Handle::insert`] for what there is.
    pub async fn flush(&mut self) -> Result<IngestReport, IngestError> {
        self.flushing = None;
        poll_fn(|context| self.poll_flushed(context)).await?;
        Ok(self.report())
    }

    /// [`Ingest::flush`], and the end of this way into the sink.
    ///
    /// # Errors
    /// That of a batch, also one that [`Ingest::send`] has returned before. In exact mode, [`Error::Config`] if there
    /// are rows behind the last offset, which are not in.
    pub async fn finish(mut self) -> Result<IngestReport, IngestError> {
        let report = self.flush().await?;
        let uncovered = self.shared.lock().uncovered();
        match uncovered {
            Some(row) => {
                let cause = Error::config("in exact mode, rows behind the last offset are not committed");
                Err(IngestError::new(row, cause))
            }
            None => Ok(report),
        }
    }

    /// What the sink has done so far.
    #[must_use]
    pub fn report(&self) -> IngestReport {
        let elapsed = self.handle.inner().env.now().saturating_sub(self.started);
        IngestReport { elapsed, ..self.shared.lock().report }
    }

    /// Encodes a row into the scratch buffer, if there is a log, and notes where it goes.
    fn encode(&mut self, key: &K, row: &Row<V>) -> Result<(), Error> {
        let inner = self.handle.inner();
        self.scratch.clear();
        let value = match row {
            Row::Put(value) => Some(&**value),
            Row::Remove | Row::Change(_) => None,
        };
        if inner.durable && !matches!(row, Row::Change(_)) {
            // Where rows expire unless they are told not to, the shard encodes them again.
            encode_write(&mut self.scratch, key, value, Expiry::NEVER).map_err(|reject| {
                Error::from_reject(reject).unwrap_or_else(|_| unreachable!("encoding has no conflicts"))
            })?;
        }
        let (shard, hash) = inner.router.place(key);
        self.place = (if self.exact { 0 } else { shard }, hash);
        Ok(())
    }

    fn go_on(&mut self, next: Next<K, V>) {
        match next {
            Next::Row => {}
            Next::GiveWay => self.gives_way = true,
            Next::HandOver(begun) => hand_over(&self.handle, &self.shared, *begun),
        }
    }

    fn poll_room(&mut self, context: &Context<'_>) -> Poll<Result<(), IngestError>> {
        ready!(poll_turn(&mut self.gives_way, context));
        self.shared.lock().poll_room(context, &mut self.stalled)
    }

    fn poll_flushed(&mut self, context: &Context<'_>) -> Poll<Result<(), IngestError>> {
        let mut state = self.shared.lock();
        let target = *self.flushing.get_or_insert_with(|| state.begin_flush());
        let polled = state.poll_flushed(context, target);
        if polled.is_ready() {
            self.flushing = None;
        }
        polled
    }
}

/// Pending once, after [`Next::GiveWay`]. Not right then: the row is in already, which a future that can be dropped could
/// not say.
fn poll_turn(gives_way: &mut bool, context: &Context<'_>) -> Poll<()> {
    if std::mem::take(gives_way) {
        context.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

impl<K: Key, V: Value, P: Partition<K>> Sink<(K, V)> for Ingest<K, V, P> {
    type Error = IngestError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), IngestError>> {
        self.get_mut().poll_room(context)
    }

    fn start_send(self: Pin<&mut Self>, (key, value): (K, V)) -> Result<(), IngestError> {
        let this = self.get_mut();
        let row = Row::Put(Arc::new(value));
        match this.encode(&key, &row) {
            Ok(()) => {
                let next = this.shared.lock().gather(this.place, key, row, &this.scratch);
                this.go_on(next);
            }
            // It is told by the next poll, once everything before it is in.
            Err(cause) => this.shared.lock().refuse(cause),
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), IngestError>> {
        self.get_mut().poll_flushed(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), IngestError>> {
        self.get_mut().poll_flushed(context)
    }
}

impl<K: Key, V: Value, P: Partition<K>> Handle<K, V, P> {
    /// How far a source is in, by what is durable: everything up to this offset is there, and behind it at most what
    /// the source will send again. `None` if no offset was ever stated under this name. See [`Ingest::offset`].
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn source_offset(&self, source: &str) -> Result<Option<u64>, Error> {
        let inner = self.inner();
        inner.closed.check()?;
        let read_at = || inner.sequencer.get(Level::Durable);
        let offsets = inner.shards.iter().filter_map(|shard| shard.map().offsets().get(source, read_at));
        Ok(offsets.max_by_key(|(timestamp, _)| *timestamp).map(|(_, offset)| offset))
    }
}
