//! Checksums made to match whatever bytes they cover, and the chain of batches with them. What else the bytes
//! say, lengths and numbers above all, stays as hostile as it was.

use crate::checksum::{crc, put_table, table_bytes};
use crate::frame::{BATCH_HEADER_BYTES, SECTOR_BYTES};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |field| u32::from_le_bytes(*field))
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

/// The payload behind a header and its table, if it all lies within `bytes`: makes the table match, and returns
/// the table's checksum and where the payload ends.
fn repair_payload(bytes: &mut [u8], table_start: usize, payload_bytes: usize) -> Option<(u32, usize)> {
    let payload_start = table_start + table_bytes(payload_bytes);
    let end = payload_start + payload_bytes;
    let mut table = Vec::new();
    put_table(&mut table, bytes.get(payload_start..end)?);
    bytes[table_start..payload_start].copy_from_slice(&table);
    Some((crc(&table), end))
}

/// A slot of the manifest.
pub(super) fn slot(bytes: &mut [u8]) {
    if bytes.len() < 32 || !bytes.starts_with(b"ANABRMAN") {
        return;
    }
    let length = u32_at(bytes, 24) as usize;
    if let Some(content) = bytes.get(32..32 + length) {
        let content_crc = crc(content);
        put_u32(bytes, 28, content_crc);
    }
    let header_crc = crc(&bytes[16..32]);
    put_u32(bytes, 12, header_crc);
}

/// A segment. `before` is the checksum that ends the segment before, if that one is known. Returns the checksum
/// that ends this one.
pub(super) fn segment(bytes: &mut [u8], before: Option<u32>) -> u32 {
    let mut previous = before.unwrap_or_else(|| u32_at(bytes, 28));
    if bytes.len() >= SECTOR_BYTES && bytes.starts_with(b"ANABRSEG") {
        put_u32(bytes, 28, previous);
        let header_crc = crc(&bytes[16..SECTOR_BYTES]);
        put_u32(bytes, 12, header_crc);
    }
    let mut offset = SECTOR_BYTES;
    while offset + BATCH_HEADER_BYTES <= bytes.len() {
        if !bytes[offset..].starts_with(b"ABAT") {
            offset += SECTOR_BYTES;
            continue;
        }
        let payload_bytes = u32_at(bytes, offset + 48) as usize;
        let repaired = repair_payload(bytes, offset + BATCH_HEADER_BYTES, payload_bytes);
        if let Some((table_crc, _)) = repaired {
            put_u32(bytes, offset + 96, table_crc);
        }
        put_u32(bytes, offset + 60, previous);
        let header_crc = crc(&bytes[offset + 8..offset + BATCH_HEADER_BYTES]);
        put_u32(bytes, offset + 4, header_crc);
        match repaired {
            Some((_, end)) => {
                previous = header_crc;
                offset = end.next_multiple_of(SECTOR_BYTES);
            }
            None => offset += SECTOR_BYTES,
        }
    }
    previous
}

/// A checkpoint.
pub(super) fn checkpoint(bytes: &mut [u8]) {
    const FILE_HEADER_BYTES: usize = 64;
    const BLOCK_HEADER_BYTES: usize = 32;
    if bytes.len() < FILE_HEADER_BYTES || !bytes.starts_with(b"ANABRCKP") {
        return;
    }
    let header_crc = crc(&bytes[16..FILE_HEADER_BYTES]);
    put_u32(bytes, 12, header_crc);
    let mut offset = FILE_HEADER_BYTES;
    while offset + BLOCK_HEADER_BYTES <= bytes.len() && bytes[offset..].starts_with(b"ACKB") {
        let payload_bytes = u32_at(bytes, offset + 16) as usize;
        let repaired = repair_payload(bytes, offset + BLOCK_HEADER_BYTES, payload_bytes);
        if let Some((table_crc, _)) = repaired {
            put_u32(bytes, offset + 20, table_crc);
        }
        let header_crc = crc(&bytes[offset + 8..offset + BLOCK_HEADER_BYTES]);
        put_u32(bytes, offset + 4, header_crc);
        match repaired {
            Some((_, end)) => offset = end,
            None => return,
        }
    }
}
