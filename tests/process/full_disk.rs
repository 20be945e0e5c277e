//! A file system that is really full: nothing is lost, and with space writes resume.

use std::fs;
use std::path::Path;
use std::process::Command;

use anabranch::{Engine, Error};
use tempfile::TempDir;

use crate::process::within;

/// A small file system in memory, unmounted at the end whatever happens.
struct Small(TempDir);

impl Small {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(directory.path());
        assert!(mount.status().unwrap().success(), "this needs root");
        Self(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let path = self.0.path();
        let done = |lazy: &[&str]| {
            Command::new("umount").args(lazy).arg(path).status().is_ok_and(|status| status.success())
        };
        let _ = done(&[]) || done(&["-l"]);
    }
}

async fn open(directory: &Path) -> Engine<u64, String> {
    let builder = Engine::builder().shards(2).segment_bytes(256 << 10).checkpoint_after_bytes(1 << 30);
    within(builder.open(directory)).await.unwrap().unwrap()
}

fn value(key: u64) -> String {
    format!("{key:05}").repeat(800)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root: mounts a tmpfs"]
async fn a_full_disk_loses_nothing_and_with_space_writes_resume() {
    let small = Small::mount();
    let (database, ballast) = (small.0.path().join("database"), small.0.path().join("ballast"));
    fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let engine = open(&database).await;
    let db = engine.handle();
    let mut acknowledged = 0;
    let refusal = loop {
        assert!(acknowledged < 10_000, "8 MiB take no 40 MB");
        match within(db.insert(acknowledged, value(acknowledged))).await.unwrap() {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, Error::DiskFull { .. }), "{refusal:?}");
    assert!(acknowledged > 100, "full after {acknowledged} commits");
    assert_eq!(db.len().unwrap() as u64, acknowledged);

    fs::remove_file(&ballast).unwrap();
    for key in acknowledged..acknowledged + 100 {
        within(db.insert(key, value(key))).await.unwrap().unwrap();
    }
    within(engine.close()).await.unwrap().unwrap();
    let engine = open(&database).await;
    assert_eq!(engine.handle().len().unwrap() as u64, acknowledged + 100);
    for key in 0..acknowledged + 100 {
        assert_eq!(engine.handle().get(&key).unwrap().as_deref(), Some(&value(key)), "{key}");
    }
    within(engine.close()).await.unwrap().unwrap();
}
