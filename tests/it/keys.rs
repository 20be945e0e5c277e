//! Keys and values of all kinds, borrowed lookups, and partitioners.

use std::borrow::Borrow;
use std::fmt::Debug;

use anabranch::{Engine, Key, Partition, Value};
use serde::{Deserialize, Serialize};

use crate::harness::{in_memory, open, within};

/// Puts keys in, in memory and on disk, finds them, reopens, and scans them in order.
async fn works<K: Key + Debug, V: Value + PartialEq + Debug>(mut keys: Vec<K>, value: impl Fn(usize) -> V) {
    let directory = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let engine = if durable { open(directory.path(), 3).await } else { in_memory(3).await };
        let db = engine.handle();
        for (index, key) in keys.iter().enumerate() {
            within(db.insert(key.clone(), value(index))).await.unwrap();
        }
    }
    let engine = open::<K, V>(directory.path(), 3).await;
    let db = engine.handle();
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(db.get(key).unwrap().as_deref(), Some(&value(index)));
        assert_eq!(db.begin().get(key).unwrap().as_deref(), Some(&value(index)));
    }
    keys.sort();
    assert_eq!(db.range(..).map(|entry| entry.unwrap().0).collect::<Vec<_>>(), keys);
    let middle = keys[keys.len() / 2].clone();
    assert_eq!(db.range(middle..).count(), keys.len() - keys.len() / 2);
    for key in &keys {
        assert!(within(db.remove(key)).await.unwrap().is_some());
    }
    assert!(db.is_empty().unwrap());
}

/// Neither a key nor a value needs more than this. The value is not even `Clone`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
struct Seat {
    row: u16,
    letter: char,
}

#[derive(PartialEq, Debug, Serialize, Deserialize)]
enum Booking {
    Free,
    Taken { by: String, paid: Option<f64> },
}

#[tokio::test]
async fn keys_of_all_kinds_are_found_scanned_and_recovered() {
    works(vec!["b".to_owned(), String::new(), "\u{1F30A}".to_owned()], |index| index as u64).await;
    works(vec![vec![1_u8, 2], vec![], vec![255]], |index| index as u64).await;
    works(vec![("a".to_owned(), 2_u32), ("a".to_owned(), 1), (String::new(), 9)], |_| ()).await;
    let seats =
        vec![Seat { row: 7, letter: 'a' }, Seat { row: 1, letter: 'z' }, Seat { row: 1, letter: 'b' }];
    works(seats, |index| match index {
        0 => Booking::Free,
        _ => Booking::Taken { by: "me".into(), paid: (index > 1).then_some(9.5) },
    })
    .await;
}

#[tokio::test]
async fn lookups_take_the_borrowed_form_of_a_key() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("k".into(), 1).await.unwrap();
    let owned = "k".to_owned();
    assert!(db.contains_key("k").unwrap() && db.contains_key(&owned).unwrap());
    db.transaction(|txn| {
        assert!(txn.contains_key("k")? && txn.contains_key(&owned)?);
        txn.remove("k");
        Ok::<_, anabranch::Error>(())
    })
    .await
    .unwrap();
    let bytes = in_memory::<Vec<u8>, u64>(4).await;
    bytes.handle().insert(b"k".to_vec(), 1).await.unwrap();
    assert!(bytes.handle().contains_key(b"k" as &[u8]).unwrap());
    assert_eq!(bytes.handle().remove(b"k" as &[u8]).await.unwrap().as_deref(), Some(&1));
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Old {
    name: String,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct New {
    name: String,
    #[serde(default)]
    visits: u64,
}

#[tokio::test]
async fn a_field_with_a_default_can_be_added_to_a_value_later() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<u64, Old>(directory.path(), 1).await;
    engine.handle().insert(1, Old { name: "ann".into() }).await.unwrap();
    engine.close().await.unwrap();
    let engine = open::<u64, New>(directory.path(), 1).await;
    let expected = New { name: "ann".into(), visits: 0 };
    assert_eq!(engine.handle().get(&1).unwrap().as_deref(), Some(&expected));
}

/// What stands before the colon decides, so that all of one user's keys share a shard.
#[derive(Clone)]
struct ByUser;

impl<Q: Borrow<str> + ?Sized> Partition<Q> for ByUser {
    fn shard(&self, key: &Q, _: u64, shards: usize) -> usize {
        let key: &str = key.borrow();
        let user = key.split(':').next().unwrap_or_default();
        user.bytes().map(usize::from).sum::<usize>() % shards
    }
}

#[tokio::test]
async fn a_partitioner_keeps_keys_that_are_used_together_on_one_shard() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || Engine::<String, u64>::builder().shards(4).partition(ByUser);
    let engine = within(builder().open(directory.path())).await.unwrap();
    let db = engine.handle();
    for user in ["a", "b", "c", "d"] {
        db.transaction(|txn| {
            for key in 0..5 {
                assert!(!txn.contains_key(&format!("{user}:{key}"))?);
                txn.insert(format!("{user}:{key}"), key);
            }
            Ok::<_, anabranch::Error>(())
        })
        .await
        .unwrap();
    }
    let stats = engine.stats();
    assert_eq!(
        (stats.commits, stats.log.records),
        (4, 4),
        "each transaction stayed on one shard, in one log"
    );
    assert_eq!(stats.shards.iter().map(|shard| shard.keys).collect::<Vec<_>>(), [5; 4]);
    assert_eq!(db.get("c:3").unwrap().as_deref(), Some(&3), "a borrowed key goes the same way");
    assert_eq!(db.get(&"c:3".to_owned()).unwrap().as_deref(), Some(&3));
    assert_eq!(db.prefix("b:").count(), 5);
    engine.close().await.unwrap();
    let engine = within(builder().open(directory.path())).await.unwrap();
    assert_eq!(engine.recovery_report().moved_from_shards, None);
    assert_eq!(engine.handle().remove("d:1").await.unwrap().as_deref(), Some(&1));
    assert_eq!(engine.handle().len().unwrap(), 19);
}
