//! The simulator is tested as what it stands in for: what a file system promises, and what it doesn't.

mod crashes;
mod faults;
mod lock;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{CrashPolicy, Fault, FaultKind, Operation, SimDisk, SurvivingNames, Times};
use crate::disk::{Disk, DiskFile, OpenMode};

const DIRECTORY: &str = "/db";

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// A disk with an empty directory whose name is durable.
async fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new(DIRECTORY)).await.unwrap();
    disk.sync_dir(Path::new("/")).await.unwrap();
    disk
}

/// A new file, written and synced, whose name is durable.
async fn synced_file(disk: &SimDisk, name: &str, content: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(&path(name), OpenMode::Create).await.unwrap();
    write(&*file, 0, content).await.unwrap();
    file.sync_all().await.unwrap();
    disk.sync_dir(Path::new(DIRECTORY)).await.unwrap();
    file
}

async fn write(file: &dyn DiskFile, offset: u64, content: &[u8]) -> io::Result<usize> {
    file.write_at(offset, Bytes::copy_from_slice(content)).await
}

fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.read_file(&path(name))
}

fn any_subset(seed: u64) -> CrashPolicy {
    CrashPolicy::PowerLoss { seed, names: SurvivingNames::AnySubset }
}

#[tokio::test]
async fn files_behave_as_files_do() {
    let disk = disk(1).await;
    let missing = disk.open(&path("a"), OpenMode::ReadWrite).await.err().unwrap();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.list(Path::new("/none")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(disk.open(Path::new("/none/a"), OpenMode::Create).await.is_err());

    let file = disk.open(&path("b"), OpenMode::Create).await.unwrap();
    disk.open(&path("a"), OpenMode::Create).await.unwrap();
    assert_eq!(disk.list(Path::new("/db/.")).await.unwrap(), ["a", "b"]);
    write(&*file, 3, b"xyz").await.unwrap();
    assert_eq!(file.len().await.unwrap(), 6);
    assert_eq!(&file.read_at(0, 5).await.unwrap()[..], b"\0\0\0xy");
    assert_eq!(&file.read_at(4, 100).await.unwrap()[..], b"yz");
    assert!(file.read_at(100, 1).await.unwrap().is_empty());
    file.zero_fill(4).await.unwrap();
    assert_eq!(&file.read_at(0, 100).await.unwrap()[..], b"\0\0\0\0yz");

    let reader = disk.open(&path("b"), OpenMode::Read).await.unwrap();
    assert!(write(&*reader, 0, b"no").await.is_err());
    disk.remove(&path("b")).await.unwrap();
    assert_eq!(disk.remove(&path("b")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(&reader.read_at(4, 2).await.unwrap()[..], b"yz");
    assert_eq!(disk.list(Path::new(DIRECTORY)).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn create_empties_an_existing_file() {
    let disk = disk(1).await;
    synced_file(&disk, "a", b"old").await;
    let file = disk.open(&path("a"), OpenMode::Create).await.unwrap();
    assert_eq!(file.len().await.unwrap(), 0);
    let survivors: Vec<_> = (0..50).map(|seed| content(&disk.power_loss(seed), "a").unwrap().len()).collect();
    assert!(survivors.contains(&0) && survivors.contains(&3));
}

#[tokio::test]
async fn a_full_disk_refuses_growth_until_it_has_room() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", &[1; 1000]).await;
    disk.set_capacity(Some(1500));
    let other = disk.open(&path("b"), OpenMode::Create).await.unwrap();
    assert_eq!(write(&*file, 900, &[2; 100]).await.unwrap(), 100);
    assert_eq!(other.zero_fill(600).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(other.len().await.unwrap(), 500);
    assert_eq!(write(&*file, 1000, &[2; 1]).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.remove(&path("b")).await.unwrap();
    assert_eq!(write(&*file, 1000, &[2; 800]).await.unwrap(), 500);
    disk.set_capacity(Some(3000));
    assert_eq!(write(&*file, 1500, &[2; 800]).await.unwrap(), 800);
}

#[tokio::test]
async fn a_wild_offset_is_an_error() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"x").await;
    assert!(write(&*file, u64::MAX, b"x").await.is_err());
    assert!(file.zero_fill(u64::MAX).await.is_err());
    assert!(file.read_at(u64::MAX, usize::MAX).await.unwrap().is_empty());
}

#[tokio::test]
async fn rot_reaches_the_cache_and_the_disk() {
    let disk = disk(1).await;
    let file = synced_file(&disk, "a", b"abc").await;
    disk.flip_bit(&path("a"), 1, 0);
    assert_eq!(&file.read_at(0, 3).await.unwrap()[..], b"acc");
    assert_eq!(content(&disk.power_loss(1), "a").unwrap(), b"acc");
    disk.truncate(&path("a"), 1);
    assert_eq!(content(&disk.power_loss(1), "a").unwrap(), b"a");
    disk.write_file(Path::new("/x/y/z"), *b"new");
    let image = disk.crash(&any_subset(3));
    assert_eq!(image.read_file(Path::new("/x/y/z")).unwrap(), b"new");
    assert_eq!(image.list(Path::new("/x")).await.unwrap(), ["y"]);
    disk.delete(&path("a"));
    assert_eq!(disk.power_loss(1).files(), [(PathBuf::from("/x/y/z"), 3)]);
}

#[tokio::test]
async fn every_operation_lets_other_tasks_run() {
    let disk = disk(1).await;
    let writer = async |name: &str| {
        let file = disk.open(&path(name), OpenMode::Create).await.unwrap();
        for round in 0..3 {
            write(&*file, round, b"x").await.unwrap();
        }
        disk.io_count()
    };
    let before = disk.io_count();
    let (first, second) = tokio::join!(writer("a"), writer("b"));
    assert!(first.min(second) > before + 6);
}

#[tokio::test]
async fn latency_takes_time_and_changes_nothing_else() {
    let disk = disk(1).await;
    disk.set_latency(std::time::Duration::from_millis(3));
    let file = synced_file(&disk, "a", b"abc").await;
    assert_eq!(&file.read_at(0, 3).await.unwrap()[..], b"abc");
    // More than a busy machine takes to get here.
    disk.set_latency(std::time::Duration::from_hours(1000));
    assert!(tokio::time::timeout(std::time::Duration::ZERO, file.len()).await.is_err());
}

#[tokio::test]
async fn the_trace_tells_different_lives_apart() {
    let mut hashes = Vec::new();
    for (name, offset) in [("a", 0), ("a", 0), ("b", 0), ("a", 1)] {
        let disk = disk(1).await;
        let file = synced_file(&disk, name, b"abc").await;
        write(&*file, offset, b"d").await.unwrap();
        hashes.push(disk.trace_hash());
    }
    assert_eq!(hashes[0], hashes[1]);
    assert!(hashes[2..].iter().all(|hash| *hash != hashes[0]));
}

#[tokio::test]
async fn a_fingerprint_sees_content_names_and_what_is_durable() {
    let disk = disk(1).await;
    let mut seen = vec![disk.fingerprint()];
    let file = disk.open(&path("a"), OpenMode::Create).await.unwrap();
    seen.push(disk.fingerprint());
    disk.sync_dir(Path::new(DIRECTORY)).await.unwrap();
    seen.push(disk.fingerprint());
    write(&*file, 0, b"x").await.unwrap();
    seen.push(disk.fingerprint());
    file.sync_data().await.unwrap();
    seen.push(disk.fingerprint());
    assert_eq!(disk.process_crash().fingerprint(), seen[4]);
    assert_eq!(disk.power_loss(1).fingerprint(), seen[4]);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}
