//! Engines that remove entries by themselves, for want of memory or because they have expired, while clients read and
//! write them.
//!
//! A removal by the engine is a commit, and the feed of changes shows it: the judges get it as a transaction like any
//! other, of which nobody knows when it ran. What has expired and is not removed yet is hidden by the clock and by no
//! commit: that somebody found nothing there is checked by the date, and then left out.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch::{ChangeSet, Durability, Engine, Eviction, Flush, Handle, Timestamp};
use futures_core::Stream;

use crate::blind::{Store, run_clients};
use crate::campaign::runtime;
use crate::checker::{Kind, Outcome, check};
use crate::effort::effort;
use crate::random::Random;
use crate::registers::{Act, Element, Txn, as_lists};
use crate::second_judge::expect_strict_serializability;

/// Keys from here on only take memory.
const FILLER: u64 = 1 << 40;
/// Elements of removals by the engine.
const REMOVALS: Element = 1 << 60;

/// What the feed tells of a register: by the commits, the value and when it expires.
type Versions = BTreeMap<u64, BTreeMap<u64, (Option<Element>, Option<u64>)>>;

async fn feed(db: &Handle<u64, u64>, last: Timestamp) -> Vec<ChangeSet<u64, u64>> {
    let mut feed = pin!(db.changes(Timestamp::ZERO));
    let mut read: Vec<ChangeSet<u64, u64>> = Vec::new();
    while read.last().is_none_or(|set| set.timestamp < last) {
        let next = std::future::poll_fn(|context| feed.as_mut().poll_next(context)).await;
        read.push(next.expect("it has no end").expect("the log is retained"));
    }
    read
}

fn versions(feed: &[ChangeSet<u64, u64>]) -> Versions {
    let mut versions = Versions::new();
    for set in feed {
        for change in set.changes.iter().filter(|change| change.key < FILLER) {
            let version = (change.value, change.expires_unix_millis);
            versions.entry(change.key).or_default().insert(set.timestamp.0, version);
        }
    }
    versions
}

/// Adds to what clients did what the engine did, and gives every commit its timestamp. Counts the registers that the
/// engine removed, and what was found to have expired.
fn with_versions(mut txns: Vec<Txn>, versions: &Versions) -> (Vec<Txn>, usize, usize) {
    let all = versions.values().flatten();
    let committed_at: BTreeMap<Element, u64> =
        all.filter_map(|(timestamp, (value, _))| Some(((*value)?, *timestamp))).collect();
    let mut expired = 0;
    for txn in &mut txns {
        let (acts, date) = (std::mem::take(&mut txn.acts), txn.date);
        let count = acts.len();
        txn.acts = acts.into_iter().filter(|act| !is_of_something_expired(act, date, versions)).collect();
        expired += count - txn.acts.len();
        // An insert is not told its timestamp.
        let written = txn.acts.iter().find_map(|act| match act {
            Act::Write { element, .. } => committed_at.get(element).copied(),
            Act::Look { .. } => None,
        });
        txn.timestamp = txn.timestamp.or(written);
    }
    let told: BTreeSet<u64> = txns.iter().filter_map(|txn| txn.timestamp).collect();
    let mut removals: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (register, versions) in versions {
        for (timestamp, (value, _)) in versions {
            if value.is_none() && !told.contains(timestamp) {
                removals.entry(*timestamp).or_default().push(*register);
            }
        }
    }
    let removed = removals.values().map(Vec::len).sum();
    txns.extend((REMOVALS..).zip(removals).map(removal));
    (txns, removed, expired)
}

fn removal((number, (timestamp, registers)): (Element, (u64, Vec<u64>))) -> Txn {
    let write = |register| Act::Write { register, element: number, is_remove: true };
    Txn {
        what: "a removal by the engine",
        process: 0,
        invoked: 0,
        completed: None,
        date: (0, u64::MAX),
        outcome: Outcome::Committed,
        timestamp: Some(timestamp),
        acts: registers.into_iter().map(write).collect(),
    }
}

/// Whether somebody found nothing where a version was that can have expired by then. Checks also that nobody saw one
/// that had expired before.
fn is_of_something_expired(act: &Act, (began, ended): (u64, u64), versions: &Versions) -> bool {
    let Act::Look { register, found, at } = *act else { return false };
    let newest = versions.get(&register).and_then(|versions| versions.range(..=at).next_back());
    let Some((_, (Some(element), Some(expires)))) = newest else { return false };
    let is_late = found == Some(*element) && *expires < began;
    assert!(!is_late, "at {began} somebody saw {element}, which had expired at {expires}");
    found.is_none() && *expires <= ended
}

/// Writes what nobody reads, so that there is always too much.
async fn fill(db: Handle<u64, u64>, seed: u64, is_over: Arc<AtomicBool>) {
    let mut random = Random::new(seed);
    while !is_over.load(Ordering::Acquire) {
        let mut txn = db.begin();
        (0..64).for_each(|_| txn.insert(FILLER + random.below(100_000), 0));
        txn.commit().await.expect("a blind write conflicts with nothing");
        tokio::task::yield_now().await;
    }
}

async fn first_eviction(engine: &Store) {
    while engine.memory_info().evictions == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn history(eviction: Eviction, durability: Durability, seed: u64) -> (Vec<Txn>, usize, usize) {
    let directory = tempfile::tempdir().expect("the system's temporary directory is writable");
    let shards = 1 + usize::try_from(seed % 3).expect("few");
    let engine: Store = Engine::builder()
        .shards(shards)
        .lend_turns(seed.is_multiple_of(2))
        .memory_limit(shards as u64 * (64 << 10), eviction)
        .durability(durability)
        .retain_log_bytes(1 << 30)
        .open(directory.path())
        .await
        .expect("nothing is wrong with these settings");
    let is_over = Arc::new(AtomicBool::new(false));
    let filling = tokio::spawn(fill(engine.handle(), seed, Arc::clone(&is_over)));
    // Beside the clients filling may be so slow that everything expires before there is too much.
    tokio::time::timeout(Duration::from_mins(1), first_eviction(&engine)).await.expect("there was too much");
    let ttl = Some(Duration::from_millis(5));
    let txns = run_clients(&engine, seed, effort(2_000, 8_000), ttl).await;
    is_over.store(true, Ordering::Release);
    filling.await.expect("it does not panic");
    engine.sync().await.expect("the disk is in order");
    let feed = feed(&engine.handle(), engine.stats().durable).await;
    engine.close().await.expect("the disk is in order");
    with_versions(txns, &versions(&feed))
}

#[test]
fn what_an_engine_removes_by_itself_is_strictly_serializable_with_everything_else() {
    let policies = [
        Eviction::Random,
        Eviction::Lru,
        Eviction::Random,
        Eviction::Lfu,
        Eviction::Random,
        Eviction::Arc,
        Eviction::Ttl(Duration::from_millis(20)),
    ];
    let (mut committed, mut removed, mut expired) = (0, 0, 0);
    for seed in 0..effort(7_u64, 28) {
        let eviction = policies[usize::try_from(seed).expect("few") % policies.len()];
        let flush = Flush::every(Duration::from_millis(20)).or_after_commits(200);
        let durability = if seed.is_multiple_of(4) { Durability::Full } else { Durability::Relaxed(flush) };
        let (txns, removals, expiries) = runtime(4).block_on(history(eviction, durability, seed));
        let history = as_lists(&txns);
        let report = check(&history);
        assert!(report.kinds().is_empty(), "{eviction:?}, seed {seed}: {}", report.story());
        expect_strict_serializability(&history);
        committed += report.committed;
        removed += removals;
        expired += expiries;
    }
    println!("{committed} committed, {removed} registers removed, {expired} found to have expired");
    assert!(removed > 20 && expired > 0, "{removed} removed, {expired} expired");
}

/// A client's transaction: what it found, and what it wrote at which timestamp.
fn client(invoked: u64, found: Option<(Option<Element>, u64)>, wrote: Option<(Element, u64)>) -> Txn {
    let look = found.map(|(found, at)| Act::Look { register: 1, found, at });
    let written = wrote.map(|(element, _)| Act::Write { register: 1, element, is_remove: false });
    Txn {
        what: "a client",
        process: 1,
        invoked,
        completed: Some(invoked + 1),
        date: (100 * invoked, 100 * invoked + 50),
        outcome: Outcome::Committed,
        timestamp: wrote.map(|(_, timestamp)| timestamp),
        acts: look.into_iter().chain(written).collect(),
    }
}

/// Commits 1, 2 and so on of register 1: its values, `None` for removals.
fn kinds(txns: Vec<Txn>, versions: &[(Option<Element>, Option<u64>)]) -> BTreeSet<Kind> {
    let mut changes = Versions::new();
    for (timestamp, version) in (1..).zip(versions) {
        changes.entry(1).or_default().insert(timestamp, *version);
    }
    check(&as_lists(&with_versions(txns, &changes).0)).kinds()
}

#[test]
fn the_judge_takes_removals_for_what_they_are_and_nothing_else() {
    let wrote = client(10, None, Some((7, 1)));
    let gone = |invoked, at| client(invoked, Some((None, at)), None);
    let there = |invoked, at| client(invoked, Some((Some(7), at)), None);
    let put = (Some(7), None);
    // Evicted by commit 2: first it is there, then it is gone.
    assert!(kinds(vec![wrote.clone(), there(20, 1), gone(30, 2)], &[put, (None, None)]).is_empty());
    // It comes back.
    assert!(!kinds(vec![wrote.clone(), gone(20, 2), there(30, 1)], &[put, (None, None)]).is_empty());
    // Nothing removed it.
    assert!(!kinds(vec![wrote.clone(), gone(20, 1)], &[put]).is_empty());
    // It expired in time, or not yet: the look ends at 2,050.
    assert!(kinds(vec![wrote.clone(), gone(20, 1)], &[(Some(7), Some(2_000))]).is_empty());
    assert!(!kinds(vec![wrote.clone(), gone(20, 1)], &[(Some(7), Some(3_000))]).is_empty());
    // Who saw it there must not commit behind its removal.
    let behind = client(20, Some((Some(7), 1)), Some((8, 3)));
    let last = client(30, Some((Some(8), 3)), None);
    assert!(!kinds(vec![wrote, behind, last], &[put, (None, None), (Some(8), None)]).is_empty());
}

#[test]
#[should_panic(expected = "which had expired at 1900")]
fn what_has_expired_must_not_be_seen() {
    let late = client(20, Some((Some(7), 1)), None);
    kinds(vec![client(10, None, Some((7, 1))), late], &[(Some(7), Some(1_900))]);
}
