//! What is known about entries besides their values.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::Hash;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_shard::{Bounds, HashPartition, Key, Level, Metadata, Partition, Reader, Value};
use futures_core::Stream;

use crate::inner::Inner;
use crate::{Error, Handle};

const PAGE_KEYS: usize = 256;

impl<K: Key, V: Value, P> Handle<K, V, P> {
    /// What is known about an entry besides its value; `None` if there is no entry. Asking is no access of it.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn metadata<Q>(&self, key: &Q) -> Result<Option<Metadata>, Error>
    where
        K: Borrow<Q>,
        P: Partition<Q>,
        Q: Hash + Ord + ?Sized,
    {
        let inner = self.inner();
        inner.closed.check()?;
        let reader = inner.readers.register(Level::Durable);
        let at = (reader.timestamp(), inner.clock.moment());
        let measure = inner.memory.as_ref().map(|limit| limit.measure);
        Ok(inner.shards[inner.router.shard(key)].map().metadata(key, at, measure))
    }

    /// What is known about each entry, at one timestamp: shard after shard, and within a shard in the order of the
    /// keys. It goes page by page and holds no lock in between.
    #[must_use]
    pub fn metadata_scan(&self) -> MetadataScan<K, V, P> {
        let inner = Arc::clone(self.inner());
        let reader = inner.readers.register(Level::Durable);
        let moment = inner.clock.moment();
        let everything = (Bound::Unbounded, Bound::Unbounded);
        MetadataScan { inner, reader, moment, shard: 0, unread: everything, page: VecDeque::new() }
    }

    /// [`Handle::metadata_scan`] as a stream.
    pub fn metadata_stream(&self) -> MetadataStream<K, V, P> {
        MetadataStream { scan: self.metadata_scan(), left: PAGE_KEYS }
    }
}

/// A scan of what is known about entries. Made by [`Handle::metadata_scan`].
///
/// It holds on to the versions of its timestamp: drop it when it is no longer needed. After an error (the engine was
/// closed, or the scan is too old), it ends.
pub struct MetadataScan<K: Key, V: Value, P = HashPartition> {
    inner: Arc<Inner<K, V, P>>,
    reader: Reader,
    moment: u64,
    /// The shard whose pages are being read, and what is left of it.
    shard: usize,
    unread: Bounds<K>,
    page: VecDeque<(K, Metadata)>,
}

impl<K: Key, V: Value, P> Iterator for MetadataScan<K, V, P> {
    type Item = Result<(K, Metadata), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(known) = self.page.pop_front() {
                return Some(Ok(known));
            }
            let shard = self.inner.shards.get(self.shard)?;
            if let Err(error) = self.inner.check_reader(&self.reader) {
                self.shard = usize::MAX;
                return Some(Err(error));
            }
            let at = (self.reader.timestamp(), self.moment);
            let measure = self.inner.memory.as_ref().map(|limit| limit.measure);
            let (page, resume_after) = shard.map().metadata_page(&self.unread, PAGE_KEYS, at, measure);
            self.page = page.into();
            self.shard += usize::from(resume_after.is_none());
            self.unread = (resume_after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        }
    }
}

/// A [`MetadataScan`] as a stream, which lets other tasks run now and then. It never waits for anything.
pub struct MetadataStream<K: Key, V: Value, P = HashPartition> {
    scan: MetadataScan<K, V, P>,
    left: usize,
}

// The scan holds nothing that is pinned in place.
impl<K: Key, V: Value, P> Unpin for MetadataStream<K, V, P> {}

impl<K: Key, V: Value, P> Stream for MetadataStream<K, V, P> {
    type Item = Result<(K, Metadata), Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 {
            this.left = PAGE_KEYS;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.left -= 1;
        Poll::Ready(this.scan.next())
    }
}
