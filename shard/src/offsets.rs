//! How far each source has been taken in, by the commits of one shard.
//!
//! Few names and many commits: each name keeps the versions that somebody may still ask for, as keys do. A source's
//! offsets may come by any shard; the newest over all shards counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_wal::{SourceOffset, Timestamp};
use parking_lot::Mutex;

/// The offsets of one source that somebody may still ask for, ascending by the commits that set them.
type Versions = Vec<(Timestamp, u64)>;

/// The offsets that one shard's log holds.
#[derive(Default)]
pub struct Offsets {
    sources: Mutex<BTreeMap<Arc<str>, Versions>>,
}

impl Offsets {
    /// The offset of a source and the commit that set it, at the timestamp that `read_at` gives. It is asked while
    /// the versions are held, so that whatever was trimmed before lies below it (PROTOCOL H2).
    pub fn get(&self, source: &str, read_at: impl FnOnce() -> Timestamp) -> Option<(Timestamp, u64)> {
        let sources = self.sources.lock();
        newest(sources.get(source)?, read_at())
    }

    /// All offsets at a timestamp, each with the commit that set it. The caller is registered as a reader.
    #[must_use]
    pub fn at(&self, timestamp: Timestamp) -> Vec<(Timestamp, SourceOffset)> {
        let sources = self.sources.lock();
        let at = |(source, versions): (&Arc<str>, &Versions)| {
            let (written, offset) = newest(versions, timestamp)?;
            Some((written, SourceOffset { source: Arc::clone(source), offset }))
        };
        sources.iter().filter_map(at).collect()
    }

    /// Adds a version, and drops those that no reader at or above `horizon` can ask for.
    pub fn set(
        &self,
        timestamp: Timestamp,
        SourceOffset { source, offset }: SourceOffset,
        horizon: Timestamp,
    ) {
        let mut sources = self.sources.lock();
        let versions = sources.entry(source).or_default();
        // While an engine is being opened, the logs of former shards come in any order.
        let at = versions.partition_point(|(written, _)| *written < timestamp);
        versions.insert(at, (timestamp, offset));
        let kept = versions.partition_point(|(written, _)| *written <= horizon);
        versions.drain(..kept.saturating_sub(1));
    }
}

fn newest(versions: &[(Timestamp, u64)], timestamp: Timestamp) -> Option<(Timestamp, u64)> {
    let beyond = versions.partition_point(|(written, _)| *written <= timestamp);
    versions.get(beyond.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(offsets: &Offsets, timestamp: u64, offset: u64, horizon: u64) {
        offsets.set(Timestamp(timestamp), SourceOffset { source: "s".into(), offset }, Timestamp(horizon));
    }

    #[test]
    fn a_reader_finds_the_version_of_its_moment_until_the_horizon_has_passed_it() {
        let offsets = Offsets::default();
        set(&offsets, 3, 30, 0);
        set(&offsets, 7, 70, 2);
        set(&offsets, 9, 50, 4);
        let get = |at| offsets.get("s", || Timestamp(at)).map(|(_, offset)| offset);
        assert_eq!((get(2), get(3), get(6), get(8), get(99)), (None, Some(30), Some(30), Some(70), Some(50)));
        set(&offsets, 12, 120, 8);
        assert_eq!((get(8), get(11), get(12)), (Some(70), Some(50), Some(120)));
        assert_eq!(get(6), None, "a horizon of 8 lets go of what only older readers see");
        assert_eq!(offsets.get("other", || Timestamp(9)), None);
    }
}
