//! Ordered scans: a walk per shard, merged over the shards, page by page at one timestamp. No lock is held
//! while the caller consumes it.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_shard::{Bounds, Key, Reader, Shard, ShardMap, Value};
use anabranch_wal::Timestamp;
use futures_core::Stream;

use crate::Error;
use crate::inner::{Closed, check_age};

/// The first pages are small, for short scans over many shards; later ones grow to half of what came before them.
const FIRST_PAGE_KEYS: usize = 32;
const PAGE_KEYS_MAX: usize = 512;
/// A stream lets other tasks run after so many entries.
const STREAM_ENTRIES_PER_POLL: usize = 256;

/// An ordered scan, from either end. Yields keys and values as they stood at one timestamp, in a transaction
/// with the transaction's own writes on top.
///
/// After an error (the engine was closed, or the scan is too old), the scan ends.
pub struct Scan<K, V> {
    cursors: Vec<Cursor<K, V>>,
    /// The cursors that have something left, the nearest one last, as seen from the end that was taken from last.
    order: Vec<usize>,
    ordered_for: Option<End>,
    /// The transaction's own writes within the bounds, which hide what the shards have.
    own: VecDeque<(K, Option<Arc<V>>)>,
    timestamp: Timestamp,
    /// What had expired by then is not there.
    moment: u64,
    /// Registered for as long as the scan lives, so that its versions stay.
    reader: Reader,
    closed: Closed,
    failed: bool,
}

/// The walk over one shard.
struct Cursor<K, V> {
    map: Arc<ShardMap<K, V>>,
    /// What was not fetched yet, between the two buffers; `None` when all was.
    unfetched: Option<Bounds<K>>,
    front: VecDeque<(K, Arc<V>)>,
    /// From the back: the last key first.
    back: VecDeque<(K, Arc<V>)>,
    /// How many keys were looked at.
    seen: usize,
}

/// Which end a step takes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl<K: Key, V: Value> Scan<K, V> {
    pub(crate) fn new(
        shards: &[Shard<K, V>],
        bounds: &Bounds<K>,
        own: VecDeque<(K, Option<Arc<V>>)>,
        (reader, moment): (Reader, u64),
        closed: Closed,
    ) -> Self {
        let cursor = |shard: &Shard<K, V>| Cursor {
            map: Arc::clone(shard.map()),
            unfetched: Some(bounds.clone()),
            front: VecDeque::new(),
            back: VecDeque::new(),
            seen: 0,
        };
        Self {
            cursors: shards.iter().map(cursor).collect(),
            order: Vec::with_capacity(shards.len()),
            ordered_for: None,
            own,
            timestamp: reader.timestamp(),
            moment,
            reader,
            closed,
            failed: false,
        }
    }

    /// The timestamp that the scan reads at.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn step(&mut self, end: End) -> Option<Result<(K, Arc<V>), Error>> {
        if self.failed {
            return None;
        }
        if let Err(error) = self.closed.check() {
            self.failed = true;
            return Some(Err(error));
        }
        let entry = self.merge(end);
        // V8: after the look-up; also where it found nothing.
        if let Err(error) = check_age(&self.reader) {
            self.failed = true;
            return Some(Err(error));
        }
        entry.map(Ok)
    }

    /// The next entry from this end.
    fn merge(&mut self, end: End) -> Option<(K, Arc<V>)> {
        loop {
            let nearest = self.nearest_cursor(end);
            let own = match end {
                End::Front => self.own.front(),
                End::Back => self.own.back(),
            };
            let stored = nearest.and_then(|index| self.cursors[index].peek(end));
            let (take_own, take_stored) = match (own, stored) {
                (None, None) => return None,
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some((own, _)), Some(stored)) => match (own.cmp(stored), end) {
                    (std::cmp::Ordering::Equal, _) => (true, true),
                    (std::cmp::Ordering::Less, End::Front) | (std::cmp::Ordering::Greater, End::Back) => {
                        (true, false)
                    }
                    _ => (false, true),
                },
            };
            let stored = if take_stored { self.take_nearest(end) } else { None };
            if !take_own {
                return stored;
            }
            let own = match end {
                End::Front => self.own.pop_front(),
                End::Back => self.own.pop_back(),
            };
            // The transaction's own removal hides what is stored.
            if let Some((key, Some(value))) = own {
                return Some((key, value));
            }
        }
    }

    /// The cursor with the first key, or with the last.
    fn nearest_cursor(&mut self, end: End) -> Option<usize> {
        if self.ordered_for != Some(end) {
            self.ordered_for = Some(end);
            self.order.clear();
            for cursor in 0..self.cursors.len() {
                self.put_in_order(cursor, end);
            }
        }
        self.order.last().copied()
    }

    /// Takes the nearest entry, and gives its cursor the place that its next one has.
    fn take_nearest(&mut self, end: End) -> Option<(K, Arc<V>)> {
        let cursor = self.order.pop()?;
        let entry = self.cursors[cursor].take(end);
        self.put_in_order(cursor, end);
        entry
    }

    fn put_in_order(&mut self, cursor: usize, end: End) {
        self.cursors[cursor].fill(end, (self.timestamp, self.moment));
        let Some(key) = self.cursors[cursor].peek(end) else { return };
        let is_nearer = |other: &usize| {
            self.cursors[*other].peek(end).is_some_and(|other| match end {
                End::Front => other < key,
                End::Back => other > key,
            })
        };
        // From the near end, as what comes next is mostly near.
        let nearer = self.order.iter().rev().take_while(|other| is_nearer(other)).count();
        self.order.insert(self.order.len() - nearer, cursor);
    }
}

impl<K: Key, V: Value> Cursor<K, V> {
    /// Fetches pages until there is something at this end, or nothing left.
    fn fill(&mut self, end: End, at: (Timestamp, u64)) {
        loop {
            let buffer = match end {
                End::Front => &mut self.front,
                End::Back => &mut self.back,
            };
            if !buffer.is_empty() {
                return;
            }
            let Some(bounds) = self.unfetched.take() else { return };
            let limit = (self.seen / 2).clamp(FIRST_PAGE_KEYS, PAGE_KEYS_MAX);
            self.seen += limit;
            buffer.reserve(limit);
            let resume_after = self.map.page(&bounds, end == End::Back, limit, at, |entry| {
                buffer.push_back((entry.key, entry.value));
            });
            self.unfetched = resume_after.map(|last| match end {
                End::Front => (Bound::Excluded(last), bounds.1),
                End::Back => (bounds.0, Bound::Excluded(last)),
            });
        }
    }

    fn peek(&self, end: End) -> Option<&K> {
        // What the other end has fetched is also ours, once nothing lies between.
        let entry = match end {
            End::Front => self.front.front().or_else(|| self.back.back()),
            End::Back => self.back.front().or_else(|| self.front.back()),
        };
        entry.map(|(key, _)| key)
    }

    fn take(&mut self, end: End) -> Option<(K, Arc<V>)> {
        match end {
            End::Front => self.front.pop_front().or_else(|| self.back.pop_back()),
            End::Back => self.back.pop_front().or_else(|| self.front.pop_back()),
        }
    }
}

impl<K: Key, V: Value> Iterator for Scan<K, V> {
    type Item = Result<(K, Arc<V>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(End::Front)
    }
}

impl<K: Key, V: Value> DoubleEndedIterator for Scan<K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(End::Back)
    }
}

impl<K: Key, V: Value> std::iter::FusedIterator for Scan<K, V> {}

/// A [`Scan`] as a stream, which lets other tasks run now and then. It never waits for anything.
pub struct ScanStream<K, V> {
    scan: Scan<K, V>,
    left: usize,
}

impl<K, V> ScanStream<K, V> {
    pub(crate) const fn new(scan: Scan<K, V>) -> Self {
        Self { scan, left: STREAM_ENTRIES_PER_POLL }
    }
}

impl<K: Key, V: Value> Stream for ScanStream<K, V> {
    type Item = Result<(K, Arc<V>), Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.left == 0 {
            this.left = STREAM_ENTRIES_PER_POLL;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.left -= 1;
        Poll::Ready(this.scan.next())
    }
}

// The scan holds nothing that is pinned in place.
impl<K, V> Unpin for ScanStream<K, V> {}

/// The owned bounds of any range.
pub(crate) fn owned_bounds<K: Clone>(range: &impl RangeBounds<K>) -> Bounds<K> {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

/// Keys that have prefixes, and a first key behind all that begin with one.
///
/// For other keys, such as tuples, give a range.
pub trait Prefix: ToOwned {
    /// The range of all keys that begin with this one.
    fn prefix_bounds(&self) -> (Bound<Self::Owned>, Bound<Self::Owned>);
}

impl Prefix for [u8] {
    fn prefix_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let kept = self.iter().rposition(|byte| *byte < u8::MAX);
        let end = kept.map_or(Bound::Unbounded, |last| {
            let mut end = self[..=last].to_vec();
            end[last] += 1;
            Bound::Excluded(end)
        });
        (Bound::Included(self.to_vec()), end)
    }
}

impl Prefix for str {
    fn prefix_bounds(&self) -> (Bound<String>, Bound<String>) {
        // The last character that has a successor, counted up; what follows it is dropped.
        let end = self.char_indices().rev().find_map(|(at, last)| {
            let next = (last..=char::MAX).nth(1)?;
            Some(format!("{}{next}", &self[..at]))
        });
        (Bound::Included(self.to_owned()), end.map_or(Bound::Unbounded, Bound::Excluded))
    }
}

impl Prefix for String {
    fn prefix_bounds(&self) -> (Bound<Self>, Bound<Self>) {
        self.as_str().prefix_bounds()
    }
}

impl Prefix for Vec<u8> {
    fn prefix_bounds(&self) -> (Bound<Self>, Bound<Self>) {
        self.as_slice().prefix_bounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches<T>(key: &T, bounds: &(Bound<T::Owned>, Bound<T::Owned>)) -> bool
    where
        T: ToOwned<Owned: Ord> + ?Sized,
    {
        bounds.contains(&key.to_owned())
    }

    #[test]
    fn a_prefix_holds_what_begins_with_it_and_nothing_else() {
        let keys = [
            "",
            "a",
            "ab",
            "ab\u{10FFFF}",
            "abc",
            "ac",
            "\u{D7FF}",
            "\u{D7FF}x",
            "\u{E000}",
            "\u{10FFFF}",
            "\u{10FFFF}b",
        ];
        for prefix in keys {
            let bounds = prefix.prefix_bounds();
            let byte_bounds = prefix.as_bytes().prefix_bounds();
            for key in keys {
                assert_eq!(matches(key, &bounds), key.starts_with(prefix), "{key:?} in {prefix:?}");
                assert_eq!(matches(key.as_bytes(), &byte_bounds), key.starts_with(prefix));
            }
        }
        assert_eq!([255u8, 255].prefix_bounds().1, Bound::Unbounded);
    }
}
