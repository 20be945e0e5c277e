//! What is retained for readers of changes is gone through when an engine is opened, and not held.

use std::process::Command;

use anabranch::{Durability, Engine, Flush, Timestamp};

use crate::ALLOCATOR;

const VALUE_BYTES: usize = 16 << 10;
const COMMITS: u64 = 4_000;
/// A third of what is retained.
const HELD_BYTES_MAX: usize = 20 << 20;

/// In a process of its own, since the allocator keeps the peak of a whole process.
#[test]
fn opening_holds_a_segment_at_a_time_of_what_is_retained_for_readers_of_changes() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "opening::opening_in_a_process_of_its_own", "--ignored", "--nocapture"]);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "is run by the test above"]
async fn opening_in_a_process_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let builder: anabranch::EngineBuilder<u64, Vec<u8>> = Engine::builder();
        builder
            .shards(1)
            .segment_bytes(1 << 20)
            .segments_max(1_000)
            .retain_log_bytes(1 << 30)
            .durability(Durability::Relaxed(Flush::after_bytes(1 << 20)))
            .open(directory.path())
    };
    let engine = open().await.unwrap();
    for commit in 0..COMMITS {
        engine.handle().insert(commit % 20, vec![1; VALUE_BYTES]).await.unwrap();
    }
    engine.checkpoint().await.unwrap();
    engine.close().await.unwrap();

    let engine = open().await.unwrap();
    assert_eq!(engine.recovery_report().records, 0, "a checkpoint covers all of it");
    assert!(engine.recovery_report().log.log_bytes > COMMITS * VALUE_BYTES as u64, "and all of it is read");
    let most = ALLOCATOR.max_allocated();
    println!("at the most {most} bytes were allocated");
    assert!(most < HELD_BYTES_MAX, "{most} bytes were held");
    // It is there for readers, from the beginning.
    let mut changes = engine.handle().changes(Timestamp::ZERO);
    let first = std::future::poll_fn(|context| {
        futures_core::Stream::poll_next(std::pin::Pin::new(&mut changes), context)
    });
    assert_eq!(first.await.unwrap().unwrap().timestamp, Timestamp(1));
}
