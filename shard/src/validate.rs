//! Validation: has anything that a transaction relies on a newer version? By commit time nothing may have;
//! that is what makes the commit order a serial order (DESIGN section 5).

use anabranch_wal::Timestamp;

use crate::map::ShardMap;
use crate::part::{Part, Validation};
use crate::reject::Reject;
use crate::{Key, Value};

/// Checks a part against the newest versions. `reclaimed` is the highest horizon that the shard has reclaimed
/// at: what lies below can't be told from what never was (PROTOCOL V8).
pub(crate) fn validate<K: Key, V: Value>(
    map: &ShardMap<K, V>,
    part: &Part<K, V>,
    reclaimed: Timestamp,
) -> Result<(), Reject> {
    let read_at = match part.validation {
        Validation::Blind => return Ok(()),
        Validation::Reads(read_at) | Validation::Writes(read_at) => read_at,
    };
    if read_at < reclaimed {
        return Err(Reject::TooOld);
    }
    let newer = |(key, hash)| map.newest_timestamp(key, hash).filter(|newest| *newest > read_at);
    let newer_key = match part.validation {
        Validation::Writes(_) => part.hashed_writes(|key| map.hash(key)).find_map(newer),
        _ => part.hashed_reads(|key| map.hash(key)).find_map(newer),
    };
    let newer = newer_key.or_else(|| {
        let mut ranges = part.ranges.iter();
        ranges.find_map(|bounds| map.newer_in(bounds, read_at))
    });
    // What it found may have expired meanwhile, which others may have seen already: as if it had been removed.
    let newer = newer.or_else(|| {
        let Validation::Reads(_) = part.validation else { return None };
        let clock = map.clock();
        let now = clock.is_in_use().then(|| clock.now())?;
        let keys = part.hashed_reads(|key| map.hash(key));
        map.any_expired_between(keys, &part.ranges, (part.moment, now))
    });
    newer.map_or(Ok(()), |newer| Err(Reject::Conflict { newer }))
}
