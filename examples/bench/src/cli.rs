//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::engines::Role;
use crate::outcome::{Order, Run};
use crate::store::{Failure, Outcome};
use crate::workload::{self, Workload};
use crate::{bars, compare, contention, cost, engines, hit_rates, report, suite, sweep, table};

#[derive(Parser)]
#[command(
    name = "anabranch-bench",
    version,
    about = "Benchmark of anabranch, its peers, and what the machine can do"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print a table; with --json and --html also write the results
    Run(Box<Knobs>),
    /// Measure how throughput and latency grow with shards, tasks, keys, bytes of a value and the share of transfers
    /// across shards, of anabranch unless --engine says otherwise
    Scale(Box<Knobs>),
    /// What a commit costs, layer by layer, and what a model makes of it for more cores
    Cost,
    /// So many operations of a workload on one thread, for a profiler: see docs/performance.md
    Profile {
        /// Operations of all tasks together
        #[arg(long, default_value_t = 20_000)]
        operations: u64,
        #[command(flatten)]
        knobs: Box<Knobs>,
    },
    /// What got slower and what got faster between two results
    Compare {
        /// Results of before
        before: PathBuf,
        /// Results of now
        after: PathBuf,
        /// Differences below so many per cent count as noise, as does any within both spreads
        #[arg(long, default_value_t = 15.0)]
        noise: f64,
    },
    /// Make the HTML report of results
    Report {
        /// What `run --json` wrote; of several, the measurements are put together
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// The page to write
        #[arg(short, long, default_value = "report.html")]
        output: PathBuf,
        /// Print Markdown tables instead: anabranch against what it is to reach, and against the best peer
        #[arg(long)]
        markdown: bool,
        /// Write the chart of ratios to the best peers as a picture, too
        #[arg(long)]
        svg: Option<PathBuf>,
    },
    /// How often commits are refused, against how much transactions want the same keys
    Contention(contention::Knobs),
    /// Hit rates of the policies of eviction beside other caches
    HitRates(hit_rates::Knobs),
    /// List workloads and engines
    List,
    /// One measurement, for the harness itself
    #[command(hide = true)]
    Cell { order: String },
}

/// What is measured, and how.
#[derive(Args, Clone)]
pub(crate) struct Knobs {
    /// Small numbers and two rounds: all workloads within a minute, without peers
    #[arg(long)]
    pub(crate) quick: bool,
    /// Workloads, separated by commas; a name with * at its end stands for all that begin so [default: all]
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) workload: Vec<String>,
    /// Engines, separated by commas [default: all that were built in]
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) engine: Vec<String>,
    /// Keys that are there at the start [default: 100000; 20000 if quick]
    #[arg(long)]
    pub(crate) keys: Option<usize>,
    /// Bytes of a value, 8 at the least
    #[arg(long, default_value_t = 8)]
    pub(crate) value: usize,
    /// Tasks, where the workload doesn't say how many
    #[arg(long, default_value_t = 32)]
    pub(crate) tasks: usize,
    /// Worker threads of the runtime, and threads of synchronous engines in memory
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    /// Shards of anabranch [default: its own]
    #[arg(long)]
    pub(crate) shards: Option<usize>,
    /// A limit of memory of anabranch, in MiB: what accounting and eviction cost [default: none]
    #[arg(long)]
    pub(crate) memory_limit_mib: Option<u64>,
    /// Draw keys by this zipf exponent instead of uniformly; YCSB takes 0.99 if not given
    #[arg(long)]
    pub(crate) zipf: Option<f64>,
    /// Share of transfers that cross shards
    #[arg(long, default_value_t = 1.0)]
    pub(crate) cross: f64,
    /// Override the durability of the workloads
    #[arg(long)]
    pub(crate) durability: Option<crate::store::Level>,
    /// Seconds of each measurement [default: 1; 0.12 if quick]
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Rounds, each over all engines [default: 5; 2 if quick]
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Another file of flights, as `examples/data/flights-250k.csv.gz` is [default: that one]
    #[arg(long)]
    pub(crate) flights: Option<PathBuf>,
    /// Rows of a commit, where many are loaded [default: what suits the engine best]
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Vary a knob: shards, tasks, keys, value-size, cross-share or batch, as in shards=1,2,4,8. Can be given again
    #[arg(long)]
    pub(crate) sweep: Vec<String>,
    /// Give up on a measurement after so many seconds beyond its time
    #[arg(long, default_value_t = 60.0)]
    pub(crate) patience: f64,
    /// Where engines on disk keep their files while they are measured [default: the system's temporary directory]
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
    /// Write the results
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Write the report
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
    #[arg(long, hide = true, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Knobs {
    /// The workloads asked for.
    pub(crate) fn workloads(&self) -> Outcome<Vec<&'static Workload>> {
        if self.workload.is_empty() {
            return Ok(workload::ALL.iter().collect());
        }
        workloads(&self.workload)
    }

    pub(crate) fn engines(&self) -> Outcome<Vec<&'static engines::Engine>> {
        if self.engine.is_empty() {
            return Ok(engines::ALL.iter().filter(|engine| engine.role != Role::Variant).collect());
        }
        let find = |name: &String| {
            let known: Vec<_> = engines::ALL.iter().map(|engine| engine.name).collect();
            let unknown = || {
                let known = known.join(", ");
                format!("this was not built with an engine {name:?}; it has: {known} (see --features peers)")
            };
            engines::find(name).ok_or_else(|| Failure::from(unknown()))
        };
        self.engine.iter().map(find).collect()
    }
}

/// Workloads by their names, or by the beginnings of them.
pub(crate) fn workloads(names: &[impl AsRef<str>]) -> Outcome<Vec<&'static Workload>> {
    let mut chosen = Vec::new();
    for name in names {
        let name = name.as_ref();
        if let Some(start) = name.strip_suffix('*') {
            chosen.extend(workload::ALL.iter().filter(|workload| workload.name.starts_with(start)));
        } else {
            let known: Vec<_> = workload::ALL.iter().map(|workload| workload.name).collect();
            let unknown = || format!("there is no workload {name:?}; there are: {}", known.join(", "));
            chosen.push(Workload::find(name).ok_or_else(unknown)?);
        }
    }
    Ok(chosen)
}

pub(crate) fn run(arguments: Arguments) -> Outcome<ExitCode> {
    match arguments.command {
        Command::Run(knobs) => suite::run(&knobs, &sweep::asked(&knobs)?),
        Command::Cost => cost::print(),
        Command::Profile { operations, knobs } => suite::profile(&knobs, operations),
        Command::Scale(knobs) => suite::run(&knobs, &sweep::scale(&knobs)?),
        Command::Compare { before, after, noise } => {
            let slower = compare::print(&read(&before)?, &read(&after)?, noise);
            Ok(if slower { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Command::Report { results, output, markdown, svg } => {
            let mut run = read(&results[0])?;
            for path in &results[1..] {
                run.add(read(path)?);
            }
            if let Some(path) = svg {
                std::fs::write(path, report::picture(&run)?)?;
            }
            if markdown {
                println!("{}", bars::markdown(&run)?);
                return Ok(ExitCode::SUCCESS);
            }
            std::fs::write(&output, report::page(&run)?)?;
            println!("wrote {}", output.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Contention(knobs) => contention::run(&knobs),
        Command::HitRates(knobs) => hit_rates::run(&knobs),
        Command::List => {
            table::list();
            Ok(ExitCode::SUCCESS)
        }
        Command::Cell { order } => {
            let order: Order = serde_json::from_str(&order)?;
            let engine = engines::find(&order.engine).ok_or("an unknown engine")?;
            let outcome = (engine.run)(&order).map_err(|error| error.to_string());
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read(path: &std::path::Path) -> Outcome<Run> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not a result: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(arguments: &[&str]) -> Knobs {
        let arguments = ["anabranch-bench", "run"].iter().chain(arguments);
        match Arguments::try_parse_from(arguments).unwrap().command {
            Command::Run(knobs) => *knobs,
            _ => unreachable!("`run` was asked for"),
        }
    }

    #[test]
    fn an_unknown_workload_is_answered_with_the_known_ones() {
        let error = knobs(&["-w", "gte"]).workloads().err().unwrap().to_string();
        assert!(
            error.contains("\"gte\"") && error.contains("get-1, get,") && error.contains("mixed"),
            "{error}"
        );
    }

    #[test]
    fn a_star_stands_for_all_that_begin_so() {
        let names = |arguments: &[&str]| -> Vec<&str> {
            knobs(arguments).workloads().unwrap().iter().map(|workload| workload.name).collect()
        };
        assert_eq!(names(&["-w", "scan-100*,get"]).len(), 5);
        assert_eq!(names(&[]).len(), workload::ALL.len());
    }

    #[test]
    fn an_engine_that_was_not_built_in_is_answered_with_those_that_were() {
        let error = knobs(&["-e", "rocksdb"]).engines().err().unwrap().to_string();
        assert!(error.contains("anabranch") && error.contains("--features peers"), "{error}");
    }
}
