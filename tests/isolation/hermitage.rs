//! The scripts of Martin Kleppmann's *Hermitage*, one for each anomaly, in both isolation levels and with the
//! rows on one shard and on several. Each says what must happen; `docs/isolation.md` has the table.

use crate::stage::{Stage, commits, get, multiples, put};

#[tokio::test]
async fn g0_writes_of_two_transactions_do_not_mix() {
    for stage in Stage::all().await {
        let (x, y) = (&stage.x, &stage.y);
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        put(&mut one, x, 11);
        put(&mut two, x, 12);
        put(&mut one, y, 21);
        assert!(commits(one).await);
        assert_eq!(stage.rows(), [11, 21, 0]);
        put(&mut two, y, 22);
        // Blind writes conflict with nothing when serializable: the second comes after the first, as a whole.
        assert_eq!(commits(two).await, stage.is_serializable);
        let expected = if stage.is_serializable { [12, 22, 0] } else { [11, 21, 0] };
        assert_eq!(stage.rows(), expected);
    }
}

#[tokio::test]
async fn g1a_what_is_rolled_back_is_never_read() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        put(&mut one, &stage.x, 101);
        assert_eq!((get(&mut two, &stage.x), multiples(&mut two, 1)), (10, vec![10, 20]));
        one.rollback();
        assert_eq!((get(&mut two, &stage.x), multiples(&mut two, 1)), (10, vec![10, 20]));
        put(&mut two, &stage.y, 21);
        assert!(commits(two).await);
        assert_eq!(stage.rows(), [10, 21, 0]);
    }
}

#[tokio::test]
async fn g1b_what_is_overwritten_before_the_commit_is_never_read() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        put(&mut one, &stage.x, 101);
        assert_eq!(get(&mut two, &stage.x), 10);
        put(&mut one, &stage.x, 11);
        assert!(commits(one).await);
        assert_eq!(get(&mut two, &stage.x), 10);
        assert_eq!(get(&mut stage.db.begin(), &stage.x), 11);
        assert!(commits(two).await, "it only read");
    }
}

#[tokio::test]
async fn g1c_of_two_transactions_not_both_read_what_the_other_wrote() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        put(&mut one, &stage.x, 11);
        put(&mut two, &stage.y, 22);
        assert_eq!((get(&mut one, &stage.y), get(&mut two, &stage.x)), (20, 10));
        assert!(commits(one).await);
        assert_eq!(get(&mut two, &stage.x), 10);
        // That neither sees the other is write skew.
        assert_eq!(commits(two).await, !stage.is_serializable);
    }
}

#[tokio::test]
async fn otv_what_was_seen_of_a_transaction_does_not_vanish() {
    for stage in Stage::all().await {
        let (x, y) = (&stage.x, &stage.y);
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        put(&mut one, x, 11);
        put(&mut one, y, 19);
        put(&mut two, x, 12);
        assert!(commits(one).await);
        let mut three = stage.db.begin();
        assert_eq!(get(&mut three, x), 11);
        put(&mut two, y, 18);
        assert_eq!(get(&mut three, y), 19);
        assert_eq!(commits(two).await, stage.is_serializable);
        assert_eq!((get(&mut three, y), get(&mut three, x)), (19, 11));
        assert!(commits(three).await, "it only read");
        assert_eq!(stage.rows(), if stage.is_serializable { [12, 18, 0] } else { [11, 19, 0] });
    }
}

#[tokio::test]
async fn pmp_a_predicate_gives_the_same_rows_again() {
    for stage in Stage::all().await {
        let mut reader = stage.db.begin();
        assert!(multiples(&mut reader, 30).is_empty());
        stage.db.insert(stage.z.clone(), vec![30]).await.unwrap();
        assert!(multiples(&mut reader, 30).is_empty());
        stage.db.remove(stage.x.as_str()).await.unwrap();
        stage.db.insert(stage.y.clone(), vec![60]).await.unwrap();
        stage.engine.vacuum().await.unwrap();
        assert_eq!((multiples(&mut reader, 30), multiples(&mut reader, 1)), (vec![], vec![10, 20]));
        assert!(commits(reader).await, "it only read");
        assert_eq!(multiples(&mut stage.db.begin(), 1), [60, 30]);
    }
}

#[tokio::test]
async fn pmp_a_write_by_a_predicate_that_no_longer_holds_is_refused() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        for key in [&stage.x, &stage.y] {
            let value = get(&mut one, key);
            put(&mut one, key, value + 10);
        }
        // What is 20 goes. It is `y` for this transaction, and would be `x` after the first.
        assert_eq!(multiples(&mut two, 20), [20]);
        two.remove(stage.y.as_str());
        assert!(commits(one).await);
        assert!(!commits(two).await);
        assert_eq!(stage.rows(), [20, 30, 0]);
    }
}

#[tokio::test]
async fn p4_no_update_is_lost() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        for txn in [&mut one, &mut two] {
            let value = get(txn, &stage.x);
            put(txn, &stage.x, value + 1);
        }
        assert!(commits(one).await);
        assert!(!commits(two).await);
        assert_eq!(stage.rows(), [11, 20, 0]);
    }
}

#[tokio::test]
async fn g_single_a_reader_sees_all_of_a_commit_or_nothing() {
    for stage in Stage::all().await {
        let mut reader = stage.db.begin();
        let snapshot = stage.db.snapshot();
        assert_eq!(get(&mut reader, &stage.x), 10);
        assert_eq!(snapshot.get(stage.x.as_str()).unwrap().as_deref(), Some(&vec![10]));
        let mut two = stage.db.begin();
        put(&mut two, &stage.x, 12);
        put(&mut two, &stage.y, 18);
        assert!(commits(two).await);
        assert_eq!(get(&mut reader, &stage.y), 20);
        assert_eq!(snapshot.get(stage.y.as_str()).unwrap().as_deref(), Some(&vec![20]));
        assert!(multiples(&mut reader, 3).is_empty(), "12 and 18 are, but not for this reader");
        assert!(commits(reader).await, "it only read");
    }
}

#[tokio::test]
async fn g_single_a_writer_that_saw_a_row_before_a_commit_does_not_change_another_after_it() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        assert_eq!(get(&mut one, &stage.x), 10);
        put(&mut two, &stage.x, 12);
        put(&mut two, &stage.y, 18);
        assert!(commits(two).await);
        assert_eq!(multiples(&mut one, 20), [20]);
        one.remove(stage.y.as_str());
        assert!(!commits(one).await);
        assert_eq!(stage.rows(), [12, 18, 0]);
    }
}

#[tokio::test]
async fn g2_item_write_skew_is_refused_when_serializable_and_allowed_by_snapshot() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        for txn in [&mut one, &mut two] {
            assert_eq!((get(txn, &stage.x), get(txn, &stage.y)), (10, 20));
        }
        put(&mut one, &stage.x, 11);
        put(&mut two, &stage.y, 21);
        assert!(commits(one).await);
        assert_eq!(commits(two).await, !stage.is_serializable);
        assert_eq!(stage.rows(), if stage.is_serializable { [11, 20, 0] } else { [11, 21, 0] });
    }
}

#[tokio::test]
async fn g2_write_skew_over_a_predicate_is_refused_when_serializable_and_allowed_by_snapshot() {
    for stage in Stage::all().await {
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        for txn in [&mut one, &mut two] {
            assert!(multiples(txn, 3).is_empty());
        }
        put(&mut one, &stage.z, 30);
        put(&mut two, "row", 42);
        assert!(commits(one).await);
        assert_eq!(commits(two).await, !stage.is_serializable);
        let both = multiples(&mut stage.db.begin(), 3);
        assert_eq!(both, if stage.is_serializable { vec![30] } else { vec![42, 30] });
    }
}

/// Fekete, O'Neil and O'Neil (2004): without the reader, the two writers have an order.
#[tokio::test]
async fn g2_the_read_only_transaction_anomaly_is_refused_when_serializable_and_allowed_by_snapshot() {
    for with_reader in [true, false] {
        for stage in Stage::all().await {
            let (x, y) = (&stage.x, &stage.y);
            let mut withdrawal = stage.db.begin();
            assert_eq!((get(&mut withdrawal, x), get(&mut withdrawal, y)), (10, 20));
            let mut deposit = stage.db.begin();
            let balance = get(&mut deposit, y);
            put(&mut deposit, y, balance + 5);
            assert!(commits(deposit).await);
            if with_reader {
                let mut reader = stage.db.begin();
                assert_eq!((get(&mut reader, x), get(&mut reader, y)), (10, 25));
                assert!(commits(reader).await, "it only read");
            }
            put(&mut withdrawal, x, 0);
            // The engine does not look at who read in between, so it refuses both.
            assert_eq!(commits(withdrawal).await, !stage.is_serializable);
        }
    }
}

#[tokio::test]
async fn write_skew_on_rows_that_are_not_there_is_refused_when_serializable_and_allowed_by_snapshot() {
    for stage in Stage::all().await {
        stage.db.remove(stage.x.as_str()).await.unwrap();
        let (mut one, mut two) = (stage.db.begin(), stage.db.begin());
        for txn in [&mut one, &mut two] {
            assert_eq!((get(txn, &stage.x), get(txn, &stage.z)), (0, 0));
        }
        put(&mut one, &stage.x, 1);
        put(&mut two, &stage.z, 2);
        assert!(commits(one).await);
        assert_eq!(commits(two).await, !stage.is_serializable);
        assert_eq!(stage.rows(), if stage.is_serializable { [1, 20, 0] } else { [1, 20, 2] });
    }
}
