//! The loop of one worker, and what it tallies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::clock;
use crate::keys::Value;
use crate::plan::{Drawn, Plan};
use crate::store::{Outcome, Store, missing};
use crate::workload::Kind;

/// The value that an account or a counter starts with.
pub(crate) const START: u64 = 1_000_000;

/// What one worker did.
pub(crate) struct Tally {
    pub(crate) operations: u64,
    /// Commits of what may have to run again.
    pub(crate) commits: u64,
    /// How often those ran.
    pub(crate) runs: u64,
    /// What was added to all numbers.
    pub(crate) added: u64,
    /// New keys, of this worker's own share.
    pub(crate) inserted: u64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) finished: Instant,
}

/// Room for a minute in nanoseconds, to two digits.
pub(crate) fn latencies() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 2)?)
}

/// Works until told to stop, or until there is nothing left to do.
pub(crate) async fn work<S: Store>(store: S, plan: Arc<Plan>, worker: usize) -> Outcome<Tally> {
    let latency = latencies()?;
    let mut tally =
        Tally { operations: 0, commits: 0, runs: 0, added: 0, inserted: 0, latency, finished: clock::now() };
    let draws = &plan.draws[worker];
    let mut at = 0;
    // Each does one at the least, however busy the machine is.
    let goes_on = |done: u64| done < plan.operations_max && (done == 0 || !plan.stop.load(Ordering::Relaxed));
    while goes_on(tally.operations) {
        let next = draws[at];
        at = (at + 1) % draws.len();
        let sampled = tally.operations.is_multiple_of(plan.sample_every).then(clock::now);
        if !one(&store, &plan, worker, next, &mut tally).await? {
            break;
        }
        if let Some(started) = sampled {
            let nanoseconds = u64::try_from(started.elapsed().as_nanos())?;
            tally.latency.saturating_record(nanoseconds.max(1));
        }
        tally.operations += 1;
        // What never waits has to let other tasks run, if there are more than workers of the runtime.
        if plan.yields && tally.operations.is_multiple_of(1024) {
            tokio::task::yield_now().await;
        }
    }
    tally.finished = clock::now();
    Ok(tally)
}

/// One operation; `false` if there was nothing left to do.
async fn one<S: Store>(
    store: &S,
    plan: &Plan,
    worker: usize,
    drawn: Drawn,
    tally: &mut Tally,
) -> Outcome<bool> {
    let keys = &plan.keys;
    let (first, second) = (drawn.first as usize, drawn.second as usize);
    match plan.kind {
        Kind::Load | Kind::Insert => return insert_own(store, plan, worker, tally).await,
        Kind::Get => get(store, plan, first).await?,
        Kind::Update => update(store, plan, first, tally.operations).await?,
        Kind::Count { .. } => {
            add(store, keys.get(first), 1, tally).await?;
        }
        Kind::Read => read(store, plan, first).await?,
        Kind::Transfer { .. } | Kind::Mixed => {
            if first == second {
                return Err("a transfer needs two accounts".into());
            }
            tally.runs += store.transfer(keys.get(first), keys.get(second)).await?;
            tally.commits += 1;
        }
        Kind::Scan { rows, backwards } => scan(store, plan, first, rows, backwards).await?,
        Kind::Ycsb(letter) => ycsb(store, plan, letter, drawn, tally).await?,
        Kind::Begin { .. } => drop(store.begin()?),
        Kind::Ingest | Kind::Flights | Kind::Reopen | Kind::Memory => {
            return Err("this is not done over and over".into());
        }
    }
    Ok(true)
}

async fn add<S: Store>(store: &S, key: &str, by: u64, tally: &mut Tally) -> Outcome<()> {
    tally.runs += store.add(key, by).await?;
    tally.commits += 1;
    tally.added += by;
    Ok(())
}

/// Each worker has a range of new keys of its own, so that what it inserted can be checked.
async fn insert_own<S: Store>(store: &S, plan: &Plan, worker: usize, tally: &mut Tally) -> Outcome<bool> {
    let share = own_share(plan, worker);
    let index = share.start + usize::try_from(tally.inserted)?;
    if index >= share.end {
        return Ok(false);
    }
    store.put(plan.keys.get(index), &Value::new(index as u64, plan.value_bytes)).await?;
    tally.inserted += 1;
    Ok(true)
}

pub(crate) fn own_share(plan: &Plan, worker: usize) -> std::ops::Range<usize> {
    let new = plan.keys.len() - plan.present;
    let start = |worker: usize| plan.present + new * worker / plan.workers;
    start(worker)..start(worker + 1)
}

/// A value's number is its key's number, plus a multiple of the number of keys.
async fn get<S: Store>(store: &S, plan: &Plan, index: usize) -> Outcome<()> {
    let number = store.get(plan.keys.get(index)).await?.ok_or_else(|| missing(plan.keys.get(index)))?;
    check_number(plan, index, number)
}

pub(crate) fn check_number(plan: &Plan, index: usize, number: u64) -> Outcome<()> {
    let range = plan.keys.len() as u64;
    if number % range == index as u64 % range {
        Ok(())
    } else {
        Err(format!("{} has the value of another key: {number}", plan.keys.get(index)).into())
    }
}

async fn update<S: Store>(store: &S, plan: &Plan, index: usize, round: u64) -> Outcome<()> {
    let number = index as u64 + round * plan.keys.len() as u64;
    store.put(plan.keys.get(index), &Value::new(number, plan.value_bytes)).await
}

async fn read<S: Store>(store: &S, plan: &Plan, first: usize) -> Outcome<()> {
    let mut keys = [""; 10];
    let mut expected = 0;
    for (step, key) in keys.iter_mut().enumerate() {
        let index = (first + step * 7919) % plan.present;
        *key = plan.keys.get(index);
        expected += index as u64;
    }
    let sum = store.read(&keys).await?;
    if sum == expected {
        Ok(())
    } else {
        Err(format!("10 gets sum up to {sum} instead of {expected}").into())
    }
}

async fn scan<S: Store>(store: &S, plan: &Plan, first: usize, rows: usize, backwards: bool) -> Outcome<()> {
    let there = if backwards { first } else { plan.present - first };
    let found = store.scan(plan.keys.get(first), rows, backwards).await?;
    if found == rows.min(there) {
        Ok(())
    } else {
        Err(format!("a scan found {found} rows of {}", rows.min(there)).into())
    }
}

async fn ycsb<S: Store>(
    store: &S,
    plan: &Plan,
    letter: char,
    drawn: Drawn,
    tally: &mut Tally,
) -> Outcome<()> {
    let first = drawn.first as usize;
    let reads = match letter {
        'a' | 'f' => 50,
        'c' => 100,
        _ => 95,
    };
    match letter {
        'e' if drawn.percent < reads => {
            let rows = drawn.second as usize % 100 + 1;
            let found = store.scan(plan.keys.get(first), rows, false).await?;
            let least = rows.min(plan.present - first);
            if found < least || found > rows {
                return Err(format!("a scan found {found} rows of {rows}").into());
            }
        }
        _ if drawn.percent < reads => get(store, plan, first).await?,
        'd' | 'e' => {
            let next = usize::try_from(plan.next.fetch_add(1, Ordering::Relaxed))?;
            // When all new keys are in, the last ones are written again.
            let index = plan.present + next % (plan.keys.len() - plan.present);
            update(store, plan, index, 0).await?;
        }
        'f' => add(store, plan.keys.get(first), plan.keys.len() as u64, tally).await?,
        _ => update(store, plan, first, tally.operations).await?,
    }
    Ok(())
}
