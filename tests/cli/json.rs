//! MessagePack as JSON, as `dump` writes it.

use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::value::{compare_keys, write_json};

fn dumped(bytes: &[u8]) -> Value {
    let mut text = Vec::new();
    write_json(&mut text, bytes).unwrap();
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {}", text.escape_ascii()))
}

#[test]
fn every_kind_has_its_json() {
    let kinds: [(&[u8], Value); 18] = [
        (b"\xc0", json!(null)),
        (b"\xc3", json!(true)),
        (b"\xff", json!(-1)),
        (b"\xcf\x00\x1f\xff\xff\xff\xff\xff\xff", json!(9_007_199_254_740_991_u64)),
        (b"\xcf\x00\x20\x00\x00\x00\x00\x00\x00", json!({ "$int": "9007199254740992" })),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", json!({ "$int": "-9223372036854775808" })),
        (b"\xca\x3f\xc0\x00\x00", json!(1.5)),
        (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", json!({ "$float": "Infinity" })),
        (b"\xa2\"\n", json!("\"\n")),
        (b"\xa1\xff", json!({ "$str": "ff" })),
        (b"\xc4\x02\x00\xff", json!({ "$bin": "00ff" })),
        (b"\x92\x01\x90", json!([1, []])),
        (b"\x80", json!({})),
        (b"\x81\xa1a\x01", json!({ "a": 1 })),
        (b"\x82\xa1a\x01\xa1a\x02", json!({ "$map": [["a", 1], ["a", 2]] })),
        (b"\x81\xa4$map\x01", json!({ "$map": [["$map", 1]] })),
        (b"\xd4\x05\xab", json!({ "$ext": [5, "ab"] })),
        (b"\x01\x02", json!({ "$raw": "0102" })),
    ];
    for (bytes, json) in kinds {
        assert_eq!(dumped(bytes), json, "{}", bytes.escape_ascii());
    }
}

#[test]
fn lengths_that_lie_and_endless_nesting_are_raw() {
    for bytes in
        [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff\x01", b"\xc6\xff\xff\xff\xff", b"\xc1", b""]
    {
        assert!(dumped(bytes)["$raw"].is_string(), "{}", bytes.escape_ascii());
    }
    for marker in [0x91, 0x81] {
        assert!(dumped(&vec![marker; 1 << 20])["$raw"].is_string());
    }
    let nested = |marker: &[u8], depth| [marker.repeat(depth), vec![0xc0]].concat();
    assert!(dumped(&nested(b"\x91", 40)).is_array());
    assert!(dumped(&nested(b"\x81\x01", 40))["$map"].is_array(), "the deepest that JSON can get is read");
    assert!(dumped(&nested(b"\x91", 41))["$raw"].is_string());
}

proptest! {
    #[test]
    fn any_bytes_become_json(bytes in any::<Vec<u8>>()) {
        dumped(&bytes);
    }

    #[test]
    fn what_serde_writes_is_read(value in any::<(Vec<String>, Option<f64>, std::collections::BTreeMap<String, i32>)>()) {
        let dumped = dumped(&rmp_serde::to_vec_named(&value).unwrap());
        prop_assert_eq!(&dumped[0], &json!(value.0));
        if value.1.is_none_or(f64::is_finite) {
            prop_assert_eq!(&dumped[1], &json!(value.1));
        }
        if value.2.keys().all(|key| !key.starts_with('$')) {
            prop_assert_eq!(&dumped[2], &json!(value.2));
        }
    }

    #[test]
    fn keys_are_ordered_as_in_rust(a in any::<(i64, String)>(), b in any::<(i64, String)>()) {
        let (left, right) = (rmp_serde::to_vec_named(&a).unwrap(), rmp_serde::to_vec_named(&b).unwrap());
        prop_assert_eq!(compare_keys(&left, &right), a.cmp(&b));
    }

    #[test]
    fn the_order_is_total(mut keys in prop::collection::vec(prop::collection::vec(prop::sample::select(
        vec![0x00, 0x01, 0x7f, 0x80, 0x81, 0x90, 0x91, 0x92, 0xa0, 0xa1, 0xc0, 0xc2, 0xca, 0xcb, 0xcc, 0xd0, 0xff],
    ), 0..7), 0..40)) {
        // `sort_by` may panic if it is not.
        keys.sort_by(|a, b| compare_keys(a, b));
        for (index, a) in keys.iter().enumerate() {
            for b in &keys[index..] {
                prop_assert_ne!(compare_keys(a, b), Ordering::Greater);
                prop_assert_eq!(compare_keys(b, a), compare_keys(a, b).reverse());
            }
        }
    }
}
