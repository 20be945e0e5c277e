//! Faults: which operation fails, when, and how.

use std::path::Path;
use std::time::Duration;

/// The kinds of operations, as faults and traces tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `DiskFile::read_at`.
    Read,
    /// `DiskFile::write_at`.
    Write,
    /// `DiskFile::sync_data` and `DiskFile::sync_all`.
    Sync,
    /// `Disk::open` with `OpenMode::Create`.
    Create,
    /// `DiskFile::zero_fill`.
    ZeroFill,
    /// `Disk::remove`.
    Remove,
    /// `Disk::sync_dir`.
    SyncDir,
    /// `Disk::open` of an existing file.
    Open,
    /// `Disk::list`.
    List,
    /// `Disk::create_dir`.
    CreateDir,
    /// `Disk::lock`.
    Lock,
    /// `DiskFile::len`.
    Len,
}

/// A fault to come.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which operations it is about.
    pub operation: Operation,
    /// Only operations on paths with this in them.
    pub path_contains: Option<String>,
    /// The first matching operation to fail, counted from the injection; `1` is the next one.
    pub nth: u64,
    /// Whether it ends with the first failure.
    pub times: Times,
    /// What happens.
    pub kind: FaultKind,
}

/// How often a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The n-th operation only.
    Once,
    /// The n-th operation and all after it.
    Forever,
}

/// What happens to the operation. A kind that makes no sense for it acts like [`FaultKind::Eio`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It fails. A write or zero fill may have taken place in part; anything else did not take place, and a
    /// failed sync leaves everything as dirty as it was.
    Eio,
    /// It fails with `StorageFull`, like [`FaultKind::Eio`] otherwise.
    Enospc,
    /// A write takes place in part and says so.
    ShortWrite,
    /// It fails with `Interrupted` and can be repeated.
    Interrupted,
    /// A sync fails as on ext4: the data stays readable and counts as clean, but never reaches the disk.
    SyncLoses,
    /// A sync does nothing and returns `Ok`; the file's next sync fails, and loses as ext4 does.
    SyncLate,
    /// A sync fails as on btrfs: reads return the old data again.
    SyncReverts,
    /// It takes this long and then goes on normally.
    Latency(Duration),
}

/// The faults to come, in the order of injection.
#[derive(Default)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    struck: u64,
}

struct Armed {
    fault: Fault,
    seen: u64,
}

impl Faults {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.armed.push(Armed { fault, seen: 0 });
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn struck(&self) -> u64 {
        self.struck
    }

    /// Counts the operation for every fault it matches, and returns what happens to it.
    pub(super) fn strike(&mut self, operation: Operation, path: &Path) -> Option<FaultKind> {
        let mut strikes = None;
        for armed in &mut self.armed {
            if armed.matches(operation, path) {
                armed.seen += 1;
                if armed.is_due() && strikes.is_none() {
                    strikes = Some(armed.fault.kind);
                }
            }
        }
        self.struck += u64::from(strikes.is_some());
        strikes
    }
}

impl Armed {
    fn matches(&self, operation: Operation, path: &Path) -> bool {
        let part = self.fault.path_contains.as_deref();
        self.fault.operation == operation && part.is_none_or(|part| path.to_string_lossy().contains(part))
    }

    fn is_due(&self) -> bool {
        let nth = self.fault.nth.max(1);
        match self.fault.times {
            Times::Once => self.seen == nth,
            Times::Forever => self.seen >= nth,
        }
    }
}
