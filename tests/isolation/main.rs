//! Isolation, proven: a checker of histories, histories from the engine, and the named anomalies one by one.

mod campaign;
mod checker;
mod client;
mod effort;
mod judge;
mod lists;
mod random;
