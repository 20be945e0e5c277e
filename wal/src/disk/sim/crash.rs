//! What a crash leaves: a new disk, made of what the old one had synced and some of what it had not.

use std::collections::BTreeSet;

use super::SimDisk;
use super::file_system::{Entry, FileSystem, NameChange, set};
use super::inode::{Inode, SectorFate};
use super::random::Random;
use super::state::State;

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// Only the process dies. What it wrote stays readable, and stays as unsynced as it was.
    Process,
    /// Power fails, and exactly what was synced survives.
    SyncedOnly,
    /// Power fails, and of the rest survives what the seed says: of each file's unsynced sectors 0, 10, 50,
    /// 90 or 100 % (in three of four images the same share for all files), in three images of ten with
    /// sectors torn inside, and any length between the durable and the live one.
    PowerLoss {
        /// Decides the image.
        seed: u64,
        /// Which changes of names survive.
        names: SurvivingNames,
    },
}

/// Which unsynced changes of names survive power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurvivingNames {
    /// The oldest, up to some point, as on ext4.
    Prefix,
    /// Any of them, as POSIX allows.
    AnySubset,
}

impl SimDisk {
    /// The disk after a crash at this moment. This one stays as it is, so that the moment can be used again.
    ///
    /// The new disk keeps the settings of latency and capacity. It starts without locks, faults and fuse, and
    /// counts from zero.
    #[must_use]
    pub fn crash(&self, policy: &CrashPolicy) -> Self {
        let state = self.core.state.lock();
        let mut files = state.files.closed_copy();
        let random = match *policy {
            CrashPolicy::Process => state.random.clone(),
            CrashPolicy::SyncedOnly => {
                files.settle_names(Vec::new());
                files.inodes.values_mut().for_each(Inode::lose_unsynced);
                state.random.clone()
            }
            CrashPolicy::PowerLoss { seed, names } => {
                let mut random = Random::new(seed);
                files.lose_power(names, &mut random);
                random
            }
        };
        Self::with_state(State::with_files(files, random, state.latency_max))
    }

    /// [`SimDisk::crash`] of the process alone.
    #[must_use]
    pub fn process_crash(&self) -> Self {
        self.crash(&CrashPolicy::Process)
    }

    /// [`SimDisk::crash`] by power loss, with names as on ext4.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        self.crash(&CrashPolicy::PowerLoss { seed, names: SurvivingNames::Prefix })
    }
}

impl FileSystem {
    fn lose_power(&mut self, names: SurvivingNames, random: &mut Random) {
        let mut pending = std::mem::take(&mut self.pending);
        match names {
            SurvivingNames::Prefix => pending.truncate(random.index(pending.len() + 1)),
            SurvivingNames::AnySubset => pending.retain(|_| random.percent(50)),
        }
        self.settle_names(pending);
        let mut fate = SectorFate { kept_percent: draw_kept_percent(random), torn: random.percent(30) };
        let differs_by_file = random.percent(25);
        for inode in self.inodes.values_mut() {
            if differs_by_file {
                fate.kept_percent = draw_kept_percent(random);
            }
            inode.lose_power(fate, random);
        }
    }

    /// Makes these changes of names durable, forgets all others, and what can't be reached any more.
    fn settle_names(&mut self, changes: Vec<NameChange>) {
        self.pending.clear();
        for NameChange { directory, name, entry } in changes {
            if let Some(names) = self.directories.get_mut(&directory) {
                set(&mut names.durable, &name, entry);
            }
        }
        for names in self.directories.values_mut() {
            names.live = names.durable.clone();
        }
        let mut reachable = BTreeSet::new();
        for path in self.directories.keys() {
            // Parents sort before their children.
            let is_reachable = path.parent().is_none_or(|parent| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let names = self.directories.get(parent).filter(|_| reachable.contains(parent));
                name.zip(names).is_some_and(|(name, names)| names.live.get(&name) == Some(&Entry::Directory))
            });
            if is_reachable {
                reachable.insert(path.clone());
            }
        }
        self.directories.retain(|path, _| reachable.contains(path));
        self.drop_unnamed();
    }
}

fn draw_kept_percent(random: &mut Random) -> u8 {
    const KEPT_PERCENT: [u8; 5] = [0, 10, 50, 90, 100];
    KEPT_PERCENT[random.index(KEPT_PERCENT.len())]
}
