//! A limit of memory and its policies, times to live, and what is known about entries.

mod accounts;
#[path = "../it/effort.rs"]
mod effort;
mod eviction;
mod metadata;
mod refusal;
mod ttl;
mod world;
