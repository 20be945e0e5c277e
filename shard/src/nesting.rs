//! The shape of encoded keys and values: how deep they may nest, and that their lengths are true.
//!
//! A decoder calls itself for each level, so bytes that nest without end would overflow its stack, which ends the
//! process; and what nests deeper than a decoder follows could be written and never read again. So the same limit
//! holds for both, and is looked at in the bytes. And a decoder sets memory aside for as many elements as a list claims
//! to have, on each level anew. What claims more than the bytes can hold is refused before it is decoded, so that
//! decoding takes memory in proportion to the bytes.

/// Arrays and maps within each other. JSON readers stop at 128.
pub(crate) const DEPTH_MAX: usize = 256;

/// What is wrong with the shape of encoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it nests more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("a list in it claims to have more elements than there are bytes")]
    Overstated,
    #[error("{0} bytes are left over")]
    LeftOver(usize),
}

/// Whether `bytes` are one value, that nests no deeper than [`DEPTH_MAX`], and in which no list or map claims more than
/// can be true: all elements that are still to come, on every level together, take a byte each at the least. Other
/// flaws, and what is no `MessagePack`, are left for the decoder to say: it sets nothing aside for texts.
pub(crate) fn check(mut bytes: &[u8]) -> Result<(), Flaw> {
    // A level takes a byte.
    let may_be_deep = bytes.len() > DEPTH_MAX;
    let mut to_come = 1_u64;
    // How many values are left on each level that has begun.
    let mut levels = Vec::new();
    while to_come > 0 {
        let Some(inner) = skip_token(&mut bytes) else { return Ok(()) };
        to_come = to_come - 1 + inner;
        if to_come > bytes.len() as u64 {
            return Err(Flaw::Overstated);
        }
        if !may_be_deep {
            continue;
        }
        if let Some(left) = levels.last_mut() {
            *left -= 1;
        }
        if inner > 0 {
            if levels.len() == DEPTH_MAX {
                return Err(Flaw::TooDeep);
            }
            levels.push(inner);
        }
        while levels.pop_if(|left| *left == 0).is_some() {}
    }
    if bytes.is_empty() { Ok(()) } else { Err(Flaw::LeftOver(bytes.len())) }
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

    /// A list head of 32 bits, which claims so many elements.
    fn list(claimed: u32) -> Vec<u8> {
        [&[0xDD][..], &claimed.to_be_bytes()].concat()
    }

    #[test]
    fn a_list_or_map_that_claims_more_than_the_bytes_hold_is_refused_before_it_is_decoded() {
        let lies: [(&str, Vec<u8>); 5] = [
            ("a list of 32 bits", [list(4), vec![1, 2, 3]].concat()),
            ("a list of 16 bits", vec![0xDC, 0, 4, 1, 2, 3]),
            ("a short list", vec![0x94, 1, 2, 3]),
            ("a map", vec![0xDE, 0, 2, 1, 2, 3]),
            // Each by itself could be: both together take more than there is.
            ("lists within each other", [list(6), list(5), vec![1, 2, 3, 4, 5]].concat()),
        ];
        for (what, bytes) in lies {
            assert_eq!(check(&bytes), Err(Flaw::Overstated), "{what}");
            let refused = decode_value::<Vec<u64>>(b"key", &bytes).unwrap_err();
            assert!(refused.reason.contains("claims"), "{what}: {refused}");
        }
        let nested = [list(2), list(3), vec![1, 2, 3], list(0)].concat();
        assert_eq!(check(&nested), Ok(()));
        assert_eq!(decode_value::<Vec<Vec<u64>>>(b"key", &nested).unwrap(), [vec![1, 2, 3], vec![]]);
    }

    /// Says that it has so many elements, and has two.
    struct Liar(usize);

    impl Serialize for Liar {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut list = serializer.serialize_seq(Some(self.0))?;
            list.serialize_element(&1)?;
            list.serialize_element(&2)?;
            list.end()
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let mut bytes = vec![7];
        assert_eq!(encode(&mut bytes, &Liar(2)), Ok(()));
        assert_eq!(decode_value::<Vec<u8>>(b"key", &bytes[1..]).unwrap(), [1, 2]);
        assert!(encode(&mut Vec::new(), &Liar(3)).unwrap_err().contains("claims"));
        assert!(encode(&mut Vec::new(), &Liar(1)).unwrap_err().contains("1 bytes are left over"));
    }

    #[test]
    fn what_is_long_or_wide_is_not_deep() {
        let mut bytes = Vec::new();
        let map: BTreeMap<String, Vec<Option<f64>>> =
            (0..2_000).map(|key| (format!("{key:0>300}"), vec![Some(1.5), None])).collect();
        encode(&mut bytes, &(map, vec![i64::MIN; 70_000], "text".repeat(20_000), u128::MAX)).unwrap();
        assert_eq!(check(&bytes), Ok(()));
        // What ends early claims more than there is, and is not deep either.
        assert_eq!(check(&bytes[..bytes.len() / 2]), Err(Flaw::Overstated));
    }
}
