//! The limit of memory, what is used of it, and times to live.

use std::time::Duration;

use anabranch_shard::{Eviction, Expiry, Key, Level, Measure, Value};
use serde::{Deserialize, Serialize};

use crate::inner::Inner;
use crate::{Engine, Error, Handle};

/// The longest time to live. Whoever wants more wants no expiry.
const TTL_MAX: Duration = Duration::from_hours(1_000 * 366 * 24);

/// A limit as it was set.
pub(crate) struct Limit<K, V> {
    pub(crate) bytes: u64,
    pub(crate) eviction: Eviction,
    pub(crate) measure: Measure<K, V>,
}

/// What an engine has in memory. All zero and no limit in an engine without one, where nothing is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// The limit, in bytes.
    pub limit_bytes: Option<u64>,
    /// Keys, all their versions, and what keeps them.
    pub current_bytes: u64,
    /// Those of them that reclamation alone frees: older versions, and entries that are removed, for as long as
    /// somebody may read them. They don't count against the limit.
    pub reclaimable_bytes: u64,
    /// Entries evicted because of the limit, since the engine was opened.
    pub evictions: u64,
    /// Entries removed because they had expired, since then.
    pub expirations: u64,
}

/// A time to live that can be counted.
pub(crate) fn check_ttl(ttl: Duration) -> Result<(), Error> {
    if ttl.is_zero() {
        return Err(Error::config(
            "an entry that lives for no time can't be read; give it a longer time to live, or don't write it",
        ));
    }
    if ttl > TTL_MAX {
        return Err(Error::config(
            "a time to live is a thousand years at the most; write what is to stay without one",
        ));
    }
    Ok(())
}

impl<K: Key, V: Value, P> Inner<K, V, P> {
    /// When an entry expires that is written now, without a time of its own.
    pub(crate) fn default_expiry(&self) -> Expiry {
        self.default_ttl.and_then(|ttl| self.clock.after(ttl)).unwrap_or_default()
    }

    /// When an entry expires that lives for so long from now.
    pub(crate) fn expiry_after(&self, ttl: Duration) -> Result<Expiry, Error> {
        check_ttl(ttl)?;
        Ok(self.clock.after(ttl).unwrap_or_default())
    }

    pub(crate) fn memory_info(&self) -> MemoryInfo {
        let mut info = MemoryInfo {
            limit_bytes: self.memory.as_ref().map(|limit| limit.bytes),
            ..MemoryInfo::default()
        };
        for shard in &*self.shards {
            let usage = shard.usage();
            info.current_bytes += usage.bytes;
            info.reclaimable_bytes += usage.reclaimable;
            info.evictions += usage.evicted;
            info.expirations += usage.expired;
        }
        info
    }

    /// Lets every shard remove what has expired and what is too much, before anybody reads. What finds no space in the
    /// log goes later.
    pub(crate) async fn govern(&self) {
        let before = self.sequencer.last();
        for shard in &*self.shards {
            let mut bytes = u64::MAX;
            while shard.is_to_be_governed() && shard.sweep().await.is_ok() {
                let left = shard.usage();
                let left = left.bytes - left.reclaimable.min(left.bytes);
                if left >= std::mem::replace(&mut bytes, left) {
                    break;
                }
            }
        }
        let last = self.sequencer.last();
        if last > before {
            // Nobody sees what is not durable. A failure is told to whoever asks next.
            let _ = self.sequencer.reached(Level::Durable, last).await;
        }
    }
}

impl<K: Key, V: Value, P> Engine<K, V, P> {
    /// The limit of memory and what is used of it. Cheap: nothing is counted for it.
    #[must_use]
    pub fn memory_info(&self) -> MemoryInfo {
        self.inner().memory_info()
    }

    pub(crate) async fn govern(&self) {
        self.inner().govern().await;
    }
}

impl<K: Key, V: Value, P> Handle<K, V, P> {
    /// The limit of memory and what is used of it. Cheap: nothing is counted for it.
    #[must_use]
    pub fn memory_info(&self) -> MemoryInfo {
        self.inner().memory_info()
    }
}
