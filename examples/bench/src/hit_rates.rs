//! How often a cache has what is asked for, under each policy of eviction and in other caches: the same traces of
//! keys, the same number of entries. What is missed is inserted.
//!
//! anabranch's limit is in bytes: it gets the bytes that as many entries of this kind take, found by filling an engine.
//! One task asks, so that every cache sees the keys in the same order.

#[cfg(feature = "caches")]
mod others;
mod trace;

use std::fmt::Write;
use std::process::ExitCode;

use anabranch::{Engine, Eviction, Handle};
use clap::Args;

use crate::store::Outcome;
use trace::Trace;

#[derive(Args, Clone)]
pub(crate) struct Knobs {
    /// Entries that fit
    #[arg(long, default_value_t = 10_000)]
    capacity: usize,
    /// Keys that are asked for
    #[arg(long, default_value_t = 1_000_000)]
    requests: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A cache with room for so many entries. Keys are numbers, values of one size.
trait Cache: Sized {
    /// Whether the key is there.
    fn has(&mut self, key: u64) -> Outcome<bool>;

    /// It is there from here on, unless it is the next to go.
    async fn put(&mut self, key: u64) -> Outcome<()>;

    /// Whether the key is there. It is put there if not.
    async fn ask(&mut self, key: u64) -> Outcome<bool> {
        let hit = self.has(key)?;
        if !hit {
            self.put(key).await?;
        }
        Ok(hit)
    }
}

/// The share of requests that were hits, without the first half, in which caches are filled.
async fn hit_rate(mut cache: impl Cache, keys: &[u64]) -> Outcome<f64> {
    let (warm_up, counted) = keys.split_at(keys.len() / 2);
    for key in warm_up {
        cache.ask(*key).await?;
    }
    let mut hits = 0_u32;
    for key in counted {
        hits += u32::from(cache.ask(*key).await?);
    }
    Ok(f64::from(hits) / f64::from(u32::try_from(counted.len().max(1))?))
}

type Value = [u64; 4];

struct Limited {
    db: Handle<u64, Value>,
    /// The keys go when it is dropped.
    _engine: Engine<u64, Value>,
}

impl Limited {
    async fn open(bytes: u64, eviction: Eviction) -> Outcome<Self> {
        let engine = Engine::builder().shards(1).memory_limit(bytes, eviction).in_memory().await?;
        Ok(Self { db: engine.handle(), _engine: engine })
    }
}

impl Cache for Limited {
    fn has(&mut self, key: u64) -> Outcome<bool> {
        Ok(self.db.get(&key)?.is_some())
    }

    async fn put(&mut self, key: u64) -> Outcome<()> {
        Ok(self.db.insert(key, [0; 4]).await?)
    }
}

/// The bytes of so many entries. An `Arc` has the same, and keeps in them also what it remembers of those that went.
async fn bytes_of(entries: usize) -> Outcome<u64> {
    let engine: Engine<u64, Value> =
        Engine::builder().shards(1).memory_limit(u64::MAX >> 8, Eviction::Lru).in_memory().await?;
    for key in 0..entries as u64 {
        engine.handle().insert(key, [0; 4]).await?;
    }
    let info = engine.memory_info();
    Ok(info.current_bytes - info.reclaimable_bytes)
}

const POLICIES: [(&str, Eviction); 4] = [
    ("anabranch LRU", Eviction::Lru),
    ("anabranch LFU", Eviction::Lfu),
    ("anabranch ARC", Eviction::Arc),
    ("anabranch random", Eviction::Random),
];

#[cfg(feature = "caches")]
const OTHERS: [&str; 3] = others::NAMES;
#[cfg(not(feature = "caches"))]
const OTHERS: [&str; 0] = [];

pub(crate) fn run(knobs: &Knobs) -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    print!("{}", runtime.block_on(table(knobs))?);
    if cfg!(not(feature = "caches")) {
        eprintln!("other caches are compared with if this is built with --features caches");
    }
    Ok(ExitCode::SUCCESS)
}

async fn table(knobs: &Knobs) -> Outcome<String> {
    let names: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).chain(OTHERS).collect();
    let mut text = format!("| trace | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    let bytes = bytes_of(knobs.capacity).await?;
    for trace in trace::ALL {
        let keys = trace.keys(knobs.capacity, knobs.requests, knobs.seed)?;
        let mut rates = Vec::new();
        for (_, eviction) in POLICIES {
            rates.push(hit_rate(Limited::open(bytes, eviction).await?, &keys).await?);
        }
        #[cfg(feature = "caches")]
        rates.extend(others::hit_rates(knobs.capacity, &keys).await?);
        write!(text, "| {} |", Trace::name(trace))?;
        for rate in rates {
            write!(text, " {:.1} % |", 100.0 * rate)?;
        }
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_room_for_all_misses_each_key_once_and_a_loop_that_does_not_fit_starves_lru() {
        let keys: Vec<u64> = (0..4).flat_map(|_| 0..1_000).collect();
        for (name, eviction) in POLICIES {
            let roomy = Limited::open(bytes_of(1_500).await.unwrap(), eviction).await.unwrap();
            let rate = hit_rate(roomy, &keys).await.unwrap();
            assert!((rate - 1.0).abs() < f64::EPSILON, "{name}: {rate}");
        }
        let tight = Limited::open(bytes_of(500).await.unwrap(), Eviction::Lru).await.unwrap();
        let rate = hit_rate(tight, &keys).await.unwrap();
        assert!(rate < 0.2, "a draw lets a few survive, no more: {rate}");
    }

    #[cfg(feature = "caches")]
    #[tokio::test]
    async fn other_caches_are_asked_in_the_same_way() {
        let keys: Vec<u64> = (0..4).flat_map(|_| 0..1_000).collect();
        let rates = others::hit_rates(500, &keys).await.unwrap();
        assert_eq!(rates.len(), others::NAMES.len());
        // Exactly the least recently used never has what comes next in a loop that does not fit.
        assert!(rates[0] < f64::EPSILON && rates.iter().all(|rate| (0.0..=1.0).contains(rate)), "{rates:?}");
    }
}
