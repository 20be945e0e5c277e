//! The tool's commands. Keys and values are bytes to it, so it works with any types; it goes through
//! `anabranch_wal::inspect`, which can't write to the directory it looks at.

mod backup;
mod dump;
mod failure;
mod inspect;
mod salvage;
mod session;
mod value;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// What a command that ran to its end reports to the shell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Sound,
    Damaged,
    Undecided,
}

/// Looks into the directory of an anabranch database, checks, copies, dumps and salvages it.
///
/// No command changes the directory that it reads, and none runs while an engine has it open, except `inspect
/// --no-lock`. It works whatever the types of keys and values are.
///
/// Exit status: 0 if all is well, 1 if something is damaged or missing, 2 if the command could not do its work:
/// wrong usage, no database, a directory in use, an error of the operating system.
#[derive(Parser)]
#[command(name = "anabranch", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Salvage(salvage::Arguments),
    Dump(dump::Arguments),
    Backup(backup::Arguments),
}

/// The directory that a command reads.
#[derive(clap::Args)]
struct Source {
    /// The directory of the database.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments.command)),
        Err(error) => Err(Failure::io("starting", &error)),
    };
    match outcome {
        Ok(Outcome::Sound) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(1),
        Ok(Outcome::Undecided) => ExitCode::from(2),
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command) -> Result<Outcome, Failure> {
    match command {
        Command::Inspect(arguments) => inspect::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
        Command::Salvage(arguments) => salvage::run(arguments).await,
        Command::Dump(arguments) => dump::run(arguments).await,
        Command::Backup(arguments) => backup::run(arguments).await,
    }
}
