//! Transfers between accounts by several tasks, with an error type of one's own, while an auditor sums up all
//! accounts again and again and always finds the same total.
//!
//! Run it with `cargo run --release --example bank_transfer`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anabranch::{Engine, Handle};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

const ACCOUNTS: u32 = 100;
const OPENING_BALANCE: u64 = 1_000;
const TELLERS: u64 = 8;
const TRANSFERS_PER_TELLER: u64 = 5_000;

type Db = Handle<u32, u64>;

/// What can go wrong with a transfer. The engine's errors are one of these; the others are the bank's own.
#[derive(Debug, thiserror::Error)]
enum Bank {
    #[error("there is no account {0}")]
    NoAccount(u32),
    #[error("account {account} has {balance}, which is less than {amount}")]
    TooPoor { account: u32, balance: u64, amount: u64 },
    #[error("the auditor found {found} in commit {commit}, and {expected} had been paid in")]
    Unbalanced { found: u64, expected: u64, commit: u64 },
    #[error("the engine: {0}")]
    Engine(#[from] anabranch::Error),
    #[error("a task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Moves money, or fails and moves nothing: an `Err` from the body rolls back.
async fn transfer(db: &Db, from: u32, to: u32, amount: u64) -> Result<(), Bank> {
    db.transaction(|txn| {
        let giver = *txn.get(&from)?.ok_or(Bank::NoAccount(from))?;
        let taker = *txn.get(&to)?.ok_or(Bank::NoAccount(to))?;
        let rest = giver.checked_sub(amount);
        let rest = rest.ok_or(Bank::TooPoor { account: from, balance: giver, amount })?;
        txn.insert(from, rest);
        txn.insert(to, taker + amount);
        Ok(())
    })
    .await
}

/// Makes random transfers, and returns how many the bank refused.
async fn teller(db: Db, seed: u64) -> Result<u64, Bank> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut refused = 0;
    for _ in 0..TRANSFERS_PER_TELLER {
        let from = random.random_range(0..ACCOUNTS);
        let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        match transfer(&db, from, to, random.random_range(1..=500)).await {
            Ok(()) => {}
            Err(Bank::TooPoor { .. }) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

/// Sums up all accounts in one snapshot after the other, and returns how often. A snapshot never shows half a
/// transfer, and never holds one up.
async fn auditor(db: Db, closing: Arc<AtomicBool>) -> Result<u64, Bank> {
    let mut audits = 0;
    loop {
        let last = closing.load(Ordering::Acquire);
        let snapshot = db.snapshot();
        let mut found = 0;
        for entry in snapshot.range(..) {
            found += *entry?.1;
        }
        let expected = u64::from(ACCOUNTS) * OPENING_BALANCE;
        if found != expected {
            return Err(Bank::Unbalanced { found, expected, commit: snapshot.timestamp().0 });
        }
        audits += 1;
        if last {
            return Ok(audits);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Bank> {
    let engine: Engine<u32, u64> = Engine::builder().in_memory().await?;
    let db = engine.handle();
    db.transaction(|txn| {
        for account in 0..ACCOUNTS {
            txn.insert(account, OPENING_BALANCE);
        }
        Ok::<_, Bank>(())
    })
    .await?;

    // The bank's own errors come back as what they are.
    if let Err(error) = transfer(&db, 0, ACCOUNTS, 1).await {
        println!("refused, as it should be: {error}");
    }
    if let Err(error) = transfer(&db, 0, 1, 1_000_000).await {
        println!("refused, as it should be: {error}");
    }

    let started = Instant::now();
    let closing = Arc::new(AtomicBool::new(false));
    let audits = tokio::spawn(auditor(db.clone(), Arc::clone(&closing)));
    let mut tellers = JoinSet::new();
    for seed in 0..TELLERS {
        tellers.spawn(teller(db.clone(), seed));
    }
    let mut refused = 0;
    while let Some(done) = tellers.join_next().await {
        refused += done??;
    }
    let seconds = started.elapsed().as_secs_f64();
    closing.store(true, Ordering::Release);
    let audits = audits.await??;

    let stats = engine.stats();
    println!("{} transfers by {TELLERS} tellers in {seconds:.2} s", TELLERS * TRANSFERS_PER_TELLER);
    println!("  {refused} refused for lack of money");
    println!("  {} run again because another transfer came first", stats.reruns);
    println!("{audits} audits meanwhile, each found {}", u64::from(ACCOUNTS) * OPENING_BALANCE);
    Ok(engine.close().await?)
}
