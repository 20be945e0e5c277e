//! `anabranch salvage`: saves what can be read of a damaged database.

use std::io::{self, Write};
use std::path::PathBuf;

use anabranch::{SystemEnv, WalError};
use anabranch_wal::inspect::{ReadOnlyDisk, SalvageReport, SalvagedLog, salvage, verify};
use serde_json::{Value, json};

use super::failure::{Failure, commits, describe};
use super::session::{BAD, GOOD, NOTE, Session, print, real_disk};
use super::verify::damage_as_json;
use super::{Outcome, Source};

/// Copies what can be read of a damaged database into a new one, and lists what is missing.
///
/// DIR is only read. Kept is the longest run of commits from the first on that is still there in all its parts;
/// nothing behind a break in a log is used, however plausible it looks. Of a damaged checkpoint the intact blocks
/// are kept; which keys the others held can't be told, only how many. Then the new database is no moment of the
/// old one any more, and the report says so.
///
/// The new database opens with the same types of keys and values, and the same partitioner.
///
/// Exit status: 0 nothing is missing; 1 saved, with something missing; 2 nothing was saved. Also 1 without NEWDIR
/// if the manifest is lost: only that says what of the rest counts.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Where the new database goes: a directory that is missing or empty.
    #[arg(value_name = "NEWDIR")]
    new: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let session = Session::open(&arguments.source.directory, true, "salvaging")?;
    let new = &arguments.new;
    session.check_new_directory(new)?;
    let target = real_disk()?;
    let report = salvage(&session.disk, &session.directory, (&target, new), &SystemEnv).await;
    session.done();
    let report = report.map_err(|error| {
        let failure = Failure::copying(&session.directory, new, &error);
        if failure.is_damage() {
            failure.with_advice("nothing was written; restore a backup")
        } else {
            failure
        }
    })?;
    check_copy(new).await?;
    print(|output| {
        if arguments.json {
            serde_json::to_writer_pretty(&mut *output, &as_json(&report))?;
            return writeln!(output);
        }
        writeln!(output, "saved into {}:", new.display())?;
        show(output, &report)
    })?;
    Ok(if report.is_complete() { Outcome::Sound } else { Outcome::Damaged })
}

/// What was written is read back, as an engine would.
pub(super) async fn check_copy(new: &std::path::Path) -> Result<(), Failure> {
    let disk = ReadOnlyDisk::new(std::sync::Arc::new(real_disk()?), std::sync::Arc::new(|_| {}));
    let checked = verify(&disk, new).await;
    let error = match checked {
        Ok(report) => report.damage.into_iter().next(),
        Err(error) => Some(error),
    };
    match error {
        None => Ok(()),
        Some(error) => {
            let message = format!("the copy is not sound: {}", describe(&error));
            Err(Failure::usage(message, format!("remove {} and try another disk", new.display())))
        }
    }
}

fn show(output: &mut dyn Write, report: &SalvageReport) -> io::Result<()> {
    let saved = &report.saved;
    writeln!(
        output,
        "  what counts up to commit {}: {} entries of checkpoints, {} records of logs",
        saved.timestamp, saved.entries, saved.records
    )?;
    for damage in &report.damage {
        writeln!(output, "{BAD}damage:{BAD:#} {}", describe(damage))?;
    }
    if report.promised > saved.timestamp {
        let range = commits(saved.timestamp.next(), report.promised);
        let logs: Vec<_> = report.missing_in.iter().map(ToString::to_string).collect();
        let place = if logs.is_empty() {
            String::new()
        } else {
            format!("; the first of them is missing in log {}", logs.join(", "))
        };
        writeln!(output, "{BAD}missing:{BAD:#} {range}, which had been on disk{place}")?;
    }
    for (shard, log) in report.logs.iter().enumerate() {
        show_losses(output, shard, log)?;
    }
    if report.is_complete() {
        writeln!(output, "{GOOD}nothing is missing{GOOD:#}")
    } else if report.is_prefix() {
        writeln!(
            output,
            "What was saved is the database as it was at commit {}: all of that and nothing else.",
            saved.timestamp
        )
    } else {
        writeln!(
            output,
            "{NOTE}note:{NOTE:#} what was saved has holes, and is not what the database held at any one moment"
        )
    }
}

fn show_losses(output: &mut dyn Write, shard: usize, log: &SalvagedLog) -> io::Result<()> {
    if log.entries_lost > 0
        && let Some(timestamp) = log.checkpoint
    {
        writeln!(
            output,
            "{BAD}missing:{BAD:#} {} entries of shard {shard} (log {}) as of commit {timestamp}; their keys \
             can't be told",
            log.entries_lost, log.id
        )?;
    }
    if let Some((first, last)) = log.may_lack {
        writeln!(
            output,
            "{BAD}missing:{BAD:#} possibly what {} wrote to shard {shard} (log {})",
            commits(first, last),
            log.id
        )?;
    }
    Ok(())
}

fn as_json(report: &SalvageReport) -> Value {
    let missing = report.promised > report.saved.timestamp;
    let logs = report.logs.iter().map(|log| {
        json!({
            "log": log.id.0,
            "records": log.records,
            "entries": log.entries,
            "entries_lost": log.entries_lost,
            "checkpoint": log.checkpoint.map(|timestamp| timestamp.0),
            "may_lack": log.may_lack.map(|(first, last)| [first.0, last.0]),
        })
    });
    json!({
        "complete": report.is_complete(),
        "prefix": report.is_prefix(),
        "saved_to": report.saved.timestamp.0,
        "promised": report.promised.0,
        "missing_commits": missing.then(|| [report.saved.timestamp.next().0, report.promised.0]),
        "missing_in_logs": report.missing_in.iter().map(|log| log.0).collect::<Vec<_>>(),
        "logs": logs.collect::<Vec<_>>(),
        "damage": report.damage.iter().map(|error: &WalError| damage_as_json(error)).collect::<Vec<_>>(),
    })
}
