//! How often commits are refused, against how much transactions want the same keys: Zipf's exponent from 0.5 to 1.2,
//! and 2 to 16 keys in each transaction.
//!
//! All engines do the same: in memory, so many tasks on the same runtime, each transaction reads its keys and counts
//! them up, and lets others run after each key. A round measures all engines at one load before it goes on to the
//! next, so that a slow minute of the machine hits all. Afterwards, the counts must add up.

mod contender;
mod draw;
mod plot;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use crate::clock;
use crate::store::Outcome;

use contender::{Contender, Tries};
use draw::Draws;

const ZIPFS: [f64; 8] = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2];
const KEYS_EACH: [usize; 4] = [2, 4, 8, 16];

#[derive(Args, Clone)]
pub(crate) struct Knobs {
    /// Keys that transactions choose from
    #[arg(long, default_value_t = 1_000)]
    keys: usize,
    /// Transactions that are under way at once
    #[arg(long, default_value_t = 16)]
    tasks: usize,
    /// Worker threads of the runtime
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 0.25)]
    seconds: f64,
    /// Rounds, each over all loads and engines; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, hide = true, default_value_t = 1)]
    seed: u64,
    /// Write all measurements
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write the plot
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// How much transactions want the same keys.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Load {
    zipf: f64,
    keys_each: usize,
}

/// One engine at one load, once.
struct Row {
    engine: &'static str,
    load: Load,
    tries: Tries,
    seconds: f64,
}

impl Row {
    fn refused_percent(&self) -> f64 {
        let Tries { begun, committed } = self.tries;
        100.0 * number(begun - committed) / number(begun.max(1))
    }

    fn commits_per_second(&self) -> f64 {
        number(self.tries.committed) / self.seconds
    }
}

/// How an engine is measured at a load.
type Measure = fn(&Knobs, Load) -> Outcome<(Tries, f64)>;

const ENGINES: &[(&str, Measure)] = &[
    ("anabranch", measure::<contender::Anabranch<true>>),
    ("anabranch, rerun at once", measure::<contender::Anabranch<false>>),
    #[cfg(feature = "surrealmx")]
    ("surrealmx, rerun at once", measure::<contender::SurrealMx>),
];

pub(crate) fn run(knobs: &Knobs) -> Outcome<ExitCode> {
    let loads =
        || KEYS_EACH.iter().flat_map(|keys_each| ZIPFS.map(|zipf| Load { zipf, keys_each: *keys_each }));
    let mut rows = Vec::new();
    for round in 1..=knobs.rounds {
        eprintln!("round {round} of {}", knobs.rounds);
        for load in loads() {
            for (engine, measure) in ENGINES {
                let (tries, seconds) = measure(knobs, load)?;
                rows.push(Row { engine, load, tries, seconds });
            }
        }
    }
    if let Some(path) = &knobs.csv {
        std::fs::write(path, csv(&rows))?;
    }
    if let Some(path) = &knobs.svg {
        std::fs::write(path, plot::page(&rows))?;
    }
    print!("{}", table(&rows));
    Ok(ExitCode::SUCCESS)
}

fn measure<C: Contender>(knobs: &Knobs, load: Load) -> Outcome<(Tries, f64)> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(knobs.threads).enable_all().build()?;
    runtime.block_on(async {
        let contender = C::open(knobs.keys).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let draws = (0..knobs.tasks)
            .map(|task| Draws::new(knobs.keys, load.zipf, load.keys_each, knobs.seed + task as u64));
        let draws = draws.collect::<Outcome<Vec<_>>>()?;
        let began = clock::now();
        let tasks = draws.into_iter().map(|draws| {
            let (contender, stop) = (contender.clone(), Arc::clone(&stop));
            tokio::spawn(async move { count_up(&contender, draws, &stop).await })
        });
        let tasks: Vec<_> = tasks.collect();
        tokio::time::sleep(Duration::from_secs_f64(knobs.seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut tries = Tries::default();
        for task in tasks {
            tries += task.await??;
        }
        let seconds = began.elapsed().as_secs_f64();
        let counted = contender.sum(knobs.keys)?;
        if counted != tries.committed * load.keys_each as u64 {
            return Err(format!("{counted} counted in {} commits at {load:?}", tries.committed).into());
        }
        Ok((tries, seconds))
    })
}

async fn count_up(contender: &impl Contender, mut draws: Draws, stop: &AtomicBool) -> Outcome<Tries> {
    let mut tries = Tries::default();
    while !stop.load(Ordering::Relaxed) {
        tries += contender.count_up(draws.next(), stop).await?;
    }
    Ok(tries)
}

#[expect(clippy::cast_precision_loss, reason = "a count for people")]
fn number(count: u64) -> f64 {
    count as f64
}

fn csv(rows: &[Row]) -> String {
    let mut text = "engine,zipf,keys,begun,committed,refused percent,commits per second\n".to_owned();
    for row in rows {
        let (Load { zipf, keys_each }, Tries { begun, committed }) = (row.load, row.tries);
        let (refused, speed) = (row.refused_percent(), row.commits_per_second());
        let line =
            format!("\"{}\",{zipf},{keys_each},{begun},{committed},{refused:.3},{speed:.0}\n", row.engine);
        text.push_str(&line);
    }
    text
}

/// The median over all rounds.
fn median(rows: &[Row], engine: &str, load: Load, value: impl Fn(&Row) -> f64) -> f64 {
    let chosen = rows.iter().filter(|row| row.engine == engine && row.load == load);
    let mut values: Vec<f64> = chosen.map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Some of the loads, as Markdown.
fn table(rows: &[Row]) -> String {
    let mut text = "| zipf | keys |".to_owned();
    let mut line = "|---|---|".to_owned();
    for (engine, _) in ENGINES {
        let _ = write!(text, " {engine}: refused | commits/s |");
        line.push_str("---|---|");
    }
    let _ = writeln!(text, "\n{line}");
    for zipf in [0.5, 0.8, 1.0, 1.2] {
        for keys_each in KEYS_EACH {
            let load = Load { zipf, keys_each };
            let _ = write!(text, "| {zipf} | {keys_each} |");
            for (engine, _) in ENGINES {
                let refused = median(rows, engine, load, Row::refused_percent);
                let speed = median(rows, engine, load, Row::commits_per_second);
                let _ = write!(text, " {refused:.1} % | {speed:.0} |");
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_that_want_the_same_keys_are_refused_and_no_count_is_lost() {
        let knobs = Knobs {
            keys: 100,
            tasks: 8,
            threads: 2,
            seconds: 0.05,
            rounds: 1,
            seed: 1,
            csv: None,
            svg: None,
        };
        for (engine, measure) in ENGINES {
            // `measure` itself compares the counts.
            let (tries, seconds) = measure(&knobs, Load { zipf: 1.2, keys_each: 8 }).unwrap();
            assert!(
                tries.committed > 0 && tries.begun > tries.committed,
                "{engine}: {tries:?} in {seconds} s"
            );
        }
    }

    #[test]
    fn the_median_and_the_plot_are_of_all_rounds() {
        let row = |zipf, committed| Row {
            engine: ENGINES[0].0,
            load: Load { zipf, keys_each: 2 },
            tries: Tries { begun: 100, committed },
            seconds: 1.0,
        };
        let rows = [row(0.5, 90), row(0.5, 70), row(0.5, 80), row(0.6, 50)];
        let load = Load { zipf: 0.5, keys_each: 2 };
        assert!((median(&rows, ENGINES[0].0, load, Row::refused_percent) - 20.0).abs() < 1e-9);
        let page = plot::page(&rows);
        assert!(page.contains("2 keys in each transaction") && page.contains("polyline"), "{page}");
    }
}
