//! Single operations: each is a transaction of its own, and none ever conflicts.

use std::sync::Arc;

use crate::harness::{in_memory, open, within};

#[tokio::test]
async fn a_value_is_there_once_its_insert_is_acknowledged() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    assert_eq!(db.get("a").unwrap(), None);
    db.insert("a".into(), 1).await.unwrap();
    assert_eq!(db.get("a").unwrap(), Some(Arc::new(1)));
    assert!(db.contains_key("a").unwrap() && !db.contains_key("b").unwrap());
    db.insert("a".into(), 2).await.unwrap();
    assert_eq!(db.clone().get("a").unwrap().as_deref(), Some(&2));
}

#[tokio::test]
async fn a_remove_returns_the_value_that_was_there() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("a".into(), 1).await.unwrap();
    assert_eq!(db.remove("a").await.unwrap().as_deref(), Some(&1));
    assert_eq!(db.remove("a").await.unwrap(), None);
    assert_eq!(db.get("a").unwrap(), None);
    db.insert("a".into(), 3).await.unwrap();
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&3));
}

#[tokio::test]
async fn of_many_removes_of_one_value_exactly_one_returns_it() {
    let engine = in_memory::<u64, u64>(2).await;
    let db = engine.handle();
    for key in 0..50 {
        db.insert(key, key).await.unwrap();
        let (a, b, c) =
            within(async { tokio::join!(db.remove(&key), db.remove(&key), db.remove(&key)) }).await;
        let removed = [a, b, c].into_iter().filter_map(|old| old.unwrap()).count();
        assert_eq!(removed, 1);
    }
}

#[tokio::test]
async fn an_update_sees_the_old_value_and_returns_the_new_one() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    let count = |old: Option<&u64>| Some(old.copied().unwrap_or(0) + 1);
    assert_eq!(db.update("hits".into(), count).await.unwrap().as_deref(), Some(&1));
    assert_eq!(db.update("hits".into(), count).await.unwrap().as_deref(), Some(&2));
    assert_eq!(db.update("hits".into(), |_| None).await.unwrap(), None);
    assert_eq!(db.get("hits").unwrap(), None);
    assert_eq!(
        db.update("hits".into(), |old| old.filter(|hits| **hits > 0).copied()).await.unwrap(),
        None,
        "removing nothing is no error"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_from_many_tasks_are_all_counted() {
    for durable in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let engine =
            if durable { open::<String, u64>(directory.path(), 2).await } else { in_memory(2).await };
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let db = engine.handle();
                tokio::spawn(async move {
                    for _ in 0..100 {
                        db.update("hits".into(), |old| Some(old.copied().unwrap_or(0) + 1)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        assert_eq!(engine.handle().get("hits").unwrap().as_deref(), Some(&800));
    }
}

#[tokio::test]
async fn an_update_then_a_remove_does_not_bring_the_old_value_back() {
    let engine = in_memory::<u64, u64>(1).await;
    let db = engine.handle();
    db.insert(1, 1).await.unwrap();
    db.insert(1, 2).await.unwrap();
    db.remove(&1).await.unwrap();
    assert_eq!(db.get(&1).unwrap(), None);
    engine.vacuum().await.unwrap();
    assert_eq!(db.get(&1).unwrap(), None);
    assert_eq!(db.range(..).count(), 0);
}

#[tokio::test]
async fn len_and_is_empty_count_what_has_a_value() {
    let engine = in_memory::<u64, u64>(4).await;
    let db = engine.handle();
    assert!(db.is_empty().unwrap());
    for key in 0..100 {
        db.insert(key, 0).await.unwrap();
    }
    for key in 0..30 {
        db.remove(&key).await.unwrap();
    }
    assert_eq!(db.len().unwrap(), 70);
    for key in 30..100 {
        db.remove(&key).await.unwrap();
    }
    assert!(db.is_empty().unwrap());
    assert_eq!(db.len().unwrap(), 0);
}

#[tokio::test]
async fn get_many_keeps_the_order_of_the_keys() {
    let engine = in_memory::<String, u64>(4).await;
    let db = engine.handle();
    db.insert("a".into(), 1).await.unwrap();
    db.insert("c".into(), 3).await.unwrap();
    let found = db.get_many(["c", "b", "a", "c"]).unwrap();
    let found: Vec<_> = found.iter().map(|value| value.as_deref().copied()).collect();
    assert_eq!(found, [Some(3), None, Some(1), Some(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_to_one_task_is_seen_by_all_others() {
    let engine = in_memory::<u64, u64>(4).await;
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let (writer, reader) = (engine.handle(), engine.handle());
    let writing = tokio::spawn(async move {
        for key in 0..2_000 {
            writer.insert(key, key).await.unwrap();
            sender.send(key).unwrap();
        }
    });
    within(async {
        while let Some(key) = acknowledged.recv().await {
            assert_eq!(reader.get(&key).unwrap().as_deref(), Some(&key));
            assert_eq!(reader.snapshot().get(&key).unwrap().as_deref(), Some(&key));
            assert_eq!(reader.begin().get(&key).unwrap().as_deref(), Some(&key));
        }
        writing.await.unwrap();
    })
    .await;
}
