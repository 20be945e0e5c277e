//! What an engine's log holds is given back when the engine is gone. Once the logs and what syncs them kept each
//! other alive.

use std::path::Path;
use std::sync::Arc;

use anabranch::SystemEnv;
use anabranch_wal::disk::sim::SimDisk;
use anabranch_wal::{Health, RingLimits, SyncPolicy, Wal, WalOptions};

use crate::simulated;

#[test]
fn logs_and_what_syncs_them_do_not_keep_each_other_alive() {
    let disk = SimDisk::new(1);
    let options = WalOptions {
        shards: 2,
        policy: SyncPolicy::Always,
        limits: RingLimits {
            segment_bytes: 16 << 10,
            segments_max: 4,
            retention: anabranch_wal::Retention::default(),
        },
        checkpoint_logged_min: 1 << 20,
        hash: "any".into(),
        create: true,
    };
    let (control, logs) = simulated().block_on(async {
        let opened =
            Wal::open(&disk, Path::new("/database"), options, &SystemEnv).await.expect("nothing fails");
        let tasks = opened.wal.start(&Arc::<Health>::default(), &(Arc::new(|| {}) as _)).await;
        let control = Arc::downgrade(opened.wal.control());
        let logs: Vec<_> = opened.wal.logs().iter().map(Arc::downgrade).collect();
        tasks.expect("nothing fails").shutdown().await;
        (control, logs)
    });
    assert!(control.upgrade().is_none(), "what syncs the logs lives on");
    assert!(logs.iter().all(|log| log.upgrade().is_none()), "a log lives on");
}
