//! A watermark: the end of a front without holes in the commit order. It only grows, and whoever advances it
//! wakes those who wait for it.

use std::collections::BTreeMap;
use std::future::Future;
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

#[derive(Debug, Default)]
struct Waiters {
    /// By timestamp (T7), then by a number of the waiter's own.
    wakers: BTreeMap<(u64, u64), Waker>,
    next: u64,
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
    pub fn get(&self) -> Timestamp {
        Timestamp(self.value.load(Ordering::SeqCst))
    }

    /// Moves the front up to `to`, if it is not there yet, and wakes those who wait for that.
    pub(crate) fn raise(&self, to: Timestamp) {
        if self.raise_quietly(to) {
            self.wake_reached();
        }
    }

    /// [`Watermark::raise`] without waking anybody: [`Watermark::wake_reached`] is due if this moved it.
    pub(crate) fn raise_quietly(&self, to: Timestamp) -> bool {
        // Mostly somebody else has moved it already, and its line is left alone.
        self.value.load(Ordering::SeqCst) < to.0 && self.value.fetch_max(to.0, Ordering::SeqCst) < to.0
    }

    /// Wakes those who wait for what the front has reached.
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
            let later = match to.checked_add(1) {
                Some(beyond) => waiters.wakers.split_off(&(beyond, 0)),
                None => BTreeMap::new(),
            };
            let woken = std::mem::replace(&mut waiters.wakers, later);
            self.publish_lowest(&waiters);
            woken
        };
        // Outside the lock (T7).
        for waker in woken.into_values() {
            waker.wake();
        }
    }

    fn publish_lowest(&self, waiters: &Waiters) {
        let lowest = waiters.wakers.keys().next().map_or(u64::MAX, |(timestamp, _)| *timestamp);
        self.lowest_awaited.store(lowest, Ordering::SeqCst);
    }
}

/// Waits until a watermark has reached a timestamp. Needs no runtime. Dropping it leaves nothing behind.
#[must_use = "a future does nothing until it is awaited"]
pub struct Reached {
    watermark: Arc<Watermark>,
    health: Arc<Health>,
    timestamp: Timestamp,
    registered: Option<u64>,
}

impl Reached {
    pub(crate) const fn new(watermark: Arc<Watermark>, health: Arc<Health>, timestamp: Timestamp) -> Self {
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
        waiters.wakers.insert((self.timestamp.0, number), waker.clone());
        self.watermark.publish_lowest(&waiters);
    }
}

impl Future for Reached {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        self.register(context.waker());
        // Whoever advanced between the first look and the registration did not see the waiter; look again.
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Some(number) = self.registered {
            let mut waiters = self.watermark.waiters.lock();
            waiters.wakers.remove(&(self.timestamp.0, number));
            self.watermark.publish_lowest(&waiters);
        }
    }
}
