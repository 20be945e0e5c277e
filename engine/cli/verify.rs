//! `anabranch verify`: whether a directory is sound.

use std::io::{self, Write};

use anabranch::WalError;
use anabranch_wal::inspect::{VerifyReport, verify};
use serde_json::{Value, json};

use super::failure::{Failure, describe};
use super::session::{BAD, GOOD, NOTE, Session, print};
use super::{Outcome, Source};

/// Reads everything and says whether it is sound.
///
/// Sound means: an engine would open it with all that was ever promised durable, and every checkpoint, segment
/// and record that it relies on can be read. What a crash tears is not damage, if nobody was promised it. Keys
/// and values are not decoded. Nothing is written.
///
/// Exit status: 0 sound; 1 damaged, with file, byte and commits for each finding; 2 it could not be checked.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let session = Session::open(&arguments.source.directory, true, "checking")?;
    let report = verify(&session.disk, &session.directory).await;
    session.done();
    let report = match report {
        Ok(report) => report,
        // The manifest itself: there is nothing to say about what lies behind it.
        Err(error @ WalError::Corrupt { .. }) => {
            let mut report = VerifyReport::default();
            report.damage.push(error);
            report
        }
        Err(error) => return Err(Failure::reading(&session.directory, &error)),
    };
    let outcome = judge(&report);
    print(|output| {
        if arguments.json {
            serde_json::to_writer_pretty(&mut *output, &as_json(&report, outcome))?;
            return writeln!(output);
        }
        show(output, &session, &report, outcome)
    })?;
    Ok(outcome)
}

fn judge(report: &VerifyReport) -> Outcome {
    if report.damage.is_empty() {
        Outcome::Sound
    } else if report.damage.iter().any(|error| matches!(error, WalError::Corrupt { .. })) {
        Outcome::Damaged
    } else {
        Outcome::Undecided
    }
}

fn show(
    output: &mut dyn Write,
    session: &Session,
    report: &VerifyReport,
    outcome: Outcome,
) -> io::Result<()> {
    let directory = session.directory.display();
    match outcome {
        Outcome::Sound => writeln!(output, "{directory} is {GOOD}sound{GOOD:#}")?,
        Outcome::Damaged => writeln!(output, "{directory} is {BAD}damaged{BAD:#}")?,
        Outcome::Undecided => writeln!(output, "{directory} {BAD}could not be read in full{BAD:#}")?,
    }
    writeln!(
        output,
        "  commits: readable up to {}, promised up to {}",
        report.recovered_to, report.promised
    )?;
    writeln!(
        output,
        "  logs: {} segments with {} records and {} writes",
        report.segments, report.records, report.writes
    )?;
    writeln!(output, "  checkpoints: {} with {} entries", report.checkpoints, report.entries)?;
    for damage in &report.damage {
        writeln!(output, "{BAD}damage:{BAD:#} {}", describe(damage))?;
    }
    for note in &report.notes {
        writeln!(output, "{NOTE}note:{NOTE:#} {note}")?;
    }
    if outcome == Outcome::Damaged {
        writeln!(output, "Restore a backup, or save what can be read: anabranch salvage {directory} NEWDIR")?;
    }
    Ok(())
}

fn as_json(report: &VerifyReport, outcome: Outcome) -> Value {
    json!({
        "sound": outcome == Outcome::Sound,
        "recovered_to": report.recovered_to.0,
        "promised": report.promised.0,
        "segments": report.segments,
        "records": report.records,
        "writes": report.writes,
        "checkpoints": report.checkpoints,
        "entries": report.entries,
        "damage": report.damage.iter().map(damage_as_json).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

/// A finding with its parts.
pub(super) fn damage_as_json(error: &WalError) -> Value {
    match error {
        WalError::Corrupt { file, offset, detail, commits } => json!({
            "file": file.display().to_string(),
            "offset": offset,
            "detail": detail,
            "commits": commits.map(|(first, last)| [first.0, last.0]),
        }),
        error => json!({ "detail": error.to_string() }),
    }
}
