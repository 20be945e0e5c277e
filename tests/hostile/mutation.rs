//! Changes of an input: what damage does, and what an enemy would do.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// Values that a length or a number is not expected to have.
const EXTREMES: [u64; 8] = [0, 1, 0x7F, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX >> 1, u64::MAX];

/// Makes one to four changes. `other` is another input to take pieces from.
pub(crate) fn change(input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.random_range(1..=4) {
        change_once(&mut bytes, other, random);
    }
    bytes
}

fn change_once(bytes: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
        return;
    }
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..8) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes[at] = random.random(),
        2 => bytes.truncate(at),
        // A field with a value that it should not have, of any width, in either order of bytes.
        3 | 4 => {
            let extreme = EXTREMES[random.random_range(0..EXTREMES.len())];
            let width = [1, 2, 4, 8][random.random_range(0..4)].min(bytes.len() - at);
            let (little, big) = (extreme.to_le_bytes(), extreme.to_be_bytes());
            let field = if random.random() { &little[..width] } else { &big[8 - width..] };
            bytes[at..at + width].copy_from_slice(field);
        }
        // A piece of another input, in place of what was there or between.
        5 if !other.is_empty() => {
            let from = random.random_range(0..other.len());
            let length = random.random_range(1..=600).min(other.len() - from);
            let end = if random.random() { bytes.len().min(at + length) } else { at };
            bytes.splice(at..end, other[from..from + length].iter().copied());
        }
        6 => {
            let end = bytes.len().min(at + random.random_range(1..=600));
            bytes.drain(at..end);
        }
        _ => {
            let end = bytes.len().min(at + random.random_range(1..=16));
            random.fill_bytes(&mut bytes[at..end]);
        }
    }
}
