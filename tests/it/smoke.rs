use anabranch::*;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let engine: Engine<String, u64> = Engine::builder().shards(4).in_memory().await.unwrap();
    let db = engine.handle();
    db.insert("a".into(), 1).await.unwrap();
    assert_eq!(db.get("a").unwrap(), Some(Arc::new(1)));
    let new = db.update("a".into(), |old| Some(old.copied().unwrap_or(0) + 1)).await.unwrap();
    assert_eq!(new.as_deref(), Some(&2));
    let r = db
        .transaction(|txn| {
            let a = *txn.get("a")?.unwrap();
            txn.insert("b".into(), a + 1);
            txn.insert("c".into(), a + 2);
            txn.insert("d".into(), a + 2);
            Ok::<_, Error>(a)
        })
        .await
        .unwrap();
    assert_eq!(r, 2);
    let all: Vec<_> = db.range(..).map(|e| e.unwrap().0).collect();
    assert_eq!(all, ["a", "b", "c", "d"]);
    assert_eq!(db.remove("a").await.unwrap().as_deref(), Some(&2));
    assert_eq!(db.len().unwrap(), 3);
    engine.close().await.unwrap();
    assert!(matches!(db.get("a"), Err(Error::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..6u64 {
        let engine: Engine<String, u64> = Engine::builder().shards(3).open(dir.path()).await.unwrap();
        let db = engine.handle();
        assert_eq!(db.len().unwrap() as u64, life * 200);
        let mut tasks = Vec::new();
        for task in 0..20 {
            let db = db.clone();
            tasks.push(tokio::spawn(async move {
                for i in 0..5 {
                    db.insert(format!("{life}-{task}-{i}"), i).await.unwrap();
                    db.transaction(|txn| {
                        txn.insert(format!("{life}-{task}-{i}-t"), i);
                        txn.insert("counter".into(), i);
                        txn.remove("counter");
                        Ok::<_, Error>(())
                    })
                    .await
                    .unwrap();
                }
            }));
        }
        for t in tasks {
            t.await.unwrap();
        }
        println!("{:?} {:?}", engine.stats().log, engine.recovery_report());
        if life % 2 == 0 {
            engine.close().await.unwrap();
        }
    }
}
