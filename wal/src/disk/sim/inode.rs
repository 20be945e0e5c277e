//! The content of one file, without its name: what programs see, and what power loss leaves.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::random::Random;

/// The unit in which a device writes.
pub const SECTOR_BYTES: usize = 512;

/// Files can't grow beyond this; a wild offset is an error instead of an allocation.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// One sector in four of a torn image is torn.
const TORN_SECTOR_PERCENT: u8 = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeNumber(pub(super) u64);

#[derive(Default)]
pub(super) struct Inode {
    /// What reads see. Shared with crash images until one side writes.
    cache: Arc<Vec<u8>>,
    /// What is on the device; its length is the durable length.
    disk: Arc<Vec<u8>>,
    /// Sectors the kernel still means to write. A sector can differ from the disk without being dirty: that
    /// is what a failed sync leaves (R12).
    dirty: BTreeSet<usize>,
    /// Emptied since the last sync, so that old and new content may or may not share blocks.
    emptied: bool,
    /// The last sync lied; the next one tells.
    sync_failed: bool,
    /// One clone per open file.
    handles: Arc<()>,
}

/// What a sync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncEffect {
    Persist,
    Lose,
    FailLater,
    Revert,
}

/// How the unsynced sectors of files fare in one crash image.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectorFate {
    pub(super) kept_percent: u8,
    pub(super) torn: bool,
}

impl Inode {
    /// A file whose bytes are all on disk.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let cache = Arc::new(bytes);
        Self { disk: Arc::clone(&cache), cache, ..Self::default() }
    }

    /// The same content for another generation of the disk, where nobody has it open yet.
    pub(super) fn closed_copy(&self) -> Self {
        Self {
            cache: Arc::clone(&self.cache),
            disk: Arc::clone(&self.disk),
            dirty: self.dirty.clone(),
            emptied: self.emptied,
            sync_failed: self.sync_failed,
            handles: Arc::default(),
        }
    }

    pub(super) fn handle(&self) -> Arc<()> {
        Arc::clone(&self.handles)
    }

    pub(super) fn is_open(&self) -> bool {
        Arc::strong_count(&self.handles) > 1
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn durable_bytes(&self) -> &[u8] {
        &self.disk
    }

    /// Writes to the cache. A gap behind the old end reads as zeros and is dirty like the rest.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len();
        let first = offset.min(self.cache.len());
        self.dirty.extend(first / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        let cache = Arc::make_mut(&mut self.cache);
        if cache.len() < end {
            cache.resize(end, 0);
        }
        cache[offset..end].copy_from_slice(data);
    }

    pub(super) fn empty(&mut self) {
        self.cache = Arc::default();
        self.dirty.clear();
        self.emptied = true;
    }

    pub(super) fn sync(&mut self, effect: SyncEffect) -> io::Result<()> {
        if self.sync_failed {
            self.sync_failed = false;
            self.dirty.clear();
            return Err(io::Error::other("simulated EIO: an earlier sync failed"));
        }
        match effect {
            SyncEffect::Persist => {
                self.persist();
                return Ok(());
            }
            SyncEffect::FailLater => {
                self.sync_failed = true;
                return Ok(());
            }
            SyncEffect::Lose => {}
            SyncEffect::Revert => {
                self.cache = Arc::clone(&self.disk);
                self.emptied = false;
            }
        }
        self.dirty.clear();
        Err(io::Error::other("simulated EIO: sync failed"))
    }

    /// Only dirty sectors are written, so a sync after a failed one is `Ok` and repairs nothing.
    fn persist(&mut self) {
        if !self.dirty.is_empty() || self.disk.len() != self.cache.len() {
            let disk = Arc::make_mut(&mut self.disk);
            disk.resize(self.cache.len(), 0);
            for sector in &self.dirty {
                let range = sector_range(*sector, self.cache.len());
                disk[range.clone()].copy_from_slice(&self.cache[range]);
            }
            self.dirty.clear();
        }
        self.emptied = false;
    }

    /// Changes what is there, both on disk and in the cache.
    pub(super) fn damage(&mut self, change: impl Fn(&mut Vec<u8>)) {
        change(Arc::make_mut(&mut self.cache));
        change(Arc::make_mut(&mut self.disk));
        self.dirty.retain(|sector| sector * SECTOR_BYTES < self.cache.len());
    }

    /// Forgets all that was not synced.
    pub(super) fn lose_unsynced(&mut self) {
        *self = Self { cache: Arc::clone(&self.disk), disk: Arc::clone(&self.disk), ..Self::default() };
    }

    /// Power fails: some of the dirty sectors and some length between the durable and the live one survive.
    pub(super) fn lose_power(&mut self, fate: SectorFate, random: &mut Random) {
        if self.dirty.is_empty() && self.disk.len() == self.cache.len() {
            return self.lose_unsynced();
        }
        let durable_len = self.disk.len();
        let mut survived =
            if self.emptied && random.percent(50) { Vec::new() } else { self.disk.as_ref().clone() };
        survived.resize(durable_len.max(self.cache.len()), 0);
        for sector in &self.dirty {
            let range = sector_range(*sector, self.cache.len());
            let (new, old) = (&self.cache[range.clone()], &mut survived[range]);
            if fate.torn && random.percent(TORN_SECTOR_PERCENT) {
                tear(old, new, random);
            } else if random.percent(fate.kept_percent) {
                old.copy_from_slice(new);
            }
        }
        survived.truncate(surviving_len(durable_len, self.cache.len(), fate, random));
        *self = Self::durable(survived);
    }
}

fn sector_range(sector: usize, len: usize) -> std::ops::Range<usize> {
    sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(len)
}

fn surviving_len(durable: usize, live: usize, fate: SectorFate, random: &mut Random) -> usize {
    if fate.kept_percent == 100 {
        return live;
    }
    match random.below(3) {
        0 => durable,
        1 => live,
        _ => durable.min(live) + random.index(durable.abs_diff(live) + 1),
    }
}

/// Leaves one side of a sector new, and the other old or garbage. A sector that is overwritten with what it
/// holds already stays as it is: recovery relies on that when it writes again what it accepted (R13).
fn tear(sector: &mut [u8], new: &[u8], random: &mut Random) {
    if sector == new {
        return;
    }
    let cut = random.index(new.len());
    let (written, rest) =
        if random.percent(50) { (0..cut, cut..new.len()) } else { (cut..new.len(), 0..cut) };
    sector[written.clone()].copy_from_slice(&new[written]);
    if random.percent(50) {
        sector[rest].fill_with(|| random.byte());
    }
}
