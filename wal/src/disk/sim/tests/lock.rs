//! Who may have a directory, and when.

use std::sync::Arc;

use super::*;

fn error_kind(locked: io::Result<Arc<dyn Disk>>) -> Option<io::ErrorKind> {
    locked.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_directory_has_one_tenant_at_a_time() {
    let disk = disk(1).await;
    let directory = Path::new(DIRECTORY);
    assert_eq!(error_kind(disk.lock(Path::new("/none")).await), Some(io::ErrorKind::NotFound));
    let held = disk.lock(directory).await.unwrap();
    assert_eq!(error_kind(disk.lock(directory).await), Some(io::ErrorKind::WouldBlock));
    assert_eq!(error_kind(disk.lock(Path::new("/db/./")).await), Some(io::ErrorKind::WouldBlock));
    disk.create_dir(Path::new("/other")).await.unwrap();
    disk.lock(Path::new("/other")).await.unwrap();
    drop(held);
    disk.lock(directory).await.unwrap();
}

#[tokio::test]
async fn lanes_and_open_files_hold_the_lock() {
    let disk = disk(1).await;
    let directory = Path::new(DIRECTORY);
    let held = disk.lock(directory).await.unwrap();
    let lane = held.lane("lane").unwrap();
    drop(held);
    assert_eq!(error_kind(disk.lock(directory).await), Some(io::ErrorKind::WouldBlock));
    let file = lane.open(&path("a"), OpenMode::Create).await.unwrap();
    drop(lane);
    assert_eq!(error_kind(disk.lock(directory).await), Some(io::ErrorKind::WouldBlock));
    drop(file);
    disk.lock(directory).await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_is_leaving_is_waited_for() {
    let disk = disk(1).await;
    let held = disk.lock(Path::new(DIRECTORY)).await.unwrap();
    held.closing();
    let mut next = Box::pin(disk.lock(Path::new(DIRECTORY)));
    for _ in 0..5 {
        tokio::select! {
            biased;
            _ = &mut next => panic!("the directory is taken"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(held);
    next.await.unwrap();
}

#[tokio::test]
async fn waiting_ends_with_the_disk() {
    for crash in [true, false] {
        let disk = disk(1).await;
        let held = disk.lock(Path::new(DIRECTORY)).await.unwrap();
        held.closing();
        let end = async {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            if crash {
                disk.crash_at(1);
                disk.list(Path::new(DIRECTORY)).await.unwrap_err();
            } else {
                disk.kill();
            }
        };
        let (next, ()) = tokio::join!(disk.lock(Path::new(DIRECTORY)), end);
        assert_eq!(error_kind(next), Some(io::ErrorKind::Other));
    }
}

#[tokio::test]
async fn a_crash_image_starts_unlocked() {
    let disk = disk(1).await;
    let held = disk.lock(Path::new(DIRECTORY)).await.unwrap();
    let image = disk.process_crash();
    image.lock(Path::new(DIRECTORY)).await.unwrap();
    assert_eq!(error_kind(disk.lock(Path::new(DIRECTORY)).await), Some(io::ErrorKind::WouldBlock));
    drop(held);
}
