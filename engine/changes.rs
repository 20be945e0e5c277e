//! The feed of changes: committed changes in commit order, read back from the log.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use anabranch_shard::{Key, Level, Partition, Value, decode_key, decode_value};
use anabranch_wal::{
    ChangeReader, ChangesError, LoggedCommit, Malformed, Record, SourceOffset, Timestamp, Wal, WalError,
};
use futures_core::Stream;

use crate::inner::Inner;
use crate::{Error, Handle};

/// What one commit changed. See [`Handle::changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeSet<K, V> {
    /// The commit's place in the commit order. They follow each other without gaps.
    pub timestamp: Timestamp,
    /// The changes. In a batch of an [`crate::Ingest`] sink, too, each key comes once.
    pub changes: Vec<Change<K, V>>,
    /// Offsets of sources that the commit set: see [`crate::Ingest::offset`].
    pub offsets: Vec<(String, u64)>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change<K, V> {
    /// The key.
    pub key: K,
    /// Its value from here on, or `None` if it was removed.
    pub value: Option<V>,
    /// When the entry expires, in milliseconds since the Unix epoch. It is removed by a commit of its own then.
    pub expires_unix_millis: Option<u64>,
}

impl<K: Key, V: Value, P: Partition<K>> Handle<K, V, P> {
    /// The changes committed after `from`, in commit order, and then those that are committed from here on: a stream
    /// without an end. Whole commits only, and only durable ones, at the level of this handle
    /// ([`Handle::with_durability`]).
    ///
    /// It is read from the log, as fast as it is polled and not ahead of that, and holds up nobody. To go on after a
    /// break, ask for the changes after the last timestamp that was dealt with. A [`crate::Snapshot`] and the changes
    /// after [its timestamp](crate::Snapshot::timestamp) make a follower. [`Timestamp::ZERO`] stands before all
    /// commits.
    ///
    /// A checkpoint gives the log before it back for reuse, unless the engine was opened with
    /// [`retain_log_bytes`](crate::EngineBuilder::retain_log_bytes) or
    /// [`retain_log_for`](crate::EngineBuilder::retain_log_for). Who comes too late, or falls too far behind, gets
    /// [`Error::ChangesGone`] and has to begin with a snapshot. So does everybody after the directory was opened with
    /// another number of shards.
    ///
    /// In `Relaxed`, power loss can take back what this has yielded; a follower that must not be ahead then asks a
    /// handle with [`Durability::Full`](crate::Durability).
    ///
    /// # Errors
    /// The stream's last item: [`Error::ChangesGone`]; [`Error::Config`] in memory, where there is no log, and if
    /// there is no commit `from` yet; [`Error::Decode`]; [`Error::Corrupt`], [`Error::Io`]; [`Error::ReadOnly`] or
    /// [`Error::Closed`] when the engine failed or closed.
    pub fn changes(&self, from: Timestamp) -> Changes<K, V> {
        let feed = Feed::new(Arc::clone(self.inner()), self.level(), from);
        Changes { ready: VecDeque::new(), reading: Some(feed.read()) }
    }
}

/// A stream of [`ChangeSet`]s. Made by [`Handle::changes`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct Changes<K, V> {
    ready: VecDeque<ChangeSet<K, V>>,
    /// The next step. `None` after an error.
    reading: Option<Reading<K, V>>,
}

type Reading<K, V> = Pin<Box<dyn Future<Output = Result<Read<K, V>, Error>> + Send>>;

impl<K, V> fmt::Debug for Changes<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl<K, V> Unpin for Changes<K, V> {}

impl<K, V> Stream for Changes<K, V> {
    type Item = Result<ChangeSet<K, V>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(next) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(next)));
            }
            let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
            match ready!(reading.as_mut().poll(context)) {
                Ok(Read { sets, next }) => {
                    this.ready = sets;
                    this.reading = Some(next());
                }
                Err(error) => {
                    this.reading = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// What a step read, and how to go on.
struct Read<K, V> {
    sets: VecDeque<ChangeSet<K, V>>,
    next: Box<dyn FnOnce() -> Reading<K, V> + Send>,
}

/// Where the feed is.
struct Feed<K: Key, V: Value, P> {
    inner: Arc<Inner<K, V, P>>,
    level: Level,
    from: Timestamp,
    reader: Option<ChangeReader>,
}

impl<K: Key, V: Value, P: Partition<K>> Feed<K, V, P> {
    fn new(inner: Arc<Inner<K, V, P>>, level: Level, from: Timestamp) -> Self {
        Self { inner, level, from, reader: None }
    }

    /// Waits for the next commit, and reads it and what is there behind it.
    fn read(self) -> Reading<K, V> {
        Box::pin(self.read_on())
    }

    async fn read_on(mut self) -> Result<Read<K, V>, Error> {
        let inner = Arc::clone(&self.inner);
        inner.closed.check()?;
        let Some(wal) = &inner.wal else {
            return Err(Error::config(
                "an engine in memory has no log to read changes from; open it in a directory",
            ));
        };
        if self.reader.is_none() && self.from > inner.sequencer.last() {
            return Err(Error::config(format!("there is no commit {} to go on from", self.from)));
        }
        let next = self.reader.as_ref().map_or(self.from.next(), ChangeReader::next);
        inner.sequencer.reached(self.level, next).await.map_err(Error::refused)?;
        let durable = inner.sequencer.get(self.level);
        // On the engine's runtime and to its end: who stops polling must not keep the directory from being given back.
        let (from, reader) = (self.from, self.reader.take());
        let step = inner.runtime.spawn(step(Weak::clone(wal), reader, from, durable));
        let (reader, commits) = step.await.map_err(|_| Error::Closed)??;
        self.reader = Some(reader);
        let sets = commits.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Read { sets, next: Box::new(move || self.read()) })
    }
}

async fn step(
    wal: Weak<Wal>,
    reader: Option<ChangeReader>,
    from: Timestamp,
    durable: Timestamp,
) -> Result<(ChangeReader, Vec<LoggedCommit>), Error> {
    let wal = wal.upgrade().ok_or(Error::Closed)?;
    let mut after = from;
    let read = async {
        let mut reader = match reader {
            Some(reader) => reader,
            None => wal.changes(from).await?,
        };
        after = Timestamp(reader.next().0 - 1);
        let commits = reader.read(&wal, durable).await?;
        Ok((reader, commits))
    };
    read.await.map_err(|error| match error {
        ChangesError::Gone(oldest) => Error::ChangesGone { after, oldest },
        ChangesError::Wal(error) => error.into(),
    })
}

fn decode<K: Key, V: Value>(commit: &LoggedCommit) -> Result<ChangeSet<K, V>, Error> {
    let LoggedCommit { timestamp, parts } = commit;
    let mut set = ChangeSet { timestamp: *timestamp, changes: Vec::new(), offsets: Vec::new() };
    for write in parts.iter().flat_map(Record::writes) {
        let write = write.map_err(|malformed| unrecognized(*timestamp, &malformed))?;
        if !write.is_plain() {
            return Err(unrecognized(*timestamp, &Malformed::Shape("a keyspace or metadata")));
        }
        let offset = write.as_offset().map_err(|malformed| unrecognized(*timestamp, &malformed))?;
        if let Some(SourceOffset { source, offset }) = offset {
            set.offsets.push((source.as_ref().to_owned(), offset));
            continue;
        }
        let key = decode_key(&write.key)?;
        let value = write.value.as_ref().map(|value| decode_value(&write.key, value)).transpose()?;
        set.changes.push(Change { key, value, expires_unix_millis: write.expires_unix_millis });
    }
    Ok(set)
}

fn unrecognized(timestamp: Timestamp, malformed: &Malformed) -> Error {
    let detail = format!("commit {timestamp} holds what this version does not know: {malformed:?}");
    Error::Unrecognized(WalError::Unsupported(detail))
}
