//! One file, or a part of one, at a time.

use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

use super::memory::MemoryDisk;
use super::{block_on, repair};
use crate::frame::SECTOR_BYTES;
use crate::manifest::{Slot, encode_slot, parse_slot};
use crate::record::Record;
use crate::recovery::find_cut;
use crate::scan::{OnDamage, scan_log};
use crate::segment::{SegmentHeader, SegmentName};
use crate::{
    CheckpointEntry, CheckpointReader, DatabaseId, EncodedWrites, Fence, FileNumber, Incarnation, LogEntry,
    LogId, Lsn, Manifest, RecoveredCheckpoint, SEGMENT_BYTES_MIN, SegmentNumber, Timestamp, Write,
};

const DIRECTORY: &str = "/database";
/// The least length of a segment.
const SEGMENT_BYTES: usize = 16 << 10;

const _: () = assert!(SEGMENT_BYTES as u64 == SEGMENT_BYTES_MIN);

/// The file of a segment, as the only one of its log. Zeros at its end need not be given.
#[must_use]
pub fn segment(input: &[u8]) -> u64 {
    let whole = input.len().next_multiple_of(SECTOR_BYTES).max(SEGMENT_BYTES);
    let mut bytes = input.to_vec();
    bytes.resize(whole, 0);
    block_on(scan_alone(&bytes));
    repair::segment(&mut bytes, None);
    block_on(scan_alone(&bytes));
    whole as u64
}

/// A manifest that has use for a segment with this header.
fn manifest_for(header: Option<SegmentHeader>) -> Manifest {
    let header = header.unwrap_or(SegmentHeader {
        database: DatabaseId(1),
        log: LogId(0),
        number: SegmentNumber(1),
        incarnation: Incarnation(1),
        first_lsn: Lsn(1),
        previous_crc: 0,
    });
    let log = LogEntry {
        id: header.log,
        checkpoint: None,
        first_segment: header.number,
        durable_lsn: Lsn(0),
        files: 1,
        complete_after: None,
    };
    Manifest {
        database: header.database,
        incarnation: header.incarnation,
        hash: "any".into(),
        hash_seed: 1,
        logs: vec![log],
        next_log: header.log.next(),
        next_file: FileNumber(1),
        fences: vec![Fence { incarnation: header.incarnation.previous(), cut: Timestamp(20) }],
        synced: Timestamp(0),
    }
}

async fn scan_alone(bytes: &[u8]) {
    let directory = Path::new(DIRECTORY);
    let header = SegmentHeader::parse(directory, bytes).ok().flatten();
    let manifest = manifest_for(header);
    let name = SegmentName { log: manifest.logs[0].id, slot: 0 };
    let disk = MemoryDisk::of([(name.path(directory), bytes.to_vec())]);
    let mut accepted = None;
    for on_damage in [OnDamage::Refuse, OnDamage::Note, OnDamage::Salvage] {
        let scanned = scan_log(&disk, directory, &manifest, &manifest.logs[0], &[name], on_damage).await;
        let Ok(scanned) = scanned else {
            assert!(on_damage == OnDamage::Refuse, "a scan that only notes damage refuses");
            continue;
        };
        assert!(scanned.end_offset <= bytes.len() as u64 && scanned.tail.len() <= bytes.len());
        let writes: usize = scanned.records.iter().map(|record| record.writes().count()).sum();
        assert!(writes <= bytes.len(), "a write takes more than a byte");
        let found = (scanned.records.len(), writes, scanned.end.lsn);
        let _ = find_cut(&manifest, &[scanned]);
        match on_damage {
            OnDamage::Refuse => accepted = Some(found),
            // What recovery takes, an inspection takes as well, and sees the same.
            OnDamage::Note => assert!(accepted.is_none_or(|accepted| accepted == found)),
            OnDamage::Salvage => {}
        }
    }
}

/// A slot of the manifest.
#[must_use]
pub fn manifest(input: &[u8]) -> u64 {
    let mut repaired = input.to_vec();
    repair::slot(&mut repaired);
    for bytes in [input, &repaired] {
        if let Slot::Valid { sequence, manifest } = parse_slot(bytes)
            && let Ok(encoded) = encode_slot(sequence, &manifest)
        {
            let Slot::Valid { sequence: again, manifest: decoded } = parse_slot(&encoded) else {
                panic!("what was encoded is not valid: {manifest:?}");
            };
            assert_eq!((again, decoded), (sequence, manifest));
        }
    }
    input.len() as u64
}

/// The file of a checkpoint.
#[must_use]
pub fn checkpoint(input: &[u8]) -> u64 {
    let mut repaired = input.to_vec();
    repair::checkpoint(&mut repaired);
    for bytes in [input, &repaired] {
        block_on(read_checkpoint(bytes));
    }
    input.len() as u64
}

async fn read_checkpoint(bytes: &[u8]) {
    let path = PathBuf::from(DIRECTORY).join("checkpoint-00000001.ckp");
    let disk = MemoryDisk::of([(path.clone(), bytes.to_vec())]);
    let Ok(mut reader) = CheckpointReader::open_any(&disk, &path).await else { return };
    let id = reader.id();
    let (mut entries, mut intact) = (0, true);
    // Each step goes past a block's header at the least.
    for step in 0.. {
        assert!(step <= bytes.len() / 32 + 1, "a reader that does not come to an end");
        match reader.next_block().await {
            Ok(Some(block)) => entries += block.len() as u64,
            Ok(None) => break,
            Err(_) => {
                intact = false;
                if reader.is_at_footer().await || !matches!(reader.skip_block().await, Ok(Some(_))) {
                    break;
                }
            }
        }
    }
    assert!(entries * 22 <= bytes.len() as u64, "an entry takes 22 bytes at the least");
    // As the manifest would name it.
    let entry =
        CheckpointEntry { file: id.file, timestamp: id.timestamp, entries, bytes: bytes.len() as u64 };
    let named = RecoveredCheckpoint { id, entry, path };
    let mut strict = CheckpointReader::open(&disk, &named).await.expect("it names itself");
    let mut again = 0;
    while let Ok(Some(block)) = strict.next_block().await {
        again += block.len() as u64;
    }
    assert!(again <= entries && (!intact || again == entries));
}

/// A stream of records, as a log's batches carry it.
#[must_use]
pub fn record(input: &[u8]) -> u64 {
    let mut stream = Bytes::copy_from_slice(input);
    loop {
        let before = stream.clone();
        let Ok(Some(record)) = Record::take(&mut stream) else { break };
        let taken = before.len() - stream.remaining();
        let mut encoded = Vec::new();
        record.put(&mut encoded);
        assert_eq!(encoded, before[..taken], "a record is written as it was read");
        let writes: Result<Vec<_>, _> = record.writes().collect();
        let Ok(writes) = writes else { continue };
        assert!(writes.len() == record.write_count as usize);
        if writes.iter().all(is_plain) {
            assert_eq!(encode(&writes), record.body, "writes are written as they were read");
        }
    }
    // Writes stand in checkpoints without a record around them.
    let mut writes = Bytes::copy_from_slice(input);
    while !writes.is_empty() && Write::take(&mut writes).is_ok() {}
    let _ = SegmentHeader::parse(Path::new(DIRECTORY), &input[..input.len().min(SECTOR_BYTES)]);
    input.len() as u64
}

fn is_plain(write: &Write) -> bool {
    let expires = write.expires_unix_millis.is_some();
    write.keyspace == 0 && (!expires || write.value.is_some()) && write.metadata.is_none()
}

fn encode(writes: &[Write]) -> Vec<u8> {
    let mut encoded = EncodedWrites::new();
    for write in writes {
        let key = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&write.key);
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = match &write.value {
            None => encoded.remove(key),
            Some(value) => encoded.put_expiring(write.expires_unix_millis, key, |bytes| {
                bytes.extend_from_slice(value);
                Ok(())
            }),
        };
    }
    encoded.as_bytes().to_vec()
}
