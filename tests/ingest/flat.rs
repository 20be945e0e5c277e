//! A producer that never stops, in a process that may not take more than 256 MiB.
//!
//! The process is this test binary again, with its data limited by the shell that starts it. It overwrites keys for as
//! long as it is told to, and its resident memory is looked at each second. Not for the usual runs: it takes its time.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anabranch::{Durability, Engine, Flush, IngestOptions};

const LIMIT_KIB: u64 = 256 << 10;
const DIRECTORY: &str = "ANABRANCH_FLAT_DIRECTORY";
const SECONDS: &str = "ANABRANCH_SECONDS";
const KEYS: u64 = 20_000;

/// How long the producer goes on.
fn seconds() -> u64 {
    std::env::var(SECONDS).map_or(20, |seconds| seconds.parse().expect("a number of seconds"))
}

/// Resident memory of a process.
fn resident_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
#[ignore = "ANABRANCH_SECONDS=600 cargo test --test ingest flat:: -- --ignored --exact --nocapture flat::a_producer_that_never_stops_takes_no_more_memory"]
fn a_producer_that_never_stops_takes_no_more_memory() {
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new("sh")
        .args(["-c", &format!("ulimit -d {LIMIT_KIB} && exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "flat::produce"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    while let Some(resident) = resident_kib(child.id()) {
        seen.push(resident);
        std::thread::sleep(Duration::from_secs(1));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let said = said.lines().find(|line| line.contains("rows")).unwrap_or_default();
    // The first quarter is warming up; from there on it is flat, but for what an allocator keeps back.
    let warm = seen.split_off(seen.len() / 4);
    let (before, after) = warm.split_at(warm.len() / 2);
    let (before, after) = (*before.iter().max().unwrap(), *after.iter().max().unwrap());
    println!("{said}; at the most {before} KiB resident in the first half, {after} KiB in the second");
    assert!(after < LIMIT_KIB && after <= before + before / 10, "{before} KiB, then {after} KiB");
}

/// The producer.
#[test]
#[ignore = "a part of the other test: its process"]
fn produce() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let durability = Durability::Relaxed(Flush::every(Duration::from_secs(1)));
        let builder = Engine::<u64, Vec<u8>>::builder().shards(2).durability(durability);
        // A ring of 64 MiB for each shard, on disk.
        let builder = builder.segment_bytes(4 << 20).segments_max(16).checkpoint_after_bytes(16 << 20);
        let engine = builder.open(directory).await.unwrap();
        let mut sink = engine.handle().ingest(IngestOptions::default());
        let until = tokio::time::Instant::now() + Duration::from_secs(seconds());
        let mut row = 0_u64;
        while tokio::time::Instant::now() < until {
            for _ in 0..100 {
                let value = vec![row.to_le_bytes()[0]; 500];
                sink.send(row.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS, value).await.unwrap();
                row += 1;
            }
        }
        let report = sink.finish().await.unwrap();
        println!("{} rows of 500 bytes, {} times it had to wait", report.rows, report.stalls);
        engine.close().await.unwrap();
    });
}
