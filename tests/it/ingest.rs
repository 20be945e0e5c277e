//! The ingest sink.

use std::future::poll_fn;
use std::pin::Pin;

use anabranch::{Error, IngestError, IngestOptions};
use futures_sink::Sink;

use crate::harness::{in_memory, open, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_sent_is_there_after_finish_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, u64>(directory.path(), 3).await;
    let mut sink = engine.handle().ingest(IngestOptions::default().batch_rows(64).batches_in_flight(2));
    let report = within(async {
        for key in 0..5_000 {
            sink.send(key, key * 2).await.unwrap();
        }
        sink.finish().await.unwrap()
    })
    .await;
    assert_eq!(report.rows, 5_000);
    assert!(report.batches < 5_000 / 32, "rows are gathered: {report:?}");
    assert_eq!(engine.handle().len().unwrap(), 5_000);
    drop(engine);
    let db = open::<u64, u64>(directory.path(), 3).await.handle();
    assert!(matches!(db.get(&4_999), Err(Error::Closed)), "the engine was dropped at once");
    let engine = open::<u64, u64>(directory.path(), 3).await;
    assert_eq!(engine.handle().get(&4_999).unwrap().as_deref(), Some(&9_998));
    assert_eq!(engine.handle().len().unwrap(), 5_000);
}

#[tokio::test]
async fn writes_to_one_key_keep_their_order() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    let mut sink = db.ingest(IngestOptions::default().batch_rows(3));
    within(async {
        for round in 0..100 {
            for key in 0..10 {
                sink.send(key, round).await.unwrap();
            }
        }
        for key in 0..5 {
            sink.remove(key).await.unwrap();
        }
        sink.flush().await.unwrap();
        for key in 0..5 {
            assert_eq!(db.get(&key).unwrap(), None);
            assert_eq!(db.get(&(key + 5)).unwrap().as_deref(), Some(&99));
        }
        sink.remove(7).await.unwrap();
        sink.send(7, 1).await.unwrap();
        sink.finish().await.unwrap();
    })
    .await;
    assert_eq!(db.get(&7).unwrap().as_deref(), Some(&1));
}

#[tokio::test]
async fn a_sink_is_also_a_futures_sink() {
    let engine = in_memory::<u64, u64>(2).await;
    let mut sink = engine.handle().ingest(IngestOptions::default());
    within(async {
        for key in 0..1_000 {
            poll_fn(|context| Pin::new(&mut sink).poll_ready(context)).await.unwrap();
            Pin::new(&mut sink).start_send((key, key)).unwrap();
        }
        poll_fn(|context| Pin::new(&mut sink).poll_close(context)).await.unwrap();
    })
    .await;
    assert_eq!(engine.handle().len().unwrap(), 1_000);
}

#[tokio::test]
async fn a_sink_of_a_closed_engine_says_so_and_does_not_hang() {
    let engine = in_memory::<u64, u64>(2).await;
    let mut sink = engine.handle().ingest(IngestOptions::default().batch_rows(2).batches_in_flight(1));
    sink.send(1, 1).await.unwrap();
    within(engine.close()).await.unwrap();
    within(async {
        let mut outcome = Ok(());
        for key in 0..100 {
            outcome = outcome.and(sink.send(key, key).await);
        }
        let closed = |outcome: Result<(), IngestError>| matches!(outcome, Err(error) if matches!(error.cause(), Error::Closed));
        assert!(closed(outcome));
        assert!(closed(sink.finish().await.map(|_| ())));
    })
    .await;
}
