//! A watermark: the end of a front without holes in the commit order. It only grows, and whoever advances it
//! wakes those who wait for it.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anabranch_wal::{Fault, Health, Timestamp};
use crossbeam_utils::CachePadded;

use crate::primitives::{AtomicU64, Mutex, Ordering};

/// On cache lines of their own (PROTOCOL T7): every read loads one of these.
#[derive(Debug)]
pub struct Watermark {
    value: CachePadded<AtomicU64>,
    /// The lowest timestamp that somebody waits for; `u64::MAX` if nobody does.
    lowest_awaited: CachePadded<AtomicU64>,
    waiters: Mutex<Waiters>,
}

/// By timestamp (T7). A row, as almost all come in that order and go from the front.
#[derive(Debug, Default)]
struct Waiters {
    row: VecDeque<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    timestamp: u64,
    /// The waiter's own, to tell it from others at the same timestamp.
    number: u64,
    waker: Waker,
}

impl Waiters {
    fn set(&mut self, timestamp: u64, number: u64, waker: &Waker) {
        if self.row.back().is_none_or(|last| last.timestamp < timestamp) {
            return self.row.push_back(Waiter { timestamp, number, waker: waker.clone() });
        }
        let at = self.row.partition_point(|waiter| waiter.timestamp < timestamp);
        let same = self.row.range_mut(at..).take_while(|waiter| waiter.timestamp == timestamp);
        match same.into_iter().find(|waiter| waiter.number == number) {
            Some(waiter) => waiter.waker.clone_from(waker),
            None => self.row.insert(at, Waiter { timestamp, number, waker: waker.clone() }),
        }
    }

    fn remove(&mut self, timestamp: u64, number: u64) {
        let at = self.row.partition_point(|waiter| waiter.timestamp < timestamp);
        let mut same = self.row.range(at..).take_while(|waiter| waiter.timestamp == timestamp);
        if let Some(offset) = same.position(|waiter| waiter.number == number) {
            self.row.remove(at + offset);
        }
    }

    /// Takes out those who wait for something up to here.
    fn take(&mut self, to: u64) -> Vec<Waker> {
        let reached = self.row.partition_point(|waiter| waiter.timestamp <= to);
        self.row.drain(..reached).map(|waiter| waiter.waker).collect()
    }
}

impl Watermark {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self {
            value: CachePadded::new(AtomicU64::new(start.0)),
            lowest_awaited: CachePadded::new(AtomicU64::new(u64::MAX)),
            waiters: Mutex::default(),
        }
    }

    /// Where the front is.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Timestamp {
        Timestamp(self.value.load(Ordering::SeqCst))
    }

    /// Moves the front up to `to`, if it is not there yet, and wakes those who wait for that.
    #[inline]
    pub(crate) fn raise(&self, to: Timestamp) {
        if self.raise_quietly(to) {
            self.wake_reached();
        }
    }

    /// [`Watermark::raise`] without waking anybody: [`Watermark::wake_reached`] is due if this moved it.
    #[inline]
    pub(crate) fn raise_quietly(&self, to: Timestamp) -> bool {
        // Mostly somebody else has moved it already, and its line is left alone.
        self.value.load(Ordering::SeqCst) < to.0 && self.value.fetch_max(to.0, Ordering::SeqCst) < to.0
    }

    /// [`Watermark::raise_quietly`] by one, if that leads there.
    #[inline]
    pub(crate) fn step_quietly(&self, to: Timestamp) -> bool {
        let before = to.0 - 1;
        self.value.load(Ordering::SeqCst) == before
            && self.value.compare_exchange(before, to.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Wakes those who wait for what the front has reached.
    #[inline]
    pub(crate) fn wake_reached(&self) {
        let reached = self.value.load(Ordering::SeqCst);
        if self.lowest_awaited.load(Ordering::SeqCst) <= reached {
            self.wake(reached);
        }
    }

    /// Wakes everybody, for a reason other than an advance.
    pub(crate) fn wake_all(&self) {
        self.wake(u64::MAX);
    }

    fn wake(&self, to: u64) {
        let woken = {
            let mut waiters = self.waiters.lock();
            let woken = waiters.take(to);
            self.publish_lowest(&waiters);
            woken
        };
        // Outside the lock (T7).
        for waker in woken {
            waker.wake();
        }
    }

    fn publish_lowest(&self, waiters: &Waiters) {
        let lowest = waiters.row.front().map_or(u64::MAX, |waiter| waiter.timestamp);
        // It changes only under the lock.
        if self.lowest_awaited.load(Ordering::Relaxed) != lowest {
            self.lowest_awaited.store(lowest, Ordering::SeqCst);
        }
    }
}

/// Waits until a watermark has reached a timestamp. Needs no runtime. Dropping it leaves nothing behind.
///
/// It borrows what it looks at, or shares it, which costs two counters that all threads write.
#[must_use = "a future does nothing until it is awaited"]
pub struct Reached<W = Arc<Watermark>, H = Arc<Health>>
where
    W: Deref<Target = Watermark>,
    H: Deref<Target = Health>,
{
    watermark: W,
    health: H,
    timestamp: Timestamp,
    registered: Option<u64>,
}

/// [`Reached`] for as long as the sequencer is borrowed.
pub type ReachedHere<'s> = Reached<&'s Watermark, &'s Health>;

impl<W: Deref<Target = Watermark>, H: Deref<Target = Health>> Reached<W, H> {
    pub(crate) const fn new(watermark: W, health: H, timestamp: Timestamp) -> Self {
        Self { watermark, health, timestamp, registered: None }
    }

    fn outcome(&self) -> Option<Result<(), Fault>> {
        if self.watermark.get() >= self.timestamp {
            return Some(Ok(()));
        }
        self.health.check().err().map(Err)
    }

    fn register(&mut self, waker: &Waker) {
        let mut waiters = self.watermark.waiters.lock();
        let number = *self.registered.get_or_insert_with(|| {
            waiters.next += 1;
            waiters.next
        });
        waiters.set(self.timestamp.0, number, waker);
        self.watermark.publish_lowest(&waiters);
    }
}

impl<W, H> Future for Reached<W, H>
where
    W: Deref<Target = Watermark> + Unpin,
    H: Deref<Target = Health> + Unpin,
{
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.outcome() {
            if outcome.is_ok() {
                // Whoever moves the watermark takes out those who waited for that.
                self.registered = None;
            }
            return Poll::Ready(outcome);
        }
        self.register(context.waker());
        // Whoever advanced between the first look and the registration did not see the waiter; look again.
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<W: Deref<Target = Watermark>, H: Deref<Target = Health>> Drop for Reached<W, H> {
    fn drop(&mut self) {
        if let Some(number) = self.registered {
            let mut waiters = self.watermark.waiters.lock();
            waiters.remove(self.timestamp.0, number);
            self.watermark.publish_lowest(&waiters);
        }
    }
}
