//! Phantoms: what changes in a range that was read, by every kind of write and at every border, in both
//! isolation levels. A serializable transaction is refused then; one of snapshot isolation, which never looks
//! at ranges, commits.

use std::ops::Bound;

use crate::lists::Db;
use crate::stage::{Stage, commits, put};

/// What somebody else commits.
#[derive(Clone, Copy, Debug)]
enum Change {
    Insert,
    Update,
    Remove,
    /// Comes and goes again: nothing is there in the end.
    Flash,
}

/// Reads the range and a row outside of it, lets the change be committed, and tells whether the reader may then
/// write elsewhere.
async fn survives(
    stage: &Stage,
    range: (Bound<&'static str>, Bound<&'static str>),
    key: &str,
    change: Change,
) -> bool {
    let db = &stage.db;
    let is_there = matches!(change, Change::Update | Change::Remove);
    set(db, key, is_there.then_some(1)).await;
    let mut txn = db.begin();
    let range = (range.0.map(str::to_owned), range.1.map(str::to_owned));
    let found = txn.range(range).count();
    assert!(found <= 1);
    put(&mut txn, "elsewhere", 1);
    match change {
        Change::Insert => set(db, key, Some(2)).await,
        Change::Update => drop(db.update(key.to_owned(), |_| Some(vec![2])).await.unwrap()),
        Change::Remove => set(db, key, None).await,
        Change::Flash => {
            set(db, key, Some(2)).await;
            set(db, key, None).await;
            stage.engine.vacuum().await.unwrap();
        }
    }
    let commits = commits(txn).await;
    set(db, key, None).await;
    commits
}

async fn set(db: &Db, key: &str, value: Option<u64>) {
    match value {
        Some(value) => db.insert(key.to_owned(), vec![value]).await.unwrap(),
        None => drop(db.remove(key).await.unwrap()),
    }
}

const CHANGES: [Change; 4] = [Change::Insert, Change::Update, Change::Remove, Change::Flash];

#[tokio::test]
async fn a_phantom_by_any_write_is_refused_when_serializable_and_allowed_by_snapshot() {
    for stage in Stage::all().await {
        for change in CHANGES {
            let range = (Bound::Included("b"), Bound::Excluded("d"));
            let survived = survives(&stage, range, "c", change).await;
            assert_eq!(survived, !stage.is_serializable, "{change:?}");
        }
    }
}

#[tokio::test]
async fn the_borders_of_a_range_belong_to_it_exactly_as_they_were_given() {
    use Bound::{Excluded, Included, Unbounded};
    let cases = [
        (Included("b"), Included("d"), ["b", "c", "d"].as_slice(), ["a", "az", "d0", "da"].as_slice()),
        (Included("b"), Excluded("d"), &["b", "b0", "cz"], &["a", "d"]),
        (Excluded("b"), Included("d"), &["b0", "d"], &["b", "d0"]),
        (Excluded("b"), Excluded("d"), &["b0", "cz"], &["b", "d"]),
        (Unbounded, Excluded("d"), &["", "cz"], &["d"]),
        (Excluded("s"), Unbounded, &["s0", "zz"], &["s"]),
        (Included("d"), Included("d"), &["d"], &["c", "d0"]),
        (Included("d"), Excluded("d"), &[], &["c", "d", "d0"]),
    ];
    for stage in Stage::all().await {
        for (start, end, inside, outside) in cases {
            for change in CHANGES {
                for key in inside {
                    let survived = survives(&stage, (start, end), key, change).await;
                    assert_eq!(survived, !stage.is_serializable, "{key} in {start:?} {end:?}, {change:?}");
                }
                for key in outside {
                    let survived = survives(&stage, (start, end), key, change).await;
                    assert!(survived, "{key} is not in {start:?} {end:?}, {change:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_moves_into_a_range_from_outside_is_a_phantom() {
    for stage in Stage::all().await {
        let db = &stage.db;
        set(db, "a", Some(1)).await;
        let mut txn = db.begin();
        assert_eq!(txn.range("b".to_owned().."d".to_owned()).count(), 0);
        put(&mut txn, "elsewhere", 1);
        let mut mover = db.begin();
        mover.remove("a");
        put(&mut mover, "c", 1);
        assert!(commits(mover).await);
        assert_eq!(txn.range("b".to_owned().."d".to_owned()).count(), 0);
        assert_eq!(commits(txn).await, !stage.is_serializable);
    }
}

#[tokio::test]
async fn a_transaction_that_found_an_empty_range_and_fills_it_is_alone_when_serializable() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        for (txn, key) in [(&mut one, "e1"), (&mut two, "e2")] {
            assert_eq!(txn.prefix("e").count(), 0);
            put(txn, key, 1);
            assert_eq!(txn.prefix("e").count(), 1, "it sees its own");
        }
        assert!(commits(one).await);
        assert_eq!(commits(two).await, !stage.is_serializable);
    }
}
