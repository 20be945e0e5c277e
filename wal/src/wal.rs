//! The write-ahead log of a whole engine: a log for each shard, the manifest, and the tasks that serve them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::checkpoint::{CheckpointId, CheckpointWriter, checkpoint_path};
use crate::disk::Disk;
use crate::flusher::{self, ChainEnd, Flusher, Flushers, Progressed};
use crate::manifest::{CheckpointEntry, FENCES_MAX, LogEntry, Manifest, ManifestFile};
use crate::planted::{Bug, is_planted};
use crate::recovery::{Listing, Recovered, RecoveredLog, RecoverySummary, open_manifest, recover};
use crate::ring::{Ring, RingLimits, RingUsage, SEGMENT_BYTES_MIN, SEGMENT_OVERHEAD_BYTES};
use crate::segment::SegmentName;
use crate::stats::{WalStats, add};
use crate::sync::{SyncControl, SyncPolicy};
use crate::tail::Origin;
use crate::{
    DatabaseId, Env, FileNumber, Health, Incarnation, Log, LogId, Lsn, SegmentNumber, Timestamp, WalError,
};

/// Opening an empty engine makes segments of so much together, on any number of shards; further and larger
/// ones are made in the background when they are needed.
const INITIAL_BYTES: u64 = 8 << 20;

/// How the log is to be kept.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// How many logs a new database gets, one for each shard.
    pub shards: usize,
    /// When to sync.
    pub policy: SyncPolicy,
    /// How large the rings may grow.
    pub limits: RingLimits,
    /// A checkpoint is not due before so many bytes were logged since the last.
    pub checkpoint_logged_min: u64,
    /// The name of the hash that routes keys, for the manifest.
    pub hash: String,
    /// Whether to make a database where there is none.
    pub create: bool,
}

/// The log of an engine.
pub struct Wal {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    maker: Arc<dyn Disk>,
    options: WalOptions,
    database: DatabaseId,
    incarnation: Incarnation,
    hash_seed: u64,
    manifest: tokio::sync::Mutex<ManifestFile>,
    manifest_bytes: Arc<AtomicU64>,
    next_file: AtomicU64,
    lanes: Mutex<Vec<Arc<dyn Disk>>>,
    rings: Vec<Arc<Ring>>,
    ends: Vec<ChainEnd>,
    control: Arc<SyncControl>,
    /// The logs before the number of shards changed, until the manifest names the new ones.
    replaced: Vec<LogEntry>,
}

/// A log that was opened, and what it held.
pub struct Opened {
    /// The log.
    pub wal: Wal,
    /// What each log held, in the order of the shards that wrote it. Empty for a new engine.
    pub logs: Vec<RecoveredLog>,
    /// What opening did.
    pub summary: RecoverySummary,
}

impl Wal {
    /// Opens the directory, or makes a database in it.
    ///
    /// # Errors
    /// [`WalError::Locked`], [`WalError::Corrupt`], [`WalError::NotADatabase`], [`WalError::Missing`],
    /// [`WalError::UnknownFormat`], or the I/O error.
    pub async fn open(
        disk: &dyn Disk,
        directory: &Path,
        options: WalOptions,
        env: &dyn Env,
    ) -> Result<Opened, WalError> {
        if options.create {
            disk.create_dir(directory).await.map_err(|error| WalError::io("creating", directory, error))?;
        }
        let disk = disk.lock(directory).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => WalError::Locked { path: directory.to_owned() },
            std::io::ErrorKind::NotFound if !options.create => {
                WalError::Missing { path: directory.to_owned() }
            }
            _ => WalError::io("locking", directory, error),
        })?;
        let opened = Self::open_locked(Arc::clone(&disk), directory, options, env).await;
        if opened.is_err() {
            // The lock ends with the last task that reads; who opens next waits for that.
            disk.closing();
        }
        opened
    }

    async fn open_locked(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: WalOptions,
        env: &dyn Env,
    ) -> Result<Opened, WalError> {
        let listing = Listing::read(&*disk, directory).await?;
        match open_manifest(&*disk, directory, &listing).await? {
            Some(manifest) => Self::recover(disk, directory, manifest, &listing, options).await,
            None if options.create => Self::create(disk, directory, options, env).await,
            None => Err(WalError::Missing { path: directory.to_owned() }),
        }
    }

    async fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: WalOptions,
        env: &dyn Env,
    ) -> Result<Opened, WalError> {
        sync_ancestors(&*disk, directory).await?;
        let logs = u32::try_from(options.shards).expect("the engine allows at most LOGS_MAX shards");
        let manifest = Manifest {
            database: DatabaseId(env.random()),
            incarnation: Incarnation(1),
            hash: options.hash.clone(),
            hash_seed: env.random(),
            logs: (0..logs).map(LogId).map(new_log_entry).collect(),
            next_log: LogId(logs),
            next_file: FileNumber(1),
            fences: Vec::new(),
            synced: Timestamp::ZERO,
        };
        let manifest = ManifestFile::create(&*disk, directory, manifest).await?;
        let lanes = lanes(&*disk, options.shards)?;
        let summary = RecoverySummary { incarnation: Incarnation(1), ..RecoverySummary::default() };
        let recovered = Recovered { manifest, scanned: Vec::new(), logs: Vec::new(), summary };
        Self::assemble(disk, directory, lanes, recovered, options)
    }

    async fn recover(
        disk: Arc<dyn Disk>,
        directory: &Path,
        manifest: ManifestFile,
        listing: &Listing,
        options: WalOptions,
    ) -> Result<Opened, WalError> {
        let lanes = lanes(&*disk, manifest.current().logs.len())?;
        let recovered = recover(&disk, &lanes, directory, manifest, listing).await?;
        Self::assemble(disk, directory, lanes, recovered, options)
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        directory: &Path,
        lanes: Vec<Arc<dyn Disk>>,
        recovered: Recovered,
        options: WalOptions,
    ) -> Result<Opened, WalError> {
        let Recovered { manifest, scanned, logs, summary } = recovered;
        let current = manifest.current().clone();
        let control = Arc::new(SyncControl::new(options.policy, summary.recovered_to));
        let maker =
            disk.lane("anabranch-maker").map_err(|error| WalError::io("opening", directory, error))?;
        let mut wal = Self {
            directory: directory.to_owned(),
            disk,
            maker,
            options,
            database: current.database,
            incarnation: current.incarnation,
            hash_seed: current.hash_seed,
            next_file: AtomicU64::new(current.next_file.0),
            manifest_bytes: manifest.written_bytes(),
            manifest: tokio::sync::Mutex::new(manifest),
            lanes: Mutex::new(lanes),
            rings: Vec::new(),
            ends: Vec::new(),
            control,
            replaced: Vec::new(),
        };
        wal.rings = current.logs.iter().enumerate().map(|(index, log)| wal.new_ring(log.id, index)).collect();
        wal.ends = vec![ChainEnd::default(); wal.rings.len()];
        for (index, log) in scanned.into_iter().enumerate() {
            wal.ends[index] = log.end;
            wal.rings[index].set_durable_lsn(log.end.lsn);
            wal.rings[index].set_recovered(log.end.lsn, log.end.segment);
            let checkpoint = current.logs[index]
                .checkpoint
                .map_or((0, Timestamp::ZERO), |checkpoint| (checkpoint.bytes, checkpoint.timestamp));
            let (mut free, mut live) = (log.free, log.live);
            if is_planted(Bug::TailSegmentReused) {
                free.extend(live.pop().map(|segment| segment.file));
            }
            let rest = live.last().map_or(0, |segment| segment.file.bytes.saturating_sub(log.end_offset));
            let appends = is_planted(Bug::AppendedToTail) && rest > SEGMENT_OVERHEAD_BYTES;
            if appends {
                wal.ends[index].append_at = log.end_offset;
                free.splice(0..0, live.pop().map(|segment| segment.file));
            }
            wal.rings[index].restore(free, live, log.next_slot, checkpoint, log.logged_bytes);
            if appends {
                wal.rings[index].log.take_spare_room(log.end_offset);
            }
        }
        Ok(Opened { wal, logs, summary })
    }

    fn new_ring(&self, id: LogId, lane: usize) -> Arc<Ring> {
        let (appends, work) = (Arc::clone(self.control.appends()), self.control.work_of_a_log());
        let log = Arc::new(Log::new(id, appends, work));
        let lane = Arc::clone(&self.lanes.lock()[lane]);
        let disks = (Arc::clone(&self.maker), lane);
        Arc::new(Ring::new(log, self.directory.clone(), disks, self.options.limits))
    }

    /// The seed of the hash that routes keys.
    #[must_use]
    pub const fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// The logs, in the order of the shards.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.rings.iter().map(|ring| Arc::clone(&ring.log)).collect()
    }

    /// What is shared by all logs.
    #[must_use]
    pub const fn control(&self) -> &Arc<SyncControl> {
        &self.control
    }

    /// Whether checkpoints must be written before the engine serves: a ring is full after repeated crashes
    /// (RELIABILITY R11), or the manifest's room for fences is used up (PROTOCOL L5).
    pub async fn needs_checkpoints_to_open(&self) -> bool {
        self.rings.iter().any(|ring| ring.is_full())
            || self.manifest.lock().await.current().fences.len() > FENCES_MAX
    }

    /// The keys route differently than when the logs were written: begins new logs for so many shards, which count once
    /// [`Wal::publish`] names a checkpoint for each (PROTOCOL L4). To be called before [`Wal::start`].
    ///
    /// # Panics
    /// With more than `u32::MAX` shards, which the engine does not allow.
    pub async fn replace_logs(&mut self, shards: usize) -> Result<(), WalError> {
        let mut manifest = self.manifest.lock().await;
        let mut next = manifest.current().clone();
        self.replaced.clone_from(&next.logs);
        let first = next.next_log;
        let count = u32::try_from(shards).expect("the engine allows at most LOGS_MAX shards");
        next.next_log = LogId(first.0 + count);
        // The numbers are used up even if this open is cut short (L3).
        manifest.write(next).await?;
        drop(manifest);
        *self.lanes.lock() = lanes(&*self.disk, shards)?;
        self.rings = (0..shards).zip(first.0..).map(|(index, id)| self.new_ring(LogId(id), index)).collect();
        self.ends = vec![ChainEnd::default(); self.rings.len()];
        Ok(())
    }

    /// Starts the tasks: a flusher for each log, the maker of segments, and the clock of lazy syncs.
    /// `progressed` is called after every advance of what is written or synced.
    pub async fn start(
        &self,
        health: &Arc<Health>,
        progressed: &Progressed,
    ) -> Result<JoinSet<()>, WalError> {
        let shards = self.rings.len() as u64;
        let initial = (INITIAL_BYTES / shards / 4096 * 4096).max(SEGMENT_BYTES_MIN);
        for ring in &self.rings {
            let overwrites = is_planted(Bug::NoSpareSegment) && ring.free_segments() == 0;
            if overwrites && ring.overwrite_oldest() {
                continue;
            }
            if ring.free_segments() == 0 {
                let bytes = initial.min(self.options.limits.segment_bytes);
                ring.make_segment(bytes, &self.control.counters).await?;
            }
        }
        self.note_files().await?;
        self.control.set_logs(self.logs());
        let mut tasks = JoinSet::new();
        let flusher = |(ring, end): (&Arc<Ring>, &ChainEnd)| {
            let shared = (Arc::clone(&self.control), Arc::clone(health), Arc::clone(progressed));
            Flusher::new(Arc::clone(ring), shared, self.database, self.incarnation, *end)
        };
        let flushers = self.rings.iter().zip(&self.ends).map(flusher);
        match self.options.policy {
            SyncPolicy::Always => {
                let flushers = Arc::new(Flushers::new(&self.control, health, flushers.collect()));
                self.control.alone().follow(&flushers);
                tasks.spawn(flusher::run(flushers));
            }
            SyncPolicy::Lazy(_) => {
                for flusher in flushers {
                    let flusher = Flushers::new(&self.control, health, vec![flusher]);
                    tasks.spawn(flusher::run(Arc::new(flusher)));
                }
            }
        }
        tasks.spawn(make_segments(self.rings.clone(), Arc::clone(&self.control)));
        if let SyncPolicy::Lazy(conditions) = self.options.policy
            && let Some(interval) = conditions.interval
        {
            tasks.spawn(sync_at_intervals(Arc::clone(&self.control), interval));
        }
        Ok(tasks)
    }

    /// Writes to the manifest how many segment files there are, so that none can go missing unnoticed.
    async fn note_files(&self) -> Result<(), WalError> {
        let mut manifest = self.manifest.lock().await;
        let next = self.promises(manifest.current());
        if next == *manifest.current() { Ok(()) } else { manifest.write(next).await }
    }

    /// Whether the keys were routed by another hash.
    pub async fn hash_changed(&self) -> bool {
        self.manifest.lock().await.current().hash != self.options.hash
    }

    /// Begins the checkpoint of a shard.
    pub async fn begin_checkpoint(&self, shard: usize, timestamp: Timestamp) -> Result<Checkpoint, WalError> {
        let ring = &self.rings[shard];
        let file = FileNumber(self.next_file.fetch_add(1, Ordering::SeqCst));
        let id = CheckpointId { database: self.database, log: ring.log.id(), file, timestamp };
        let logged = ring.begin_checkpoint();
        match CheckpointWriter::create(&*self.maker, &self.directory, id).await {
            Ok(writer) => Ok(Checkpoint { writer, shard, logged }),
            Err(error) => {
                ring.abandon_checkpoint(logged);
                self.discard(file).await;
                Err(error)
            }
        }
    }

    /// Makes a checkpoint's file durable. The manifest does not name it yet.
    pub async fn finish_checkpoint(&self, checkpoint: Checkpoint) -> Result<FinishedCheckpoint, WalError> {
        let Checkpoint { writer, shard, logged } = checkpoint;
        let file = writer.file_number();
        match writer.finish(&*self.maker).await {
            Ok(entry) => Ok(FinishedCheckpoint { shard, entry }),
            Err(error) => {
                self.rings[shard].abandon_checkpoint(logged);
                self.discard(file).await;
                Err(error)
            }
        }
    }

    /// R18: a checkpoint that failed is dropped, the log keeps everything; the next try is a new file.
    async fn discard(&self, file: FileNumber) {
        let _ = self.maker.remove(&checkpoint_path(&self.directory, file)).await;
    }

    /// Gives up a checkpoint that could not be written.
    pub async fn abandon_checkpoint(&self, checkpoint: Checkpoint) {
        self.rings[checkpoint.shard].abandon_checkpoint(checkpoint.logged);
        self.discard(checkpoint.writer.file_number()).await;
    }

    /// Names checkpoints in the manifest, then gives back the segments and removes the files that they
    /// replace: in this order (RELIABILITY R20, R22). All of them must be at or below `synced`
    /// (`commit_protocol.rs`).
    ///
    /// # Errors
    /// An error of the manifest leaves it undecided which checkpoints count: the caller poisons the engine.
    ///
    /// # Panics
    /// If a checkpoint holds something undecided (RELIABILITY R32), is older than the one it replaces, or if
    /// logs were replaced and not all of the new ones have one (PROTOCOL L4).
    pub async fn publish(&self, finished: &[FinishedCheckpoint]) -> Result<(), WalError> {
        let mut manifest = self.manifest.lock().await;
        let mut next = self.promises(manifest.current());
        if !self.replaced.is_empty() && next.logs == self.replaced {
            assert_eq!(
                finished.len(),
                self.rings.len(),
                "L4: one manifest names a checkpoint for every shard"
            );
            next.logs = self.rings.iter().map(|ring| new_log_entry(ring.log.id())).collect();
            for FinishedCheckpoint { shard, entry } in finished {
                next.logs[*shard].complete_after = Some(entry.timestamp);
            }
            next.hash.clone_from(&self.options.hash);
        }
        let mut outdated = Vec::new();
        for FinishedCheckpoint { shard, entry } in finished {
            let decided = entry.timestamp <= self.control.synced() || is_planted(Bug::CheckpointUndecided);
            assert!(decided, "R32: a checkpoint holds nothing undecided");
            let log = &mut next.logs[*shard];
            let covered = log.checkpoint.map_or(Timestamp::ZERO, |checkpoint| checkpoint.timestamp);
            assert!(entry.timestamp >= covered, "a checkpoint replaces an older one");
            outdated.extend(log.checkpoint.replace(*entry));
            // Fences take room in the manifest until no segment carries their incarnation.
            let retains = next.fences.len() <= FENCES_MAX;
            if let Some((needed, highest)) = self.rings[*shard].first_needed(entry.timestamp, retains) {
                log.first_segment = needed;
                log.complete_after = Some(log.complete_after.unwrap_or(covered).max(highest));
            }
        }
        next.next_file = FileNumber(self.next_file.load(Ordering::SeqCst));
        let before = manifest.current().logs.clone();
        if is_planted(Bug::RecycledBeforeManifest) {
            for FinishedCheckpoint { shard, .. } in finished {
                self.rings[*shard].recycle(next.logs[*shard].first_segment, &self.control.counters);
            }
        }
        manifest.write(next).await?;
        let current = manifest.current().logs.clone();
        drop(manifest);
        for FinishedCheckpoint { shard, entry } in finished {
            let counters = &self.control.counters;
            self.rings[*shard].recycle(current[*shard].first_segment, counters);
            self.rings[*shard].checkpoint_published(entry.bytes, entry.timestamp);
            add(&counters.checkpoints, 1);
            add(&counters.checkpoint_bytes, entry.bytes);
        }
        for entry in outdated {
            self.discard(entry.file).await;
        }
        if before.iter().any(|log| !current.iter().any(|kept| kept.id == log.id)) {
            self.remove_replaced(&before).await?;
        }
        Ok(())
    }

    /// Removes the files of the logs that were replaced. The manifest no longer names them.
    async fn remove_replaced(&self, replaced: &[LogEntry]) -> Result<(), WalError> {
        let listing = Listing::read(&*self.disk, &self.directory).await?;
        let gone = |name: &&SegmentName| replaced.iter().any(|log| log.id == name.log);
        for name in listing.segments.iter().filter(gone) {
            // The names may come back after a crash, and are removed as orphans then.
            let path = name.path(&self.directory);
            self.disk.remove(&path).await.map_err(|error| WalError::io("removing", &path, error))?;
        }
        for checkpoint in replaced.iter().filter_map(|log| log.checkpoint) {
            self.discard(checkpoint.file).await;
        }
        Ok(())
    }

    /// After a checkpoint: lets commits in that wait for space and that no recycling will help (L2).
    pub async fn relieve(&self, shard: usize) -> Result<(), WalError> {
        let counters = &self.control.counters;
        let relieved = match self.rings[shard].replenish(counters).await {
            Ok(_) => self.rings[shard].grow_beyond_limit(counters).await,
            Err(error) => Err(error),
        };
        relieved.inspect_err(|error| self.rings[shard].log.refuse(error.clone()))
    }

    /// The shards whose checkpoint is due, where those of a shard would take about so many bytes.
    #[must_use]
    pub fn checkpoints_due(&self, live_bytes: impl Fn(usize) -> u64) -> Vec<usize> {
        let logged_min = self.options.checkpoint_logged_min;
        let due = |shard: &usize| self.rings[*shard].checkpoint_is_due(logged_min, || live_bytes(*shard));
        (0..self.rings.len()).filter(due).collect()
    }

    /// Whether a planted bug lets a checkpoint go ahead of its log. Never outside of tests.
    #[must_use]
    pub fn skips_sync_before_checkpoint(&self) -> bool {
        is_planted(Bug::CheckpointUndecided)
    }

    /// Whether anything was logged by the shard since its last checkpoint began.
    #[must_use]
    pub fn logged_since_checkpoint(&self, shard: usize) -> u64 {
        self.rings[shard].logged()
    }

    /// Writes to the manifest what is known to be on disk, so that damage to the last batches is seen on the
    /// next open. The last act of an orderly close.
    pub async fn seal_promises(&self) -> Result<(), WalError> {
        let mut manifest = self.manifest.lock().await;
        let next = self.promises(manifest.current());
        manifest.write(next).await
    }

    fn promises(&self, current: &Manifest) -> Manifest {
        let mut next = current.clone();
        for (entry, ring) in next.logs.iter_mut().zip(&self.rings) {
            if entry.id == ring.log.id() {
                let synced = if is_planted(Bug::NoPromises) { Lsn(0) } else { ring.durable_lsn() };
                entry.durable_lsn = entry.durable_lsn.max(synced);
                entry.files = entry.files.max(u32::try_from(ring.files()).unwrap_or(u32::MAX));
            }
        }
        next.synced = next.synced.max(self.control.synced());
        if is_planted(Bug::NoPromises) {
            next.synced = Timestamp::ZERO;
        }
        next
    }

    /// Announces that the directory will be given back soon.
    pub fn closing(&self) {
        self.disk.closing();
    }

    /// Waits until the disk has done what was asked of it by tasks that have ended meanwhile: such work holds on
    /// to the directory, and changes its files.
    pub async fn settle(&self) {
        let mut lanes = self.lanes.lock().clone();
        lanes.extend([Arc::clone(&self.maker), Arc::clone(&self.disk)]);
        for lane in lanes {
            // A lane does one thing after the other; what it answers is of no interest.
            let _ = lane.list(&self.directory).await;
        }
    }

    pub(crate) fn rings(&self) -> &[Arc<Ring>] {
        &self.rings
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All logs together hold every record after this commit; and what their readers must know.
    pub(crate) async fn log_reach(&self) -> (Timestamp, Origin) {
        let manifest = self.manifest.lock().await;
        let current = manifest.current();
        let origin = Origin {
            database: self.database,
            incarnation: self.incarnation,
            fences: current.fences.clone().into(),
        };
        (current.complete_after(), origin)
    }

    /// The disk session that holds the directory's lock.
    #[must_use]
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Counters since the open.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let manifest_bytes = self.manifest_bytes.load(Ordering::Relaxed);
        WalStats { manifest_bytes, ..self.control.counters.read() }
    }

    /// How full each log's ring is.
    #[must_use]
    pub fn usage(&self) -> Vec<RingUsage> {
        self.rings.iter().map(|ring| ring.usage()).collect()
    }
}

/// A checkpoint being written.
pub struct Checkpoint {
    /// Where its entries go.
    pub writer: CheckpointWriter,
    shard: usize,
    logged: u64,
}

/// A checkpoint whose file is durable, to be published.
#[derive(Clone, Copy, Debug)]
pub struct FinishedCheckpoint {
    shard: usize,
    /// What the manifest will say of it.
    pub entry: CheckpointEntry,
}

pub(crate) const fn new_log_entry(id: LogId) -> LogEntry {
    LogEntry {
        id,
        checkpoint: None,
        first_segment: SegmentNumber(1),
        durable_lsn: Lsn(0),
        files: 0,
        complete_after: Some(Timestamp::ZERO),
    }
}

/// Makes the names on the way to a new directory durable (R20).
pub(crate) async fn sync_ancestors(disk: &dyn Disk, directory: &Path) -> Result<(), WalError> {
    for ancestor in directory.ancestors().skip(1) {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match disk.sync_dir(ancestor).await {
            // Whoever may not open a directory did not make anything in it.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            outcome => outcome.map_err(|error| WalError::io("syncing", ancestor, error))?,
        }
    }
    Ok(())
}

fn lanes(disk: &dyn Disk, count: usize) -> Result<Vec<Arc<dyn Disk>>, WalError> {
    (0..count)
        .map(|index| disk.lane(&format!("anabranch-log-{index}")))
        .collect::<Result<_, _>>()
        .map_err(|error| WalError::io("starting an I/O thread for", Path::new("the log"), error))
}

/// Keeps spare segments ready, and makes room for what waits.
async fn make_segments(rings: Vec<Arc<Ring>>, control: Arc<SyncControl>) {
    loop {
        control.maker_wanted().await;
        for ring in &rings {
            match ring.replenish(&control.counters).await {
                Ok(false) => {}
                Ok(true) => control.wake_keeper(),
                // R18: nothing has a timestamp yet, so this is no reason to poison the engine.
                Err(error) => ring.log.refuse(error),
            }
        }
    }
}

/// T5: some time after the first write that was not synced, everything is.
async fn sync_at_intervals(control: Arc<SyncControl>, interval: std::time::Duration) {
    loop {
        control.lazy.notified().await;
        tokio::time::sleep(interval).await;
        control.request_all();
    }
}
