//! Scans against a `BTreeMap`: all kinds of bounds, both directions, over one shard and over many.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use anabranch::{Engine, Error};

use crate::harness::{collect, entries, in_memory, within};

/// Sizes around those of pages, which grow from 32 to 512.
const SIZES: [u64; 8] = [0, 1, 31, 32, 33, 96, 97, 1_500];
const SHARDS: [usize; 3] = [1, 3, 16];

/// Even keys below `2 * size`, so that bounds fall on keys and between them.
async fn filled(shards: usize, size: u64) -> (Engine<u64, u64>, BTreeMap<u64, u64>) {
    let engine = in_memory(shards).await;
    let model: BTreeMap<_, _> = (0..size).map(|key| (key * 2, key)).collect();
    // In an order that is neither sorted nor reversed.
    for step in 0..size {
        let key = step * 7_919 % size * 2;
        engine.handle().insert(key, key / 2).await.unwrap();
    }
    (engine, model)
}

fn bounds_within(size: u64) -> Vec<(Bound<u64>, Bound<u64>)> {
    let points = [0, 1, 2, size, size + 1, size * 2, size * 2 + 5];
    let kinds = points.iter().flat_map(|point| [Included(*point), Excluded(*point)]);
    let kinds: Vec<_> = kinds.chain([Unbounded]).collect();
    kinds.iter().flat_map(|start| kinds.iter().map(|end| (*start, *end))).collect()
}

/// What a `BTreeMap` has within the bounds; those that make it panic hold nothing.
fn expected(model: &BTreeMap<u64, u64>, bounds: (Bound<u64>, Bound<u64>)) -> Vec<(u64, u64)> {
    use std::ops::RangeBounds;
    model.iter().filter(|entry| bounds.contains(entry.0)).map(|(key, value)| (*key, *value)).collect()
}

#[tokio::test]
async fn a_range_holds_what_a_sorted_map_has_forwards_and_backwards() {
    for shards in SHARDS {
        for size in SIZES {
            let (engine, model) = filled(shards, size).await;
            let snapshot = engine.handle().snapshot();
            for bounds in bounds_within(size) {
                let mut expected = expected(&model, bounds);
                assert_eq!(entries(snapshot.range(bounds)), expected, "{bounds:?} of {size} on {shards}");
                expected.reverse();
                assert_eq!(
                    entries(snapshot.range(bounds).rev()),
                    expected,
                    "{bounds:?} of {size} on {shards}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_scan_from_both_ends_meets_in_the_middle() {
    for shards in SHARDS {
        for size in SIZES {
            let (engine, model) = filled(shards, size).await;
            for pattern in [0b01_u64, 0b0011, 0b0111_1111, 0b1000_0000_0000] {
                let mut scan = engine.handle().range(..);
                let (mut front, mut back) = (Vec::new(), Vec::new());
                for step in 0.. {
                    let from_front = pattern >> (step % 12) & 1 == 1;
                    let next = if from_front { scan.next() } else { scan.next_back() };
                    let Some(entry) = next else { break };
                    let (key, value) = entry.unwrap();
                    if from_front { &mut front } else { &mut back }.push((key, *value));
                }
                assert!(scan.next().is_none() && scan.next_back().is_none());
                front.extend(back.into_iter().rev());
                assert_eq!(front, expected(&model, (Unbounded, Unbounded)), "{size} on {shards}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_yields_what_the_iterator_yields() {
    for shards in SHARDS {
        let (engine, model) = filled(shards, 1_500).await;
        let db = engine.handle();
        let streamed = within(collect(db.range_stream(100..2_000))).await;
        assert_eq!(entries(streamed.into_iter()), expected(&model, (Included(100), Excluded(2_000))));
        let streamed = within(collect(db.snapshot().range_stream(..))).await;
        assert_eq!(streamed.len(), 1_500);
    }
}

#[tokio::test]
#[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
async fn ranges_that_are_empty_or_the_wrong_way_round_hold_nothing() {
    let (engine, _) = filled(4, 100).await;
    let db = engine.handle();
    assert_eq!(db.range(20..20).count(), 0);
    assert_eq!(db.range(30..20).count(), 0);
    assert_eq!(db.range(30..=20).rev().count(), 0);
    assert_eq!(db.range((Excluded(20), Excluded(20))).count(), 0);
    assert_eq!(db.range((Excluded(20), Included(20))).count(), 0);
    assert_eq!(db.range((Included(20), Included(20))).count(), 1);
    let mut txn = db.begin();
    txn.insert(21, 0);
    txn.insert(25, 0);
    assert_eq!(txn.range(30..20).count(), 0);
    assert_eq!(txn.range((Excluded(21), Excluded(21))).count(), 0);
    txn.commit().await.unwrap();
}

#[tokio::test]
async fn a_prefix_of_strings_holds_what_begins_with_it() {
    let keys = [
        "",
        "a",
        "ab",
        "aba",
        "abb",
        "ac",
        "b",
        "\u{e9}",
        "\u{e9}a",
        "ab\u{10FFFF}",
        "\u{10FFFF}",
        "\u{10FFFF}a",
    ];
    for shards in SHARDS {
        let engine = in_memory::<String, u64>(shards).await;
        let db = engine.handle();
        for key in keys {
            db.insert(key.into(), 0).await.unwrap();
        }
        for prefix in keys {
            let mut expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).copied().collect();
            expected.sort_unstable();
            let found: Vec<_> = db.prefix(prefix).map(|entry| entry.unwrap().0).collect();
            assert_eq!(found, expected, "{prefix:?}");
            let streamed: Vec<_> =
                collect(db.prefix_stream(prefix)).await.into_iter().map(|entry| entry.unwrap().0).collect();
            assert_eq!(streamed, expected);
            expected.reverse();
            let found: Vec<_> = db.prefix(prefix).rev().map(|entry| entry.unwrap().0).collect();
            assert_eq!(found, expected, "{prefix:?}");
        }
    }
}

#[tokio::test]
async fn a_prefix_of_bytes_holds_what_begins_with_it() {
    let keys: [&[u8]; 9] = [&[], &[0], &[1], &[1, 0], &[1, 255], &[1, 255, 3], &[2], &[255], &[255, 255, 7]];
    for shards in SHARDS {
        let engine = in_memory::<Vec<u8>, u64>(shards).await;
        let db = engine.handle();
        for key in keys {
            db.insert(key.into(), 0).await.unwrap();
        }
        for prefix in keys.into_iter().chain([&[255, 255][..], &[3]]) {
            let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).copied().collect();
            let found: Vec<_> = db.prefix(prefix).map(|entry| entry.unwrap().0).collect();
            assert_eq!(found, expected, "{prefix:?}");
        }
    }
}

#[tokio::test]
async fn a_scan_shows_one_moment_however_long_it_takes() {
    for shards in SHARDS {
        let (engine, model) = filled(shards, 300).await;
        let db = engine.handle();
        let (mut forwards, mut backwards) = (db.range(..), db.range(..).rev());
        let mut seen = (vec![forwards.next().unwrap()], vec![backwards.next().unwrap()]);
        for key in 0..600 {
            if key % 3 == 0 {
                db.insert(key, 9_999).await.unwrap();
            } else {
                drop(db.remove(&key).await.unwrap());
            }
        }
        engine.vacuum().await.unwrap();
        seen.0.extend(forwards);
        seen.1.extend(backwards);
        seen.1.reverse();
        let expected = expected(&model, (Unbounded, Unbounded));
        assert_eq!(entries(seen.0.into_iter()), expected);
        assert_eq!(entries(seen.1.into_iter()), expected);
        assert_eq!(db.len().unwrap(), 200);
        assert_eq!(entries(db.range(..)).len(), 200);
    }
}

#[tokio::test]
async fn a_scan_of_a_closed_engine_says_so_once_and_ends() {
    let (engine, _) = filled(3, 100).await;
    let db = engine.handle();
    let mut scan = db.range(..);
    assert!(scan.next().unwrap().is_ok());
    engine.close().await.unwrap();
    assert!(matches!(scan.next(), Some(Err(Error::Closed))));
    assert!(scan.next().is_none() && scan.next_back().is_none());
    assert!(matches!(db.range(..).next_back(), Some(Err(Error::Closed))));
    assert!(matches!(collect(db.range_stream(..)).await[..], [Err(Error::Closed)]));
}

#[tokio::test]
async fn removed_keys_in_long_stretches_do_not_stop_a_scan() {
    for shards in [1, 4] {
        let (engine, _) = filled(shards, 2_000).await;
        let db = engine.handle();
        let old = db.snapshot();
        for key in 10..1_990 {
            db.remove(&(key * 2)).await.unwrap();
        }
        let left: Vec<_> = (0..10).chain(1_990..2_000).map(|key| (key * 2, key)).collect();
        assert_eq!(entries(db.range(..)), left);
        let mut backwards = entries(db.range(..).rev());
        backwards.reverse();
        assert_eq!(backwards, left);
        assert_eq!(old.range(..).count(), 2_000);
    }
}
