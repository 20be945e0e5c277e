//! Values of engines that store bytes.

/// The number in a value.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}

/// The same value with another number.
pub(super) fn with_number(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(head) = bytes.first_chunk_mut() {
        *head = number.to_le_bytes();
    }
    bytes
}
