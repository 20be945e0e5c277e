//! A checkpoint that fails is tried again later, and holds up nothing meanwhile. Once the keeper slept a second for
//! each shard whose checkpoint had failed, and a close or a checkpoint by hand waited for it.

use std::time::Duration;

use anabranch_wal::disk::sim::{Fault, FaultKind, Operation, SimDisk, Times};
use tokio::time::{Instant, sleep};

use crate::{Db, builder, simulated, within};

const SHARDS: usize = 4;
/// The keeper's own pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// An engine in which checkpoints of all shards are due and fail.
async fn with_failing_checkpoints(disk: &SimDisk) -> Db {
    let builder = builder(disk, SHARDS).checkpoint_after_bytes(1);
    let db = within(builder.open("/database")).await.expect("nothing fails yet");
    disk.inject(Fault {
        operation: Operation::Create,
        path_contains: Some("checkpoint-".into()),
        nth: 1,
        times: Times::Forever,
        kind: FaultKind::Enospc,
    });
    for row in 0..30 * SHARDS as u64 {
        db.handle().insert(row, vec![1; 1_000]).await.expect("the log has room");
    }
    // Every shard has filled a segment: all of them were tried, or the keeper is held up by the first.
    sleep(PAUSE / 10).await;
    assert!(disk.faults_struck() > 0, "no checkpoint was tried");
    assert!(db.stats().checkpoint_error.is_some());
    db
}

#[test]
fn a_failed_checkpoint_of_each_shard_does_not_hold_up_a_close() {
    simulated().block_on(async {
        let db = with_failing_checkpoints(&SimDisk::new(1)).await;
        let began = Instant::now();
        within(db.close()).await.expect("the log is sound");
        assert!(began.elapsed() < PAUSE, "closing took {:?}", began.elapsed());
    });
}

#[test]
fn a_failed_checkpoint_of_each_shard_does_not_hold_up_one_by_hand() {
    simulated().block_on(async {
        let disk = SimDisk::new(1);
        let db = with_failing_checkpoints(&disk).await;
        disk.clear_faults();
        let began = Instant::now();
        within(db.checkpoint()).await.expect("there is space again");
        assert!(began.elapsed() < PAUSE, "it took {:?}", began.elapsed());
        assert_eq!(db.stats().log.checkpoints, SHARDS as u64);
    });
}

#[test]
fn failed_checkpoints_are_tried_again_once_a_second_and_then_succeed() {
    simulated().block_on(async {
        let disk = SimDisk::new(1);
        let db = with_failing_checkpoints(&disk).await;
        let before = disk.faults_struck();
        assert!(before >= SHARDS as u64, "{before} checkpoints failed");
        sleep(PAUSE * 5).await;
        let tries = disk.faults_struck() - before;
        assert!((4..=6).contains(&(tries / SHARDS as u64)), "{tries} tries in five seconds");
        disk.clear_faults();
        sleep(PAUSE * 2).await;
        assert_eq!(db.stats().log.checkpoints, SHARDS as u64);
        assert_eq!(db.stats().checkpoint_error, None);
        within(db.close()).await.expect("nothing fails any more");
    });
}
