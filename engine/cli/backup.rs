//! `anabranch backup`: copies a closed database.

use std::path::PathBuf;

use anabranch::SystemEnv;
use anabranch_wal::inspect;

use super::failure::Failure;
use super::salvage::check_copy;
use super::session::{GOOD, Session, print, real_disk};
use super::{Outcome, Source};

/// Copies a closed database into a new directory.
///
/// It reads DIR as opening it would, and copies what counts: the copy is a database of its own, with a number of
/// its own, and opens with the same types and the same partitioner. DIR is only read. The copy is checked before
/// the command ends. To copy a database while a program uses it, let the program call `Engine::backup`.
///
/// Exit status: 0 copied; 1 DIR is damaged and nothing was copied; 2 otherwise.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Where the copy goes: a directory that is missing or empty.
    #[arg(value_name = "NEWDIR")]
    new: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let session = Session::open(&arguments.source.directory, true, "copying")?;
    let new = &arguments.new;
    session.check_new_directory(new)?;
    let source = inspect::Source::open(&session.disk, &session.directory).await;
    let source = source.map_err(|error| Failure::reading(&session.directory, &error))?;
    let target = real_disk()?;
    let copied = source.copy(&target, new, &SystemEnv).await;
    session.done();
    let copied = copied.map_err(|error| Failure::copying(&session.directory, new, &error))?;
    check_copy(new).await?;
    print(|output| {
        writeln!(
            output,
            "{GOOD}copied{GOOD:#} everything up to commit {} into {}: {} entries of checkpoints, {} records of \
             logs, {} bytes",
            copied.timestamp,
            new.display(),
            copied.entries,
            copied.records,
            copied.bytes
        )
    })?;
    Ok(Outcome::Sound)
}
