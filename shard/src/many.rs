//! Several look-ups side by side.
//!
//! A look-up in a large map mostly waits for memory: for the key's slot, and for the count of references of its value.
//! Locks and counts are fences to the processor, so look-ups one after the other also wait one after the other. Here the
//! locks of several come first, then all that only loads, which the processor does side by side, and the counts come last:
//! group prefetching (Chen et al., Improving Hash Join Performance through Prefetching, ICDE 2004), by plain loads.

use std::borrow::Borrow;
use std::hint::black_box;
use std::sync::Arc;

use anabranch_wal::Timestamp;
use smallvec::SmallVec;

use crate::chain::{Chain, Version};
use crate::map::ShardMap;
use crate::router::KeyHash;
use crate::table::Held;
use crate::{Key, Value};

/// Enough that waiting overlaps, and few enough that the writers of as many stripes don't wait long.
pub(crate) const AT_ONCE: usize = 16;

/// Where a key would be.
pub struct Place<'p, K, V, Q: ?Sized> {
    /// In this map.
    pub map: &'p ShardMap<K, V>,
    /// This key.
    pub key: &'p Q,
    /// Its hash.
    pub hash: KeyHash,
}

/// A key's chain, and its live version at the timestamp and the moment that were asked for.
pub(crate) struct Found<'f, V> {
    pub(crate) chain: &'f Chain<V>,
    pub(crate) version: Option<&'f Version<V>>,
}

/// [`ShardMap::get`] of each of these, in their order, at a timestamp and a moment. The caller is registered as a reader.
pub fn get_many<K, V, Q>(places: &[Place<'_, K, V, Q>], at: (Timestamp, u64)) -> Vec<Option<Arc<V>>>
where
    K: Key + Borrow<Q>,
    V: Value,
    Q: Eq + ?Sized,
{
    let mut values = Vec::with_capacity(places.len());
    look_up(places, at, |place, found| {
        if let Some(Found { chain, .. }) = found {
            place.map.accessed(chain);
        }
        values.push(found.and_then(|found| found.version?.value.clone()));
    });
    values
}

/// Shows what is found at each place, in their order. Chains don't change while they are shown.
pub(crate) fn look_up<K, V, Q>(
    mut places: &[Place<'_, K, V, Q>],
    (timestamp, moment): (Timestamp, u64),
    mut show: impl FnMut(&Place<'_, K, V, Q>, Option<&Found<'_, V>>),
) where
    K: Key + Borrow<Q>,
    V: Value,
    Q: Eq + ?Sized,
{
    while !places.is_empty() {
        // Who holds one waits for no other, so there is no order to keep among them.
        let mut held: SmallVec<[Held<'_, K, V>; AT_ONCE]> = SmallVec::new();
        for place in &places[..places.len().min(AT_ONCE)] {
            let stripe = place.map.entries();
            if held.is_empty() {
                held.push(stripe.hold(place.hash));
            } else if let Some(stripe) = stripe.try_hold(place.hash) {
                held.push(stripe);
            } else {
                break;
            }
        }
        let (now, later) = places.split_at(held.len());
        places = later;
        let found = now.iter().zip(&held).map(|(place, stripe)| {
            let (_, chain) = stripe.find(place.key, place.hash)?;
            let version = chain.at(timestamp).filter(|version| version.live(|| moment).is_some());
            Some(Found { chain, version })
        });
        let found: SmallVec<[_; AT_ONCE]> = found.collect();
        let values = found.iter().flatten().filter_map(|found| found.version?.value.as_ref());
        // Loads what is about to be counted up.
        black_box(values.fold(0, |all, value| all ^ Arc::strong_count(value)));
        for (place, found) in now.iter().zip(&found) {
            show(place, found.as_ref());
        }
    }
}
