//! All logs are read at the same time, and so are all checkpoints: recovering four shards takes as long as
//! recovering one of them. Time is the simulated disk's, so nothing here depends on the machine.

use std::time::Duration;

use anabranch_wal::disk::sim::{Fault, FaultKind, Operation, SimDisk, Times};
use tokio::time::Instant;

use crate::{Db, builder, simulated, within};

/// What one read takes.
const READ: Duration = Duration::from_millis(10);
const ROWS: u64 = 60;

/// Each shard's checkpoint and log get the same rows.
async fn fill(db: &Db, shards: u64) {
    for part in 0..2 {
        for row in 0..ROWS * shards {
            db.handle().insert(part * ROWS * shards + row, vec![7; 1_000]).await.expect("nothing fails");
        }
        if part == 0 {
            db.checkpoint().await.expect("nothing fails");
        }
    }
}

/// How long it takes to open a database of so many shards whose process was killed, and how many rows it has.
fn time_to_open(shards: usize) -> (Duration, usize) {
    let disk = SimDisk::new(1);
    simulated().block_on(async {
        let db = within(builder(&disk, shards).open("/database")).await.expect("nothing fails");
        fill(&db, shards as u64).await;
        disk.kill();
    });
    let image = disk.process_crash();
    simulated().block_on(async {
        let (operation, kind) = (Operation::Read, FaultKind::Latency(READ));
        image.inject(Fault { operation, path_contains: None, nth: 1, times: Times::Forever, kind });
        let began = Instant::now();
        let db = within(builder(&image, shards).open("/database")).await.expect("nothing is damaged");
        let elapsed = began.elapsed();
        let report = db.recovery_report();
        assert_eq!(report.checkpoint_entries, ROWS * shards as u64, "{report:?}");
        assert_eq!(report.records, ROWS * shards as u64, "{report:?}");
        (elapsed, db.handle().len().expect("it is open"))
    })
}

#[test]
fn four_shards_are_recovered_in_the_time_of_one() {
    let (one, rows) = time_to_open(1);
    assert_eq!(rows as u64, 2 * ROWS);
    // Two reads of the manifest; of a log at the least a header and a segment, and blocks of a checkpoint.
    assert!(one >= 10 * READ, "{one:?} is too little to tell anything");
    for shards in [2, 4, 8] {
        let (several, rows) = time_to_open(shards);
        assert_eq!(rows as u64, 2 * ROWS * shards as u64);
        assert_eq!(several, one, "{shards} shards");
    }
}
