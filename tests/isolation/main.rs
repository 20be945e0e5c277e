//! Isolation, proven: a checker of histories, histories from the engine, and the named anomalies one by one.

mod checker;
mod effort;
mod judge;
mod random;
