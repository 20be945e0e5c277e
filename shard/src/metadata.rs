//! What is known about an entry besides its value.

use std::borrow::Borrow;
use std::hash::Hash;

use anabranch_wal::Timestamp;

use crate::ledger::Measure;
use crate::map::ShardMap;
use crate::pins::Bounds;
use crate::{Key, Value};

/// What is known about an entry besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// The commit that wrote the value.
    pub timestamp: Timestamp,
    /// Versions in memory, older ones that somebody may still read included.
    pub versions: usize,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_unix_millis: Option<u64>,
    /// What key and value take, in bytes, without what keeps them. Known only with a limit of memory.
    pub bytes: Option<u64>,
    /// When the entry was last read or written, in milliseconds since the Unix epoch, to within a tick: the time
    /// in which a sixty-fourth of the shard is written, or a second if less than that is. `None` if that was in
    /// the first tick or too long ago to tell, and without a limit of memory.
    pub accessed_unix_millis: Option<u64>,
    /// In how many ticks it was read or written, up to 1023. `None` without a limit of memory.
    pub accesses: Option<u32>,
}

impl<K: Key, V: Value> ShardMap<K, V> {
    /// What is known about the entry of a key, as it is at the timestamp and the moment. No access of it.
    pub fn metadata<Q>(
        &self,
        key: &Q,
        at: (Timestamp, u64),
        measure: Option<Measure<K, V>>,
    ) -> Option<Metadata>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.look(key, at, |key, chain, version| {
            let access = self.meters().map(|meters| (meters, chain.access()));
            let bytes = measure.map(|measure| {
                let value = version.value.as_ref();
                let value = value.map_or(0, |value| size_of::<V>() + (measure.value)(value));
                (size_of::<K>() + (measure.key)(key) + value) as u64
            });
            Metadata {
                timestamp: version.timestamp,
                versions: chain.len(),
                expires_unix_millis: version.expires.unix_millis(),
                bytes,
                accessed_unix_millis: access.and_then(|(meters, access)| meters.moment_of(access)),
                accesses: access.map(|(_, access)| access.count()),
            }
        })
    }

    /// What is known about the first `limit` keys within bounds, in order, and the last key looked at if there may
    /// be more behind it.
    pub fn metadata_page(
        &self,
        bounds: &Bounds<K>,
        limit: usize,
        at: (Timestamp, u64),
        measure: Option<Measure<K, V>>,
    ) -> (Vec<(K, Metadata)>, Option<K>) {
        let mut known = Vec::new();
        let resume_after = self.walk(bounds, false, limit, |key| {
            known.extend(self.metadata(key, at, measure).map(|metadata| (key.clone(), metadata)));
        });
        (known, resume_after)
    }
}
