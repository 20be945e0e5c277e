//! A directory's files in one input: for each a byte for its name, a byte for its least length in pages, the
//! length of what follows, and that. Zeros at a file's end need not be written down.

use std::collections::BTreeMap;

/// A file cannot be made longer than so many of these by its least length.
const PAGE_BYTES: usize = 4096;
const FILES_MAX: usize = 24;
const SLOT_BYTES: usize = 128 << 10;

/// A file that a directory may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// A segment of this log, in this slot. Slot 15 stands for the last one that can be named.
    Segment(u8, u8),
    /// A checkpoint of this number.
    Checkpoint(u8),
    /// One of the two slots of the manifest.
    Manifest(u8),
    /// The file that engines lock.
    Lock,
    /// Somebody else's file.
    Other,
}

impl File {
    const fn of(code: u8) -> Self {
        match code {
            0..0x80 => Self::Segment(code >> 4, code & 15),
            0x80..0xC0 => Self::Checkpoint(code - 0x80),
            0xC0 => Self::Lock,
            0xC1 => Self::Other,
            _ => Self::Manifest(code & 1),
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Segment(log, slot) => (log << 4) | (slot & 15),
            Self::Checkpoint(number) => 0x80 + number,
            Self::Lock => 0xC0,
            Self::Other => 0xC1,
            Self::Manifest(slot) => 0xD0 + slot,
        }
    }

    /// The file of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        (0..=u8::MAX).map(Self::of).find(|file| file.name() == name)
    }

    fn name(self) -> String {
        match self {
            Self::Segment(log, 15) => format!("log-{log:04}-{}.wal", u32::MAX),
            Self::Segment(log, slot) => format!("log-{log:04}-{slot:04}.wal"),
            Self::Checkpoint(number) => format!("checkpoint-{number:08}.ckp"),
            Self::Manifest(_) => "MANIFEST".into(),
            Self::Lock => "LOCK".into(),
            Self::Other => "notes.txt".into(),
        }
    }

    const fn offset(self) -> usize {
        match self {
            Self::Manifest(slot) => slot as usize * SLOT_BYTES,
            _ => 0,
        }
    }
}

/// The input that stands for these files.
///
/// # Panics
/// With a file that needs a length of more than 255 pages to be told.
#[must_use]
pub fn pack(files: &[(File, Vec<u8>)]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (file, bytes) in files {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let whole = file.offset() + bytes.len();
        let pages = if whole.is_multiple_of(PAGE_BYTES) { whole / PAGE_BYTES } else { 0 };
        let used = if pages == 0 { bytes.len() } else { used };
        packed.push(file.code());
        packed.push(u8::try_from(pages).expect("a small file"));
        packed.extend_from_slice(&u32::try_from(used).expect("a small file").to_le_bytes());
        packed.extend_from_slice(&bytes[..used]);
    }
    packed
}

/// The files, by name.
pub(super) fn unpack(mut packed: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::<String, Vec<u8>>::new();
    for _ in 0..FILES_MAX {
        let Some((&[code, pages, a, b, c, d], rest)) = packed.split_first_chunk() else { break };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let (content, rest) = rest.split_at(length.min(rest.len()));
        packed = rest;
        let file = File::of(code);
        let (start, end) = (file.offset(), file.offset() + content.len());
        let bytes = files.entry(file.name()).or_default();
        let whole = bytes.len().max(end).max(usize::from(pages) * PAGE_BYTES);
        bytes.resize(whole, 0);
        bytes[start..end].copy_from_slice(content);
    }
    files
}
