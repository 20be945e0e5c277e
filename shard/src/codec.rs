//! Keys and values as bytes: MessagePack with field names, so that a field with a default can be added to a
//! value later. All encoding is done before a commit has a timestamp.

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anabranch_wal::EncodedWrites;

use crate::expiry::Expiry;
use crate::nesting::check;
use crate::reject::{Reject, panic_message};
use crate::{Key, Value};

/// Why stored bytes are not of the engine's types. They passed their checksums: this is a wrong type, not
/// damage.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what} does not decode as {type_name}: {reason}")]
pub struct DecodeError {
    /// The key or value concerned, as far as it is known.
    pub what: String,
    /// The type that was expected.
    pub type_name: &'static str,
    /// What the decoder said.
    pub reason: String,
}

/// Appends a put that expires then, or a removal if there is no value.
pub fn encode_write<K: Key, V: Value>(
    writes: &mut EncodedWrites,
    key: &K,
    value: Option<&V>,
    expires: Expiry,
) -> Result<(), Reject> {
    let encoded = match value {
        Some(value) => writes.put_expiring(
            expires.unix_millis(),
            |bytes| encode(bytes, key),
            |bytes| encode(bytes, value),
        ),
        None => writes.remove(|bytes| encode(bytes, key)),
    };
    match encoded {
        Ok(()) if writes.fits() => Ok(()),
        Ok(()) => Err(Reject::Encode("the writes of one commit take more than 1 GiB".into())),
        Err(reason) => Err(Reject::Encode(reason)),
    }
}

/// Appends one key or value. A panic of its `Serialize` is caught.
pub fn encode<T: serde::Serialize>(bytes: &mut Vec<u8>, content: &T) -> Result<(), String> {
    let (name, start) = (type_name::<T>(), bytes.len());
    let encoded = catch_unwind(AssertUnwindSafe(|| rmp_serde::encode::write_named(bytes, content)));
    match encoded {
        // It could not be decoded again.
        Ok(Ok(())) => check(&bytes[start..]).map_err(|flaw| format!("{name} can't be encoded: {flaw}")),
        Ok(Err(error)) => Err(format!("{name} can't be encoded: {error}")),
        Err(panic) => Err(format!("{name} can't be encoded: it panicked: {}", panic_message(&*panic))),
    }
}

/// Decodes a key. All bytes must be used (RELIABILITY R7).
pub fn decode_key<K: Key>(bytes: &[u8]) -> Result<K, DecodeError> {
    decode(bytes).map_err(|reason| DecodeError {
        what: format!("a key of {} bytes", bytes.len()),
        type_name: type_name::<K>(),
        reason,
    })
}

/// Decodes the value of the entry whose encoded key is given.
pub fn decode_value<V: Value>(key: &[u8], bytes: &[u8]) -> Result<V, DecodeError> {
    decode(bytes).map_err(|reason| DecodeError {
        what: format!("the value of key {}", key.escape_ascii()),
        type_name: type_name::<V>(),
        reason,
    })
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    check(bytes).map_err(|flaw| flaw.to_string())?;
    let mut rest = bytes;
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(|error| error.to_string())
    }))
    .unwrap_or_else(|panic| Err(format!("it panicked: {}", panic_message(&*panic))))?;
    if rest.is_empty() { Ok(decoded) } else { Err(format!("{} bytes are left over", rest.len())) }
}
