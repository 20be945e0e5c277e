//! Checkpoints: a shard's whole content at one timestamp, in a new file of checksummed blocks.
//!
//! The file is written once, synced, its name synced, and only then named in the manifest (RELIABILITY R20,
//! R22). A file that no manifest names is an orphan of a crash and is removed on open.

use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use crate::checksum::{check, crc, put_table, table_bytes};
use crate::disk::{Disk, DiskFile, OpenMode, read_at, write_all_at};
use crate::manifest::CheckpointEntry;
use crate::planted::{Bug, is_planted};
use crate::record::{EncodedWrites, Malformed, Write};
use crate::recovery::RecoveredCheckpoint;
use crate::segment::FORMAT_VERSION;
use crate::{DatabaseId, FileNumber, LogId, Timestamp, WalError};

const FILE_MAGIC: u64 = u64::from_le_bytes(*b"ANABRCKP");
const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"ACKB");
const FILE_HEADER_BYTES: usize = 64;
const BLOCK_HEADER_BYTES: usize = 32;
/// A block is written when it has gathered this much.
const BLOCK_TARGET_BYTES: usize = 256 << 10;
const KIND_ENTRIES: u8 = 1;
const KIND_FOOTER: u8 = 2;

/// Which checkpoint a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointId {
    /// The database.
    pub database: DatabaseId,
    /// The log whose shard it was.
    pub log: LogId,
    /// The number in the file's name.
    pub file: FileNumber,
    /// The content's timestamp.
    pub timestamp: Timestamp,
}

impl CheckpointId {
    /// The path of the file.
    #[must_use]
    pub fn path(&self, directory: &Path) -> PathBuf {
        checkpoint_path(directory, self.file)
    }
}

pub(crate) fn checkpoint_path(directory: &Path, file: FileNumber) -> PathBuf {
    directory.join(format!("checkpoint-{:08}.ckp", file.0))
}

pub(crate) fn parse_checkpoint_name(name: &str) -> Option<FileNumber> {
    name.strip_prefix("checkpoint-")?.strip_suffix(".ckp")?.parse().ok().map(FileNumber)
}

/// Writes a checkpoint, entry by entry.
pub struct CheckpointWriter {
    id: CheckpointId,
    path: PathBuf,
    directory: PathBuf,
    file: Box<dyn DiskFile>,
    offset: u64,
    blocks: u64,
    entries: u64,
    timestamps: Vec<u64>,
    writes: EncodedWrites,
    block_bytes: usize,
}

impl CheckpointWriter {
    /// Makes the file.
    pub async fn create(disk: &dyn Disk, directory: &Path, id: CheckpointId) -> Result<Self, WalError> {
        let path = id.path(directory);
        let file = disk
            .open(&path, OpenMode::Create)
            .await
            .map_err(|error| WalError::io("creating", &path, error))?;
        let mut writer = Self {
            id,
            path,
            directory: directory.to_owned(),
            file,
            offset: 0,
            blocks: 0,
            entries: 0,
            timestamps: Vec::new(),
            writes: EncodedWrites::new(),
            block_bytes: 0,
        };
        writer.append(file_header(&id).into()).await?;
        Ok(writer)
    }

    pub(crate) const fn file_number(&self) -> FileNumber {
        self.id.file
    }

    /// Adds an entry, the commit that wrote it, and when it expires if it does. The closures append the encoded key
    /// and value.
    pub fn push<E>(
        &mut self,
        timestamp: Timestamp,
        expires_unix_millis: Option<u64>,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.writes.put_expiring(expires_unix_millis, key, value)?;
        self.pushed(timestamp);
        Ok(())
    }

    /// Adds an offset of a source, and the commit that wrote it.
    pub fn push_offset(&mut self, timestamp: Timestamp, source: &str, offset: u64) {
        self.writes.put_offset(source, offset);
        self.pushed(timestamp);
    }

    fn pushed(&mut self, timestamp: Timestamp) {
        self.timestamps.push(timestamp.0);
        self.block_bytes = self.writes.record_bytes(0) + 8 * self.timestamps.len();
    }

    /// Whether a block has gathered: time to call [`CheckpointWriter::write_block`].
    #[must_use]
    pub fn block_is_full(&self) -> bool {
        self.block_bytes >= BLOCK_TARGET_BYTES
    }

    /// Writes what has gathered.
    pub async fn write_block(&mut self) -> Result<(), WalError> {
        let timestamps = std::mem::take(&mut self.timestamps);
        let writes = std::mem::take(&mut self.writes);
        self.block_bytes = 0;
        if timestamps.is_empty() {
            return Ok(());
        }
        self.entries += timestamps.len() as u64;
        let mut payload = Vec::with_capacity(8 * timestamps.len() + writes.as_bytes().len());
        for timestamp in &timestamps {
            payload.put_u64_le(*timestamp);
        }
        payload.extend_from_slice(writes.as_bytes());
        let block = encode_block(KIND_ENTRIES, self.blocks, timestamps.len(), &payload);
        self.blocks += 1;
        self.append(block.into()).await
    }

    /// Writes the footer and makes the file and its name durable. The manifest may name it now.
    pub async fn finish(mut self, disk: &dyn Disk) -> Result<CheckpointEntry, WalError> {
        self.write_block().await?;
        let mut footer = Vec::new();
        footer.put_u64_le(self.entries);
        footer.put_u64_le(self.blocks);
        self.append(encode_block(KIND_FOOTER, self.blocks, 0, &footer).into()).await?;
        self.file.sync_all().await.map_err(|error| WalError::io("syncing", &self.path, error))?;
        if !is_planted(Bug::DirectoryNotSynced) {
            disk.sync_dir(&self.directory)
                .await
                .map_err(|error| WalError::io("syncing", &self.directory, error))?;
        }
        Ok(CheckpointEntry {
            file: self.id.file,
            timestamp: self.id.timestamp,
            entries: self.entries,
            bytes: self.offset,
        })
    }

    async fn append(&mut self, bytes: Bytes) -> Result<(), WalError> {
        let length = bytes.len() as u64;
        write_all_at(&*self.file, &self.path, self.offset, bytes).await?;
        self.offset += length;
        Ok(())
    }
}

fn file_header(id: &CheckpointId) -> Vec<u8> {
    let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
    header.put_u64_le(FILE_MAGIC);
    header.put_u32_le(FORMAT_VERSION);
    header.put_u32_le(0);
    header.put_u64_le(id.database.0);
    header.put_u64_le(id.file.0);
    header.put_u64_le(id.timestamp.0);
    header.put_u32_le(id.log.0);
    header.resize(FILE_HEADER_BYTES, 0);
    let header_crc = crc(&header[16..]);
    header[12..16].copy_from_slice(&header_crc.to_le_bytes());
    header
}

fn parse_file_header(path: &Path, header: &[u8]) -> Result<CheckpointId, WalError> {
    let damaged = |detail: &str| WalError::corrupt(path, 0, detail);
    if header.len() < FILE_HEADER_BYTES {
        return Err(damaged("the file ends within its header"));
    }
    let mut fields = header;
    if fields.get_u64_le() != FILE_MAGIC {
        return Err(damaged("this is not the header of a checkpoint"));
    }
    let format = fields.get_u32_le();
    if fields.get_u32_le() != crc(&header[16..FILE_HEADER_BYTES]) {
        return Err(damaged("the header's checksum does not match"));
    }
    if format != FORMAT_VERSION {
        let (file, found, supported) = (path.to_owned(), format, FORMAT_VERSION);
        return Err(WalError::UnknownFormat { file, found, supported });
    }
    let database = DatabaseId(fields.get_u64_le());
    let file = FileNumber(fields.get_u64_le());
    let timestamp = Timestamp(fields.get_u64_le());
    Ok(CheckpointId { database, file, timestamp, log: LogId(fields.get_u32_le()) })
}

fn encode_block(kind: u8, index: u64, entries: usize, payload: &[u8]) -> Vec<u8> {
    let mut table = Vec::with_capacity(table_bytes(payload.len()));
    put_table(&mut table, payload);
    let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + table.len() + payload.len());
    block.put_u32_le(BLOCK_MAGIC);
    block.put_u32_le(0);
    block.put_u8(kind);
    block.put_bytes(0, 3);
    block.put_u32_le(entries.try_into().expect("a block of 256 KiB, or of one entry"));
    block.put_u32_le(payload.len().try_into().expect("an entry is at most 2 GiB"));
    block.put_u32_le(crc(&table));
    block.put_u64_le(index);
    let header_crc = crc(&block[8..BLOCK_HEADER_BYTES]);
    block[4..8].copy_from_slice(&header_crc.to_le_bytes());
    block.extend_from_slice(&table);
    block.extend_from_slice(payload);
    block
}

struct BlockHeader {
    kind: u8,
    entries: u32,
    payload_bytes: usize,
    table_crc: u32,
    index: u64,
}

impl BlockHeader {
    fn parse(header: &[u8]) -> Option<Self> {
        let header = header.get(..BLOCK_HEADER_BYTES)?;
        let mut fields = header;
        if fields.get_u32_le() != BLOCK_MAGIC || fields.get_u32_le() != crc(&header[8..]) {
            return None;
        }
        let kind = fields.get_u8();
        fields.advance(3);
        Some(Self {
            kind,
            entries: fields.get_u32_le(),
            payload_bytes: fields.get_u32_le() as usize,
            table_crc: fields.get_u32_le(),
            index: fields.get_u64_le(),
        })
    }
}

/// One entry of a checkpoint: the commit that wrote it, and the write.
pub type CheckpointedEntry = (Timestamp, Write);

/// Reads a checkpoint, block by block.
pub struct CheckpointReader {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    file_bytes: u64,
    offset: u64,
    blocks: u64,
    entries: u64,
    id: CheckpointId,
}

impl CheckpointReader {
    /// Opens a checkpoint's file and checks that it is the one that the manifest means.
    pub async fn open(disk: &dyn Disk, checkpoint: &RecoveredCheckpoint) -> Result<Self, WalError> {
        let RecoveredCheckpoint { id, entry, path } = checkpoint;
        let reader = Self::open_any(disk, path).await?;
        if reader.id != *id {
            return Err(WalError::corrupt(path, 0, "this is not the checkpoint that the manifest names"));
        }
        if reader.file_bytes != entry.bytes {
            let detail = format!("the file has {} bytes, not {}", reader.file_bytes, entry.bytes);
            return Err(WalError::corrupt(path, reader.file_bytes.min(entry.bytes), detail));
        }
        Ok(reader)
    }

    /// Opens any checkpoint's file and checks its header.
    pub async fn open_any(disk: &dyn Disk, path: &Path) -> Result<Self, WalError> {
        let file = disk.open(path, OpenMode::Read).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                WalError::corrupt(path, 0, "the manifest names this checkpoint, and it is missing")
            }
            _ => WalError::io("opening", path, error),
        })?;
        let file_bytes = file.len().await.map_err(|error| WalError::io("reading", path, error))?;
        let header = read_at(&*file, path, 0, FILE_HEADER_BYTES).await?;
        let id = parse_file_header(path, &header)?;
        let offset = FILE_HEADER_BYTES as u64;
        Ok(Self { path: path.to_owned(), file, file_bytes, offset, blocks: 0, entries: 0, id })
    }

    /// Opens a checkpoint's file whose own header can't be read: its name, and its length by the manifest, say
    /// what it is, and each block has checksums of its own.
    pub(crate) async fn open_headless(
        disk: &dyn Disk,
        checkpoint: &RecoveredCheckpoint,
    ) -> Result<Self, WalError> {
        let RecoveredCheckpoint { id, entry, path } = checkpoint;
        let io = |error| WalError::io("opening", path, error);
        let file = disk.open(path, OpenMode::Read).await.map_err(io)?;
        let (file_bytes, offset) = (file.len().await.map_err(io)?, FILE_HEADER_BYTES as u64);
        if file_bytes != entry.bytes {
            return Err(WalError::corrupt(
                path,
                0,
                "neither the header nor the length is what the manifest says",
            ));
        }
        Ok(Self { path: path.clone(), file, file_bytes, offset, blocks: 0, entries: 0, id: *id })
    }

    /// Goes past a block that is damaged behind its intact header, and returns how many entries it had. `None`
    /// if there is no telling where the next block begins.
    pub(crate) async fn skip_block(&mut self) -> Result<Option<u32>, WalError> {
        let header = read_at(&*self.file, &self.path, self.offset, BLOCK_HEADER_BYTES).await?;
        let Some(header) = BlockHeader::parse(&header) else { return Ok(None) };
        let block = BLOCK_HEADER_BYTES + table_bytes(header.payload_bytes) + header.payload_bytes;
        let end = self.offset + block as u64;
        if header.kind != KIND_ENTRIES || end >= self.file_bytes {
            return Ok(None);
        }
        self.offset = end;
        self.blocks += 1;
        Ok(Some(header.entries))
    }

    /// Whether the next block is the footer.
    pub(crate) async fn is_at_footer(&self) -> bool {
        let header = read_at(&*self.file, &self.path, self.offset, BLOCK_HEADER_BYTES).await;
        let header = header.ok().and_then(|header| BlockHeader::parse(&header));
        header.is_some_and(|header| header.kind == KIND_FOOTER)
    }

    /// The length of the file.
    pub(crate) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Which checkpoint the header says this is.
    #[must_use]
    pub const fn id(&self) -> CheckpointId {
        self.id
    }

    /// The entries of the next block, or `None` after the footer. A file that ends without one is damaged.
    pub async fn next_block(&mut self) -> Result<Option<Vec<CheckpointedEntry>>, WalError> {
        let header = read_at(&*self.file, &self.path, self.offset, BLOCK_HEADER_BYTES).await?;
        let header =
            BlockHeader::parse(&header).ok_or_else(|| self.damaged(0, "there is no intact block header"))?;
        let table_start = self.offset + BLOCK_HEADER_BYTES as u64;
        let body_bytes = table_bytes(header.payload_bytes) + header.payload_bytes;
        // The length is checked against the file before anything is allocated for it.
        if table_start + body_bytes as u64 > self.file_bytes {
            return Err(self.damaged(0, "a block reaches beyond the end of the file"));
        }
        let mut body = read_at(&*self.file, &self.path, table_start, body_bytes).await?;
        if body.len() < body_bytes {
            return Err(self.damaged(0, "the file ends within a block"));
        }
        let payload = body.split_off(table_bytes(header.payload_bytes));
        if crc(&body) != header.table_crc || header.index != self.blocks {
            return Err(self.damaged(BLOCK_HEADER_BYTES, "a block's table of checksums does not match"));
        }
        check(&body, &payload).map_err(|at| {
            self.damaged(BLOCK_HEADER_BYTES + body.len() + at, "a block's checksum does not match")
        })?;
        let entries = match header.kind {
            KIND_ENTRIES => self.decode_entries(header.entries, payload).map(Some),
            KIND_FOOTER => self.check_footer(payload, table_start + body_bytes as u64).map(|()| None),
            kind => {
                let (file, offset) = (self.path.clone(), self.offset);
                Err(WalError::UnknownKind { file, offset, kind })
            }
        }?;
        self.blocks += 1;
        self.offset = table_start + body_bytes as u64;
        Ok(entries)
    }

    fn decode_entries(&mut self, count: u32, mut payload: Bytes) -> Result<Vec<CheckpointedEntry>, WalError> {
        if payload.len() < 8 * count as usize {
            return Err(self.damaged(0, "a block holds fewer entries than it says"));
        }
        let mut timestamps = payload.split_to(8 * count as usize);
        let mut entries = Vec::with_capacity((count as usize).min(payload.len()));
        for _ in 0..count {
            let write = Write::take(&mut payload).map_err(|malformed| match malformed {
                Malformed::UnknownKind(kind) => {
                    WalError::UnknownKind { file: self.path.clone(), offset: self.offset, kind }
                }
                Malformed::Shape(detail) => self.damaged(0, detail),
            })?;
            if write.value.is_none() {
                return Err(self.damaged(0, "a checkpoint holds a removal"));
            }
            entries.push((Timestamp(timestamps.get_u64_le()), write));
        }
        if !payload.is_empty() {
            return Err(self.damaged(0, "bytes follow a block's last entry"));
        }
        self.entries += u64::from(count);
        Ok(entries)
    }

    fn check_footer(&self, mut payload: Bytes, end: u64) -> Result<(), WalError> {
        if payload.len() != 16
            || payload.get_u64_le() != self.entries
            || payload.get_u64_le() != self.blocks
            || end != self.file_bytes
        {
            return Err(self.damaged(0, "the footer does not count what the file holds"));
        }
        Ok(())
    }

    fn damaged(&self, at: usize, detail: &str) -> WalError {
        WalError::corrupt(&self.path, self.offset + at as u64, detail)
    }
}
