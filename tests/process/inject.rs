//! Failing system calls of the real binary: errors are typed, nothing is acknowledged that the engine can't
//! vouch for, reads go on, nothing hangs, and reopening finds a prefix with everything acknowledged.

use std::path::Path;

use crate::database;
use crate::effort::effort;
use crate::history::{Content, Failure, Fate, History};
use crate::plan::{MODES, Mode, Plan, Work};
use crate::process::{Ended, Kill, lead};
use crate::random::Random;
use crate::strace::{Injection, Trace};

/// Of each task.
const OPERATIONS: u64 = 40;
/// So many lives have one directory.
const LIVES: u64 = 4;

/// How lives ended.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    lives: u64,
    /// At least one call failed, or killed.
    struck: u64,
    refused: u64,
    failed: u64,
    failed_to_close: u64,
    setbacks: usize,
    acknowledged: usize,
}

/// Leads lives in which the n-th call of each thread fails, for growing n.
async fn inject(call: &'static str, effect: &'static str) -> Tally {
    let seed = std::env::var("ANABRANCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut random = Random::new(seed);
    let (mut tally, mut content) = (Tally::default(), Content::default());
    let mut directory = tempfile::tempdir().unwrap();
    for nth in effort(vec![1, 2, 3, 4, 6, 9, 14, 25], (1..=40).collect()) {
        if tally.lives.is_multiple_of(LIVES) {
            (directory, content) = (tempfile::tempdir().unwrap(), Content::default());
        }
        tally.lives += 1;
        let mode = if random.percent(60) { Mode::Full } else { random.pick(&MODES) };
        let database = directory.path().join("database");
        let mut plan = Plan::new(&database, tally.lives, &mut random, mode);
        plan.operations = OPERATIONS;
        let injection = Injection { call, effect, when: nth.to_string(), path: None };
        let outcome = live(&plan, content, &injection, directory.path(), &mut tally).await;
        content = outcome.unwrap_or_else(|violation| {
            panic!("{injection:?}, ANABRANCH_SEED={seed}: {violation}\n{plan:?}")
        });
    }
    println!("{call}:{effect}: {tally:?}");
    tally
}

/// One life, to be judged.
async fn live(
    plan: &Plan,
    base: Content,
    injection: &Injection,
    beside: &Path,
    tally: &mut Tally,
) -> Result<Content, String> {
    let log = beside.join("strace.log");
    let ended = lead(plan, base, &injection.command(&log), Kill::Never).await?;
    tally.acknowledged += ended.history.acknowledged();
    if injection.effect.starts_with("signal") {
        if ended.status.success() {
            check_undisturbed(&ended.history)?;
        } else {
            ended.was_killed_in_its_prime()?;
            tally.struck += 1;
        }
    } else {
        let trace = Trace::read(&log);
        check(plan, &ended, injection, &trace)?;
        let History { refused, failures, setbacks, closed, .. } = &ended.history;
        tally.struck += u64::from(!trace.failed.is_empty());
        tally.refused += u64::from(refused.is_some());
        tally.failed += u64::from(!failures.is_empty());
        tally.failed_to_close += u64::from(failures.is_empty() && closed.as_ref().is_some_and(is_error));
        tally.setbacks += setbacks.len();
    }
    database::reopen(plan, &ended.history).await
}

fn is_error(failure: &Failure) -> bool {
    failure.error != "Ok"
}

fn check_undisturbed(history: &History) -> Result<(), String> {
    let History { refused, failures, setbacks, closed, .. } = history;
    let orderly = closed.as_ref().is_some_and(|closed| !is_error(closed));
    if orderly && refused.is_none() && failures.is_empty() && setbacks.is_empty() {
        return Ok(());
    }
    Err(format!("undisturbed, it said {refused:?}, {failures:?}, {setbacks:?}, {closed:?}"))
}

/// What the worker said, given which calls failed.
fn check(plan: &Plan, ended: &Ended, injection: &Injection, trace: &Trace) -> Result<(), String> {
    let history = &ended.history;
    if !ended.status.success() {
        return Err(format!("it ended with {}", ended.status));
    }
    if trace.failed.is_empty() {
        return check_undisturbed(history);
    }
    let History { refused, failures, setbacks, closed, served, .. } = history;
    let cause = match injection.effect {
        "error=EIO" => "Input/output error",
        "error=ENOSPC" => "No space left on device",
        other => return Err(format!("nobody knows what {other} says")),
    };
    let said =
        refused.iter().chain(failures).chain(setbacks).chain(closed.iter().filter(|end| is_error(end)));
    if let Some(failure) = said.clone().find(|failure| !failure.message.contains(cause)) {
        return Err(format!("{failure:?} does not name the cause, {cause}"));
    }
    match (refused, served, closed) {
        (Some(refused), None, None) if matches!(refused.error.as_str(), "Io" | "DiskFull") => {}
        (None, Some(_), Some(_)) => {}
        end => return Err(format!("neither refused nor served to the end: {end:?}")),
    }
    // A task that was told tries again, in vain.
    let read_only = failures.iter().filter(|failure| failure.error == "ReadOnly").count();
    if !failures.is_empty() && read_only < 3 {
        return Err(format!("it failed, and only {read_only} operations were refused: {failures:?}"));
    }
    if !failures.is_empty() && closed.as_ref().is_none_or(|closed| closed.error != "ReadOnly") {
        return Err(format!("it failed, and closing says {closed:?}"));
    }
    let vital = injection.call == "fdatasync" || trace.failed.iter().any(|file| file == "MANIFEST");
    if vital && said.clone().next().is_none() {
        return Err(format!("nobody was told that {:?} failed", trace.failed));
    }
    if injection.call == "fsync" && !failures.is_empty() {
        return Err(format!("only a new file could not be synced, and the engine failed: {failures:?}"));
    }
    check_after(plan, history, injection, trace)
}

/// With one log, whatever is begun once its sync has failed is not acknowledged.
fn check_after(plan: &Plan, history: &History, injection: &Injection, trace: &Trace) -> Result<(), String> {
    if plan.shards() != 1 || plan.mode != Mode::Full || injection.call != "fdatasync" {
        return Ok(());
    }
    let acknowledged = |operation: &&_| history.attempts[*operation].fate == Fate::Acknowledged;
    match trace.begun_after.iter().find(acknowledged) {
        Some(operation) => Err(format!("{operation:?} was begun after the failed sync, and acknowledged")),
        None => Ok(()),
    }
}

#[tokio::test]
#[ignore = "needs strace: makes system calls fail"]
async fn a_failed_sync_of_the_log_ends_all_writing() {
    let tally = inject("fdatasync", "error=EIO").await;
    assert!(tally.refused > 0 && tally.failed > 0, "{tally:?}");
}

#[tokio::test]
#[ignore = "needs strace: makes system calls fail"]
async fn a_failed_write_is_told_and_loses_nothing() {
    let tally = inject("pwrite64", "error=EIO").await;
    assert!(tally.refused > 0 && tally.failed > 0, "{tally:?}");
}

#[tokio::test]
#[ignore = "needs strace: makes system calls fail"]
async fn a_write_without_space_is_told_and_loses_nothing() {
    let tally = inject("pwrite64", "error=ENOSPC").await;
    assert!(tally.refused > 0 && tally.failed > 0, "{tally:?}");
}

#[tokio::test]
#[ignore = "needs strace: makes system calls fail"]
async fn a_failed_sync_of_a_new_file_is_no_end() {
    let tally = inject("fsync", "error=EIO").await;
    assert!(tally.refused > 0 && tally.struck > tally.refused, "{tally:?}");
}

#[tokio::test]
#[ignore = "needs strace: kills at system calls"]
async fn killed_at_a_sync() {
    let tally = inject("fdatasync", "signal=KILL").await;
    assert!(tally.struck > tally.lives / 2 && tally.acknowledged > 0, "{tally:?}");
}

#[tokio::test]
#[ignore = "needs strace: kills at system calls"]
async fn killed_at_a_write() {
    let tally = inject("pwrite64", "signal=KILL").await;
    assert!(tally.struck > tally.lives / 2 && tally.acknowledged > 0, "{tally:?}");
}

/// A commit that waits for a new segment, of which there can be none: it is told so, has no timestamp, and
/// one of the next finds one. Two tries fail: the first may be one that nobody waits for yet, on a slow machine.
#[tokio::test]
#[ignore = "needs strace: makes system calls fail"]
async fn no_space_for_a_new_segment_is_a_full_disk_and_the_engine_goes_on() {
    for call in ["openat", "pwrite64", "fsync"] {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("database");
        let mut plan = Plan::new(&database, 1, &mut Random::new(1), Mode::Full);
        (plan.work, plan.operations) = (Work::HugeFirst, 30);
        let path = Some(database.join("log-0000-0001.wal"));
        let injection = Injection { call, effect: "error=ENOSPC", when: "1..2".into(), path };
        let log = directory.path().join("strace.log");
        let ended = lead(&plan, Content::default(), &injection.command(&log), Kill::Never).await.unwrap();
        let History { refused, failures, setbacks, closed, .. } = &ended.history;
        let full = setbacks.iter().filter(|setback| setback.error == "DiskFull").count();
        assert!((1..=2).contains(&full) && setbacks.len() == full, "{call}: {setbacks:?}");
        assert!(setbacks[0].message.contains("No space left on device"), "{call}: {setbacks:?}");
        assert_eq!((refused, failures.len()), (&None, 0), "{call}");
        assert!(closed.as_ref().is_some_and(|closed| closed.error == "Ok"), "{call}: {closed:?}");
        assert!(ended.history.acknowledged() > 30, "{call}: {}", ended.history.acknowledged());
        database::reopen(&plan, &ended.history).await.unwrap();
    }
}
