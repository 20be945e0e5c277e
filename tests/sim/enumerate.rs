//! Every crash point and every single fault of short scenarios.

use std::sync::Mutex;

use anabranch::Error;
use anabranch_wal::disk::sim::{CrashPolicy, Fault, FaultKind, Operation, SimDisk, SurvivingNames, Times};
use tokio::time::timeout;

use crate::check::{HANG, verify};
use crate::config::Config;
use crate::env::{panics, runtime};
use crate::history::{History, changed_nothing};
use crate::oracle::Loss;
use crate::random::Random;
use crate::scenario::{Prepared, Scenario};

/// How many runs there were, and how many images were opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) runs: u64,
    pub(crate) images: u64,
}

/// Crashes the scenario at each of its I/O calls, and opens several images of each.
pub(crate) fn crashes(scenario: &Scenario) -> Result<Count, String> {
    let prepared = scenario.prepare();
    let mut count = Count::default();
    for nth in 1.. {
        let disk = prepared.disk.process_crash();
        disk.crash_at(nth);
        let (history, outcome) = live(scenario, &prepared, &disk);
        let at = |violation: String| format!("{}: crash at {nth}: {violation}", scenario.name);
        let outcome = outcome.map_err(at)?;
        if !disk.crashed() {
            outcome.map_err(|error| at(format!("it fails without a crash: {error:?}")))?;
            return Ok(count);
        }
        count.runs += 1;
        if let Err(error) = outcome
            && !is_typed(&error)
        {
            return Err(at(format!("an error of the wrong kind: {error:?}")));
        }
        for (policy, loss) in images(nth) {
            let at = |violation: String| at(format!("{policy:?}: {violation}"));
            open(&scenario.config(), &disk.crash(&policy), &history, loss).map_err(at)?;
            // And a crash in the middle of that recovery, with power loss behind it.
            let again = disk.crash(&policy);
            again.crash_at(1 + nth * 7 % 23);
            cut_off(&scenario.config(), &again).map_err(at)?;
            again.kill();
            let image = again.power_loss(nth);
            open(&scenario.config(), &image, &history, Loss::Power)
                .map_err(|violation| at(format!("after a crash in recovery: {violation}")))?;
            count.images += 2;
        }
    }
    unreachable!("a scenario ends")
}

/// Lets each I/O call of each kind fail in each way, once and from then on.
pub(crate) fn faults(scenario: &Scenario) -> Result<Count, String> {
    use FaultKind::{Eio, Enospc, Interrupted, ShortWrite, SyncLoses, SyncReverts};
    let prepared = scenario.prepare();
    let mut count = Count::default();
    let kinds: [(Operation, &[FaultKind]); 12] = [
        (Operation::Write, &[Eio, Enospc, ShortWrite, Interrupted]),
        (Operation::Sync, &[Eio, Enospc, SyncLoses, SyncReverts]),
        (Operation::Create, &[Eio, Enospc]),
        (Operation::ZeroFill, &[Eio, Enospc]),
        (Operation::SyncDir, &[Eio]),
        (Operation::Remove, &[Eio]),
        (Operation::Read, &[Eio]),
        (Operation::Open, &[Eio]),
        (Operation::List, &[Eio]),
        (Operation::CreateDir, &[Eio, Enospc]),
        (Operation::Lock, &[Eio]),
        (Operation::Len, &[Eio]),
    ];
    for (operation, kinds) in kinds {
        for kind in kinds {
            let all_times: &[Times] =
                if *kind == Interrupted { &[Times::Once] } else { &[Times::Once, Times::Forever] };
            for times in all_times {
                for nth in 1.. {
                    let fault = Fault { operation, path_contains: None, nth, times: *times, kind: *kind };
                    if !strike(scenario, &prepared, &fault, &mut count)? {
                        break;
                    }
                }
            }
        }
    }
    Ok(count)
}

/// One run with one fault. `false` if the scenario has no such call.
fn strike(
    scenario: &Scenario,
    prepared: &Prepared,
    fault: &Fault,
    count: &mut Count,
) -> Result<bool, String> {
    let disk = prepared.disk.process_crash();
    let at = |violation: String| format!("{}: {fault:?}: {violation}", scenario.name);
    disk.inject(fault.clone());
    let (history, outcome) = live(scenario, prepared, &disk);
    let outcome = outcome.map_err(at)?;
    if disk.faults_struck() == 0 {
        return Ok(false);
    }
    count.runs += 1;
    if let Err(error) = outcome
        && !is_typed(&error)
    {
        return Err(at(format!("an error of the wrong kind: {error:?}")));
    }
    disk.kill();
    // A sync that fails may take back what the operating system had taken: as bad as power loss, and nothing
    // that a relaxed mode speaks of.
    let reverts = matches!(fault.kind, FaultKind::SyncLoses | FaultKind::SyncReverts);
    let process = if reverts { Loss::Power } else { Loss::Process };
    for (policy, loss) in [(CrashPolicy::Process, process), (CrashPolicy::SyncedOnly, Loss::Power)] {
        let at = |violation: String| at(format!("{policy:?}: {violation}"));
        open(&scenario.config(), &disk.crash(&policy), &history, loss).map_err(at)?;
        count.images += 1;
    }
    Ok(true)
}

fn live(
    scenario: &Scenario,
    prepared: &Prepared,
    disk: &SimDisk,
) -> (History, Result<Result<(), Error>, String>) {
    let history = Mutex::new(prepared.history.clone());
    let before = panics();
    let runtime = runtime();
    let outcome = runtime.block_on(async {
        let done = timeout(HANG, scenario.run(disk, &history)).await;
        done.unwrap_or_else(|_| Err("it hangs".to_owned()))
    });
    drop(runtime);
    let outcome = if panics() > before { Err("a task panicked".to_owned()) } else { outcome };
    (history.into_inner().unwrap(), outcome)
}

/// Opens an image, looks, and sees that the engine accepts and syncs (I9).
fn open(config: &Config, disk: &SimDisk, history: &History, loss: Loss) -> Result<(), String> {
    let mut history = history.clone();
    let work = async {
        let engine = config.open(disk, Random::new(3)).await;
        let engine = engine.map_err(|error| format!("opening: {error:?}"))?;
        verify(&engine, &mut history, config.mode, loss)?;
        let tag = history.new_tag(100);
        let inserted = engine.handle().insert("key/0".to_owned(), tag.value()).await;
        inserted.map_err(|error| format!("writing after recovery: {error:?}"))?;
        engine.sync().await.map_err(|error| format!("syncing after recovery: {error:?}"))?;
        engine.close().await.map_err(|error| format!("closing after recovery: {error:?}"))
    };
    let before = panics();
    let opened = runtime().block_on(async { timeout(HANG, work).await });
    opened.unwrap_or_else(|_| Err("recovery hangs".to_owned()))?;
    if panics() > before { Err("a task panicked after recovery".to_owned()) } else { Ok(()) }
}

fn cut_off(config: &Config, disk: &SimDisk) -> Result<(), String> {
    let opened = runtime().block_on(async { timeout(HANG, config.open(disk, Random::new(4))).await });
    match opened {
        Err(_) => Err("a recovery that is cut off hangs".to_owned()),
        Ok(Err(error)) if !is_typed(&error) => Err(format!("a recovery that is cut off says {error:?}")),
        Ok(_) => Ok(()),
    }
}

fn images(nth: u64) -> [(CrashPolicy, Loss); 5] {
    let power_loss = |seed, names| (CrashPolicy::PowerLoss { seed, names }, Loss::Power);
    [
        (CrashPolicy::Process, Loss::Process),
        (CrashPolicy::SyncedOnly, Loss::Power),
        power_loss(nth * 3, SurvivingNames::Prefix),
        power_loss(nth * 3 + 1, SurvivingNames::Prefix),
        power_loss(nth * 3 + 2, SurvivingNames::AnySubset),
    ]
}

/// Errors that a failing disk may cause.
fn is_typed(error: &Error) -> bool {
    changed_nothing(error) && !matches!(error, Error::Config(_))
        || matches!(error, Error::Indeterminate { .. } | Error::Closed)
}
