//! A reader that goes on behind a bad batch, found where it does harm.
//!
//! Mostly it does none: what stands behind a break has a hole before it, and the dense prefix of commits cuts it off. But
//! a record that goes over the end of a segment is put together from two batches, and only the first is synced with its
//! segment. When power fails, the second may be lost although the one behind it is not. Whoever goes on there puts the
//! beginning of one record and the middle of others together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Durability, Engine, EngineBuilder, Flush};
use anabranch_wal::disk::sim::{SECTOR_BYTES, SimDisk};
use anabranch_wal::inspect::{Detail, ReadOnlyDisk, SegmentRole, inspect};
use anabranch_wal::{Bug, plant};

use crate::env::{SimEnv, quiet, runtime};
use crate::random::Random;
use crate::watchdog;

const SEGMENT_BYTES: u64 = 16 << 10;
/// Stands in the first segment, and is synced with it.
const BEFORE: (u64, [u8; 1_000]) = (1, [1; 1_000]);

fn builder(disk: &SimDisk) -> EngineBuilder<u64, Vec<u8>> {
    Engine::builder()
        .shards(1)
        .segment_bytes(SEGMENT_BYTES)
        .durability(Durability::Relaxed(Flush::every(Duration::from_hours(1))))
        .disk(Arc::new(disk.clone()))
        .env(Arc::new(SimEnv::new(Random::new(1), std::time::Duration::ZERO)))
}

/// The newest segment's file.
async fn newest_segment(disk: &SimDisk) -> PathBuf {
    let read_only = ReadOnlyDisk::new(Arc::new(disk.clone()), Arc::new(|_| {}));
    let directory = std::path::Path::new("/database");
    let layout = inspect(&read_only, directory, Detail::default()).await.expect("it can be read");
    let used = layout.segments.into_iter().filter(|segment| segment.role != SegmentRole::Free);
    directory.join(used.max_by_key(|segment| segment.number).expect("something was written").file)
}

/// What power loss may leave: a record that goes over the end of a segment has lost its second part, which nobody had
/// synced, and the batch behind that is there.
async fn torn_in_the_middle() -> SimDisk {
    let disk = SimDisk::new(1);
    let engine = builder(&disk).open("/database").await.expect("nothing fails");
    let db = engine.handle();
    let (key, value) = BEFORE;
    db.insert(key, value.to_vec()).await.expect("nothing fails");
    // Each is written when it is acknowledged, in a batch of its own.
    db.insert(2, vec![2; 18_000]).await.expect("nothing fails");
    db.insert(3, vec![3; 9_000]).await.expect("nothing fails");
    let image = disk.process_crash();
    drop(engine);
    let path = newest_segment(&image).await;
    let mut bytes = image.read_file(&path).expect("it is there");
    // The segment's header, and the head of the batch behind it.
    bytes[SECTOR_BYTES..2 * SECTOR_BYTES].fill(0);
    image.write_file(&path, bytes);
    image
}

/// What opens from that.
async fn opened(disk: &SimDisk) -> Result<Vec<(u64, Vec<u8>)>, String> {
    let engine = builder(disk).open("/database").await.map_err(|error| error.to_string())?;
    let entries = engine.handle().range(..).map(|entry| entry.map(|(key, value)| (key, value.to_vec())));
    entries.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

#[test]
fn a_reader_that_goes_on_behind_a_bad_batch_is_found() {
    let _watched = watchdog::watch("a reader that goes on".to_owned());
    let expected = Ok(vec![(BEFORE.0, BEFORE.1.to_vec())]);
    let torn = runtime().block_on(torn_in_the_middle());
    let sound = runtime().block_on(opened(&torn.process_crash()));
    assert_eq!(sound, expected, "the commits before the one that was torn");
    let _quiet = quiet();
    let planted = plant(Bug::BadBatchSkipped);
    let found = runtime().block_on(opened(&torn));
    drop(planted);
    println!("BadBatchSkipped: {:?}", found.as_ref().map(Vec::len));
    assert_ne!(found, expected, "the bug is planted, and does no harm");
}
