//! Reads real flights into a durable engine, keeps count per route, and answers questions. Kill it at any moment
//! and run it again: it goes on where it was and counts nothing twice.
//!
//! Run it with `cargo run --release --example ingest`; `-- --help` behind that shows what else it takes.

mod flights;
mod input;
mod queries;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anabranch::{Durability, Engine, Flush, IngestOptions, RecoveryReport};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use lexopt::prelude::{Long, Short, Value as Positional, ValueExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::flights::{Db, Progress, Value};
use crate::input::{Malformed, Source};
use crate::queries::Answers;

const HELP: &str = "\
Reads flights from a CSV into a durable engine, and answers questions about them.

usage: ingest [OPTIONS] [FILE]

  FILE             date,delay,distance,origin,destination, plain or gzip; - is standard input;
                   by default the 250,000 flights that come with the source
  --dir DIR        where the engine lives; by default in the system's temporary directory
  --relaxed        sync every 100 ms rather than every commit: faster, and a power cut may take the end back
  --airport CODE   whose flights to list; by default the largest airport's
  --day DAY        on which day, like 2001-01-31; by default its first
  --answers FILE   also write the answers to FILE, for programs
  --help           this
";

/// Of the malformed lines of a run, so many are shown.
const MALFORMED_SHOWN: u64 = 10;
/// Chunks that are read ahead.
const CHUNKS_AHEAD: usize = 2;

/// What ends the run early. What was committed until then stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
enum IngestError {
    #[error("can't read {source_name}: {error}")]
    Read { source_name: String, error: std::io::Error },
    #[error("can't write {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Header(#[from] Malformed),
    #[error(
        "{source_name} does not begin with the {lines} lines that are already ingested; give the input that they \
         came from, or another directory with --dir"
    )]
    OtherInput { source_name: String, lines: u64 },
    #[error(transparent)]
    Engine(#[from] anabranch::Error),
    #[error("{0}; see --help")]
    Usage(#[from] lexopt::Error),
    #[error("the reading thread ended early: {0}")]
    Reader(#[from] tokio::task::JoinError),
    #[error("interrupted; the same command goes on from line {line}")]
    Interrupted { line: u64 },
}

struct Options {
    source: Source,
    directory: PathBuf,
    durability: Durability,
    airport: Option<String>,
    day: Option<String>,
    answers: Option<PathBuf>,
}

impl Options {
    /// `None` if help was asked for.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/flights-250k.csv.gz");
        let mut options = Self {
            source: Source::File(bundled),
            directory: std::env::temp_dir().join("anabranch-ingest"),
            durability: Durability::Full,
            airport: None,
            day: None,
            answers: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Positional(file) if file == "-" => options.source = Source::Stdin,
                Positional(file) => options.source = Source::File(file.into()),
                Long("dir") => options.directory = arguments.value()?.into(),
                Long("relaxed") => {
                    options.durability = Durability::Relaxed(Flush::every(Duration::from_millis(100)));
                }
                Long("airport") => options.airport = Some(arguments.value()?.string()?),
                Long("day") => options.day = Some(arguments.value()?.string()?),
                Long("answers") => options.answers = Some(arguments.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

async fn run() -> Result<(), IngestError> {
    let Some(options) = Options::parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    let bar = progress_bar();
    let source_name = options.source.to_string();
    let lines = options.source.open(&bar)?;
    println!("from {source_name}");
    println!("into {}", options.directory.display());

    let builder = Engine::<String, Value>::builder().durability(options.durability);
    let engine = builder.open(&options.directory).await?;
    let db = engine.handle();
    let done = flights::progress(&db)?;
    print_recovery(engine.recovery_report(), done);

    let started = Instant::now();
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let reader = tokio::task::spawn_blocking(move || input::read(lines, done, &sender));
    let now = ingest(&db, chunks, done, &bar).await?;
    reader.await??;
    bar.finish_and_clear();
    print_ingested(&engine, done, now, started.elapsed());

    let view = db.snapshot();
    match Answers::ask(&view, options.airport, options.day)? {
        None => println!("there are no flights to ask about"),
        Some(answers) => {
            answers.print();
            if let Some(path) = options.answers {
                let written = std::fs::write(&path, answers.to_text(&view)?);
                written.map_err(|error| IngestError::Write { path, error })?;
            }
        }
    }
    Ok(engine.close().await?)
}

/// Puts in all that the reader sends, chunk by chunk, until it ends or Ctrl-C is pressed.
async fn ingest(
    db: &Db,
    mut chunks: mpsc::Receiver<input::Chunk>,
    done: Progress,
    bar: &ProgressBar,
) -> Result<Progress, IngestError> {
    let mut sink = db.ingest(IngestOptions::default());
    let mut now = done;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            _ = &mut interrupt => return Err(IngestError::Interrupted { line: now.lines + 1 }),
        };
        let Some(chunk) = chunk else { return Ok(now) };
        bar.suspend(|| print_malformed(&chunk.malformed, now.rejected - done.rejected));
        now = chunk.progress;
        flights::put(db, &mut sink, chunk).await?;
        bar.set_message(format!("{} flights", HumanCount(now.flights)));
    }
}

/// Shows itself only on a terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("[{elapsed}] {wide_bar} {bytes}/{total_bytes}  {msg}");
    let bar = ProgressBar::no_length();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn print_malformed(lines: &[Malformed], shown: u64) {
    for (line, shown) in lines.iter().zip(shown..=MALFORMED_SHOWN) {
        if shown < MALFORMED_SHOWN {
            eprintln!("rejected {line}");
        } else {
            eprintln!("rejected more lines, which are only counted");
        }
    }
}

fn print_recovery(report: &RecoveryReport, done: Progress) {
    if report.created {
        println!("made a new engine in {:.1?}", report.elapsed);
        return;
    }
    let seconds = report.elapsed.as_secs_f64().max(f64::EPSILON);
    let entries = report.checkpoint_entries + report.writes;
    let bytes = report.checkpoint_bytes + report.log.log_bytes;
    println!(
        "recovered {} entries from checkpoints and {} from the log ({}) in {:.1?}, {} a second",
        HumanCount(report.checkpoint_entries),
        HumanCount(report.writes),
        HumanBytes(bytes),
        report.elapsed,
        HumanCount(rate(entries, seconds)),
    );
    println!("  everything up to commit {}", report.log.recovered_to);
    if report.log.commits_dropped > 0 || report.log.torn_bytes > 0 {
        println!(
            "  dropped what a crash had cut short: {} commits, {}",
            report.log.commits_dropped,
            HumanBytes(report.log.torn_bytes)
        );
    }
    println!("  {} flights were counted, up to line {}", HumanCount(done.flights), HumanCount(done.lines));
}

fn print_ingested(engine: &Engine<String, Value>, done: Progress, now: Progress, elapsed: Duration) {
    let flights = now.flights - done.flights;
    if now.lines == done.lines {
        println!("nothing new: all {} flights were in already", HumanCount(now.flights));
    } else {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let per_second = HumanCount(rate(flights, seconds));
        println!("ingested {} flights in {elapsed:.1?}, {per_second} rows/s", HumanCount(flights));
    }
    if now.rejected > 0 {
        println!("  rejected {} malformed lines in all", HumanCount(now.rejected));
    }
    let stats = engine.stats();
    if stats.commits > 0 {
        println!(
            "  {} commits, {} fsyncs, {} logged ({} of them rows and routes)",
            HumanCount(stats.commits),
            HumanCount(stats.log.syncs),
            HumanBytes(stats.log.written_bytes),
            HumanBytes(stats.log.record_bytes),
        );
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
fn rate(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds) as u64
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: can't start a tokio runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run());
    // The reader may be waiting for standard input, which may never come.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                IngestError::Usage(_) => ExitCode::from(2),
                IngestError::Interrupted { .. } => ExitCode::from(130),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
