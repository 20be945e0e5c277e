//! `MessagePack` as JSON, as `anabranch dump` prints it, and the order of its lines.

use std::cmp::Ordering;

use value::{compare_keys, write_json};

#[path = "../../../engine/cli/value.rs"]
mod value;

/// A first byte says where the rest is cut: into a key and a value, or into two keys.
#[must_use]
pub fn run(input: &[u8]) -> u64 {
    let (&cut, rest) = input.split_first().unwrap_or((&0, &[]));
    let (left, right) = rest.split_at(rest.len() * usize::from(cut) / 255);
    for bytes in [left, right, rest] {
        let mut json = Vec::new();
        write_json(&mut json, bytes).expect("to memory");
        assert!(json.len() <= 32 * bytes.len() + 64, "{} bytes become {}", bytes.len(), json.len());
        let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&json);
        assert!(parsed.is_ok(), "{parsed:?}: {}", String::from_utf8_lossy(&json));
        assert_eq!(compare_keys(bytes, bytes), Ordering::Equal);
    }
    let order = compare_keys(left, right);
    assert_eq!(compare_keys(right, left), order.reverse());
    assert_eq!(order == Ordering::Equal, left == right, "different keys have an order");
    input.len() as u64
}
