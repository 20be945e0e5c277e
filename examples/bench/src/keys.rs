//! Keys and values: 16 bytes each key, and a value that holds a number and a filler.
//!
//! Engines that take any type as a key get strings that hold so short a key in place, as peers do with the bytes that
//! they are given.

use compact_str::{CompactString, format_compact};
use serde::de::{Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// All keys of a run, made beforehand, so that no engine pays for formatting.
pub(crate) struct Keys(Vec<Key>);

/// What a key is where an engine lets us choose.
pub(crate) type Key = CompactString;

impl Keys {
    pub(crate) fn new(count: usize) -> Self {
        Self((0..count).map(|index| format_compact!("k{index:015}")).collect())
    }

    pub(crate) fn get(&self, index: usize) -> &Key {
        &self.0[index]
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }
}

/// A number, which workloads count in and check, and bytes that make the value as long as asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Value(pub(crate) u64, Filler);

#[derive(Clone, Debug)]
struct Filler(Box<[u8]>);

impl anabranch::GetSize for Value {
    fn get_heap_size(&self) -> usize {
        self.1.0.len()
    }
}

impl Value {
    /// Of `bytes` in all, 8 at the least.
    pub(crate) fn new(number: u64, bytes: usize) -> Self {
        // Filling nothing costs more than one would think: a masked store to no address is mended by microcode.
        let filler = if bytes > 8 { vec![b'x'; bytes - 8].into_boxed_slice() } else { Box::default() };
        Self(number, Filler(filler))
    }

    /// Of a number and bytes of the caller's own.
    pub(crate) fn of(number: u64, bytes: &[u8]) -> Self {
        Self(number, Filler(bytes.into()))
    }

    pub(crate) fn with_number(&self, number: u64) -> Self {
        Self(number, self.1.clone())
    }

    /// How long it is.
    #[cfg(feature = "fluxmap")]
    pub(crate) fn bytes(&self) -> usize {
        8 + self.1.0.len()
    }

    /// For engines that store bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.1.0.len());
        bytes.extend_from_slice(&self.0.to_le_bytes());
        bytes.extend_from_slice(&self.1.0);
        bytes
    }
}

impl Serialize for Filler {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Filler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Filler;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Filler, E> {
                Ok(Filler(bytes.into()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Filler, E> {
                Ok(Filler(bytes.into_boxed_slice()))
            }
        }

        deserializer.deserialize_byte_buf(Bytes)
    }
}
