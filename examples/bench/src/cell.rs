//! One measurement, in a process of its own: open, fill, warm up, measure, check, close, open again, check again.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::keys::{Key, Keys, Value};
use crate::machine::{resident_bytes, resident_peak_bytes, written_bytes};
use crate::operation::{START, Tally, check_number, latencies, own_share, work};
use crate::outcome::{Measured, Order};
use crate::plan::Plan;
use crate::store::{Counters, Failure, Level, Outcome, Setup, Store, Style, missing};
use crate::workload::{Kind, Workload};
use crate::{clock, flights};

/// Runs what is ordered.
pub(crate) fn run<S: Store>(order: &Order) -> Outcome<Measured> {
    let workload = Workload::find(&order.workload).ok_or("an unknown workload")?;
    let runtime = match order.operations {
        // For a profiler, all of it happens below `measured_phase`.
        Some(_) => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        None => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(order.threads).enable_all().build()?
        }
    };
    let cell = Cell { plan: Arc::new(plan::<S>(order, workload.kind)?), setup: setup(order, workload.kind) };
    let once = || match workload.kind {
        Kind::Ingest | Kind::Flights => cell.ingest::<S>(&runtime),
        Kind::Reopen => cell.reopen::<S>(&runtime),
        Kind::Memory => cell.memory::<S>(&runtime),
        _ => cell.repeat::<S>(&runtime, order),
    };
    if cell.is_brief(order) { median(order, once) } else { once() }
}

fn setup(order: &Order, kind: Kind) -> Setup {
    let by_number = matches!(kind, Kind::Transfer { .. } | Kind::Mixed) && order.draw.cross.is_some();
    let directory = order.directory.clone().unwrap_or_default();
    let sync_every = if kind == Kind::Flights { Duration::from_secs(1) } else { Duration::from_millis(100) };
    let Order { level, shards, memory_limit, .. } = *order;
    Setup { directory, level, shards, by_number, sync_every, memory_limit }
}

fn plan<S: Store>(order: &Order, kind: Kind) -> Outcome<Plan> {
    let count = order.draw.keys;
    let (all, present) = match kind {
        Kind::Load => (count, 0),
        Kind::Flights => (0, 0),
        Kind::Insert | Kind::Ycsb('d' | 'e') => (2 * count, count),
        _ => (count, count),
    };
    // A thread more than there are workers would only be in the way, but for those that wait for the disk.
    let workers = match (S::STYLE, order.level) {
        (Style::Tasks, _) => order.tasks,
        (Style::Threads, Level::Full) if !S::FEW_THREADS => order.tasks,
        _ => order.tasks.min(order.threads),
    };
    let draws = !matches!(kind, Kind::Ingest | Kind::Flights | Kind::Reopen | Kind::Memory);
    Ok(Plan {
        kind,
        keys: Keys::new(all),
        present,
        value_bytes: order.value_bytes,
        workers,
        sample_every: if order.level == Level::Memory { 16 } else { 1 },
        yields: S::STYLE == Style::Tasks && workers > order.threads,
        stop: AtomicBool::new(false),
        operations_max: order.operations.map_or(u64::MAX, |all| all.div_ceil(workers as u64)),
        next: AtomicU64::new(0),
        batch: order.batch.unwrap_or_else(|| S::batch_rows(order.level)),
        flights: order.flights.clone(),
        draws: if draws { order.draw.workers(kind, workers)? } else { Vec::new() },
    })
}

/// What takes a moment only is done again, each time with an engine of its own, until the time is over. The run in the
/// middle counts.
fn median(order: &Order, mut run: impl FnMut() -> Outcome<Measured>) -> Outcome<Measured> {
    let mut runs = vec![run()?];
    // The process's peak is that of the first.
    let peak_bytes = runs[0].peak_bytes;
    while runs.iter().map(|run| run.seconds).sum::<f64>() < order.seconds {
        runs.push(run()?);
    }
    runs.sort_by(|one, other| one.value.total_cmp(&other.value));
    let middle = runs.len() / 2;
    Ok(Measured { peak_bytes, ..runs.swap_remove(middle) })
}

struct Cell {
    plan: Arc<Plan>,
    setup: Setup,
}

/// What was used up to a moment.
struct Used {
    cpu_seconds: f64,
    written_bytes: u64,
    written_exact: bool,
    syncs: Option<u64>,
}

impl Used {
    fn so_far(store: Option<&impl Store>) -> Self {
        let Counters { syncs, written } = store.map_or(Counters::default(), Store::counters);
        let written_bytes = written.unwrap_or_else(written_bytes);
        Self { cpu_seconds: clock::cpu_seconds(), written_bytes, written_exact: written.is_some(), syncs }
    }

    fn since(&self, before: &Self) -> Measured {
        Measured {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
            written_exact: self.written_exact,
            syncs: self.syncs.zip(before.syncs).map(|(now, then)| now - then),
            workers: 1,
            ..Measured::default()
        }
    }
}

impl Cell {
    /// Whether it fills an engine, without a disk to wait for, which takes a moment.
    fn is_brief(&self, order: &Order) -> bool {
        let fills = matches!(self.plan.kind, Kind::Load | Kind::Insert | Kind::Ingest | Kind::Flights);
        fills && self.setup.level == Level::Memory && order.operations.is_none()
    }

    fn rows(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = (Key, Value)> + Send {
        range.map(|index| {
            (self.plan.keys.get(index).clone(), Value::new(self.first_number(index), self.plan.value_bytes))
        })
    }

    /// The number that a key starts with.
    fn first_number(&self, index: usize) -> u64 {
        match self.plan.kind {
            Kind::Count { .. } | Kind::Transfer { .. } | Kind::Mixed => START,
            _ => index as u64,
        }
    }

    /// Does one thing again and again for a time.
    fn repeat<S: Store>(&self, runtime: &Runtime, order: &Order) -> Outcome<Measured> {
        let resident = resident_bytes();
        let store = runtime.block_on(S::open(&self.setup))?;
        runtime.block_on(store.load(self.rows(0..self.plan.present), self.plan.batch))?;
        let mut open = Vec::new();
        if let Kind::Begin { open: count } = self.plan.kind {
            open = (0..count).map(|_| store.begin()).collect::<Outcome<Vec<Box<dyn Any + Send>>>>()?;
        }
        let fills = matches!(self.plan.kind, Kind::Load | Kind::Insert);
        let mut tallies = Vec::new();
        if !fills && order.operations.is_none() {
            tallies = self.together(runtime, &store, order.warm_up_seconds)?;
        }
        let before = Used::so_far(Some(&store));
        let started = clock::now();
        let measured = self.measured_phase(runtime, &store, order.seconds)?;
        let mut result = Used::so_far(Some(&store)).since(&before);
        fill_in(&mut result, &measured, started)?;
        result.peak_bytes = resident_peak_bytes().saturating_sub(resident);
        drop(open);
        tallies.extend(measured);
        if S::READABLE {
            runtime.block_on(self.check(&store, &tallies))?;
        }
        runtime.block_on(store.close())?;
        if S::READABLE && self.setup.level != Level::Memory {
            let store = runtime.block_on(S::open(&self.setup))?;
            runtime.block_on(self.check(&store, &tallies)).map_err(|error| format!("reopened: {error}"))?;
            runtime.block_on(store.close())?;
        }
        Ok(result)
    }

    /// What a profiler switches itself on for.
    #[inline(never)]
    fn measured_phase<S: Store>(&self, runtime: &Runtime, store: &S, seconds: f64) -> Outcome<Vec<Tally>> {
        self.together(runtime, store, seconds)
    }

    /// All workers at once, until the time is over or they are done.
    fn together<S: Store>(&self, runtime: &Runtime, store: &S, seconds: f64) -> Outcome<Vec<Tally>> {
        self.plan.stop.store(false, Ordering::Relaxed);
        let deadline = clock::now() + Duration::from_secs_f64(seconds);
        match S::STYLE {
            Style::Tasks => {
                let workers: Vec<_> = (0..self.plan.workers)
                    .map(|worker| runtime.spawn(work(store.clone(), Arc::clone(&self.plan), worker)))
                    .collect();
                self.wait(runtime, store, deadline, || workers.iter().all(JoinHandle::is_finished))?;
                workers.into_iter().map(|worker| runtime.block_on(worker)?).collect()
            }
            Style::Threads => std::thread::scope(|scope| {
                let workers: Vec<_> = (0..self.plan.workers)
                    .map(|worker| {
                        let (store, plan) = (store.clone(), Arc::clone(&self.plan));
                        scope.spawn(move || pollster::block_on(work(store, plan, worker)))
                    })
                    .collect();
                self.wait(runtime, store, deadline, || workers.iter().all(ScopedJoinHandle::is_finished))?;
                let join = |worker: ScopedJoinHandle<'_, Outcome<Tally>>| {
                    worker.join().map_err(|_| Failure::from("a worker panicked"))?
                };
                workers.into_iter().map(join).collect()
            }),
        }
    }

    fn wait<S: Store>(
        &self,
        runtime: &Runtime,
        store: &S,
        deadline: Instant,
        done: impl Fn() -> bool,
    ) -> Outcome<()> {
        if self.plan.operations_max < u64::MAX {
            return Ok(());
        }
        let mut maintained = Ok(());
        while maintained.is_ok() && clock::now() < deadline && !done() {
            let left = deadline.saturating_duration_since(clock::now());
            std::thread::sleep(left.min(Duration::from_millis(5)));
            if self.plan.kind == Kind::Mixed {
                maintained = runtime.block_on(store.maintain());
            }
        }
        self.plan.stop.store(true, Ordering::Relaxed);
        maintained
    }

    /// Compares all that is there with what the workers say they did.
    async fn check<S: Store>(&self, store: &S, tallies: &[Tally]) -> Outcome<()> {
        let plan = &*self.plan;
        let mut sum = 0u64;
        for index in 0..plan.present {
            let key = plan.keys.get(index);
            let number = store.get(key).await?.ok_or_else(|| missing(key))?;
            sum = sum.wrapping_add(number);
            if self.first_number(index) == index as u64 {
                check_number(plan, index, number)?;
            }
        }
        let added: u64 = tallies.iter().map(|tally| tally.added).sum();
        let first: u64 = (0..plan.present).map(|index| self.first_number(index)).sum();
        let sums = matches!(
            plan.kind,
            Kind::Count { .. }
                | Kind::Transfer { .. }
                | Kind::Mixed
                | Kind::Ycsb('f')
                | Kind::Get
                | Kind::Read
        );
        if sums && sum != first + added {
            return Err(format!("all numbers sum up to {sum} instead of {}", first + added).into());
        }
        for (worker, tally) in tallies.iter().enumerate().filter(|(_, tally)| tally.inserted > 0) {
            let start = own_share(plan, worker).start;
            for index in start..start + usize::try_from(tally.inserted)? {
                let key = plan.keys.get(index);
                check_number(plan, index, store.get(key).await?.ok_or_else(|| missing(key))?)?;
            }
        }
        Ok(())
    }

    fn ingest<S: Store>(&self, runtime: &Runtime) -> Outcome<Measured> {
        // Read and parsed before the clock starts.
        let flights = (self.plan.kind == Kind::Flights).then(|| self.flights()).transpose()?;
        let rows = flights.as_ref().map_or(self.plan.present, Vec::len);
        let resident = resident_bytes();
        let store = runtime.block_on(S::open(&self.setup))?;
        let before = Used::so_far(Some(&store));
        let started = clock::now();
        let load = {
            let (store, cell) =
                (store.clone(), Self { plan: Arc::clone(&self.plan), setup: self.setup.clone() });
            async move {
                let batch = cell.plan.batch;
                match flights {
                    Some(flights) => store.load(flights.into_iter(), batch).await,
                    None => store.load(cell.rows(0..cell.plan.present), batch).await,
                }
            }
        };
        // On a worker of the runtime, as a task of a program would.
        if S::STYLE == Style::Tasks {
            runtime.block_on(runtime.spawn(load))??;
        } else {
            pollster::block_on(load)?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let mut result = Used::so_far(Some(&store)).since(&before);
        result.peak_bytes = resident_peak_bytes().saturating_sub(resident);
        finish_timed(&mut result, rows, seconds);
        if S::READABLE {
            runtime.block_on(self.check_loaded(&store))?;
        } else {
            return Err("it stores nothing that could be checked".into());
        }
        runtime.block_on(store.close())?;
        if self.setup.level == Level::Full {
            let store = runtime.block_on(S::open(&self.setup))?;
            let checked = runtime.block_on(self.check_loaded(&store));
            checked.map_err(|error| format!("reopened: {error}"))?;
            runtime.block_on(store.close())?;
        }
        Ok(result)
    }

    fn flights(&self) -> Outcome<Vec<(Key, Value)>> {
        flights::rows(self.plan.flights.as_deref())
    }

    async fn check_loaded<S: Store>(&self, store: &S) -> Outcome<()> {
        if self.plan.kind != Kind::Flights {
            return self.check(store, &[]).await;
        }
        for (key, value) in self.flights()? {
            if store.get(&key).await?.ok_or_else(|| missing(&key))? != value.0 {
                return Err(format!("{key} has the value of another flight").into());
            }
        }
        Ok(())
    }

    fn reopen<S: Store>(&self, runtime: &Runtime) -> Outcome<Measured> {
        if !S::READABLE {
            return Err("it stores nothing that could be read".into());
        }
        let half = self.plan.present / 2;
        let store = runtime.block_on(S::open(&self.setup))?;
        runtime.block_on(store.load(self.rows(0..half), self.plan.batch))?;
        runtime.block_on(store.maintain())?;
        runtime.block_on(store.load(self.rows(half..self.plan.present), self.plan.batch))?;
        runtime.block_on(store.close())?;
        let before = Used::so_far(None::<&S>);
        let started = clock::now();
        let store = runtime.block_on(S::open(&self.setup))?;
        let seconds = started.elapsed().as_secs_f64();
        let mut result = Used::so_far(None::<&S>).since(&before);
        finish_timed(&mut result, self.plan.present, seconds);
        runtime.block_on(self.check(&store, &[]))?;
        runtime.block_on(store.close())?;
        Ok(result)
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes for people")]
    fn memory<S: Store>(&self, runtime: &Runtime) -> Outcome<Measured> {
        let resident = resident_bytes();
        let before = Used::so_far(None::<&S>);
        let started = clock::now();
        let store = runtime.block_on(S::open(&self.setup))?;
        runtime.block_on(store.load(self.rows(0..self.plan.present), self.plan.batch))?;
        let mut result = Used::so_far(None::<&S>).since(&before);
        finish_timed(&mut result, self.plan.present, started.elapsed().as_secs_f64());
        result.value = resident_bytes().saturating_sub(resident) as f64 / self.plan.present as f64;
        result.peak_bytes = resident_peak_bytes().saturating_sub(resident);
        runtime.block_on(self.check(&store, &[]))?;
        runtime.block_on(store.close())?;
        Ok(result)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn finish_timed(result: &mut Measured, rows: usize, seconds: f64) {
    result.operations = rows as u64;
    result.seconds = seconds;
    result.value = rows as f64 / seconds;
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn fill_in(result: &mut Measured, tallies: &[Tally], started: Instant) -> Outcome<()> {
    let finished = tallies.iter().map(|tally| tally.finished).max().ok_or("no workers")?;
    let mut latency = latencies()?;
    for tally in tallies {
        latency.add(&tally.latency)?;
    }
    let runs: u64 = tallies.iter().map(|tally| tally.runs).sum();
    result.operations = tallies.iter().map(|tally| tally.operations).sum();
    result.seconds = finished.duration_since(started).as_secs_f64();
    result.value = result.operations as f64 / result.seconds;
    result.workers = tallies.len();
    result.p50 = latency.value_at_quantile(0.5);
    result.p99 = latency.value_at_quantile(0.99);
    result.p999 = latency.value_at_quantile(0.999);
    let commits: u64 = tallies.iter().map(|tally| tally.commits).sum();
    result.runs_per_commit = (commits > 0).then(|| runs as f64 / commits as f64);
    if result.operations == 0 {
        return Err("nothing was done in the time given".into());
    }
    Ok(())
}
