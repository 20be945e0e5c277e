//! A page that shows a running engine live: throughput, latency, watermarks, shards, the ring of the log, versions and
//! the oldest reader. Beside it `/stats`, the same numbers as JSON, and `/metrics` for Prometheus.
//!
//! It listens on 127.0.0.1 only. The engine runs under a load of its own, which the command line steers; an engine of
//! yours would take its place with [`Server::start`]'s two lines of `Handle` and `Stats`.

mod arguments;
mod frame;
mod load;
mod server;

pub use arguments::Arguments;
pub use frame::Frame;
pub use load::{Load, LoadOptions, Progress};
pub use server::{Failure, Server};
