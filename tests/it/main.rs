//! Whole-engine tests through the public face, a module for each behaviour.

mod autocommit;
mod bad_input;
mod contention;
mod damage;
mod durable;
mod effort;
mod harness;
mod ingest;
mod interleaving;
mod isolation;
mod keys;
mod lifecycle;
mod liveness;
mod many;
mod misuse;
mod model;
mod panics;
mod phantoms;
mod reclaim;
mod relaxed;
mod reshape;
mod retry;
mod scans;
mod sight;
mod snapshot_age;
mod transactions;
