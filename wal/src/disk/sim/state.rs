//! What one generation of the disk knows, and the decision what becomes of each operation.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::fault::{FaultKind, Faults, Operation};
use super::file_system::FileSystem;
use super::inode::SyncEffect;
use super::random::{Digest, Random};

pub(super) struct State {
    pub(super) files: FileSystem,
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) latency_max: Duration,
    /// Operations until the crash.
    pub(super) fuse: Option<u64>,
    pub(super) io_count: u64,
    pub(super) trace: Digest,
    life: Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    Frozen,
    Killed { frozen: bool },
}

/// One call of the disk's traits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) path: &'a Path,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// How an operation takes place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The most bytes that a write writes.
    pub(super) bytes_max: usize,
    pub(super) sync: SyncEffect,
}

const NORMAL: Terms = Terms { bytes_max: usize::MAX, sync: SyncEffect::Persist };

/// What becomes of an operation.
pub(super) enum Plan {
    Do(Terms),
    Delay(Duration),
    /// It fails, and may have taken place nevertheless.
    Fail(io::Error, Option<Terms>),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self::with_files(FileSystem::new(), Random::new(seed), Duration::ZERO)
    }

    pub(super) fn with_files(files: FileSystem, random: Random, latency_max: Duration) -> Self {
        Self {
            files,
            faults: Faults::default(),
            random,
            latency_max,
            fuse: None,
            io_count: 0,
            trace: Digest::default(),
            life: Life::Running,
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.life, Life::Frozen | Life::Killed { frozen: true })
    }

    pub(super) fn kill(&mut self) {
        self.life = Life::Killed { frozen: self.is_frozen() };
    }

    pub(super) fn check_alive(&self) -> io::Result<()> {
        match self.life {
            Life::Running => Ok(()),
            Life::Frozen => Err(simulated_crash()),
            Life::Killed { .. } => Err(io::Error::other("simulated disk of a dead engine")),
        }
    }

    /// How long the next operation takes.
    pub(super) fn draw_latency(&mut self) -> Duration {
        let max = u64::try_from(self.latency_max.as_micros()).unwrap_or(u64::MAX);
        if max == 0 { Duration::ZERO } else { Duration::from_micros(self.random.below(max)) }
    }

    /// Counts and records the operation, and decides what becomes of it.
    pub(super) fn plan(&mut self, call: Call<'_>) -> io::Result<Plan> {
        self.check_alive()?;
        self.io_count += 1;
        self.trace.add(call.operation as u64);
        self.trace.add_bytes(call.path.as_os_str().as_encoded_bytes());
        self.trace.add(call.offset);
        self.trace.add(call.len);
        let fault = self.faults.strike(call.operation, call.path);
        if let Some(left) = &mut self.fuse {
            *left -= 1;
            if *left == 0 {
                self.life = Life::Frozen;
                self.fuse = None;
                return Ok(Plan::Fail(simulated_crash(), self.draw_last_terms(call)));
            }
        }
        Ok(fault.map_or(Plan::Do(NORMAL), |kind| self.plan_fault(kind, call)))
    }

    fn plan_fault(&mut self, kind: FaultKind, call: Call<'_>) -> Plan {
        match (kind, call.operation) {
            (FaultKind::Latency(delay), _) => Plan::Delay(delay),
            (FaultKind::Interrupted, _) => Plan::Fail(io::ErrorKind::Interrupted.into(), None),
            (FaultKind::ShortWrite, Operation::Write) => {
                Plan::Do(Terms { bytes_max: self.draw_part(call).max(1), ..NORMAL })
            }
            (FaultKind::SyncLoses, Operation::Sync) => Plan::Do(Terms { sync: SyncEffect::Lose, ..NORMAL }),
            (FaultKind::SyncLate, Operation::Sync) => {
                Plan::Do(Terms { sync: SyncEffect::FailLater, ..NORMAL })
            }
            (FaultKind::SyncReverts, Operation::Sync) => {
                Plan::Do(Terms { sync: SyncEffect::Revert, ..NORMAL })
            }
            (FaultKind::Enospc, _) => {
                Plan::Fail(io::ErrorKind::StorageFull.into(), self.draw_partial_terms(call))
            }
            _ => {
                let error = format!("simulated EIO: {:?} {}", call.operation, call.path.display());
                Plan::Fail(io::Error::other(error), self.draw_partial_terms(call))
            }
        }
    }

    /// The last operation before a crash takes place, or doesn't, or a write does in part.
    fn draw_last_terms(&mut self, call: Call<'_>) -> Option<Terms> {
        match self.random.below(3) {
            0 => None,
            1 => self.draw_partial_terms(call),
            _ => Some(NORMAL),
        }
    }

    fn draw_partial_terms(&mut self, call: Call<'_>) -> Option<Terms> {
        let writes = matches!(call.operation, Operation::Write | Operation::ZeroFill);
        (writes && self.random.percent(50)).then(|| Terms { bytes_max: self.draw_part(call), ..NORMAL })
    }

    fn draw_part(&mut self, call: Call<'_>) -> usize {
        usize::try_from(self.random.below(call.len)).unwrap_or(0)
    }

    /// Carries the plan out. A delay is over by now.
    pub(super) fn execute<T>(
        &mut self,
        plan: Plan,
        action: impl FnOnce(&mut FileSystem, Terms) -> io::Result<T>,
    ) -> io::Result<T> {
        match plan {
            Plan::Do(terms) => action(&mut self.files, terms),
            Plan::Delay(_) => action(&mut self.files, NORMAL),
            Plan::Fail(error, terms) => {
                if let Some(terms) = terms {
                    drop(action(&mut self.files, terms));
                }
                Err(error)
            }
        }
    }
}

fn simulated_crash() -> io::Error {
    io::Error::other("simulated crash")
}
