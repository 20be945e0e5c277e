//! The simulation is itself tested: classic mistakes of storage engines are planted, and it must find each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_wal::{Bug, plant};

use crate::env::quiet;
use crate::{life, watchdog};

/// How many seeds it may take to find a bug: ten times what was measured, and at most 5,000.
///
/// Measured: in how many of the seeds 1 to 1,000 it was found; and the first of them.
const fn seeds_max(bug: Bug) -> u64 {
    match bug {
        _ => 1000,
    }
}

/// What a seed's life meets with a bug planted, or without one.
fn lead(bug: Option<Bug>, seed: u64) -> Result<(), String> {
    let _watched = watchdog::watch(format!("seed {seed} with {bug:?}"));
    let _quiet = bug.map(|_| quiet());
    let _planted = bug.map(plant);
    match catch_unwind(AssertUnwindSafe(|| life::run(seed, false))) {
        Ok(outcome) => outcome.map(drop),
        Err(_) => Err("a panic".to_owned()),
    }
}

/// The first seed that finds the bug, with what it found.
fn find(bug: Bug) -> Option<(u64, String)> {
    (1..=seeds_max(bug)).find_map(|seed| Some((seed, lead(Some(bug), seed).err()?)))
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let Some((seed, violation)) = find(bug) else {
            missed.push(bug);
            continue;
        };
        println!("{bug:?}: seed {seed} of at most {}: {}", seeds_max(bug), first_line(&violation));
        // The bug is what was found: without it, the same seeds break no promise.
        let sound = if crate::is_full() { 1..=seed } else { seed..=seed };
        for seed in sound {
            lead(None, seed).unwrap_or_else(|violation| panic!("seed {seed}, without {bug:?}: {violation}"));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// How the numbers of `seeds_max` were measured.
#[test]
#[ignore = "a measurement: ANABRANCH_SEEDS=1000 cargo test --test sim measure -- --ignored --nocapture"]
fn measure_how_many_seeds_find_each_planted_bug() {
    let count = std::env::var("ANABRANCH_SEEDS").map_or(1_000, |count| count.parse().expect("a number"));
    for bug in Bug::ALL {
        let found: Vec<_> =
            (1..=count).filter_map(|seed| Some((seed, lead(Some(bug), seed).err()?))).collect();
        let first = found.first().map(|(seed, violation)| (*seed, first_line(violation)));
        println!("{bug:?}: {} of {count}; first: {first:?}", found.len());
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
