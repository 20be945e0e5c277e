//! What a ring gives back, and what it keeps for readers of changes.

use std::path::Path;

use super::*;
use crate::LogId;
use crate::disk::sim::SimDisk;
use crate::log::Reservation;
use crate::sync::{SyncControl, SyncPolicy};

const SEGMENT_BYTES: u64 = 16 << 10;
/// All of it is covered by a checkpoint.
const CHECKPOINTED: Timestamp = Timestamp(100);

/// A ring of so many covered segments, which may have `segments_max`, and keeps what it may for readers.
async fn ring(covered: u64, segments_max: usize) -> Ring {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let directory = Path::new("/ring");
    disk.create_dir(directory).await.unwrap();
    let control = SyncControl::new(SyncPolicy::Always, Timestamp::ZERO);
    let log = Arc::new(Log::new(LogId(0), Arc::clone(control.appends()), control.work_of_a_log()));
    let retention = Retention { bytes: Some(u64::MAX), age: None };
    let limits = RingLimits { segment_bytes: SEGMENT_BYTES, segments_max, retention };
    let ring = Ring::new(log, directory.to_owned(), (Arc::clone(&disk), Arc::clone(&disk)), limits);
    let mut live = Vec::new();
    for number in 1..=covered {
        let name = SegmentName { log: LogId(0), slot: u32::try_from(number).unwrap() };
        let file = SegmentFile::create(&*disk, directory, name, SEGMENT_BYTES).await.unwrap();
        let highest = Timestamp(number);
        live.push(LiveSegment { number: SegmentNumber(number), file, highest, ended: Instant::now() });
    }
    ring.restore(Vec::new(), live, 100, (0, Timestamp::ZERO), 0);
    ring
}

fn simulated<T>(future: impl Future<Output = T>) -> T {
    let builder = tokio::runtime::Builder::new_current_thread().build();
    builder.unwrap().block_on(future)
}

#[test]
fn what_is_retained_is_given_up_only_when_the_ring_can_not_grow() {
    simulated(async {
        // A quarter of the ring is 4 of its 16 segments. The newest always stays: it ends the chain.
        let growing = ring(6, 16).await;
        let kept = growing.first_needed(CHECKPOINTED, true);
        assert_eq!(kept, Some((SegmentNumber(2), Timestamp(1))), "with nobody waiting");
        // A commit waits until a further segment is made, which the limit allows: it needs none of these.
        assert!(matches!(growing.log.reserve(4_096), Reservation::Wait));
        assert_eq!(growing.first_needed(CHECKPOINTED, true), kept, "there is room for a further segment");
        // One that a further segment would not fit any more takes them.
        assert!(matches!(growing.log.reserve(11 * SEGMENT_BYTES), Reservation::Wait));
        assert_eq!(growing.first_needed(CHECKPOINTED, true), Some((SegmentNumber(6), Timestamp(5))));

        let full = ring(16, 16).await;
        assert_eq!(full.first_needed(CHECKPOINTED, true), Some((SegmentNumber(12), Timestamp(11))));
        assert!(matches!(full.log.reserve(4_096), Reservation::Wait));
        assert_eq!(full.first_needed(CHECKPOINTED, true), Some((SegmentNumber(16), Timestamp(15))));
    });
}

#[test]
fn what_is_retained_is_given_up_when_no_file_can_be_made() {
    simulated(async {
        let ring = ring(6, 16).await;
        assert!(matches!(ring.log.reserve(4_096), Reservation::Wait));
        ring.state.lock().cannot_grow = true;
        assert_eq!(ring.first_needed(CHECKPOINTED, true), Some((SegmentNumber(6), Timestamp(5))));
    });
}
