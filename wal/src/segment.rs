//! Segments: files that are filled with zeros once and then reused for ever. A segment's identity lives in the
//! header in its first sector, so that steady state renames and unlinks nothing (RELIABILITY R17, R20).

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use crate::checksum::crc;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::frame::SECTOR_BYTES;
use crate::ring::SEGMENT_BYTES_MIN;
use crate::{DatabaseId, Incarnation, LogId, Lsn, SegmentNumber, WalError};

const MAGIC: u64 = u64::from_le_bytes(*b"ANABRSEG");
/// The version of all files' formats. A file of another version is refused by name.
pub const FORMAT_VERSION: u32 = 1;

/// The first sector of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The database it belongs to.
    pub database: DatabaseId,
    /// The log it belongs to.
    pub log: LogId,
    /// Its number in the log.
    pub number: SegmentNumber,
    /// The incarnation that began it.
    pub incarnation: Incarnation,
    /// The number of its first batch.
    pub first_lsn: Lsn,
    /// The checksum of the header of the batch before.
    pub previous_crc: u32,
}

impl SegmentHeader {
    pub(crate) fn put(&self, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.put_u64_le(MAGIC);
        buffer.put_u32_le(FORMAT_VERSION);
        buffer.put_u32_le(0);
        buffer.put_u64_le(self.database.0);
        buffer.put_u32_le(self.log.0);
        buffer.put_u32_le(self.previous_crc);
        buffer.put_u64_le(self.number.0);
        buffer.put_u64_le(self.incarnation.0);
        buffer.put_u64_le(self.first_lsn.0);
        buffer.put_bytes(0, SECTOR_BYTES - (buffer.len() - start));
        let header_crc = crc(&buffer[start + 16..]);
        buffer[start + 12..start + 16].copy_from_slice(&header_crc.to_le_bytes());
    }

    /// The header at the front of a file, or `None` if there is no intact one.
    pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Option<Self>, WalError> {
        let Some(header) = bytes.get(..SECTOR_BYTES) else { return Ok(None) };
        let mut fields = header;
        if fields.get_u64_le() != MAGIC {
            return Ok(None);
        }
        let format = fields.get_u32_le();
        if fields.get_u32_le() != crc(&header[16..]) {
            return Ok(None);
        }
        if format != FORMAT_VERSION {
            return Err(WalError::UnknownFormat {
                file: file.to_owned(),
                found: format,
                supported: FORMAT_VERSION,
            });
        }
        let database = DatabaseId(fields.get_u64_le());
        let log = LogId(fields.get_u32_le());
        let previous_crc = fields.get_u32_le();
        Ok(Some(Self {
            database,
            log,
            previous_crc,
            number: SegmentNumber(fields.get_u64_le()),
            incarnation: Incarnation(fields.get_u64_le()),
            first_lsn: Lsn(fields.get_u64_le()),
        }))
    }
}

/// The name of a segment's file: which log, and the how manieth file of that log it is. It says nothing about
/// the content, which changes as the file is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) log: LogId,
    pub(crate) slot: u32,
}

impl SegmentName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (log, slot) = name.strip_prefix("log-")?.strip_suffix(".wal")?.split_once('-')?;
        let parsed = Self { log: LogId(log.parse().ok()?), slot: slot.parse().ok()? };
        (parsed.file_name() == name).then_some(parsed)
    }

    fn file_name(self) -> String {
        format!("log-{:04}-{:04}.wal", self.log.0, self.slot)
    }

    pub(crate) fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.file_name())
    }
}

/// A segment's file, open for as long as the engine lives (R16).
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) bytes: u64,
}

impl SegmentFile {
    /// Makes a new file of `bytes` written zeros, and makes its name and its content durable.
    pub(crate) async fn create(
        disk: &dyn Disk,
        directory: &Path,
        name: SegmentName,
        bytes: u64,
    ) -> Result<Self, WalError> {
        let path = name.path(directory);
        let created = async {
            let file = disk.open(&path, OpenMode::Create).await?;
            file.zero_fill(bytes).await?;
            file.sync_all().await?;
            disk.sync_dir(directory).await?;
            Ok(file)
        };
        match created.await {
            Ok(file) => Ok(Self { path, file, bytes }),
            Err(error) => {
                // A half-made file must not be taken for a segment; without an intact header it isn't.
                let _ = disk.remove(&path).await;
                Err(WalError::io("creating", &path, error))
            }
        }
    }

    /// Whether the file has a length that segments are made with. A crash may leave a shorter one.
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes >= SEGMENT_BYTES_MIN && self.bytes.is_multiple_of(SECTOR_BYTES as u64)
    }

    pub(crate) async fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, WalError> {
        let file = disk
            .open(&path, OpenMode::ReadWrite)
            .await
            .map_err(|error| WalError::io("opening", &path, error))?;
        let bytes = file.len().await.map_err(|error| WalError::io("reading", &path, error))?;
        Ok(Self { path, file, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_another_version_is_refused_by_name() {
        let header = SegmentHeader {
            database: DatabaseId(1),
            log: LogId(2),
            number: SegmentNumber(3),
            incarnation: Incarnation(4),
            first_lsn: Lsn(5),
            previous_crc: 6,
        };
        let mut bytes = Vec::new();
        header.put(&mut bytes);
        assert_eq!(bytes.len(), SECTOR_BYTES);
        assert_eq!(SegmentHeader::parse(Path::new("x"), &bytes).unwrap(), Some(header));
        bytes[8] = 99;
        assert!(matches!(
            SegmentHeader::parse(Path::new("x"), &bytes),
            Err(WalError::UnknownFormat { found: 99, .. })
        ));
        bytes[100] ^= 1;
        assert!(SegmentHeader::parse(Path::new("x"), &bytes).unwrap().is_none());
    }

    #[test]
    fn names_are_read_back() {
        let name = SegmentName { log: LogId(7), slot: 12 };
        let path = name.path(Path::new("/d"));
        let file = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(SegmentName::parse(file), Some(name));
        assert_eq!(SegmentName::parse("checkpoint-1.ckp"), None);
    }
}
