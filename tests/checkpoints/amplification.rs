//! Write amplification: all bytes written (segments with their headers and padding, checkpoints, and the manifest) over
//! the bytes of the records logged. Rewriting everything for each full segment is what it must never come to.

use anabranch::{Durability, Flush, WalStats};
use std::time::Duration;

use crate::{builder, effort, within, write};

/// What the issue allows.
const AMPLIFICATION_MAX: f64 = 3.0;

fn amplification(stats: &WalStats) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let [all, records] =
        [stats.written_bytes + stats.checkpoint_bytes + stats.manifest_bytes, stats.record_bytes]
            .map(|n| n as f64);
    all / records
}

/// Loads so many rows, and then writes each of them four times more.
async fn measure(rows: u64) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let durability = Durability::Relaxed(Flush::every(Duration::from_millis(200)));
    // Segments are small against the data, so that many checkpoints come due, and the ring as large as by default
    // (1 GiB): half of it should hold what the shard holds, or checkpoints come due before they pay.
    let ring = builder().shards(2).segment_bytes(128 << 10).segments_max(8 << 10);
    let builder = ring.checkpoint_after_bytes(128 << 10);
    let engine = within(builder.durability(durability).open(directory.path())).await.unwrap();
    for round in 0..5 {
        write(&engine.handle(), 0..rows, &[round; 100]).await.unwrap();
    }
    within(engine.sync()).await.unwrap();
    let stats = engine.stats().log;
    within(engine.close()).await.unwrap();
    let measured = amplification(&stats);
    println!(
        "{rows} rows: {measured:.2} times what was logged, {} checkpoints: {stats:?}",
        stats.checkpoints
    );
    assert!(stats.checkpoints >= 2, "{stats:?}");
    // A block for each time that checkpoints were published, one or both of them.
    assert!(stats.manifest_bytes >= stats.checkpoints / 2 * 4096, "{stats:?}");
    measured
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_at_most_three_times_what_is_logged_however_much_data_there_is() {
    let mut sizes = effort(vec![10_000, 40_000], vec![100_000, 400_000]);
    if let Ok(rows) = std::env::var("ANABRANCH_ROWS") {
        sizes.push(rows.parse().expect("ANABRANCH_ROWS is a number of rows"));
    }
    let mut measured = Vec::new();
    for rows in sizes {
        measured.push(measure(rows).await);
    }
    assert!(measured.iter().all(|amplification| *amplification <= AMPLIFICATION_MAX), "{measured:?}");
    let grown = measured.last().unwrap() / measured[0];
    assert!(grown < 1.25, "it grows with the data: {measured:?}");
}
