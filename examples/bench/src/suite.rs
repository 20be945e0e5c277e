//! The run: rounds over all engines, cell by cell, each in a child process.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Knobs;
use crate::engines::Engine;
use crate::engines::anabranch::default_shards;
use crate::outcome::{Cell, Measured, Order, Round, Run};
use crate::plan::Draw;
use crate::store::{Level, Outcome};
use crate::sweep::{Part, Point};
use crate::workload::{Kind, Tasks, Workload};
use crate::{clock, machine, report, table};

pub(crate) fn run(knobs: &Knobs, parts: &[Part]) -> Outcome<ExitCode> {
    let mut engines = knobs.engines()?;
    if parts.iter().all(|part| part.alone) && knobs.engine.is_empty() {
        engines.truncate(1);
    }
    let rounds = knobs.rounds.unwrap_or(if knobs.quick { 2 } else { 5 }).max(1);
    let stopped = watch_for_interrupt()?;
    let mut results = Run {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine: machine::describe(),
        settings: settings(knobs, rounds),
        complete: false,
        cells: Vec::new(),
    };
    let cells = parts.iter().map(|part| part.workloads.len() * part.points.len()).sum::<usize>();
    println!("about {:.0} min, if nothing hangs", estimate(parts, &engines, rounds) / 60.0 + 0.5);
    let bar = progress((cells * engines.len() * rounds) as u64)?;
    'all: for part in parts {
        for workload in &part.workloads {
            let cells = measure_all(workload, &engines, &part.points, rounds, (&bar, &stopped));
            results.cells.extend(cells);
            if stopped.load(Ordering::Relaxed) {
                break 'all;
            }
        }
    }
    bar.finish_and_clear();
    results.complete = !stopped.load(Ordering::Relaxed);
    finish(knobs, &results)
}

/// One workload on all engines, at all points. Points of a sweep are interleaved as engines are: they are to be
/// compared, too.
fn measure_all(
    workload: &Workload,
    engines: &[&Engine],
    points: &[Point],
    rounds: usize,
    (bar, stopped): (&ProgressBar, &AtomicBool),
) -> Vec<Cell> {
    let contenders: Vec<_> =
        points.iter().flat_map(|point| engines.iter().map(move |engine| (point, *engine))).collect();
    let mut cells: Vec<_> = contenders.iter().map(|(point, engine)| cell(workload, engine, point)).collect();
    for round in 0..rounds {
        for ((point, engine), cell) in contenders.iter().zip(&mut cells) {
            bar.set_message(format!("{} on {}, round {}", workload.name, engine.name, round + 1));
            // What failed or isn't possible won't be in the next round.
            if cell.failure().is_none() {
                let outcome = measure(workload, engine, &point.knobs, stopped);
                if stopped.load(Ordering::Relaxed) {
                    return cells;
                }
                cell.rounds.push(outcome);
            }
            bar.inc(1);
        }
    }
    for cells in cells.chunks(engines.len()) {
        bar.suspend(|| table::group(&cells.iter().collect::<Vec<_>>()));
    }
    cells
}

/// Seconds that a run takes, by what opening, filling and checking took on a machine of two cores.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn estimate(parts: &[Part], engines: &[&Engine], rounds: usize) -> f64 {
    let cells = parts.iter().flat_map(|part| {
        part.points.iter().flat_map(|point| part.workloads.iter().map(move |workload| (point, *workload)))
    });
    let seconds = cells.map(|(point, workload)| {
        let level = point.knobs.durability.unwrap_or(workload.level);
        let capable = engines.iter().filter(|engine| engine.keeps(level)).count();
        let around = if level == Level::Memory { 0.4 } else { 1.2 } * keys(&point.knobs) as f64 / 1e5;
        capable as f64 * (1.25 * seconds(&point.knobs) + 0.1 + around)
    });
    seconds.sum::<f64>() * rounds as f64
}

fn finish(knobs: &Knobs, results: &Run) -> Outcome<ExitCode> {
    if !results.complete {
        println!("interrupted: this is what there is");
        table::all(results);
    }
    table::ratios(results);
    if let Some(path) = &knobs.json {
        std::fs::write(path, serde_json::to_string_pretty(results)?)?;
        println!("wrote {}", path.display());
    }
    if let Some(path) = &knobs.html {
        std::fs::write(path, report::page(results)?)?;
        println!("wrote {}", path.display());
    }
    Ok(if results.complete { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

fn cell(workload: &Workload, engine: &Engine, point: &Point) -> Cell {
    Cell {
        workload: workload.name.to_owned(),
        engine: engine.name.to_owned(),
        point: point.label.clone(),
        unit: workload.unit().to_owned(),
        lower_is_better: workload.lower_is_better(),
        rounds: Vec::new(),
    }
}

fn settings(knobs: &Knobs, rounds: usize) -> Vec<(String, String)> {
    let seconds = seconds(knobs);
    let zipf = knobs.zipf.map_or("uniform, YCSB 0.99".to_owned(), |exponent| format!("zipf {exponent}"));
    [
        ("keys", keys(knobs).to_string()),
        ("bytes of a key", "16".to_owned()),
        ("bytes of a value", knobs.value.to_string()),
        ("tasks", knobs.tasks.to_string()),
        ("worker threads", knobs.threads.to_string()),
        ("shards", knobs.shards.map_or("default".to_owned(), |shards| shards.to_string())),
        ("keys are drawn", zipf),
        ("transfers across shards", knobs.cross.to_string()),
        ("seconds of a measurement", seconds.to_string()),
        ("rounds", rounds.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn keys(knobs: &Knobs) -> usize {
    knobs.keys.unwrap_or(if knobs.quick { 20_000 } else { 100_000 }).max(2000)
}

fn seconds(knobs: &Knobs) -> f64 {
    knobs.seconds.unwrap_or(if knobs.quick { 0.12 } else { 1.0 })
}

/// One cell, with a fixed number of operations and on one thread, in this process, for a profiler to look at.
pub(crate) fn profile(knobs: &Knobs, operations: u64) -> Outcome<ExitCode> {
    for workload in knobs.workloads()? {
        let engine = knobs.engines()?[0];
        let directory = tempfile::tempdir()?;
        let mut order = order(workload, engine, knobs)?;
        order.operations = Some(operations);
        order.threads = 1;
        order.directory = Some(directory.path().join("data"));
        let measured = (engine.run)(&order)?;
        println!("{}: {} operations in {:.3} s", workload.name, measured.operations, measured.seconds);
    }
    Ok(ExitCode::SUCCESS)
}

fn order(workload: &Workload, engine: &Engine, knobs: &Knobs) -> Outcome<Order> {
    let tasks = match workload.tasks {
        Tasks::Exactly(tasks) => tasks,
        Tasks::Workers => knobs.threads,
        Tasks::Given => knobs.tasks,
    };
    let shards = knobs.shards.unwrap_or_else(|| default_shards(workload.level));
    if !(0.0..=1.0).contains(&knobs.cross) {
        return Err("--cross is a share between 0 and 1".into());
    }
    // Among 16 accounts it is left as it falls, and with one shard nothing crosses.
    let uniform = matches!(workload.kind, Kind::Transfer { accounts: None } | Kind::Mixed);
    let cross = (shards > 1 && uniform).then_some(knobs.cross);
    let seconds = seconds(knobs);
    Ok(Order {
        engine: engine.name.to_owned(),
        workload: workload.name.to_owned(),
        tasks: tasks.max(1),
        threads: knobs.threads.max(1),
        shards: knobs.shards,
        memory_limit: knobs.memory_limit_mib.map(|mebibytes| mebibytes << 20),
        value_bytes: knobs.value,
        seconds,
        warm_up_seconds: seconds / 4.0,
        batch: knobs.batch,
        flights: knobs.flights.clone(),
        operations: None,
        draw: Draw { keys: keys(knobs), zipf: knobs.zipf, cross, shards, seed: knobs.seed },
        level: knobs.durability.unwrap_or(workload.level),
        directory: None,
    })
}

fn measure(workload: &Workload, engine: &Engine, knobs: &Knobs, stopped: &AtomicBool) -> Round {
    match measure_in_child(workload, engine, knobs, stopped) {
        Ok(Ok(measured)) => Round::Measured(measured),
        Ok(Err(reason)) => Round::Failed(reason),
        Err(error) => Round::Failed(error.to_string()),
    }
}

fn measure_in_child(
    workload: &Workload,
    engine: &Engine,
    knobs: &Knobs,
    stopped: &AtomicBool,
) -> Outcome<Result<Measured, String>> {
    let mut order = order(workload, engine, knobs)?;
    let parent = knobs.directory.clone().unwrap_or_else(std::env::temp_dir);
    let directory = tempfile::Builder::new().prefix("anabranch-bench-").tempdir_in(parent)?;
    if order.level != Level::Memory {
        order.directory = Some(directory.path().join("data"));
    }
    let output = directory.path().join("output");
    let errors = directory.path().join("errors");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["cell", &serde_json::to_string(&order)?])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output)?)
        .stderr(std::fs::File::create(&errors)?)
        .spawn()?;
    let patience = order.seconds + order.warm_up_seconds + knobs.patience;
    let deadline = clock::now() + Duration::from_secs_f64(patience);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let late = clock::now() > deadline;
        if late || stopped.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(Err(format!("hangs: no result within {patience:.0} s")));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = std::fs::read_to_string(&output)?;
    let last = text.lines().next_back().unwrap_or_default();
    if status.success() && !last.is_empty() {
        return Ok(serde_json::from_str(last)?);
    }
    let text = std::fs::read_to_string(&errors)?;
    let reason: Vec<_> = text.lines().filter(|line| !line.starts_with("note:")).take(3).collect();
    Ok(Err(format!("ended with {status}: {}", reason.join(" ").trim())))
}

fn progress(cells: u64) -> Outcome<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len}, {eta} left: {wide_msg}")?;
    let bar = ProgressBar::new(cells).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}

/// The first interrupt ends the run with what there is, the second ends it at once.
fn watch_for_interrupt() -> Outcome<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stopped);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("interrupt".into()).spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if seen.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(stopped)
}
