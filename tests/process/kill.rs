//! SIGKILL at random moments, in every durable mode: a killed process loses nothing that was acknowledged.

use std::time::Duration;

use crate::database;
use crate::effort::effort;
use crate::history::Content;
use crate::plan::{Mode, Plan};
use crate::process::{Kill, lead};
use crate::random::Random;

/// Lives of one directory, each ended by a kill.
async fn lead_lives(mode: Mode) {
    let seed = std::env::var("ANABRANCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut random = Random::new(seed ^ (mode as u64) << 32);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("database");
    let mut content = Content::default();
    let (mut acknowledged, mut begun, mut unopened) = (0, 0, 0);
    let lives = effort(3, 60);
    for life in 1..=lives {
        let plan = Plan::new(&directory, life, &mut random, mode);
        let kill = if random.percent(20) {
            Kill::AfterStart(Duration::from_micros(random.between(0..=30_000)))
        } else {
            Kill::AfterOpening(Duration::from_micros(random.between(0..=80_000)))
        };
        let outcome = async {
            let ended = lead(&plan, content, &[], kill).await?;
            ended.was_killed_in_its_prime()?;
            let content = database::reopen(&plan, &ended.history).await?;
            Ok::<_, String>((ended.history, content))
        };
        let (history, now) = outcome.await.unwrap_or_else(|violation| {
            panic!("{mode:?}, ANABRANCH_SEED={seed}, life {life}, killed {kill:?}: {violation}\n{plan:?}")
        });
        acknowledged += history.acknowledged();
        begun += history.attempts.len();
        unopened += usize::from(!history.opened);
        content = now;
    }
    println!(
        "{mode:?}, ANABRANCH_SEED={seed}: {lives} kills, {unopened} of them before it was open; {begun} \
         operations begun, {acknowledged} acknowledged, {} commits there",
        content.timestamp
    );
    assert!(acknowledged > 0, "no life got anywhere");
}

#[tokio::test]
async fn killed_in_full() {
    lead_lives(Mode::Full).await;
}

#[tokio::test]
async fn killed_when_relaxed_by_time() {
    lead_lives(Mode::Interval).await;
}

#[tokio::test]
async fn killed_when_relaxed_by_commits() {
    lead_lives(Mode::Commits).await;
}

#[tokio::test]
async fn killed_when_relaxed_by_bytes() {
    lead_lives(Mode::Bytes).await;
}
