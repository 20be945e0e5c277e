//! Wrong uses of an open engine.

use std::sync::Arc;

use anabranch::{Error, Handle};
use serde::{Deserialize, Serialize, Serializer, ser};

use crate::harness::{block_on, entries, in_memory, open, within};

#[tokio::test]
async fn rolling_back_to_an_unknown_savepoint_names_it_and_undoes_nothing() {
    let engine = in_memory::<u64, u64>(1).await;
    let db = engine.handle();
    let mut txn = db.begin();
    txn.insert(1, 1);
    let error = txn.rollback_to("nowhere").unwrap_err();
    assert!(matches!(&error, Error::UnknownSavepoint { name } if name == "nowhere"));
    assert!(error.to_string().contains("nowhere"));
    txn.commit().await.unwrap();
    assert_eq!(entries(db.range(..)), [(1, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_within_an_update_closure_is_refused_and_does_not_hang() {
    let directory = tempfile::tempdir().unwrap();
    for durable in [false, true] {
        let engine = if durable { open::<u64, u64>(directory.path(), 1).await } else { in_memory(1).await };
        let (db, inside) = (engine.handle(), engine.handle());
        let refused = |outcome: Result<(), Error>| u64::from(matches!(outcome, Err(Error::Nested)));
        let update = db.update(1, move |_| {
            let inside = &inside;
            Some(block_on(async {
                let mut txn = inside.begin();
                txn.insert(1, 1);
                refused(inside.insert(1, 1).await)
                    + refused(inside.remove(&1).await.map(drop))
                    + refused(inside.update(2, |_| None).await.map(drop))
                    + refused(txn.commit().await.map(drop))
                    + refused(write_in_a_transaction(inside).await)
            }))
        });
        assert_eq!(within(update).await.unwrap().as_deref(), Some(&5));
        within(db.insert(2, 2)).await.unwrap();
        assert_eq!(entries(db.range(..)), [(1, 5), (2, 2)]);
        assert!(Error::Nested.to_string().contains("move the commit out of it"));
    }
}

#[test]
fn stats_within_an_update_closure_do_not_hang() {
    let (sender, outcome) = std::sync::mpsc::channel();
    // On a thread that may be left behind: when this hangs, so does the whole runtime.
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let updated = runtime.block_on(async {
            let engine = Arc::new(in_memory::<u64, u64>(1).await);
            let inside = Arc::clone(&engine);
            engine.handle().update(1, move |_| Some(inside.stats().commits)).await
        });
        sender.send(updated.is_ok()).unwrap();
    };
    std::thread::Builder::new().spawn(run).unwrap();
    let outcome = outcome.recv_timeout(std::time::Duration::from_secs(5));
    assert_eq!(outcome, Ok(true), "it hangs");
}

async fn write_in_a_transaction(db: &Handle<u64, u64>) -> Result<(), Error> {
    let body = |txn: &mut anabranch::Transaction<u64, u64>| {
        txn.insert(3, 3);
        Ok::<_, Error>(())
    };
    db.transaction(body).await
}

/// Can't be written if it is 13, and panics if it is 66.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
struct Fussy(u64);

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(ser::Error::custom("thirteen brings bad luck")),
            66 => panic!("sixty-six is too much"),
            other => serializer.serialize_u64(other),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_encoded_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open::<Fussy, Fussy>(directory.path(), 2).await;
    let db = engine.handle();
    within(db.insert(Fussy(1), Fussy(1))).await.unwrap();
    for (bad, reason) in [(Fussy(13), "bad luck"), (Fussy(66), "too much")] {
        let mut txn = db.begin();
        (2..9).for_each(|key| txn.insert(Fussy(key), if key == 5 { bad } else { Fussy(key) }));
        let outcomes = [
            within(db.insert(Fussy(1), bad)).await,
            within(db.insert(bad, Fussy(1))).await,
            within(db.update(Fussy(1), move |_| Some(bad))).await.map(drop),
            within(db.update(bad, |_| Some(Fussy(1)))).await.map(drop),
            within(txn.commit()).await.map(drop),
        ];
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, Error::Encode { reason: said } if said.contains(reason)),
                "{index}: {error:?}"
            );
            assert!(error.to_string().contains("nothing was written"), "{error}");
        }
        let removed = within(db.remove(&bad)).await;
        assert!(matches!(removed, Ok(None) | Err(Error::Encode { .. })), "{removed:?}");
    }
    assert_eq!(entries(db.range(..)), [(Fussy(1), Fussy(1))]);
    within(db.insert(Fussy(2), Fussy(2))).await.unwrap();
    assert_eq!(engine.stats().waiting(), 0);
    drop(engine);
    let engine = open::<Fussy, Fussy>(directory.path(), 2).await;
    assert_eq!(entries(engine.handle().range(..)), [(Fussy(1), Fussy(1)), (Fussy(2), Fussy(2))]);
}

#[tokio::test]
async fn in_memory_nothing_is_encoded() {
    let engine = in_memory::<Fussy, Fussy>(2).await;
    engine.handle().insert(Fussy(66), Fussy(13)).await.unwrap();
    assert_eq!(engine.handle().get(&Fussy(66)).unwrap(), Some(Arc::new(Fussy(13))));
}
