//! Each kind of fault, and when it strikes.

use std::time::Duration;

use super::*;

const DELAY: FaultKind = FaultKind::Latency(Duration::from_millis(100));

fn fault(operation: Operation, kind: FaultKind) -> Fault {
    Fault { operation, path_contains: None, nth: 1, times: Times::Once, kind }
}

fn lost(disk: &SimDisk) -> Vec<u8> {
    content(&disk.crash(&CrashPolicy::SyncedOnly), "a").unwrap()
}

#[tokio::test]
async fn a_fault_strikes_the_nth_matching_operation_only() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"abc").await;
    let other = synced_file(&disk, "b", b"abc").await;
    let name = Some("/a".to_owned());
    disk.inject(Fault { path_contains: name, nth: 2, ..fault(Operation::Read, FaultKind::Eio) });
    other.read_at(0, 1).await.unwrap();
    other.read_at(0, 1).await.unwrap();
    file.read_at(0, 1).await.unwrap();
    file.len().await.unwrap();
    assert_eq!(disk.faults_struck(), 0);
    file.read_at(0, 1).await.unwrap_err();
    assert_eq!(disk.faults_struck(), 1);
    file.read_at(0, 1).await.unwrap();
}

#[tokio::test]
async fn a_lasting_fault_strikes_until_it_is_cleared() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"abc").await;
    disk.inject(Fault { nth: 2, times: Times::Forever, ..fault(Operation::Read, FaultKind::Eio) });
    file.read_at(0, 1).await.unwrap();
    for _ in 0..3 {
        file.read_at(0, 1).await.unwrap_err();
    }
    disk.clear_faults();
    file.read_at(0, 1).await.unwrap();
}

#[tokio::test]
async fn every_operation_can_fail_without_taking_place() {
    let disk = disk(1).await;
    let directory = Path::new(DIRECTORY);
    synced_file(&disk, "a", b"abc").await;
    let before = disk.fingerprint();
    for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::SyncLoses] {
        for operation in [Operation::Create, Operation::Remove, Operation::Open, Operation::List] {
            disk.inject(fault(operation, kind));
        }
        disk.inject(fault(Operation::SyncDir, kind));
        disk.inject(fault(Operation::CreateDir, kind));
        disk.inject(fault(Operation::Lock, kind));
        assert!(disk.open(&path("b"), OpenMode::Create).await.is_err());
        assert!(disk.remove(&path("a")).await.is_err());
        assert!(disk.open(&path("a"), OpenMode::ReadWrite).await.is_err());
        assert!(disk.list(directory).await.is_err());
        assert!(disk.sync_dir(directory).await.is_err());
        assert!(disk.create_dir(Path::new("/other")).await.is_err());
        assert!(disk.lock(directory).await.is_err());
        assert_eq!(disk.fingerprint(), before);
    }
}

#[tokio::test]
async fn a_failed_write_may_have_taken_place_in_part() {
    for (kind, error_kind) in
        [(FaultKind::Eio, io::ErrorKind::Other), (FaultKind::Enospc, io::ErrorKind::StorageFull)]
    {
        let (mut nothing, mut part) = (0, 0);
        for seed in 0..50 {
            let disk = disk(seed).await;
            let file = synced_file(&disk, "a", b"").await;
            disk.inject(fault(Operation::Write, kind));
            disk.inject(fault(Operation::ZeroFill, kind));
            assert_eq!(write(&*file, 0, &[1; 100]).await.unwrap_err().kind(), error_kind);
            match content(&disk, "a").unwrap().len() {
                0 => nothing += 1,
                len => part += u32::from(len < 100),
            }
            assert_eq!(file.zero_fill(100).await.unwrap_err().kind(), error_kind);
            assert!(content(&disk, "a").unwrap().len() < 100);
        }
        assert!(nothing > 0 && part > 0 && nothing + part == 50);
    }
}

#[tokio::test]
async fn a_short_write_says_how_much_it_wrote() {
    for seed in 0..20 {
        let disk = disk(seed).await;
        let file = synced_file(&disk, "a", b"").await;
        disk.inject(fault(Operation::Write, FaultKind::ShortWrite));
        let written = write(&*file, 0, &[1; 100]).await.unwrap();
        assert!((1..100).contains(&written));
        assert_eq!(content(&disk, "a").unwrap(), vec![1; written]);
        disk.inject(fault(Operation::Write, FaultKind::ShortWrite));
        assert_eq!(write(&*file, 0, &[1; 1]).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn an_interrupted_operation_can_be_repeated() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"").await;
    disk.inject(fault(Operation::Write, FaultKind::Interrupted));
    assert_eq!(write(&*file, 0, b"abc").await.unwrap_err().kind(), io::ErrorKind::Interrupted);
    assert_eq!(content(&disk, "a").unwrap(), b"");
    assert_eq!(write(&*file, 0, b"abc").await.unwrap(), 3);
}

#[tokio::test]
async fn a_sync_failing_with_eio_leaves_the_data_dirty() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"old").await;
    write(&*file, 0, b"new").await.unwrap();
    disk.inject(fault(Operation::Sync, FaultKind::Eio));
    file.sync_data().await.unwrap_err();
    assert_eq!(lost(&disk), b"old");
    file.sync_data().await.unwrap();
    assert_eq!(lost(&disk), b"new");
}

#[tokio::test]
async fn a_sync_failing_as_on_ext4_loses_what_reads_still_see() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"old").await;
    write(&*file, 0, b"new").await.unwrap();
    disk.inject(fault(Operation::Sync, FaultKind::SyncLoses));
    file.sync_data().await.unwrap_err();
    assert_eq!(content(&disk, "a").unwrap(), b"new");
    // Trying again is `Ok` and helps nothing, nor does a new process; only writing again does.
    file.sync_data().await.unwrap();
    let restarted = disk.process_crash();
    assert_eq!(content(&restarted, "a").unwrap(), b"new");
    for seed in 0..50 {
        assert_eq!(content(&restarted.power_loss(seed), "a").unwrap(), b"old");
    }
    write(&*file, 0, b"new").await.unwrap();
    file.sync_data().await.unwrap();
    assert_eq!(lost(&disk), b"new");
}

#[tokio::test]
async fn growth_lost_by_a_failed_sync_reads_as_zeros_after_the_next() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 512]).await;
    write(&*file, 512, &[2; 512]).await.unwrap();
    disk.inject(fault(Operation::Sync, FaultKind::SyncLoses));
    file.sync_data().await.unwrap_err();
    assert_eq!(lost(&disk), [1; 512]);
    file.sync_data().await.unwrap();
    assert_eq!(lost(&disk), [[1; 512], [0; 512]].concat());
}

#[tokio::test]
async fn a_late_sync_failure_is_told_by_the_next_sync() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"old").await;
    write(&*file, 0, b"new").await.unwrap();
    disk.inject(fault(Operation::Sync, FaultKind::SyncLate));
    file.sync_data().await.unwrap();
    assert_eq!(lost(&disk), b"old");
    file.sync_data().await.unwrap_err();
    file.sync_data().await.unwrap();
    assert_eq!(content(&disk, "a").unwrap(), b"new");
    assert_eq!(lost(&disk), b"old");
}

#[tokio::test]
async fn a_sync_failing_as_on_btrfs_brings_the_old_data_back() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"old").await;
    write(&*file, 0, b"newer").await.unwrap();
    disk.inject(fault(Operation::Sync, FaultKind::SyncReverts));
    file.sync_all().await.unwrap_err();
    assert_eq!(&file.read_at(0, 10).await.unwrap()[..], b"old");
    file.sync_all().await.unwrap();
    assert_eq!(lost(&disk), b"old");
}

#[tokio::test]
async fn a_latency_fault_delays_its_operation_and_lets_others_pass() {
    let disk = disk(1).await;
    let slow = synced_file(&disk, "a", b".").await;
    let fast = synced_file(&disk, "b", b".").await;
    disk.inject(Fault { path_contains: Some("/a".to_owned()), ..fault(Operation::Write, DELAY) });
    let pass = async {
        for _ in 0..3 {
            write(&*fast, 0, b"x").await.unwrap();
        }
        content(&disk, "a").unwrap()
    };
    let (delayed, meanwhile) = tokio::join!(write(&*slow, 0, b"x"), pass);
    delayed.unwrap();
    assert_eq!((&meanwhile[..], &content(&disk, "a").unwrap()[..]), (&b"."[..], &b"x"[..]));
}

#[tokio::test]
async fn a_delayed_operation_does_not_outlive_its_disk() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b".").await;
    disk.inject(fault(Operation::Write, DELAY));
    let kill = async {
        while disk.faults_struck() == 0 {
            tokio::task::yield_now().await;
        }
        disk.kill();
    };
    let (delayed, ()) = tokio::join!(write(&*file, 0, b"x"), kill);
    delayed.unwrap_err();
    assert_eq!(content(&disk, "a").unwrap(), b".");
}
