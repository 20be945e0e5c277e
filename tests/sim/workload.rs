//! What the tasks of a life do to the engine: random transactions of every kind, each recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch::{Durability, Engine, Error, Handle, Transaction};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::history::{Key, Outcome, Shared, Tag, Value};
use crate::oracle::{COUNTER, Content, check_prefix};
use crate::random::Random;

pub(crate) type Db = Handle<Key, Value>;

/// One task's means.
pub(crate) struct Worker {
    pub(crate) engine: Arc<Engine<Key, Value>>,
    pub(crate) config: Config,
    pub(crate) history: Shared,
    pub(crate) random: Random,
    pub(crate) origin: Instant,
    /// Its number, over all lives.
    pub(crate) process: u32,
}

/// What an operation meets that is no violation: the engine's end.
pub(crate) type Met = Result<(), Error>;

impl Worker {
    /// Works until it is done or the engine is. `Err` is a violation.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        for _ in 0..self.config.operations {
            if self.random.percent(30) {
                sleep(Duration::from_millis(self.random.between(0..=20))).await;
            }
            match self.operate().await? {
                Ok(()) | Err(Error::Conflict { .. } | Error::DiskFull { .. } | Error::Io(_)) => {}
                Err(Error::Indeterminate { .. } | Error::ReadOnly { .. } | Error::Closed) => break,
                Err(other) => return Err(format!("an error of the wrong kind: {other:?}")),
            }
        }
        Ok(())
    }

    async fn operate(&mut self) -> Result<Met, String> {
        if self.config.lists && self.random.percent(70) {
            return Ok(self.work_on_lists().await);
        }
        Ok(match self.random.between(0..=99) {
            0..=29 => self.blind(1).await,
            30..=49 => {
                let keys = self.random.between(2..=6);
                self.blind(keys).await
            }
            50..=69 => self.read_modify_write().await?,
            70..=74 => self.commit_in_one().await,
            75..=77 => self.cancelled().await,
            78..=79 => self.strong().await,
            80..=87 if self.config.counters => self.count().await,
            88..=93 => self.look()?,
            94..=95 => self.checkpoint().await?,
            96 => self.engine.vacuum().await.map(drop),
            97..=98 => self.sync().await,
            _ => self.blind(2).await,
        })
    }

    pub(crate) fn db(&self) -> Db {
        self.engine.handle()
    }

    fn key(&mut self) -> Key {
        format!("key/{:02}", self.random.between(1..=self.config.keys))
    }

    fn draw_write(&mut self) -> Option<Tag> {
        if self.random.percent(20) {
            return None;
        }
        let max = if self.random.percent(self.config.huge_percent) {
            3 * self.config.segment_bytes
        } else {
            self.config.value_max
        };
        let shorter = self.random.between(0..=max);
        let length = if self.config.uniform { max } else { shorter };
        Some(self.history.lock().unwrap().new_tag(length))
    }

    fn draw_writes(&mut self, keys: u64) -> BTreeMap<Key, Option<Tag>> {
        (0..keys).map(|_| (self.key(), self.draw_write())).collect()
    }

    async fn blind(&mut self, keys: u64) -> Met {
        let writes = self.draw_writes(keys);
        let transaction = self.db().begin();
        self.submit(transaction, writes, false).await
    }

    async fn strong(&mut self) -> Met {
        let writes = self.draw_writes(2);
        let transaction = self.db().with_durability(Durability::Full)?.begin();
        self.submit(transaction, writes, true).await
    }

    async fn read_modify_write(&mut self) -> Result<Met, String> {
        let mut transaction = self.db().begin();
        let read_at = transaction.read_timestamp().0;
        for _ in 0..self.random.between(1..=3) {
            let key = self.key();
            if let Err(error) = transaction.get(&key) {
                return Ok(Err(error));
            }
        }
        if self.random.percent(20) {
            let mut closed = None;
            let entries =
                transaction.range(..).map_while(|entry| entry.map_err(|error| closed = Some(error)).ok());
            let entries: Vec<_> = entries.map(Ok).collect();
            if closed.is_none() {
                let content = Content::from_entries(read_at, entries.into_iter())?;
                self.check_seen(&content)?;
            }
        }
        if self.random.percent(30) {
            sleep(Duration::from_millis(self.random.between(0..=5))).await;
        }
        let keys = self.random.between(1..=4);
        let writes = self.draw_writes(keys);
        Ok(self.submit(transaction, writes, false).await)
    }

    /// What is read at a timestamp is what was committed up to there, also before any crash.
    fn check_seen(&self, content: &Content) -> Result<(), String> {
        let history = self.history.lock().unwrap();
        check_prefix(&history, content).map_err(|violation| format!("a reader saw: {violation}"))
    }

    async fn submit(
        &mut self,
        mut transaction: Transaction<Key, Value>,
        writes: BTreeMap<Key, Option<Tag>>,
        strong: bool,
    ) -> Met {
        self.put(&mut transaction, &writes);
        let attempt = self.history.lock().unwrap().begin(writes, strong);
        let ticket = match transaction.submit().await {
            Ok(ticket) => ticket,
            Err(error) => {
                self.history.lock().unwrap().failed(attempt, &error);
                return Err(error);
            }
        };
        let timestamp = ticket.timestamp().0;
        self.history.lock().unwrap().attempts[attempt].timestamp = Some(timestamp);
        if self.random.percent(10) {
            return Ok(());
        }
        ticket.durable().await?;
        self.acknowledge(attempt, timestamp);
        Ok(())
    }

    pub(crate) fn acknowledge(&self, attempt: usize, timestamp: u64) {
        let mut history = self.history.lock().unwrap();
        let attempt = &mut history.attempts[attempt];
        attempt.timestamp = Some(timestamp);
        attempt.outcome = Outcome::Acknowledged(self.origin.elapsed());
    }

    async fn commit_in_one(&mut self) -> Met {
        let writes = self.draw_writes(2);
        let mut transaction = self.db().begin();
        self.put(&mut transaction, &writes);
        let attempt = self.history.lock().unwrap().begin(writes, false);
        match transaction.commit().await {
            Ok(commit) => {
                self.acknowledge(attempt, commit.timestamp().0);
                Ok(())
            }
            Err(error) => {
                self.history.lock().unwrap().failed(attempt, &error);
                Err(error)
            }
        }
    }

    /// Nobody waits for it: it may be dropped at any await point.
    async fn cancelled(&mut self) -> Met {
        let writes = self.draw_writes(3);
        let limit = Duration::from_millis(self.random.between(0..=3));
        let _ = timeout(limit, self.blind_of(writes)).await;
        Ok(())
    }

    async fn blind_of(&mut self, writes: BTreeMap<Key, Option<Tag>>) -> Met {
        let transaction = self.db().begin();
        self.submit(transaction, writes, false).await
    }

    async fn count(&mut self) -> Met {
        let key = format!("{COUNTER}{}", self.random.between(1..=2));
        self.history.lock().unwrap().counters.entry(key.clone()).or_default().begun += 1;
        let increment = |old: Option<&Value>| Some((old.map_or(0, |old| old.0) + 1, String::new()));
        let counted = if self.random.percent(50) {
            self.db().update(key.clone(), increment).await.map(drop)
        } else {
            let body = |transaction: &mut Transaction<Key, Value>| {
                transaction.update(key.clone(), increment).map(drop)
            };
            self.db().transaction(body).await
        };
        counted?;
        self.history.lock().unwrap().counters.get_mut(&key).expect("begun above").acknowledged += 1;
        Ok(())
    }

    fn put(&mut self, transaction: &mut Transaction<Key, Value>, writes: &BTreeMap<Key, Option<Tag>>) {
        for (key, tag) in writes {
            match tag {
                Some(tag) if self.config.limited && self.random.percent(30) => {
                    // Most expire in this life, some in none.
                    let short = Duration::from_millis(self.random.between(1..=50));
                    // No seed's lives take an hour.
                    let lives_on = self.random.percent(30);
                    let ttl = if lives_on { Duration::from_hours(1) } else { short };
                    if !lives_on {
                        self.history.lock().unwrap().short_lived.insert(*tag);
                    }
                    transaction.insert_with_ttl(key.clone(), tag.value(), ttl).expect("it is not zero");
                }
                Some(tag) => transaction.insert(key.clone(), tag.value()),
                None => transaction.remove(key),
            }
        }
    }

    fn look(&self) -> Result<Met, String> {
        let snapshot = self.db().snapshot();
        if let Err(error) = snapshot.is_empty() {
            return Ok(Err(error));
        }
        let content = Content::read_from(&snapshot)?;
        self.check_seen(&content)?;
        let mut history = self.history.lock().unwrap();
        history.seen = history.seen.max(content.timestamp);
        Ok(Ok(()))
    }

    async fn checkpoint(&self) -> Result<Met, String> {
        match self.engine.checkpoint().await {
            // A checkpoint that could not be written costs nothing.
            Ok(()) | Err(Error::Io(_) | Error::DiskFull { .. }) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn sync(&self) -> Met {
        let last = self.history.lock().unwrap().last_known();
        self.engine.sync().await?;
        let mut history = self.history.lock().unwrap();
        history.promised = history.promised.max(last);
        Ok(())
    }
}
