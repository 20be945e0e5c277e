//! When checkpoints are due, and what happens at the limit of the ring.

use std::time::Duration;

use anabranch::{Durability, Flush};
use tokio::task::JoinSet;

use crate::{builder, effort, until, within, write};

#[tokio::test]
async fn a_checkpoint_by_hand_covers_every_shard_that_logged_something() {
    let directory = tempfile::tempdir().unwrap();
    let engine = within(builder().shards(4).open(directory.path())).await.unwrap();
    write(&engine.handle(), 0..100, b"value").await.unwrap();
    within(engine.checkpoint()).await.unwrap();
    let first = engine.stats();
    assert_eq!(first.log.checkpoints, 4);
    assert!(first.shards.iter().all(|shard| shard.ring.bytes_since_checkpoint == 0), "{first:?}");
    // Nothing was logged since, so there is nothing to do.
    within(engine.checkpoint()).await.unwrap();
    assert_eq!(engine.stats().log.checkpoints, 4);
    drop(engine);
    let engine = within(builder().shards(4).open(directory.path())).await.unwrap();
    let report = engine.recovery_report();
    assert_eq!((report.checkpoint_entries, report.records), (100, 0), "{report:?}");
}

#[tokio::test]
async fn a_checkpoint_is_due_after_so_many_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let builder = builder().shards(1).segment_bytes(32 << 10).checkpoint_after_bytes(64 << 10);
    let engine = within(builder.open(directory.path())).await.unwrap();
    write(&engine.handle(), 0..100, &[1; 100]).await.unwrap();
    assert_eq!(engine.stats().log.checkpoints, 0, "a sixth of that was logged");
    for _ in 0..16 {
        write(&engine.handle(), 0..100, &[1; 100]).await.unwrap();
    }
    until(|| engine.stats().log.checkpoints > 0).await;
}

#[tokio::test]
async fn what_was_loaded_is_not_written_once_more_before_as_much_is_garbage_or_four_times_as_much_was_logged()
{
    let directory = tempfile::tempdir().unwrap();
    let builder = || builder().shards(1).segment_bytes(16 << 10).checkpoint_after_bytes(64 << 10);
    for again in [true, false] {
        let directory = directory.path().join(again.to_string());
        let engine = within(builder().open(directory)).await.unwrap();
        write(&engine.handle(), 0..900, &[1; 100]).await.unwrap();
        let logged = engine.stats().shards[0].ring.bytes_since_checkpoint;
        assert!((96 << 10..160 << 10).contains(&logged), "{logged}");
        // The keeper looks whenever a segment is full.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(engine.stats().log.checkpoints, 0, "all of it is still there");
        let more = if again { 0..900 } else { 900..2_500 };
        write(&engine.handle(), more, &[1; 100]).await.unwrap();
        until(|| engine.stats().log.checkpoints > 0).await;
        within(engine.close()).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_logged_is_counted_on_after_reopening_and_not_the_length_of_files() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let builder = builder().shards(1).segment_bytes(64 << 10);
        builder.checkpoint_after_bytes(64 << 10).open(directory.path())
    };
    let logged =
        |engine: &anabranch::Engine<u64, Vec<u8>>| engine.stats().shards[0].ring.bytes_since_checkpoint;
    let engine = within(open()).await.unwrap();
    write(&engine.handle(), 0..100, &[1; 100]).await.unwrap();
    let before = logged(&engine);
    assert!((10_000..20_000).contains(&before), "{before}");
    within(engine.close()).await.unwrap();
    for _ in 0..3 {
        let engine = within(open()).await.unwrap();
        // But for the head of the segment, a sector, which is no batch.
        assert_eq!(logged(&engine) + 512, before);
        assert_eq!(engine.stats().log.checkpoints, 0, "none is due");
        within(engine.close()).await.unwrap();
    }
    let engine = within(open()).await.unwrap();
    within(engine.checkpoint()).await.unwrap();
    within(engine.close()).await.unwrap();
    let engine = within(open()).await.unwrap();
    assert_eq!(logged(&engine), 0, "a checkpoint covers it");
    // And on from there.
    for _ in 0..12 {
        write(&engine.handle(), 0..100, &[1; 100]).await.unwrap();
    }
    until(|| engine.stats().log.checkpoints > 0).await;
}

#[tokio::test]
async fn a_checkpoint_is_due_by_time_if_something_was_logged() {
    let directory = tempfile::tempdir().unwrap();
    let builder = builder().shards(2).checkpoint_every(Duration::from_millis(10));
    let engine = within(builder.open(directory.path())).await.unwrap();
    within(engine.handle().insert(1, vec![1])).await.unwrap();
    until(|| engine.stats().log.checkpoints > 0).await;
    let stats = engine.stats();
    assert_eq!(stats.log.checkpoints, 1, "the other shard has logged nothing: {stats:?}");
}

#[tokio::test]
async fn a_checkpoint_is_due_when_half_of_the_ring_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let builder = builder().shards(1).segment_bytes(64 << 10).segments_max(8).checkpoint_after_bytes(1 << 40);
    let engine = within(builder.open(directory.path())).await.unwrap();
    write(&engine.handle(), 0..1_500, &[1; 100]).await.unwrap();
    assert_eq!(engine.stats().log.checkpoints, 0);
    write(&engine.handle(), 0..4_000, &[1; 100]).await.unwrap();
    until(|| engine.stats().log.segments_recycled > 0).await;
    assert!(engine.stats().log.checkpoints > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_of_the_ring_commits_wait_and_none_fails() {
    for durability in [Durability::Full, Durability::Relaxed(Flush::every(Duration::from_mins(10)))] {
        let directory = tempfile::tempdir().unwrap();
        let builder = || {
            builder()
                .shards(2)
                .segment_bytes(16 << 10)
                .segments_max(4)
                .checkpoint_after_bytes(1 << 40)
                .durability(durability)
        };
        let engine = within(builder().open(directory.path())).await.unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..32_u64 {
            let db = engine.handle();
            tasks.spawn(async move {
                for round in 0..effort(10, 60) {
                    // Of one shard, of two, and larger than a segment now and then.
                    let length = if round % 10 == 9 { 20_000 } else { 3_000 };
                    db.insert(task, vec![1; length]).await?;
                    write(&db, task * 100..task * 100 + 3, &[2; 2_000]).await?;
                    db.update(1_000_000, |old| {
                        let count = old.map_or(0, |old| u64::from_le_bytes(old[..8].try_into().unwrap()));
                        Some((count + 1).to_le_bytes().to_vec())
                    })
                    .await?;
                }
                Ok::<_, anabranch::Error>(())
            });
        }
        while let Some(ended) = within(tasks.join_next()).await {
            ended.unwrap().unwrap();
        }
        let stats = engine.stats();
        assert!(stats.log.segments_recycled > 8, "the ring went round: {stats:?}");
        // Four, and what it takes to let through a commit that is larger than a segment (L2).
        assert!(stats.shards.iter().all(|shard| shard.ring.segments <= 8), "{stats:?}");
        assert_eq!((stats.waiting(), &stats.checkpoint_error), (0, &None));
        within(engine.close()).await.unwrap();
        let engine = within(builder().open(directory.path())).await.unwrap();
        let count = engine.handle().get(&1_000_000).unwrap().unwrap();
        assert_eq!(count.as_slice(), (32 * effort(10_u64, 60)).to_le_bytes());
    }
}
