//! Deterministic simulation: the whole engine, actors included, on a disk that forgets, tears, fails and
//! crashes, with a clock that jumps. A seed decides everything, and a failing seed prints how to replay it.

mod config;
mod env;
mod history;
mod life;
mod oracle;
mod random;
mod watchdog;
mod workload;

use std::env::var;

use life::Tally;

/// Leads the lives of one seed under the eyes of the watchdog.
fn run(seed: u64, verbose: bool) -> Result<Tally, String> {
    let _watched = watchdog::watch(format!("seed {seed}"));
    life::run(seed, verbose).map_err(|violation| {
        format!(
            "seed {seed}: {violation}\n  replay with: ANABRANCH_SEED={seed} cargo test --test sim swarm -- \
             --nocapture"
        )
    })
}

fn run_all(seeds: impl Iterator<Item = u64>) {
    let mut total = Tally::default();
    let mut violations = Vec::new();
    let mut count = 0;
    for seed in seeds {
        count += 1;
        match run(seed, false) {
            Ok(tally) => {
                total.lives += tally.lives;
                total.commits += tally.commits;
                total.operations += tally.operations;
                total.recoveries_crashed += tally.recoveries_crashed;
                total.faults += tally.faults;
            }
            Err(violation) => {
                println!("{violation}");
                violations.push(seed);
            }
        }
    }
    println!("{count} seeds: {total:?}");
    assert!(violations.is_empty(), "{} of {count} seeds broke a promise: {violations:?}", violations.len());
}

#[test]
fn swarm() {
    if let Ok(seed) = var("ANABRANCH_SEED") {
        let tally = run(seed.parse().expect("ANABRANCH_SEED is a number"), true);
        println!("{:?}", tally.unwrap_or_else(|violation| panic!("{violation}")));
        return;
    }
    let default = if var("ANABRANCH_EFFORT").is_ok_and(|effort| effort == "ci") { 5_000 } else { 200 };
    let count = var("ANABRANCH_SEEDS").map_or(default, |count| count.parse().expect("a number of seeds"));
    let first = var("ANABRANCH_FIRST_SEED").map_or(1, |first| first.parse().expect("a seed"));
    run_all(first..first + count);
}

#[test]
fn seeds_that_once_failed() {
    let seeds =
        include_str!("seeds.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    run_all(seeds);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1_000_000..1_000_020 {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed} went two ways");
    }
}
