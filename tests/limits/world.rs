//! A clock that stands until it is set, and what several tests ask of an engine.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use anabranch::{Change, Env, Handle, Key, SystemEnv, Timestamp, Value};
use futures_core::Stream;

/// Real but for the date.
#[derive(Clone, Default)]
pub(crate) struct Calendar(Arc<AtomicU64>);

impl Calendar {
    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn set_back(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_sub(millis, Ordering::Relaxed);
    }

    pub(crate) fn env(&self) -> Arc<dyn Env> {
        Arc::new(self.clone())
    }
}

impl Env for Calendar {
    fn now(&self) -> Duration {
        SystemEnv.now()
    }

    fn unix_millis(&self) -> u64 {
        1_700_000_000_000 + self.0.load(Ordering::Relaxed)
    }

    fn random(&self) -> u64 {
        4711
    }
}

/// Everything, as a snapshot shows it.
pub(crate) fn content<K: Key, V: Value + Clone>(db: &Handle<K, V>) -> BTreeMap<K, V> {
    db.range(..).map(|entry| entry.unwrap()).map(|(key, value)| (key, V::clone(&value))).collect()
}

/// All changes up to a commit.
pub(crate) async fn changes<K: Key, V: Value>(db: &Handle<K, V>, last: Timestamp) -> Vec<Change<K, V>> {
    let mut feed = pin!(db.changes(Timestamp::ZERO));
    let mut read = Vec::new();
    let mut reached = Timestamp::ZERO;
    while reached < last {
        let next = std::future::poll_fn(|context| match feed.as_mut().poll_next(context) {
            Poll::Ready(next) => Poll::Ready(next),
            Poll::Pending => Poll::Pending,
        });
        let set = next.await.unwrap().unwrap();
        reached = set.timestamp;
        read.extend(set.changes);
    }
    read
}
