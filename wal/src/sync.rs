//! When logs sync. Triggers count over the whole engine (PROTOCOL T5): one idle log with one unsynced commit
//! would otherwise hold `synced` back for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::alone::Alone;
use crate::stats::WalCounters;
use crate::{Log, Timestamp};

/// When what was written is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// With every flush.
    Always,
    /// When one of the conditions that are set is met.
    Lazy(SyncConditions),
}

/// Conditions, any of which starts a sync. They count what is unsynced over all logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncConditions {
    /// This long after the first unsynced write.
    pub interval: Option<Duration>,
    /// At the most so many commits that a crash can lose.
    pub commits: Option<u64>,
    /// At the most so many bytes that a crash can lose.
    pub bytes: Option<u64>,
}

/// Shared by all logs of an engine: what is to be synced, and what a promise may say.
pub struct SyncControl {
    policy: SyncPolicy,
    logs: OnceLock<Vec<Arc<Log>>>,
    appends: Arc<Appends>,
    /// Everything up to here is to be synced as soon as possible.
    target: AtomicU64,
    /// The engine's `synced` watermark, as told by the sequencer: what batches promise.
    synced: AtomicU64,
    /// The highest `synced` that stands, synced itself, in some batch or in the manifest.
    promised: AtomicU64,
    /// What a flusher of several logs waits for.
    work: Arc<Notify>,
    /// Something was written without a sync: the interval begins.
    pub(crate) lazy: Notify,
    keeper: Notify,
    pub(crate) counters: WalCounters,
}

/// What logs say of themselves. They hold this and not the [`SyncControl`], which holds them: neither would ever
/// be dropped.
pub(crate) struct Appends {
    /// The highest timestamp appended to any log.
    last: AtomicU64,
    /// Bytes appended over all logs and not yet synced.
    unsynced_bytes: AtomicU64,
    maker: Notify,
    pub(crate) alone: Alone,
}

impl Appends {
    #[inline]
    pub(crate) fn appended(&self, timestamp: Timestamp, bytes: u64) {
        self.last.fetch_max(timestamp.0, Ordering::SeqCst);
        self.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn wake_maker(&self) {
        self.maker.notify_one();
    }
}

impl SyncControl {
    pub(crate) fn new(policy: SyncPolicy, recovered: Timestamp) -> Self {
        Self {
            policy,
            logs: OnceLock::new(),
            appends: Arc::new(Appends {
                last: AtomicU64::new(recovered.0),
                unsynced_bytes: AtomicU64::new(0),
                maker: Notify::new(),
                alone: Alone::default(),
            }),
            target: AtomicU64::new(0),
            synced: AtomicU64::new(recovered.0),
            promised: AtomicU64::new(recovered.0),
            work: Arc::default(),
            lazy: Notify::new(),
            keeper: Notify::new(),
            counters: WalCounters::default(),
        }
    }

    /// From now on, flushes and syncs that take so long are told of (feature `tracing`).
    pub fn set_slow(&self, slow: std::time::Duration) {
        self.counters.set_slow(slow);
    }

    pub(crate) fn set_logs(&self, logs: Vec<Arc<Log>>) {
        assert!(self.logs.set(logs).is_ok(), "an engine's logs are set once, when it opens");
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> SyncPolicy {
        self.policy
    }

    /// All logs, in the order of the shards.
    #[must_use]
    #[inline]
    pub fn logs(&self) -> &[Arc<Log>] {
        self.logs.get().map_or(&[], Vec::as_slice)
    }

    /// For those who commit, before they wait for the log: flushes here and now what the caller has committed, where that is
    /// faster than to have it done. Blocks the thread, and lets another take over what else it does, as
    /// [`tokio::task::block_in_place`] has it. Returns whether it did, or tried to.
    #[inline]
    pub fn flush_if_alone(&self) -> bool {
        self.alone().flush()
    }

    /// For those who wait for the log: what was not flushed by whoever has committed it is flushed now.
    #[inline]
    pub fn call_if_alone(&self) {
        if self.alone().turns() > 0 {
            self.work.notify_one();
        }
    }

    pub(crate) fn alone(&self) -> &Alone {
        &self.appends.alone
    }

    /// Asks every log that holds back `target` to sync (T5).
    pub fn request(&self, target: Timestamp) {
        self.target.fetch_max(target.0, Ordering::SeqCst);
        for log in self.logs() {
            if log.unsynced_floor() <= target {
                log.wake_flusher();
            }
        }
    }

    pub(crate) fn wanted(&self, floor: Timestamp) -> bool {
        floor.0 <= self.target.load(Ordering::SeqCst)
    }

    /// The sequencer's `synced` watermark has grown to this.
    #[inline]
    pub fn set_synced(&self, synced: Timestamp) {
        // Every commit tells this, and few have moved it.
        if self.synced.load(Ordering::SeqCst) < synced.0 {
            self.synced.fetch_max(synced.0, Ordering::SeqCst);
        }
    }

    /// What a batch may promise.
    #[must_use]
    pub fn synced(&self) -> Timestamp {
        Timestamp(self.synced.load(Ordering::SeqCst))
    }

    pub(crate) fn promised(&self) -> Timestamp {
        Timestamp(self.promised.load(Ordering::SeqCst))
    }

    pub(crate) fn set_promised(&self, promised: Timestamp) {
        self.promised.fetch_max(promised.0, Ordering::SeqCst);
    }

    /// Asks for a sync of everything appended so far.
    pub fn request_all(&self) {
        self.request(Timestamp(self.appends.last.load(Ordering::SeqCst)));
    }

    pub(crate) const fn appends(&self) -> &Arc<Appends> {
        &self.appends
    }

    pub(crate) fn bytes_synced(&self, bytes: u64) {
        self.appends.unsynced_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of records appended over all logs and not yet synced.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.appends.unsynced_bytes.load(Ordering::Relaxed)
    }

    /// Where a new log says that it has something to write.
    pub(crate) fn work_of_a_log(&self) -> Arc<Notify> {
        match self.policy {
            SyncPolicy::Always => Arc::clone(&self.work),
            SyncPolicy::Lazy(_) => Arc::default(),
        }
    }

    pub(crate) fn wake_maker(&self) {
        self.appends.wake_maker();
    }

    pub(crate) async fn maker_wanted(&self) {
        self.appends.maker.notified().await;
    }

    /// Asks for another look at which checkpoints are due.
    pub(crate) fn wake_keeper(&self) {
        self.keeper.notify_one();
    }

    /// Waits until a log has grown enough that a checkpoint may be due.
    pub async fn checkpoint_may_be_due(&self) {
        self.keeper.notified().await;
    }
}
