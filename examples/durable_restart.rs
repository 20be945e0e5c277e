//! Writes to a directory, drops the engine, opens the directory again, and shows what it recovered.
//!
//! Run it with `cargo run --example durable_restart`, or with `-- some/directory` behind that, several times:
//! then it counts its runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anabranch::{Durability, Engine, Error, RecoveryReport};

/// Keys need not be strings: a tuple sorts by its parts.
type Key = (String, u64);
type Db = Engine<Key, String>;

async fn open(directory: &Path) -> Result<Db, Error> {
    // `Full` is the default: an acknowledged commit survives power loss.
    let engine: Db = Engine::builder().durability(Durability::Full).open(directory).await?;
    describe(engine.recovery_report());
    Ok(engine)
}

fn describe(report: &RecoveryReport) {
    if report.created {
        println!("opened   a new database, in {:.1?}", report.elapsed);
        return;
    }
    println!("opened   everything up to commit {}, in {:.1?}", report.log.recovered_to, report.elapsed);
    println!("         {} entries from checkpoints", report.checkpoint_entries);
    println!("         {} writes of {} records from the logs", report.writes, report.records);
    println!(
        "         {} unfinished commits and {} torn bytes dropped",
        report.log.commits_dropped, report.log.torn_bytes
    );
}

async fn run(directory: &Path) -> Result<(), Error> {
    println!("in {}", directory.display());
    let run;
    {
        let engine = open(directory).await?;
        let db = engine.handle();
        let next = |runs: Option<&String>| {
            let runs = runs.and_then(|runs| runs.parse::<u64>().ok());
            Some((runs.unwrap_or(0) + 1).to_string())
        };
        run = db.update(("runs".into(), 0), next).await?.map_or_else(String::new, |run| run.to_string());
        for line in 0..100 {
            let key = (format!("run {run}"), line);
            db.insert(key, format!("line {line} of run {run}")).await?;
        }
        println!("wrote    100 lines in run {run}, each acknowledged");
    } // Dropped, not closed. What was acknowledged is safe either way.

    let engine = open(directory).await?;
    let lines = (format!("run {run}"), 0)..=(format!("run {run}"), u64::MAX);
    let found = engine.handle().range(lines).collect::<Result<Vec<_>, _>>()?;
    println!(
        "found    {} lines of run {run}, the last: {:?}",
        found.len(),
        found.last().map(|(_, line)| line)
    );

    // A checkpoint bounds what the next opening has to read.
    engine.checkpoint().await?;
    engine.close().await?;
    let engine = open(directory).await?;
    println!("holds    {} keys in all", engine.handle().len()?);
    engine.close().await
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = if let Some(directory) = std::env::args_os().nth(1) {
        run(&PathBuf::from(directory)).await
    } else {
        match tempfile::tempdir() {
            Ok(directory) => run(directory.path()).await,
            Err(error) => {
                eprintln!("error: can't make a temporary directory: {error}");
                return ExitCode::FAILURE;
            }
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
