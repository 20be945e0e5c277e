//! Offsets without crashes: what is told, and where it survives.

use std::time::Duration;

use anabranch::{Error, IngestOptions};

use crate::{add, builder, content, within};

#[tokio::test]
async fn an_offset_is_told_once_its_rows_are_in_and_not_before() {
    let engine = builder().shards(3).in_memory().await.unwrap();
    let db = engine.handle();
    assert_eq!(db.source_offset("flights").unwrap(), None);
    let mut sink = db.ingest(IngestOptions::default().batch_delay(Duration::from_hours(1)));
    for row in 0..10 {
        sink.send(row, row).await.unwrap();
        sink.offset("flights", row + 1);
    }
    assert_eq!(db.source_offset("flights").unwrap(), None, "the rows still gather");
    within(sink.flush()).await.unwrap();
    assert_eq!(db.source_offset("flights").unwrap(), Some(10));
    sink.offset("flights", 11);
    sink.offset("others", 3);
    sink.offset("flights", 12);
    within(sink.finish()).await.unwrap();
    assert_eq!(db.source_offset("flights").unwrap(), Some(12));
    assert_eq!(db.source_offset("others").unwrap(), Some(3));
}

#[tokio::test]
async fn an_exact_sink_commits_rows_and_offset_together_and_refuses_rows_without_one() {
    let engine = builder().shards(3).in_memory().await.unwrap();
    let db = engine.handle();
    let mut sink = db.ingest(IngestOptions::default().exact());
    for row in 0..100_u64 {
        within(sink.update(row % 5, add(row))).await.unwrap();
        within(sink.send(100 + row, row)).await.unwrap();
        sink.offset("exact", row + 1);
    }
    let report = within(sink.flush()).await.unwrap();
    assert_eq!((report.rows, db.source_offset("exact").unwrap()), (200, Some(100)));
    assert_eq!(db.get(&4).unwrap().as_deref(), Some(&(0..100).filter(|row| row % 5 == 4).sum()));
    sink.offset("exact", 101);
    within(sink.flush()).await.unwrap();
    assert_eq!(db.source_offset("exact").unwrap(), Some(101), "an offset alone");

    within(sink.send(7_000, 1)).await.unwrap();
    within(sink.flush()).await.unwrap();
    assert_eq!(db.get(&7_000).unwrap(), None, "it waits for an offset");
    let error = within(sink.finish()).await.unwrap_err();
    assert!(error.row() == 200 && matches!(error.cause(), Error::Config(_)), "{error}");
}

#[tokio::test]
async fn an_exact_sink_without_offsets_is_stopped_before_it_fills_the_memory() {
    let engine = builder().shards(2).in_memory().await.unwrap();
    let mut sink = engine.handle().ingest(IngestOptions::default().exact());
    let mut sent = 0;
    let error = within(async {
        loop {
            match sink.send(sent, sent).await {
                Ok(()) => sent += 1,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(matches!(error.cause(), Error::Config(_)), "{error}");
    assert!(error.row() == 0 && sent < 100_000, "row {} after {sent}", error.row());
}

#[tokio::test]
async fn a_closure_that_panics_in_exact_mode_leaves_nothing_of_its_commit() {
    let engine = builder().shards(2).in_memory().await.unwrap();
    let db = engine.handle();
    let mut sink =
        db.ingest(IngestOptions::default().exact().batch_rows(1_000).batch_delay(Duration::from_hours(1)));
    for row in 0..10 {
        sink.send(row, row).await.unwrap();
    }
    sink.offset("s", 1);
    within(sink.flush()).await.unwrap();
    for row in 10..20 {
        sink.send(row, row).await.unwrap();
    }
    sink.update(0, |_| panic!("no")).await.unwrap();
    sink.offset("s", 2);
    let error = within(sink.flush()).await.unwrap_err();
    assert!(error.row() == 10 && matches!(error.cause(), Error::Panicked { .. }), "{error}");
    assert_eq!((content(&db).len(), db.source_offset("s").unwrap()), (10, Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_commits_that_others_interfere_with_run_again_and_count_once() {
    let engine = builder().shards(2).in_memory().await.unwrap();
    let db = engine.handle();
    let other = tokio::spawn({
        let db = db.clone();
        async move {
            for _ in 0..2_000 {
                db.update(0, add(1)).await.unwrap();
            }
        }
    });
    let mut sink = db.ingest(IngestOptions::default().exact().batch_rows(20));
    for row in 0..2_000_u64 {
        within(sink.update(row % 3, add(1))).await.unwrap();
        sink.offset("s", row + 1);
    }
    within(sink.finish()).await.unwrap();
    within(other).await.unwrap();
    let content = content(&db);
    assert_eq!((content[&0], content[&1], content[&2]), (2_000 + 667, 667, 666));
}

#[tokio::test]
async fn offsets_survive_reopening_checkpoints_another_number_of_shards_and_backups() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let engine = builder().shards(5).open(at("first")).await.unwrap();
    let mut sink = engine.handle().ingest(IngestOptions::default());
    let mut exact = engine.handle().ingest(IngestOptions::default().exact());
    for (number, name) in (0_u64..).zip(["a", "b", "c", "d", "e", "f"]) {
        sink.send(number, number).await.unwrap();
        sink.offset(name, number + 1);
        exact.update(100 + number, add(1)).await.unwrap();
        exact.offset(&format!("exact {name}"), number + 10);
        within(exact.flush()).await.unwrap();
    }
    within(sink.flush()).await.unwrap();
    let check = |engine: &anabranch::Engine<u64, u64>, c: u64| {
        let db = engine.handle();
        for (number, name) in (0_u64..).zip(["a", "b", "c", "d", "e", "f"]) {
            let expected = if name == "c" { c } else { number + 1 };
            assert_eq!(db.source_offset(name).unwrap(), Some(expected), "{name}");
            assert_eq!(db.source_offset(&format!("exact {name}")).unwrap(), Some(number + 10), "{name}");
        }
        assert_eq!(db.len().unwrap(), 12, "offsets are no entries");
    };
    check(&engine, 3);
    within(engine.backup(at("backup before"))).await.unwrap();
    within(engine.checkpoint()).await.unwrap();
    sink.offset("c", 77);
    within(sink.finish()).await.unwrap();
    drop(exact);
    check(&engine, 77);
    within(engine.backup(at("backup after"))).await.unwrap();
    within(engine.close()).await.unwrap();

    for (shards, checkpoint) in [(5, false), (2, false), (7, true), (1, true), (3, false)] {
        let engine = within(builder().shards(shards).open(at("first"))).await.unwrap();
        check(&engine, 77);
        if checkpoint {
            within(engine.checkpoint()).await.unwrap();
        }
        within(engine.close()).await.unwrap();
    }
    for (name, c) in [("backup before", 3), ("backup after", 77)] {
        let engine = within(builder().shards(4).open(at(name))).await.unwrap();
        check(&engine, c);
    }
}
