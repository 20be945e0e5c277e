//! Rows from CSV, NDJSON and Parquet files into anabranch, with aggregates, from where the last run ended.
//!
//! A thread reads and unpacks, several tasks parse, and one sink takes everything in, in the order of the input. After
//! each record the sink is told how far the input is, so a run that was interrupted or killed goes on behind the last
//! record that is in. With aggregates, records and offsets are one commit (exact mode), so none is counted twice.

mod arguments;
mod csv;
mod entry;
mod input;
mod load;
mod record;
mod rejects;
mod table;

use std::process::ExitCode;

use anabranch::{Durability, Engine, Flush};
use clap::Parser;

use crate::arguments::{Arguments, Mode};
use crate::entry::Entry;
use crate::input::{Input, InputError};
use crate::load::{Load, Summary};
use crate::rejects::Rejects;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
enum PipelineError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("can't write the rejects: {0}")]
    Rejects(std::io::Error),
    #[error(transparent)]
    Engine(#[from] anabranch::Error),
    #[error(
        "{source_name} ended after {found} records, and {taken} were taken in before: is it the same file?"
    )]
    Shorter { source_name: String, found: u64, taken: u64 },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: can't start a tokio runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(&arguments));
    // The reader may be waiting for standard input, which may never come.
    runtime.shutdown_background();
    match outcome {
        Ok(summary) if summary.interrupted => {
            eprintln!("interrupted; the same command goes on behind the last record that is in");
            ExitCode::from(130)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Summary, PipelineError> {
    let inputs = Input::all(&arguments.inputs, arguments.format)?;
    let rejects = Rejects::open(arguments.rejects.as_deref()).map_err(PipelineError::Rejects)?;
    if arguments.dry_run {
        let summary = Load::dry(arguments, rejects).all(inputs).await?;
        println!("{summary}");
        return Ok(summary);
    }
    let durability = match arguments.durability {
        Mode::Full => Durability::Full,
        Mode::Relaxed => Durability::Relaxed(Flush::every(std::time::Duration::from_secs(1))),
    };
    let engine: Engine<String, Entry> = Engine::builder().durability(durability).open(&arguments.dir).await?;
    let summary = Load::into(arguments, rejects, engine.handle()).all(inputs).await?;
    println!("{summary}");
    if let Some(path) = &arguments.dump {
        entry::dump(&engine.handle(), path)?;
    }
    engine.close().await?;
    Ok(summary)
}
