//! Checksums in chunks: CRC-32 (IEEE) keeps its Hamming distance only to about 11 KB, so a payload carries one
//! for each 8 KiB (RELIABILITY R6).

use bytes::BufMut;

/// How many payload bytes one CRC covers.
pub(crate) const CHUNK_BYTES: usize = 8 << 10;

/// How many bytes the table of checksums of a payload takes.
pub(crate) const fn table_bytes(payload_bytes: usize) -> usize {
    payload_bytes.div_ceil(CHUNK_BYTES) * 4
}

/// The CRC of one run of bytes.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Appends the table of checksums of `payload`.
pub(crate) fn put_table(table: &mut Vec<u8>, payload: &[u8]) {
    for chunk in payload.chunks(CHUNK_BYTES) {
        table.put_u32_le(crc(chunk));
    }
}

/// Compares a payload with its table. `Err` holds the offset in the payload of the first damaged chunk.
pub(crate) fn check(table: &[u8], payload: &[u8]) -> Result<(), usize> {
    let stored = table.as_chunks::<4>().0;
    for (index, (chunk, stored)) in payload.chunks(CHUNK_BYTES).zip(stored).enumerate() {
        if crc(chunk) != u32::from_le_bytes(*stored) {
            return Err(index * CHUNK_BYTES);
        }
    }
    Ok(())
}
