//! The load: tasks that read, write and run transactions, and one that keeps a snapshot open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch::{Env, Error, Handle, SystemEnv};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// What the load does.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Tasks, each of which waits for its operation.
    pub tasks: usize,
    /// Keys that they take.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Of a hundred operations, so many are reads.
    pub reads: u8,
    /// And so many are transactions over two keys. The rest are inserts and updates.
    pub transactions: u8,
    /// Operations in a second over all tasks; 0 is as many as they can do.
    pub rate: u64,
    /// For how long a snapshot is kept open before the next takes its place.
    pub reader: Option<Duration>,
}

/// What the load has done so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// Reads.
    pub reads: AtomicU64,
    /// Commits that were acknowledged.
    pub commits: AtomicU64,
    /// Operations that failed.
    pub errors: AtomicU64,
    /// How long commits took, taken together, in nanoseconds.
    pub commit_nanos: AtomicU64,
    /// The longest since [`Progress::take_slowest`] was last asked, in nanoseconds.
    slowest_nanos: AtomicU64,
}

impl Progress {
    /// The slowest commit since this was last asked.
    pub fn take_slowest(&self) -> Duration {
        Duration::from_nanos(self.slowest_nanos.swap(0, Ordering::Relaxed))
    }
}

/// The running tasks. Dropping it ends them.
pub struct Load {
    tasks: JoinSet<()>,
    progress: Arc<Progress>,
}

impl Load {
    /// Starts the tasks.
    #[must_use]
    pub fn start(db: &Handle<u64, Vec<u8>>, options: LoadOptions) -> Self {
        let progress = Arc::<Progress>::default();
        let mut tasks = JoinSet::new();
        for task in 0..options.tasks {
            let worker = Worker {
                db: db.clone(),
                options,
                progress: Arc::clone(&progress),
                random: StdRng::seed_from_u64(task as u64),
            };
            tasks.spawn(worker.run());
        }
        if let Some(open) = options.reader {
            tasks.spawn(keep_a_snapshot(db.clone(), open));
        }
        Self { tasks, progress }
    }

    /// What it has done so far.
    #[must_use]
    pub const fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Ends the tasks, and waits for that.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn keep_a_snapshot(db: Handle<u64, Vec<u8>>, open: Duration) {
    loop {
        let snapshot = db.snapshot();
        sleep(open).await;
        if matches!(snapshot.get(&0), Err(Error::Closed)) {
            return;
        }
    }
}

struct Worker {
    db: Handle<u64, Vec<u8>>,
    options: LoadOptions,
    progress: Arc<Progress>,
    random: StdRng,
}

impl Worker {
    async fn run(mut self) {
        let tasks = u32::try_from(self.options.tasks).unwrap_or(u32::MAX).max(1);
        let pause = match self.options.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) * tasks / u32::try_from(rate).unwrap_or(u32::MAX),
        };
        let mut next = Instant::now() + pause.mul_f64(self.random.random());
        loop {
            if !pause.is_zero() {
                sleep_until(next).await;
                // Who has fallen behind does not make up for it with a burst.
                next = (next + pause).max(Instant::now());
            }
            match self.operation().await {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(_) => {
                    self.progress.errors.fetch_add(1, Ordering::Relaxed);
                    // Most likely it is read-only from here on.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn operation(&mut self) -> Result<(), Error> {
        let LoadOptions { keys, reads, transactions, .. } = self.options;
        let (kind, key) = (self.random.random_range(0..100), self.random.random_range(0..keys));
        if kind < reads {
            self.db.get(&key)?;
            self.progress.reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::consume_budget().await;
            return Ok(());
        }
        let started = SystemEnv.now();
        let value = vec![kind; self.options.value_bytes];
        if kind < reads + transactions {
            let other = self.random.random_range(0..keys);
            let swap = self.db.transaction(|txn| {
                let (one, two) = (txn.get(&key)?, txn.get(&other)?);
                let or_value =
                    |old: Option<Arc<Vec<u8>>>| old.map_or_else(|| value.clone(), |old| old.to_vec());
                txn.insert(key, or_value(two));
                txn.insert(other, or_value(one));
                Ok::<_, Error>(())
            });
            swap.await?;
        } else if kind % 2 == 0 {
            self.db.insert(key, value).await?;
        } else {
            self.db.update(key, move |_| Some(value.clone())).await?;
        }
        let took = u64::try_from(SystemEnv.now().saturating_sub(started).as_nanos()).unwrap_or(u64::MAX);
        self.progress.commits.fetch_add(1, Ordering::Relaxed);
        self.progress.commit_nanos.fetch_add(took, Ordering::Relaxed);
        self.progress.slowest_nanos.fetch_max(took, Ordering::Relaxed);
        Ok(())
    }
}
