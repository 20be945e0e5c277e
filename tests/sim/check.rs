//! What is looked at whenever an engine has been opened.
//!
//! The invariants of RELIABILITY section 4, and what checks each:
//!
//! | | invariant | check |
//! |---|---|---|
//! | I1 | a commit is there on all its shards or on none | `oracle::check_prefix`: the content is that of whole commits |
//! | I2 | what was acknowledged is there | `oracle::check_survival` |
//! | I3 | what is there is a prefix, in relaxed modes within the bounds | `check_prefix`, `check_survival` |
//! | I4 | each key has the value of that prefix, in scans and gets, also for readers before the crash | `Content::read`, `Worker::look` |
//! | I5 | what was cut off stays away | `check_prefix` after `History::settle`: tags are never used twice |
//! | I6 | what was seen in `Full` is there | `History::seen` in `check_survival` |
//! | I7 | undamaged images open; damaged ones are reported or harmless | every opening; `rot`, `golden` |
//! | I8 | recovering twice gives the same | `open_twice` |
//! | I9 | the engine goes on to accept and to sync | `Seed::quiesce`, `enumerate::open` |
//! | I10 | nothing is left behind: readers, waiting jobs, files; a segment is in reserve | `quiesce`, `check_files` |
//! | I11 | all that is stored is intact | opening reads every checksum of what counts; after an orderly end, again on each copy |

use std::time::Duration;

use anabranch::Engine;
use anabranch_wal::disk::sim::{CrashPolicy, SimDisk};
use tokio::time::timeout;

use crate::config::{Config, Mode};
use crate::env::runtime;
use crate::history::{History, Key, Value};
use crate::oracle::{Content, Loss, check_prefix_before, check_survival};
use crate::random::Random;

/// More virtual time than any life needs.
pub(crate) const HANG: Duration = Duration::from_mins(5);

/// I1 to I6: compares what the engine serves with what its users were told, and takes that as the new truth.
pub(crate) fn verify(
    engine: &Engine<Key, Value>,
    history: &mut History,
    mode: Mode,
    loss: Loss,
) -> Result<Content, String> {
    let content = Content::read(&engine.handle())?;
    let report = engine.recovery_report();
    let removed = history.removes_itself && content.timestamp > report.log.recovered_to.0;
    if content.timestamp != report.log.recovered_to.0 && !removed {
        return Err(format!("recovered to {}, and serves {}", report.log.recovered_to, content.timestamp));
    }
    // Timestamps behind the cut are used again, by the engine's own removals too: those of tasks end at the cut.
    let mut cut = Content { timestamp: report.log.recovered_to.0, ..content.clone() };
    cut.timestamp = check_prefix_before(history, &cut, content.timestamp)?;
    check_survival(history, &cut, history.mode, loss)?;
    history.settle(content.timestamp, content.tags.clone());
    history.settle_counters(&content.counters);
    history.mode = mode;
    Ok(content)
}

/// I8: the same image gives the same state each time, also on what the first opening left.
pub(crate) fn open_twice(
    config: &Config,
    disk: &SimDisk,
    policy: &CrashPolicy,
    random: &mut Random,
) -> Result<(), String> {
    let mut contents = Vec::new();
    for _ in 0..2 {
        let image = disk.crash(policy);
        contents.push(content_of(config, &image, random.fork())?);
        contents.push(content_of(config, &image.crash(policy), random.fork())?);
    }
    if contents.iter().any(|content| !content.agrees(&contents[0], config.limited)) {
        return Err(format!("one image, several contents: {contents:?}"));
    }
    Ok(())
}

fn content_of(config: &Config, disk: &SimDisk, random: Random) -> Result<Content, String> {
    runtime().block_on(async {
        let opened = timeout(HANG, config.open(disk, random)).await.map_err(|_| "opening a copy hangs")?;
        let engine = opened.map_err(|error| format!("opening a copy: {error:?}"))?;
        Content::read(&engine.handle())
    })
}
