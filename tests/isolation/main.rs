//! Isolation, proven: a checker of histories, histories from the engine, and the named anomalies one by one.

mod blind;
mod campaign;
mod checker;
mod client;
mod contention;
#[path = "../it/effort.rs"]
mod effort;
mod evicted;
mod hermitage;
mod judge;
mod lists;
mod phantoms;
mod random;
mod registers;
mod retry;
mod runs;
mod second_judge;
mod stage;
