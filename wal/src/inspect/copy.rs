//! A new database made of another one's checkpoints and records.
//!
//! Records are copied as they are, in their order, rather than merged by key: which keys are equal only the key's
//! type knows. The manifest is written last, so that a copy which was cut short does not open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::source::check_plain;
use crate::backup::claim_empty;
use crate::checkpoint::{CheckpointId, CheckpointWriter};
use crate::disk::{Disk, DiskFile, OpenMode, write_all_at};
use crate::flusher::Part;
use crate::frame::{BatchHeader, BatchKind, SECTOR_BYTES, payload_that_fits, put_batch};
use crate::log::Mark;
use crate::manifest::{LogEntry, Manifest, ManifestFile};
use crate::record::Record;
use crate::recovery::Listing;
use crate::ring::SEGMENT_BYTES_MIN;
use crate::segment::{SegmentHeader, SegmentName};
use crate::wal::new_log_entry;
use crate::{
    DatabaseId, Env, FileNumber, Incarnation, LogId, Lsn, SegmentNumber, SourceOffset, Timestamp, WalError,
    Write,
};

/// Segments of a copy are of this size, or smaller if there is less to put in.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Records are gathered up to about this much before they are written.
const GATHERED_BYTES: usize = 1 << 20;

/// What a new database was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// It holds what counts up to this commit.
    pub timestamp: Timestamp,
    /// Entries of checkpoints.
    pub entries: u64,
    /// Commits' parts in logs.
    pub records: u64,
    /// Bytes of checkpoints and segments.
    pub bytes: u64,
}

/// A database being written.
pub(super) struct NewDatabase {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    manifest: Manifest,
    copied: Copied,
}

impl NewDatabase {
    /// Begins one with the logs, and the way of routing keys, of `source`.
    pub(super) async fn begin(
        disk: &dyn Disk,
        directory: &Path,
        source: &Manifest,
        timestamp: Timestamp,
        env: &dyn Env,
    ) -> Result<Self, WalError> {
        // Before anything is made in it.
        match Listing::read(disk, directory).await {
            Ok(listing) => {
                if let Some(example) = listing.example() {
                    return Err(WalError::NotADatabase { path: directory.to_owned(), example });
                }
            }
            Err(WalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let disk = claim_empty(disk, directory).await?;
        let manifest = Manifest {
            database: DatabaseId(env.random()),
            incarnation: Incarnation(1),
            hash: source.hash.clone(),
            hash_seed: source.hash_seed,
            logs: source.logs.iter().map(|log| new_log_entry(log.id)).collect(),
            next_log: source.next_log,
            next_file: FileNumber(source.logs.len() as u64 + 1),
            fences: Vec::new(),
            synced: timestamp,
        };
        let copied = Copied { timestamp, ..Copied::default() };
        Ok(Self { disk, directory: directory.to_owned(), manifest, copied })
    }

    /// Begins the checkpoint of a log.
    pub(super) async fn begin_checkpoint(
        &self,
        log: usize,
        timestamp: Timestamp,
    ) -> Result<CheckpointWriter, WalError> {
        let id = CheckpointId {
            database: self.manifest.database,
            log: self.manifest.logs[log].id,
            file: FileNumber(log as u64 + 1),
            timestamp,
        };
        CheckpointWriter::create(&*self.disk, &self.directory, id).await
    }

    /// Adds an entry to a checkpoint.
    pub(super) async fn push(
        &mut self,
        writer: &mut CheckpointWriter,
        timestamp: Timestamp,
        write: Write,
    ) -> Result<(), WalError> {
        check_plain(timestamp, &write)?;
        if let Ok(Some(SourceOffset { source, offset })) = write.as_offset() {
            writer.push_offset(timestamp, &source, offset);
        } else {
            let value = write.value.unwrap_or_default();
            writer.push(
                timestamp,
                write.expires_unix_millis,
                |bytes| {
                    bytes.extend_from_slice(&write.key);
                    Ok::<_, WalError>(())
                },
                |bytes| {
                    bytes.extend_from_slice(&value);
                    Ok(())
                },
            )?;
        }
        if writer.block_is_full() {
            writer.write_block().await?;
        }
        Ok(())
    }

    /// Makes a checkpoint durable.
    pub(super) async fn finish_checkpoint(
        &mut self,
        log: usize,
        writer: CheckpointWriter,
    ) -> Result<(), WalError> {
        let entry = writer.finish(&*self.disk).await?;
        self.copied.entries += entry.entries;
        self.copied.bytes += entry.bytes;
        self.manifest.logs[log].checkpoint = Some(entry);
        self.manifest.logs[log].complete_after = Some(entry.timestamp);
        Ok(())
    }

    /// Writes the records of a log, and makes them durable. What a checkpoint must not hold, they must not.
    pub(super) async fn write_log(&mut self, log: usize, records: &[Record]) -> Result<(), WalError> {
        for record in records {
            // The caller has seen that the writes can be read.
            record.writes().flatten().try_for_each(|write| check_plain(record.timestamp, &write))?;
        }
        let bytes: u64 = records.iter().map(|record| record.body.len() as u64 + 64).sum();
        let segment_bytes = (bytes + bytes / 512 + SEGMENT_BYTES_MIN).next_multiple_of(4096);
        let mut writer = LogWriter {
            disk: &*self.disk,
            directory: &self.directory,
            database: self.manifest.database,
            log: self.manifest.logs[log].id,
            segment_bytes: segment_bytes.min(SEGMENT_BYTES),
            active: None,
            number: SegmentNumber(0),
            lsn: Lsn(0),
            header_crc: 0,
        };
        let (mut gathered, mut marks) = (Vec::new(), Vec::new());
        for record in records {
            marks.push(Mark { offset: gathered.len(), timestamp: record.timestamp });
            record.put(&mut gathered);
            if gathered.len() >= GATHERED_BYTES {
                writer.write(&gathered, &marks).await?;
                gathered.clear();
                marks.clear();
            }
        }
        writer.write(&gathered, &marks).await?;
        writer.sync().await?;
        self.copied.records += records.len() as u64;
        self.copied.bytes += writer.number.0 * writer.segment_bytes;
        let entry: &mut LogEntry = &mut self.manifest.logs[log];
        entry.durable_lsn = writer.lsn;
        entry.files = u32::try_from(writer.number.0).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Makes the directory a database.
    pub(super) async fn finish(self) -> Result<Copied, WalError> {
        let directory = &self.directory;
        let synced = self.disk.sync_dir(directory).await;
        synced.map_err(|error| WalError::io("syncing", directory, error))?;
        ManifestFile::create(&*self.disk, directory, self.manifest).await?;
        Ok(self.copied)
    }
}

/// Writes one log from front to end.
struct LogWriter<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    database: DatabaseId,
    log: LogId,
    segment_bytes: u64,
    active: Option<Active>,
    number: SegmentNumber,
    lsn: Lsn,
    header_crc: u32,
}

struct Active {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl LogWriter<'_> {
    /// Writes whole records, in as many batches and segments as it takes.
    async fn write(&mut self, payload: &[u8], marks: &[Mark]) -> Result<(), WalError> {
        let mut start = 0;
        while start < payload.len() {
            let mut active = match self.active.take() {
                Some(active) => active,
                None => self.next_segment().await?,
            };
            // The last sector is the seal's.
            let room = self.segment_bytes - active.offset - SECTOR_BYTES as u64;
            let room = usize::try_from(room).expect("a segment of a copy has 8 MiB at most");
            let fits = payload_that_fits(room).expect("a segment without room was sealed");
            let end = payload.len().min(start + fits);
            let part = Part::of(marks, payload.len(), start, end);
            let mut output = Vec::new();
            self.put(&mut output, BatchKind::Data, part, &payload[start..end]);
            let full = active.offset + (output.len() + SECTOR_BYTES) as u64 >= self.segment_bytes;
            if full {
                self.put(&mut output, BatchKind::Seal, Part::NONE, &[]);
            }
            let length = output.len() as u64;
            write_all_at(&*active.file, &active.path, active.offset, output.into()).await?;
            active.offset += length;
            self.active = Some(active);
            if full {
                self.sync().await?;
            }
            start = end;
        }
        Ok(())
    }

    async fn next_segment(&mut self) -> Result<Active, WalError> {
        let slot = u32::try_from(self.number.0)
            .map_err(|_| WalError::Config("a log of more segments than can be named".into()))?;
        self.number = self.number.next();
        let path = SegmentName { log: self.log, slot }.path(self.directory);
        let io = |error| WalError::io("creating", &path, error);
        let file = self.disk.open(&path, OpenMode::Create).await.map_err(io)?;
        file.zero_fill(self.segment_bytes).await.map_err(io)?;
        let mut header = Vec::new();
        SegmentHeader {
            database: self.database,
            log: self.log,
            number: self.number,
            incarnation: Incarnation(1),
            first_lsn: self.lsn.next(),
            previous_crc: self.header_crc,
        }
        .put(&mut header);
        let offset = header.len() as u64;
        write_all_at(&*file, &path, 0, Bytes::from(header)).await?;
        Ok(Active { path, file, offset })
    }

    fn put(&mut self, output: &mut Vec<u8>, kind: BatchKind, part: Part, payload: &[u8]) {
        self.lsn = self.lsn.next();
        let header = BatchHeader {
            kind,
            database: self.database,
            log: self.log,
            incarnation: Incarnation(1),
            segment: self.number,
            lsn: self.lsn,
            payload_bytes: 0,
            records: part.records,
            first_record: part.first_record,
            previous_crc: self.header_crc,
            // The manifest, written when all is synced, promises everything.
            durable_lsn: Lsn(0),
            synced: Timestamp::ZERO,
            lowest: part.lowest,
            highest: part.highest,
            table_crc: 0,
        };
        self.header_crc = put_batch(output, header, payload);
    }

    /// Makes the segment being written durable, and leaves it.
    async fn sync(&mut self) -> Result<(), WalError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        active.file.sync_all().await.map_err(|error| WalError::io("syncing", &active.path, error))
    }
}
