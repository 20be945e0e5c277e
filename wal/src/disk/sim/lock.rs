//! Who has which directory. Each generation of the disk has a register of its own: a crash frees all locks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Core;

/// The locked directories.
#[derive(Default)]
pub(super) struct Register {
    tenants: Mutex<BTreeMap<PathBuf, Tenant>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    Staying,
    Leaving,
}

impl Register {
    /// Completes when a lock ends after this call, or when the disk does.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }
}

/// Held by a disk and all that was opened through it.
pub(super) struct DirectoryLock {
    core: Arc<Core>,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes the directory, or says who has it.
    pub(super) fn take(core: &Arc<Core>, path: &Path) -> Result<Self, Tenant> {
        let mut tenants = core.register.tenants.lock();
        if let Some(tenant) = tenants.get(path) {
            return Err(*tenant);
        }
        tenants.insert(path.to_owned(), Tenant::Staying);
        Ok(Self { core: Arc::clone(core), path: path.to_owned() })
    }

    pub(super) fn announce_end(&self) {
        self.core.register.tenants.lock().insert(self.path.clone(), Tenant::Leaving);
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        self.core.register.tenants.lock().remove(&self.path);
        self.core.register.wake();
    }
}
