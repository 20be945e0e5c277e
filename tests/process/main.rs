//! The real thing: a process of its own, on real files, killed at random moments, with system calls that fail,
//! and on a disk that is really full. What it was told through a pipe is what must be there afterwards.
//!
//! The tests that are ignored by default need `strace`, or root to mount a file system:
//!
//! ```sh
//! cargo test --test process -- --ignored
//! ```
#![cfg(unix)]

mod database;
#[path = "../it/effort.rs"]
mod effort;
mod event;
mod full_disk;
mod history;
mod inject;
mod judge;
mod kill;
mod owner;
mod plan;
mod process;
#[path = "../sim/random.rs"]
#[expect(dead_code, reason = "some of it only the simulation needs")]
mod random;
mod row;
mod strace;
mod task;
mod worker;
