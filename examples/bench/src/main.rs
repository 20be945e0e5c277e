//! The benchmark of anabranch: workloads over it, its peers, and what the machine can do.
//!
//! Every measurement is a *cell*: one workload on one engine, in a process of its own, so that memory is counted
//! from nothing, a hang can be ended, and no engine's background threads disturb the next. Rounds go engine by
//! engine, so that a slow minute of the machine hits all of them. Each cell checks its result.

mod bars;
mod cell;
mod chart;
mod cli;
mod clock;
mod compare;
mod contention;
mod cost;
mod engines;
mod flights;
mod hit_rates;
mod keys;
mod machine;
mod model;
mod operation;
mod outcome;
mod plan;
mod report;
mod store;
mod suite;
mod sweep;
mod table;
mod workload;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
