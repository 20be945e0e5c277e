//! anabranch itself, by its public face.

use std::any::Any;
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use anabranch::{
    Durability, Engine, Error, Eviction, Flush, GetSize, Handle, HashPartition, IngestOptions, Partition,
};

use crate::keys::{Key, Value};
use crate::store::{Counters, Failure, InOrder, Level, Outcome, Setup, Store, Style, missing};

/// By hash, as is the default, or by the key's number.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    by_number: bool,
}

impl<Q: AsRef<str> + ?Sized> Partition<Q> for Placement {
    fn shard(&self, key: &Q, hash: u64, shards: usize) -> usize {
        if !self.by_number {
            return HashPartition.shard(key, hash, shards);
        }
        number(*key.as_ref().as_bytes().last_chunk().expect("keys end with their number")) % shards
    }
}

/// A number of eight digits, all at once: pairs, then fours, then eights, as Lemire does it (2018). Peers have no
/// partition to pay for.
fn number(digits: [u8; 8]) -> usize {
    let digits = u64::from_le_bytes(digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    usize::try_from((fours * 10_000 + (fours >> 32)) & 0xffff_ffff).expect("less than 10^8")
}

/// Text of some kind, as a key.
pub(crate) trait Text:
    anabranch::Key + GetSize + AsRef<str> + Borrow<str> + From<Key> + for<'a> From<&'a str>
{
}

impl<K> Text for K where
    K: anabranch::Key + GetSize + AsRef<str> + Borrow<str> + From<Key> + for<'a> From<&'a str>
{
}

#[derive(Clone)]
pub(crate) struct Anabranch<K: Text> {
    engine: Arc<Engine<K, Value, Placement>>,
    db: Handle<K, Value, Placement>,
}

const fn durability(level: Level, sync_every: Duration) -> Option<Durability> {
    match level {
        Level::Memory => None,
        Level::Relaxed => Some(Durability::Relaxed(Flush::every(sync_every))),
        Level::Full => Some(Durability::Full),
    }
}

/// How many shards anabranch has if it isn't told.
pub(crate) fn default_shards(level: Level) -> usize {
    anabranch::default_shards(durability(level, Duration::from_secs(1)))
}

impl<K: Text> Store for Anabranch<K> {
    const STYLE: Style = Style::Tasks;

    /// As the sink has it by default: it keeps several batches under way, so they needn't be large.
    fn batch_rows(level: Level) -> usize {
        match level {
            Level::Full => 1024,
            _ => 256,
        }
    }

    async fn open(setup: &Setup) -> Outcome<Self> {
        let mut builder = Engine::<K, Value>::builder().partition(Placement { by_number: setup.by_number });
        if let Some(shards) = setup.shards {
            builder = builder.shards(shards);
        }
        if let Some(bytes) = setup.memory_limit {
            builder = builder.memory_limit(bytes, Eviction::Lru);
        }
        let engine = match durability(setup.level, setup.sync_every) {
            None => builder.in_memory().await?,
            Some(durability) => builder.durability(durability).open(&setup.directory).await?,
        };
        let db = engine.handle();
        Ok(Self { engine: Arc::new(engine), db })
    }

    async fn get(&self, key: &str) -> Outcome<Option<u64>> {
        Ok(self.db.with_value(key, |value| value.0)?)
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        Ok(self.db.insert(K::from(key), value.clone()).await?)
    }

    async fn add(&self, key: &str, by: u64) -> Outcome<u64> {
        let change = move |old: Option<&Value>| old.map(|old| old.with_number(old.0 + by));
        self.db.update(K::from(key), change).await?.ok_or_else(|| missing(key))?;
        Ok(1)
    }

    async fn read(&self, keys: &[&str]) -> Outcome<u64> {
        let mut sum = 0;
        for (key, value) in keys.iter().zip(self.db.get_many(keys.iter().copied())?) {
            sum += value.ok_or_else(|| missing(key))?.0;
        }
        Ok(sum)
    }

    async fn transfer(&self, from: &str, to: &str) -> Outcome<u64> {
        let (from, to) = (&K::from(from), &K::from(to));
        let mut runs = 0;
        self.db
            .transaction(|transaction| {
                runs += 1;
                let poorer = transaction.get::<K>(from)?;
                let richer = transaction.get::<K>(to)?;
                if let (Some(poorer), Some(richer)) = (poorer, richer) {
                    transaction.insert(from.clone(), poorer.with_number(poorer.0 - 1));
                    transaction.insert(to.clone(), richer.with_number(richer.0 + 1));
                }
                Ok::<_, Error>(())
            })
            .await?;
        Ok(runs)
    }

    async fn scan(&self, start: &str, rows: usize, backwards: bool) -> Outcome<usize> {
        let mut order = InOrder::default();
        if backwards {
            for entry in self.db.range(..K::from(start)).rev().take(rows) {
                order.next(entry?.0.as_ref().as_bytes(), true)?;
            }
        } else {
            for entry in self.db.range(K::from(start)..).take(rows) {
                order.next(entry?.0.as_ref().as_bytes(), false)?;
            }
        }
        Ok(order.rows)
    }

    async fn load(&self, rows: impl Iterator<Item = (Key, Value)> + Send, batch: usize) -> Outcome<()> {
        let mut sink = self.db.ingest(IngestOptions::default().batch_rows(batch));
        for (key, value) in rows {
            sink.send(K::from(key), value).await?;
        }
        sink.finish().await?;
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Ok(Box::new(self.db.begin()))
    }

    async fn maintain(&self) -> Outcome<()> {
        self.engine.vacuum().await?;
        match self.engine.checkpoint().await {
            // In memory there is nothing to checkpoint.
            Err(Error::Config { .. }) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn counters(&self) -> Counters {
        let log = self.engine.stats().log;
        Counters {
            syncs: Some(log.syncs),
            written: Some(log.written_bytes + log.checkpoint_bytes + log.manifest_bytes),
        }
    }

    async fn close(self) -> Outcome<()> {
        drop(self.db);
        let engine =
            Arc::into_inner(self.engine).ok_or_else(|| Failure::from("the engine is still in use"))?;
        Ok(engine.close().await?)
    }
}
