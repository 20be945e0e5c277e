//! How deep encoded keys and values may nest. A decoder calls itself for each level, so bytes that nest without
//! end would overflow its stack, which ends the process; and what nests deeper than a decoder follows could be
//! written and never read again. So the same limit holds for both, and is looked at in the bytes.

/// Arrays and maps within each other. JSON readers stop at 128.
pub(crate) const DEPTH_MAX: usize = 256;

/// Whether the value at the front of `bytes` nests deeper than [`DEPTH_MAX`]. What is no `MessagePack` is left for
/// the decoder to say.
pub(crate) fn is_too_deep(mut bytes: &[u8]) -> bool {
    // A level takes a byte.
    if bytes.len() <= DEPTH_MAX {
        return false;
    }
    // How many values are left on each level.
    let mut left = [0_u64; DEPTH_MAX + 1];
    let mut depth = 0;
    left[0] = 1;
    loop {
        while left[depth] == 0 {
            if depth == 0 {
                return false;
            }
            depth -= 1;
        }
        left[depth] -= 1;
        let Some(inner) = skip_token(&mut bytes) else { return false };
        if inner > 0 {
            if depth == DEPTH_MAX {
                return true;
            }
            depth += 1;
            left[depth] = inner;
        }
    }
}

/// Goes past a number, a text or the like, or past the head of an array or a map, and returns how many values
/// belong to it.
fn skip_token(rest: &mut &[u8]) -> Option<u64> {
    let marker = take(rest, 1)?;
    let (data, inner) = match marker {
        0x80..=0x8F => (0, 2 * (marker & 15)),
        0x90..=0x9F => (0, marker & 15),
        0xA0..=0xBF => (marker & 31, 0),
        0xC1 => return None,
        0xC4 | 0xD9 => (take(rest, 1)?, 0),
        0xC5 | 0xDA => (take(rest, 2)?, 0),
        0xC6 | 0xDB => (take(rest, 4)?, 0),
        0xC7 => (take(rest, 1)? + 1, 0),
        0xC8 => (take(rest, 2)? + 1, 0),
        0xC9 => (take(rest, 4)? + 1, 0),
        0xCC | 0xD0 => (1, 0),
        0xCD | 0xD1 | 0xD4 => (2, 0),
        0xD5 => (3, 0),
        0xCA | 0xCE | 0xD2 => (4, 0),
        0xD6 => (5, 0),
        0xCB | 0xCF | 0xD3 => (8, 0),
        0xD7 => (9, 0),
        0xD8 => (17, 0),
        0xDC => (0, take(rest, 2)?),
        0xDD => (0, take(rest, 4)?),
        0xDE => (0, 2 * take(rest, 2)?),
        0xDF => (0, 2 * take(rest, 4)?),
        // Nil, booleans, small integers.
        _ => (0, 0),
    };
    *rest = rest.get(usize::try_from(data).ok()?..)?;
    Some(inner)
}

/// Takes a number of so many bytes off the front.
fn take(rest: &mut &[u8], length: usize) -> Option<u64> {
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{decode_value, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Nested {
        End,
        List(Vec<Nested>),
        Chain(Box<Nested>),
        Link { next: Option<Box<Nested>> },
    }

    fn nest(levels: usize, wrap: fn(Nested) -> Nested) -> Nested {
        (0..levels).fold(Nested::End, |inner, _| wrap(inner))
    }

    #[test]
    fn what_can_be_written_can_be_read_at_every_depth() {
        let wraps: [fn(Nested) -> Nested; 3] = [
            |inner| Nested::List(vec![inner]),
            |inner| Nested::Chain(Box::new(inner)),
            |inner| Nested::Link { next: Some(Box::new(inner)) },
        ];
        for wrap in wraps {
            let mut deepest = 0;
            for levels in 0..2 * DEPTH_MAX {
                let value = nest(levels, wrap);
                let mut bytes = Vec::new();
                if encode(&mut bytes, &value).is_ok() {
                    assert_eq!(decode_value::<Nested>(b"key", &bytes).unwrap(), value);
                    deepest = levels;
                } else {
                    let refused = decode_value::<Nested>(b"key", &bytes).unwrap_err();
                    assert!(refused.reason.contains("deep"), "{refused}");
                }
            }
            assert!((DEPTH_MAX / 2..=DEPTH_MAX).contains(&deepest), "{deepest}");
        }
    }

    #[test]
    fn bytes_that_nest_without_end_are_refused_before_the_stack_overflows() {
        for level in [&b"\x81\xA5Chain"[..], b"\x81\xA4List\x91", b"\x81\xA4Link\x81\xA4next"] {
            let bytes = level.repeat(300_000);
            let refused = decode_value::<Nested>(b"key", &bytes).unwrap_err();
            assert!(refused.reason.contains("deep"), "{refused}");
        }
    }

    #[test]
    fn what_is_long_or_wide_is_not_deep() {
        let mut bytes = Vec::new();
        let map: BTreeMap<String, Vec<Option<f64>>> =
            (0..2_000).map(|key| (format!("{key:0>300}"), vec![Some(1.5), None])).collect();
        encode(&mut bytes, &(map, vec![i64::MIN; 70_000], "text".repeat(20_000), u128::MAX)).unwrap();
        assert!(!is_too_deep(&bytes));
        assert!(!is_too_deep(&bytes[..bytes.len() / 2]), "what ends early is for the decoder to refuse");
    }
}
