//! Caches of other crates.

use std::num::NonZeroUsize;

use super::{Cache, Value, hit_rate};
use crate::store::Outcome;

pub(super) const NAMES: [&str; 3] = ["exact LRU (`lru`)", "`moka`", "`quick_cache`"];

/// In the order of their names.
pub(super) async fn hit_rates(capacity: usize, keys: &[u64]) -> Outcome<Vec<f64>> {
    let room = NonZeroUsize::new(capacity).ok_or("a cache needs room for an entry")?;
    Ok(vec![
        hit_rate(lru::LruCache::new(room), keys).await?,
        hit_rate(moka::sync::Cache::new(capacity as u64), keys).await?,
        hit_rate(quick_cache::sync::Cache::new(capacity), keys).await?,
    ])
}

impl Cache for lru::LruCache<u64, Value> {
    fn has(&mut self, key: u64) -> Outcome<bool> {
        Ok(self.get(&key).is_some())
    }

    async fn put(&mut self, key: u64) -> Outcome<()> {
        Self::put(self, key, [0; 4]);
        Ok(())
    }
}

impl Cache for moka::sync::Cache<u64, Value> {
    fn has(&mut self, key: u64) -> Outcome<bool> {
        Ok(self.get(&key).is_some())
    }

    async fn put(&mut self, key: u64) -> Outcome<()> {
        self.insert(key, [0; 4]);
        Ok(())
    }
}

impl Cache for quick_cache::sync::Cache<u64, Value> {
    fn has(&mut self, key: u64) -> Outcome<bool> {
        Ok(self.get(&key).is_some())
    }

    async fn put(&mut self, key: u64) -> Outcome<()> {
        self.insert(key, [0; 4]);
        Ok(())
    }
}
