//! What recovery costs, in rows a second, beside a plain sequential read of the same bytes. A measurement: it
//! asserts nothing about time.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anabranch::{Durability, Engine, Flush, IngestOptions};

type Db = Engine<u64, String>;

/// The least of three: the first may find the files not yet in the page cache.
const TRIES: usize = 3;

fn rows() -> u64 {
    std::env::var("ANABRANCH_ROWS").map_or(1_000_000, |rows| rows.parse().expect("a number of rows"))
}

async fn open(directory: &Path, shards: usize) -> Db {
    // No checkpoint but by hand.
    let builder = Engine::builder().shards(shards).checkpoint_after_bytes(1 << 40).segments_max(1 << 12);
    let durability = Durability::Relaxed(Flush::every(Duration::from_millis(100)));
    builder.durability(durability).open(directory).await.expect("it opens")
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let result = work();
    (began.elapsed(), result)
}

/// Reads every file from front to end, as a copy would, and returns how many bytes there are.
fn read_plainly(directory: &Path) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for entry in fs::read_dir(directory).expect("it is there") {
        let mut file = File::open(entry.expect("it is there").path()).expect("it is there");
        loop {
            let read = file.read(&mut buffer).expect("it can be read");
            if read == 0 {
                break;
            }
            bytes += read as u64;
        }
    }
    bytes
}

#[expect(clippy::cast_precision_loss, reason = "to be looked at")]
fn measure(what: &str, directory: &Path, shards: usize, rows: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut plain = (Duration::MAX, 0);
    let mut opened = Duration::MAX;
    for _ in 0..TRIES {
        plain = plain.min(timed(|| read_plainly(directory)));
        let (elapsed, db) = timed(|| runtime.block_on(open(directory, shards)));
        opened = opened.min(elapsed);
        let report = db.recovery_report();
        assert_eq!(report.checkpoint_entries + report.writes, rows, "{report:?}");
        assert_eq!(db.handle().len().expect("it is open") as u64, rows);
        // Dropped without a change, so that the next try finds the same.
        runtime.block_on(db.close()).expect("it closes");
    }
    let (read, bytes) = plain;
    println!(
        "{what}, {shards} shards: {:.0} k rows/s in {:.2} s, {:.0} MB/s; a plain read of the same {:.0} MB: {:.0} MB/s, \
         which would be {:.0} k rows/s",
        rows as f64 / opened.as_secs_f64() / 1e3,
        opened.as_secs_f64(),
        bytes as f64 / opened.as_secs_f64() / 1e6,
        bytes as f64 / 1e6,
        bytes as f64 / read.as_secs_f64() / 1e6,
        rows as f64 / read.as_secs_f64() / 1e3,
    );
}

#[test]
#[ignore = "a measurement: cargo test --release --test recovery rows_per_second -- --ignored --nocapture"]
fn rows_per_second_of_recovery_beside_a_plain_read() {
    let rows = rows();
    for shards in [1, 2, 4] {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let db = open(directory.path(), shards).await;
            let mut sink = db.handle().ingest(IngestOptions::default());
            for row in 0..rows {
                sink.send(row, format!("{row:0>100}")).await.expect("it is written");
            }
            sink.finish().await.expect("it is written");
            db.close().await.expect("it closes");
        });
        measure("from logs", directory.path(), shards, rows);
        runtime.block_on(async {
            let db = open(directory.path(), shards).await;
            db.checkpoint().await.expect("it is written");
            db.close().await.expect("it closes");
        });
        measure("from checkpoints", directory.path(), shards, rows);
    }
}
