//! The sink itself: order, bounds, errors, many producers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch::{Error, IngestOptions};
use anabranch_wal::disk::sim::{Fault, FaultKind, Operation, SimDisk, Times};
use futures_core::Stream;
use futures_sink::Sink;

use crate::{add, builder, content, within};

#[tokio::test]
async fn inserts_removes_and_updates_of_a_key_keep_their_order() {
    let engine = builder().shards(3).in_memory().await.unwrap();
    let db = engine.handle();
    let mut sink = db.ingest(IngestOptions::default().batch_rows(7));
    within(async {
        for key in 0..30 {
            sink.send(key, 1).await.unwrap();
            sink.update(key, add(10)).await.unwrap();
            sink.send(key, 2).await.unwrap();
            sink.update(key, add(key)).await.unwrap();
            if key % 3 == 0 {
                sink.remove(key).await.unwrap();
            }
            if key % 6 == 0 {
                sink.update(key, add(100)).await.unwrap();
            }
        }
        sink.finish().await.unwrap();
    })
    .await;
    for key in 0..30 {
        let expected = match (key % 3, key % 6) {
            (0, 0) => Some(100),
            (0, _) => None,
            _ => Some(2 + key),
        };
        assert_eq!(db.get(&key).unwrap().as_deref().copied(), expected, "key {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_sink_and_no_update_is_lost_or_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(3).open(directory.path()).await.unwrap();
    let sink = engine.handle().ingest(IngestOptions::default().batch_rows(32).batches_in_flight(3));
    let tasks: Vec<_> = (0..4_u64)
        .map(|task| {
            let mut sink = sink.clone();
            tokio::spawn(async move {
                for row in 0..1_000 {
                    sink.update(row % 10, add(1)).await.unwrap();
                    sink.send(1_000 + task, row).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap();
    }
    let report = within(sink.finish()).await.unwrap();
    assert_eq!(report.rows, 8_000);
    assert!(report.batches < 2_000, "rows are gathered: {report:?}");
    let content = content(&engine.handle());
    assert!((0..10).all(|key| content[&key] == 400), "{content:?}");
    assert!((1_000..1_004).all(|key| content[&key] == 999), "each task's rows keep their order: {content:?}");
}

/// Numbers, some of them after a while.
struct Rows(u64);

impl Stream for Rows {
    type Item = (u64, u64);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<(u64, u64)>> {
        self.0 += 1;
        if self.0.is_multiple_of(7) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready((self.0 <= 700).then_some((self.0, self.0)))
    }
}

#[tokio::test]
async fn a_stream_is_sent_to_its_end_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(2).open(directory.path()).await.unwrap();
    let mut sink = engine.handle().ingest(IngestOptions::default());
    within(sink.send_all(Rows(0))).await.unwrap();
    let report = within(sink.finish()).await.unwrap();
    assert_eq!(report.rows, 600);
    assert!(report.bytes > 600 * 4, "{report:?}");
    assert!(report.rows_per_second() > 0.0 && report.bytes_per_second() > report.rows_per_second());
    assert_eq!(engine.handle().len().unwrap(), 600);
}

#[tokio::test]
async fn a_row_does_not_wait_for_its_batch_to_be_full() {
    let engine = builder().shards(2).in_memory().await.unwrap();
    let db = engine.handle();
    let options = IngestOptions::default().batch_rows(1_000_000).batch_delay(Duration::from_millis(1));
    let mut sink = db.ingest(options);
    sink.send(1, 1).await.unwrap();
    within(async {
        while db.get(&1).unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_ends_at_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(1).open(directory.path()).await.unwrap();
    let options = IngestOptions::default().batch_bytes(100).batch_delay(Duration::from_hours(1));
    let mut sink = engine.handle().ingest(options);
    for key in 0..100 {
        within(sink.send(key, key)).await.unwrap();
    }
    let report = within(sink.finish()).await.unwrap();
    assert!(report.batches >= 10, "{report:?}");
}

#[tokio::test]
async fn a_producer_is_held_back_while_the_engine_is_behind() {
    let disk = SimDisk::new(1);
    let engine = builder().shards(1).disk(Arc::new(disk.clone())).open("/held").await.unwrap();
    // Each flush takes up to half a second from here on.
    disk.set_latency(Duration::from_millis(500));
    let options = IngestOptions::default().batch_rows(10).batches_in_flight(2);
    let mut sink = engine.handle().ingest(options);
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let mut producing = tokio::spawn(async move {
        for key in 0.. {
            if sink.send(key, key).await.is_err() {
                return;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    // It comes to a stop on its own: of 2 batches under way and 10 rows gathered, none is acknowledged before time
    // goes on, and time goes on only here.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut producing).await.is_err());
    let sent = sent.load(Ordering::SeqCst);
    assert!((20..=100).contains(&sent), "{sent} rows were taken in");
    producing.abort();
}

#[tokio::test]
async fn an_error_names_the_first_row_that_is_not_in_and_all_before_it_are() {
    let directory = tempfile::tempdir().unwrap();
    let engine = builder().shards(3).open(directory.path()).await.unwrap();
    let db = engine.handle();
    let options = IngestOptions::default().batch_rows(50).batch_delay(Duration::from_hours(1));
    let mut sink = db.ingest(options);
    let outcome = within(async {
        let mut outcome = Ok(());
        for key in 0..1_000 {
            let sent = if key == 333 {
                sink.update(key, |_| panic!("not this one")).await
            } else {
                sink.send(key, key).await
            };
            outcome = outcome.and(sent);
        }
        outcome.and(sink.flush().await.map(|_| ()))
    })
    .await;
    let error = outcome.unwrap_err();
    assert_eq!(error.row(), 333, "{error}");
    assert!(matches!(error.cause(), Error::Panicked { message } if message == "not this one"), "{error}");
    for key in 0..333 {
        assert_eq!(db.get(&key).unwrap().as_deref(), Some(&key), "key {key}");
    }
    assert_eq!(db.get(&333).unwrap(), None);
    let again = within(sink.send(5, 5)).await.unwrap_err();
    assert_eq!(again.row(), 333, "the error stays");
    assert_eq!(within(sink.finish()).await.unwrap_err().row(), 333);
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_log_fails_tells_every_producer_and_nobody_hangs() {
    let disk = SimDisk::new(2);
    let engine = builder().shards(2).disk(Arc::new(disk.clone())).open("/failing").await.unwrap();
    let fault = FaultKind::Eio;
    disk.inject(Fault {
        operation: Operation::Write,
        path_contains: None,
        nth: 4,
        times: Times::Once,
        kind: fault,
    });
    let sink = engine.handle().ingest(IngestOptions::default().batch_rows(4).batches_in_flight(2));
    let tasks: Vec<_> = (0..3_u64)
        .map(|task| {
            let mut sink = sink.clone();
            tokio::spawn(async move {
                for row in 0.. {
                    if let Err(error) = sink.send(task * 1_000_000 + row, row).await {
                        return error;
                    }
                }
                unreachable!("it ends with an error")
            })
        })
        .collect();
    let mut rows = Vec::new();
    for task in tasks {
        let error = within(task).await.unwrap();
        assert!(matches!(error.cause(), Error::Indeterminate { .. } | Error::ReadOnly { .. }), "{error}");
        rows.push(error.row());
    }
    assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "all are told of the same row: {rows:?}");
}

#[tokio::test]
async fn a_futures_sink_takes_rows_and_closes() {
    let engine = builder().shards(2).in_memory().await.unwrap();
    let mut sink = engine.handle().ingest(IngestOptions::default().batch_rows(16));
    within(async {
        for key in 0..500 {
            poll_fn(|context| Pin::new(&mut sink).poll_ready(context)).await.unwrap();
            Pin::new(&mut sink).start_send((key, key)).unwrap();
        }
        poll_fn(|context| Pin::new(&mut sink).poll_close(context)).await.unwrap();
    })
    .await;
    assert_eq!(engine.handle().len().unwrap(), 500);
}

#[test]
fn a_sink_is_told_when_its_runtime_has_ended() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = runtime.block_on(builder().shards(2).in_memory()).unwrap();
    let mut sink = engine.handle().ingest(IngestOptions::default().batch_rows(4));
    runtime.block_on(sink.send(1, 1)).unwrap();
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = other.block_on(within(sink.flush())).unwrap_err();
    assert!(matches!(error.cause(), Error::Closed), "{error}");
}
