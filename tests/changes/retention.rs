//! How far back the log reaches, and what who comes too late is told.

use std::time::Duration;

use anabranch::{Error, Timestamp};

use crate::{Db, apply, builder, next, read, short_logs, snapshot, within};

async fn fill(db: &Db, commits: u64) {
    for commit in 0..commits {
        db.insert(commit % 20, vec![1; 500]).await.unwrap();
    }
}

fn gone(error: &Error) -> Timestamp {
    match error {
        Error::ChangesGone { oldest, .. } => *oldest,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_retention_a_checkpoint_ends_the_reach_and_says_where_it_begins() {
    let directory = tempfile::tempdir().unwrap();
    let engine = short_logs().open(directory.path()).await.unwrap();
    let db = engine.handle();
    fill(&db, 400).await;
    within(engine.checkpoint()).await.unwrap();
    let oldest = gone(&read(&db, Timestamp::ZERO, Timestamp(400)).await.unwrap_err());
    assert!(oldest > Timestamp(100) && oldest <= Timestamp(400), "{oldest}");
    // From there on it is complete.
    let sets = read(&db, oldest, db.snapshot().timestamp()).await.unwrap();
    assert_eq!(sets.len() as u64, 400 - oldest.0);
    let refused = read(&db, Timestamp(oldest.0 - 1), Timestamp(400)).await.unwrap_err();
    assert_eq!(gone(&refused), oldest);
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_and_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let engine = short_logs().open(directory.path()).await.unwrap();
    let db = engine.handle();
    fill(&db, 10).await;
    let mut slow = db.changes(Timestamp::ZERO);
    assert_eq!(next(&mut slow).await.unwrap().unwrap().timestamp, Timestamp(1));
    fill(&db, 2_000).await;
    within(engine.checkpoint()).await.unwrap();
    fill(&db, 200).await;
    let error = loop {
        match next(&mut slow).await.unwrap() {
            Ok(set) => assert!(set.timestamp <= Timestamp(10), "what was read before the log was reused"),
            Err(error) => break error,
        }
    };
    assert!(gone(&error) > Timestamp(1_000), "{error}");
    assert!(next(&mut slow).await.is_none());
}

#[tokio::test]
async fn retained_bytes_keep_the_log_through_checkpoints_and_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let open = || short_logs().retain_log_bytes(4 << 20).segments_max(2_000).open(directory.path());
    let engine = open().await.unwrap();
    fill(&engine.handle(), 600).await;
    within(engine.checkpoint()).await.unwrap();
    let first = read(&engine.handle(), Timestamp::ZERO, Timestamp(600)).await.unwrap();
    within(engine.close()).await.unwrap();
    for _ in 0..3 {
        let engine = open().await.unwrap();
        let db = engine.handle();
        assert_eq!(read(&db, Timestamp::ZERO, Timestamp(600)).await.unwrap(), first);
        fill(&db, 50).await;
        within(engine.checkpoint()).await.unwrap();
        within(engine.close()).await.unwrap();
    }
    let engine = open().await.unwrap();
    let sets = read(&engine.handle(), Timestamp::ZERO, Timestamp(750)).await.unwrap();
    assert_eq!(sets.len(), 750, "over four incarnations");
    let mut content = crate::Content::new();
    for set in sets {
        apply(&mut content, set);
    }
    assert_eq!(content, snapshot(&engine.handle()).1);
    within(engine.close()).await.unwrap();

    // Without retention, the next checkpoints give it all back.
    let engine = short_logs().open(directory.path()).await.unwrap();
    fill(&engine.handle(), 200).await;
    within(engine.checkpoint()).await.unwrap();
    assert!(gone(&read(&engine.handle(), Timestamp::ZERO, Timestamp(1)).await.unwrap_err()) > Timestamp(600));
}

#[tokio::test]
async fn retention_never_takes_the_room_that_commits_need() {
    let directory = tempfile::tempdir().unwrap();
    // A ring of 16 segments: at most 4 of them are kept, however much is asked for.
    let engine =
        short_logs().retain_log_bytes(1 << 40).segments_max(16).open(directory.path()).await.unwrap();
    let db = engine.handle();
    within(fill(&db, 3_000)).await;
    within(engine.checkpoint()).await.unwrap();
    for shard in engine.stats().shards {
        // And one more, where a commit began to wait just when a checkpoint had chosen what it keeps (L2).
        assert!(shard.ring.segments <= 17, "{:?}", shard.ring);
        assert!(shard.ring.segments - shard.ring.segments_free <= 7, "{:?}", shard.ring);
    }
    let oldest = gone(&read(&db, Timestamp::ZERO, Timestamp(1)).await.unwrap_err());
    assert!(oldest < Timestamp(2_980), "something is kept: {oldest}");
    // A commit larger than the whole ring gets its room.
    within(db.insert(1, vec![9; 600 << 10])).await.unwrap();
    within(fill(&db, 100)).await;
}

#[tokio::test]
async fn retained_time_lets_go_of_what_is_older() {
    let directory = tempfile::tempdir().unwrap();
    for (age, kept) in [(Duration::from_hours(1), true), (Duration::ZERO, false)] {
        let path = directory.path().join(if kept { "hour" } else { "nothing" });
        let engine = short_logs().retain_log_for(age).segments_max(2_000).open(path).await.unwrap();
        let db = engine.handle();
        fill(&db, 400).await;
        within(engine.checkpoint()).await.unwrap();
        assert_eq!(read(&db, Timestamp::ZERO, Timestamp(400)).await.is_ok(), kept);
    }
}

#[tokio::test]
async fn after_a_change_of_shards_and_in_a_backup_the_log_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let engine = builder().shards(2).open(at("first")).await.unwrap();
    fill(&engine.handle(), 30).await;
    within(engine.backup(at("backup"))).await.unwrap();
    within(engine.close()).await.unwrap();
    for (name, shards) in [("first", 3), ("backup", 2)] {
        let engine = builder().shards(shards).open(at(name)).await.unwrap();
        let db = engine.handle();
        assert_eq!(
            gone(&read(&db, Timestamp::ZERO, Timestamp(1)).await.unwrap_err()),
            Timestamp(30),
            "{name}"
        );
        fill(&db, 5).await;
        let sets = read(&db, Timestamp(30), Timestamp(35)).await.unwrap();
        assert_eq!(sets.len(), 5);
        within(engine.close()).await.unwrap();
    }
}
