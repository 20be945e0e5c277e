//! What a run tells: a progress bar, lines that were no flights, what was recovered, and what it cost.

use std::time::Duration;

use anabranch::{Engine, RecoveryReport};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::flights::{Progress, Value};
use crate::input::Malformed;

/// Of the malformed lines of a run, so many are shown.
const MALFORMED_SHOWN: u64 = 10;

/// `println!` that bears a closed pipe: who reads through `head` has seen enough, and the rows should get in.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}
pub(crate) use say;

/// Shows the bar, if there is a terminal.
pub(crate) fn show(bar: &ProgressBar) {
    let template = match bar.length() {
        Some(_) => "[{elapsed}] {wide_bar} {percent}%  {msg}",
        None => "[{elapsed}] {spinner} {bytes} read  {msg}",
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_draw_target(ProgressDrawTarget::stderr());
}

pub(crate) fn malformed(lines: &[Malformed], shown: u64) {
    for (line, shown) in lines.iter().zip(shown..=MALFORMED_SHOWN) {
        if shown < MALFORMED_SHOWN {
            eprintln!("rejected {line}");
        } else {
            eprintln!("rejected more lines, which are only counted");
        }
    }
}

pub(crate) fn recovery(report: &RecoveryReport, done: Progress) {
    if report.created {
        say!("made a new engine in {:.1?}", report.elapsed);
        return;
    }
    let seconds = report.elapsed.as_secs_f64().max(f64::EPSILON);
    let entries = report.checkpoint_entries + report.writes;
    let bytes = report.checkpoint_bytes + report.log.log_bytes;
    say!(
        "recovered {} writes ({}) in {:.1?}, {} a second",
        HumanCount(entries),
        HumanBytes(bytes),
        report.elapsed,
        HumanCount(rate(entries, seconds)),
    );
    say!(
        "  {} of them from checkpoints, {} from the log",
        HumanCount(report.checkpoint_entries),
        HumanCount(report.writes)
    );
    say!("  everything up to commit {}", report.log.recovered_to);
    if report.log.commits_dropped > 0 || report.log.torn_bytes > 0 {
        say!(
            "  dropped what a crash had cut short: {} commits, {}",
            report.log.commits_dropped,
            HumanBytes(report.log.torn_bytes)
        );
    }
    say!("  {} flights were counted, up to line {}", HumanCount(done.flights), HumanCount(done.lines));
}

pub(crate) fn ingested(engine: &Engine<String, Value>, done: Progress, now: Progress, elapsed: Duration) {
    let flights = now.flights - done.flights;
    if now.lines == done.lines && now.flights > 0 {
        say!("nothing new: all {} flights were in already", HumanCount(now.flights));
    } else {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let per_second = HumanCount(rate(flights, seconds));
        say!("ingested {} flights in {elapsed:.1?}, {per_second} rows/s", HumanCount(flights));
    }
    if now.rejected > 0 {
        say!("  rejected {} malformed lines in all", HumanCount(now.rejected));
    }
    let stats = engine.stats();
    if stats.commits > 0 {
        say!(
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
