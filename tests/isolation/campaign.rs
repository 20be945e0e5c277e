//! Histories from the engine, with real threads: several lives of one directory, judged by the checker.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anabranch::{Durability, Engine, Env, Flush, Isolation, SystemEnv, Vacuum};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::checker::{self, History, Kind, Outcome, Report, check};
use crate::client::{Client, World};
use crate::effort::effort;
use crate::lists::{self, Store};

/// Histories are judged in pieces of at most so many transactions, so that they fit in memory.
const HISTORY_MAX: u64 = 25_000;
/// A life that takes longer hangs.
const LIFE_MAX: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    InMemory,
    Relaxed,
    Full,
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// All clients stop, and the engine is closed.
    Quiet,
    /// The engine is closed while clients work on.
    Closed,
    /// The engine is dropped while clients work on.
    Dropped,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) mode: Mode,
    pub(crate) isolation: Isolation,
    pub(crate) lend_turns: bool,
    pub(crate) workers: usize,
    pub(crate) clients: u32,
    pub(crate) seed: u64,
    pub(crate) transactions: u64,
}

impl Setting {
    /// The lives of one history: how many shards each has, and how it ends.
    fn lives(&self) -> Vec<(usize, End)> {
        let shards = [1, 2, 4, 7][usize::try_from(self.seed % 4).expect("below 4")];
        match self.mode {
            Mode::InMemory => vec![(shards, End::Quiet)],
            Mode::Relaxed | Mode::Full => {
                vec![(shards, End::Dropped), (shards, End::Closed), (shards % 4 + 1, End::Quiet)]
            }
        }
    }

    async fn open(&self, directory: &Path, shards: usize) -> Store {
        let idle_interval = Duration::from_millis(5);
        let builder = Engine::builder()
            .shards(shards)
            .isolation(self.isolation)
            .lend_turns(self.lend_turns)
            .vacuum(Vacuum::Automatic { idle_interval });
        let flush = Flush::every(Duration::from_millis(20)).or_after_commits(500);
        let on_disk = |builder: anabranch::EngineBuilder<_, _>, durability| {
            builder
                .durability(durability)
                .segment_bytes(256 << 10)
                .checkpoint_after_bytes(1 << 20)
                .open(directory)
        };
        match self.mode {
            Mode::InMemory => builder.in_memory().await,
            Mode::Relaxed => on_disk(builder, Durability::Relaxed(flush)).await,
            Mode::Full => on_disk(builder, Durability::Full).await,
        }
        .expect("the directory is in order")
    }
}

/// Vacuums and writes checkpoints, until a client is done: at the goal, or because it failed.
async fn upkeep(engine: &Store, is_durable: bool, clients: &[JoinHandle<Vec<checker::Txn>>]) {
    while !clients.iter().any(JoinHandle::is_finished) {
        engine.vacuum().await.expect("the engine is in order");
        if is_durable {
            engine.checkpoint().await.expect("the disk has room");
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

async fn live(
    setting: &Setting,
    engine: Store,
    end: End,
    world: &Arc<World>,
    life: u32,
) -> Vec<checker::Txn> {
    world.stops_at_goal.store(matches!(end, End::Quiet), Ordering::SeqCst);
    let clients: Vec<_> = (0..setting.clients)
        .map(|client| {
            let process = life * setting.clients + client + 1;
            tokio::spawn(Client::new(Arc::clone(world), engine.handle(), process, setting.seed).run())
        })
        .collect();
    tokio::select! {
        () = upkeep(&engine, setting.mode != Mode::InMemory, &clients) => (),
        () = world.goal_reached() => (),
    }
    world.two_phase.fetch_add(engine.stats().two_phase, Ordering::SeqCst);
    let mut txns = Vec::new();
    let join = async {
        for client in clients {
            txns.extend(client.await.expect("no client panics"));
        }
    };
    match end {
        End::Quiet => {
            join.await;
            let invoked = world.tick();
            let ops = lists::read_all(&mut engine.handle().snapshot(), world.groups()).expect("it is open");
            let (process, completed) = (0, Some(world.tick()));
            let outcome = Outcome::Committed;
            txns.push(checker::Txn { what: "the last look", process, invoked, completed, outcome, ops });
            engine.close().await.expect("the disk is in order");
        }
        End::Closed => {
            engine.close().await.expect("the disk is in order");
            join.await;
        }
        End::Dropped => {
            drop(engine);
            join.await;
        }
    }
    txns
}

/// One history: all lives of one engine.
async fn history(setting: &Setting) -> (History, u64) {
    let directory = tempfile::tempdir().expect("the system's temporary directory is writable");
    let world = Arc::new(World::default());
    let lives = setting.lives();
    let share = setting.transactions / lives.len() as u64;
    let mut history = History::default();
    for (life, (shards, end)) in (0..).zip(lives) {
        let engine = setting.open(directory.path(), shards).await;
        // Whatever became of the commits that were under way: now it is decided.
        let opened = world.tick();
        for txn in history.txns.iter_mut().filter(|txn: &&mut checker::Txn| txn.completed.is_none()) {
            txn.completed = Some(opened);
        }
        world.goal.fetch_add(share, Ordering::SeqCst);
        let life = tokio::time::timeout(LIFE_MAX, live(setting, engine, end, &world, life));
        history.txns.extend(life.await.expect("no life takes that long unless it hangs"));
    }
    (history, world.two_phase.load(Ordering::SeqCst))
}

pub(crate) fn runtime(workers: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all().build().expect("the system has threads")
}

/// A history for other judges.
pub(crate) fn run(setting: &Setting) -> History {
    runtime(setting.workers).block_on(history(setting)).0
}

fn judge(setting: &Setting) -> Report {
    let began = SystemEnv.now();
    let (history, two_phase) = runtime(setting.workers).block_on(history(setting));
    let (ran, invoked) = (SystemEnv.now().saturating_sub(began), history.txns.len());
    let report = check(&history);
    let took = SystemEnv.now().saturating_sub(began + ran);
    let count = |outcome| history.txns.iter().filter(|txn| txn.outcome == outcome).count();
    let (aborted, unknown) = (count(Outcome::Aborted), count(Outcome::Unknown));
    println!(
        "{setting:?}: {invoked} in {ran:.1?}, {aborted} aborted, {unknown} unknown, {two_phase} in two phases, {} count as committed, judged in \
         {took:.1?}",
        report.committed
    );
    assert!(report.committed * 2 > invoked, "most transactions commit");
    let is_simple = setting.lend_turns || setting.lives()[0].0 == 1;
    assert!(is_simple || two_phase > 0, "several shards, no turns lent, and no commit in two phases");
    report
}

/// Judges so many transactions in all, over settings that differ in everything, and counts those that committed.
fn strictly_serializable(mode: Mode, transactions: u64) -> usize {
    let histories = transactions.div_ceil(HISTORY_MAX).max(4);
    let mut committed = 0;
    for seed in 0..histories {
        let lend_turns = seed.is_multiple_of(2);
        let workers = [2, 4, 3, 8][usize::try_from(seed / 2 % 4).expect("below 4")];
        let clients = if mode == Mode::Full { 32 } else { 16 };
        let (isolation, transactions) = (Isolation::Serializable, transactions / histories);
        let setting = Setting { mode, isolation, lend_turns, workers, clients, seed, transactions };
        let report = judge(&setting);
        assert!(report.kinds().is_empty(), "{setting:?}: {}", report.story());
        committed += report.committed;
    }
    println!("{mode:?}: {committed} committed transactions are strictly serializable");
    committed
}

/// A third of `ANABRANCH_TRANSACTIONS`, or of what the effort asks for.
fn share() -> u64 {
    let all = std::env::var("ANABRANCH_TRANSACTIONS").ok().map(|count| count.parse().expect("a number"));
    all.unwrap_or(effort(9_000, 300_000)) / 3
}

#[test]
fn transactions_in_memory_are_strictly_serializable() {
    assert!(strictly_serializable(Mode::InMemory, share()) > 0);
}

#[test]
fn transactions_in_a_relaxed_engine_are_strictly_serializable_over_all_its_lives() {
    assert!(strictly_serializable(Mode::Relaxed, share()) > 0);
}

#[test]
fn transactions_in_a_full_engine_are_strictly_serializable_over_all_its_lives() {
    assert!(strictly_serializable(Mode::Full, share()) > 0);
}

#[test]
fn snapshot_isolation_has_write_skew_and_nothing_weaker() {
    for mode in [Mode::InMemory, Mode::Relaxed] {
        let mut kinds = BTreeSet::new();
        for seed in 0..4 {
            let setting = Setting {
                mode,
                isolation: Isolation::Snapshot,
                lend_turns: seed % 2 == 0,
                workers: 4,
                clients: 8,
                seed,
                transactions: effort(1_000, 10_000),
            };
            let report = judge(&setting);
            let allowed = |kind: &Kind| [Kind::G2, Kind::G2Realtime].contains(kind);
            assert!(report.kinds().iter().all(allowed), "{setting:?}: {}", report.story());
            kinds.extend(report.kinds());
        }
        assert!(kinds.contains(&Kind::G2), "{kinds:?}");
    }
}

#[test]
fn the_judge_would_notice_if_an_engine_gave_away_one_commit() {
    let setting = Setting {
        mode: Mode::InMemory,
        isolation: Isolation::Serializable,
        lend_turns: true,
        workers: 2,
        clients: 4,
        seed: 1,
        transactions: 500,
    };
    let mut history = run(&setting);
    check(&history).expect_strict_serializability();
    // Say that a transaction was rolled back whose appends others have seen.
    let writes = |txn: &&mut checker::Txn| txn.ops.iter().any(|op| matches!(op, checker::Op::Append(..)));
    let committed = |txn: &&mut checker::Txn| txn.outcome == Outcome::Committed;
    let txn = history.txns.iter_mut().filter(committed).find(writes).expect("most of them write");
    txn.outcome = Outcome::Aborted;
    assert!(check(&history).kinds().contains(&Kind::G1a));
}
