//! What a transaction touched, shard by shard.

use anabranch_shard::{Part, Validation};

/// The part of each shard touched, in the order of the shards. A row, not a tree: there are few.
pub(crate) type Parts<K, V> = Vec<(usize, Part<K, V>)>;

/// The part of a shard, made if there is none.
pub(crate) fn part_of<K, V>(
    parts: &mut Parts<K, V>,
    shard: usize,
    validation: Validation,
) -> &mut Part<K, V> {
    let at = parts.binary_search_by_key(&shard, |(shard, _)| *shard).unwrap_or_else(|at| {
        parts.insert(at, (shard, Part::new(validation)));
        at
    });
    &mut parts[at].1
}
