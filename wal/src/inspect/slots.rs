//! The two slots of the manifest, each for itself.

use std::path::Path;

use super::ReadOnlyDisk;
use super::view::{ManifestView, SlotView};
use crate::WalError;
use crate::disk::{Disk, OpenMode, read_at};
use crate::manifest::{Manifest, ManifestFile, SLOT_BYTES, Slot, parse_slot};

/// A slot as it was read.
pub(super) struct ReadSlot {
    pub(super) offset: u64,
    pub(super) slot: Slot,
    empty: bool,
}

impl ReadSlot {
    pub(super) fn state(&self) -> String {
        match &self.slot {
            Slot::Valid { .. } => "intact".into(),
            Slot::Unknown { format } => format!("format version {format}, which this program does not know"),
            Slot::Malformed { reason } => format!("malformed: {reason}"),
            Slot::Invalid if self.empty => "empty".into(),
            Slot::Invalid => "not intact".into(),
        }
    }

    pub(super) fn view(&self, chosen: Option<u64>) -> SlotView {
        let (sequence, manifest) = match &self.slot {
            Slot::Valid { sequence, manifest } => (Some(*sequence), Some(ManifestView::of(manifest))),
            _ => (None, None),
        };
        let chosen = sequence.is_some() && sequence == chosen;
        SlotView { offset: self.offset, chosen, state: self.state(), sequence, manifest }
    }

    /// What is wrong with it, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        let sound = self.empty || matches!(self.slot, Slot::Valid { .. });
        (!sound).then(|| self.state())
    }
}

/// Both slots of the manifest.
pub(super) async fn read_slots(disk: &ReadOnlyDisk, directory: &Path) -> Result<Vec<ReadSlot>, WalError> {
    let path = ManifestFile::path(directory);
    let file =
        disk.open(&path, OpenMode::Read).await.map_err(|error| WalError::io("opening", &path, error))?;
    let mut slots = Vec::new();
    for index in 0..2 {
        let offset = index * SLOT_BYTES as u64;
        let bytes = read_at(&*file, &path, offset, SLOT_BYTES).await?;
        let empty = bytes.iter().all(|byte| *byte == 0);
        slots.push(ReadSlot { offset, slot: parse_slot(&bytes), empty });
    }
    Ok(slots)
}

/// The intact slot that was written last.
pub(super) fn newest(slots: &[ReadSlot]) -> Option<(u64, &Manifest)> {
    slots
        .iter()
        .filter_map(|slot| match &slot.slot {
            Slot::Valid { sequence, manifest } => Some((*sequence, manifest)),
            _ => None,
        })
        // Of two with the same number, which is damage, recovery takes the first.
        .rev()
        .max_by_key(|(sequence, _)| *sequence)
}
