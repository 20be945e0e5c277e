//! Keys and values as an engine decodes them into the types of a program.

use std::collections::BTreeMap;
use std::fmt::Debug;

use anabranch_shard::{decode_value, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One of each shape that serde has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Shape {
    /// A unit.
    Nothing,
    /// A newtype.
    Number(i128),
    /// A tuple.
    Pair(u8, Option<char>),
    /// A struct.
    Person {
        /// Text.
        name: String,
        /// A map.
        marks: BTreeMap<String, Vec<u16>>,
    },
    /// A type that contains itself.
    Tree(Vec<Shape>),
    /// A type that contains itself, without a list between.
    Chain(Box<Shape>),
}

/// Decodes the input as several types. What decodes is encoded and decodes again to the same.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    check::<Shape>(input);
    check::<(u64, String)>(input);
    check::<Vec<u64>>(input);
    check::<Vec<Vec<()>>>(input);
    check::<BTreeMap<String, Option<Vec<bool>>>>(input);
    check::<[Option<i8>; 3]>(input);
    check::<std::time::Duration>(input);
    input.len() as u64
}

fn check<T: Serialize + DeserializeOwned + Debug + PartialEq + Send + Sync + 'static>(input: &[u8]) {
    let Ok(decoded) = decode_value::<T>(b"key", input) else { return };
    let mut encoded = Vec::new();
    encode(&mut encoded, &decoded).expect("it was decoded");
    let again = decode_value::<T>(b"key", &encoded).expect("it was encoded");
    assert_eq!(again, decoded);
}
