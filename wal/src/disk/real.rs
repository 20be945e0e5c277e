//! The operating system's files. One I/O thread per lane, so that the async runtime never waits for a disk.
//!
//! A small write without a sync goes into the page cache at once, on the caller's thread: that takes a few microseconds,
//! and to wake an I/O thread and be woken by it takes ten times as many. It waits only where the operating
//! system makes all who write wait, for want of memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{Disk, DiskFile, HalfDone, OpenMode, Wait};

/// Larger writes are the I/O thread's.
const WRITTEN_AT_ONCE_BYTES_MAX: usize = 64 << 10;
/// For so long who waits awake looks for the answer, and then goes to sleep all the same: the disk is slow.
const AWAKE: Duration = Duration::from_micros(300);
/// And for so long the I/O thread looks for the next job of this kind.
const AWAKE_FOR_MORE: Duration = Duration::from_micros(50);

// On an I/O thread, operations are done at once: they would wait for the very thread that asks for them. So they are on a
// thread that stands in for it ([`Disk::run_here`]).
thread_local!(static IS_IO_THREAD: Cell<bool> = const { Cell::new(false) });

/// Until this is dropped.
struct AtOnce(bool);

impl Drop for AtOnce {
    fn drop(&mut self) {
        IS_IO_THREAD.set(self.0);
    }
}

/// The real disk.
///
/// Files and directories are created for their owner only. The lock is `flock` on a file `LOCK`, plus a
/// register of the directories that are open in this process.
#[derive(Clone)]
pub struct RealDisk {
    queue: Queue,
    lock: Option<Arc<DirectoryLock>>,
}

/// Where a lane's jobs go; its thread ends with the last sender.
type Queue = mpsc::Sender<Job>;

struct Job {
    run: Box<dyn FnOnce() + Send>,
    wait: Wait,
}

impl RealDisk {
    /// A disk with one I/O thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new() -> io::Result<Self> {
        Ok(Self { queue: start_thread("anabranch-io")?, lock: None })
    }

    /// Runs a job on this lane's thread. The job holds the lock, so that a late write can't hit the files of
    /// the next engine in this directory.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run_and_wait(Wait::Asleep, job).await
    }

    async fn run_and_wait<T: Send + 'static>(
        &self,
        wait: Wait,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if IS_IO_THREAD.get() {
            return job();
        }
        let (reply, result) = oneshot::channel();
        let lock = self.lock.clone();
        let run = Box::new(move || {
            let outcome = job();
            // The lock goes before the answer: whoever waits for the answer may open the directory again.
            drop(lock);
            drop(reply.send(outcome));
        });
        self.queue.send(Job { run, wait }).map_err(|_| io::Error::other("the I/O thread has ended"))?;
        if wait == Wait::Awake {
            let started = Instant::now();
            while result.is_empty() && started.elapsed() < AWAKE {
                tokio::task::yield_now().await;
            }
        }
        result.await.map_err(|_| io::Error::other("the I/O thread panicked"))?
    }
}

fn start_thread(name: &str) -> io::Result<Queue> {
    let (queue, jobs) = mpsc::channel::<Job>();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        IS_IO_THREAD.set(true);
        let mut next = jobs.recv().ok();
        while let Some(Job { run, wait }) = next {
            run();
            next = if wait == Wait::Awake { look_for(&jobs) } else { None }.or_else(|| jobs.recv().ok());
        }
    })?;
    Ok(queue)
}

/// A job that comes soon.
fn look_for(jobs: &mpsc::Receiver<Job>) -> Option<Job> {
    let started = Instant::now();
    while started.elapsed() < AWAKE_FOR_MORE {
        if let Ok(job) = jobs.try_recv() {
            return Some(job);
        }
        thread::yield_now();
    }
    None
}

#[async_trait]
impl Disk for RealDisk {
    async fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = directory.to_owned();
        self.run(move || create_private_dir(&directory)).await
    }

    async fn lock(&self, directory: &Path) -> io::Result<Arc<dyn Disk>> {
        let wanted = directory.to_owned();
        let path = self.run(move || fs::canonicalize(wanted)).await?;
        loop {
            match Entry::enter(&path) {
                Ok(entry) => {
                    let file = path.join("LOCK");
                    let file = self.run(move || flock(&file)).await?;
                    let lock = Arc::new(DirectoryLock { _file: LockFile(file), entry });
                    return Ok(Arc::new(Self { queue: self.queue.clone(), lock: Some(lock) }));
                }
                Err(Some(leaving)) => leaving.wait_for_end().await,
                Err(None) => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    fn closing(&self) {
        if let Some(lock) = &self.lock {
            lock.entry.tenancy.closing.store(true, Ordering::Release);
        }
    }

    fn lane(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Self { queue: start_thread(name)?, lock: self.lock.clone() }))
    }

    fn has_thread(&self) -> bool {
        true
    }

    fn run_in_lane(&self, run: Box<dyn FnOnce() + Send>) {
        // If the thread has ended, the work is dropped, which its caller learns from what it holds.
        let _ = self.queue.send(Job { run, wait: Wait::Asleep });
    }

    fn run_here(&self, work: &mut dyn FnMut()) {
        let _at_once = AtOnce(IS_IO_THREAD.replace(true));
        work();
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let path = path.to_owned();
        let file = self.run(move || open_options(mode).open(path)).await?;
        Ok(Box::new(RealFile { file: Arc::new(file), disk: self.clone() }))
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = directory.to_owned();
        self.run(move || {
            let mut names = Vec::new();
            for entry in fs::read_dir(directory)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.run(move || fs::remove_file(path)).await
    }

    async fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = directory.to_owned();
        self.run(move || sync_directory(&directory)).await
    }
}

struct RealFile {
    file: Arc<File>,
    disk: RealDisk,
}

impl RealFile {
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.file);
        self.disk.run(move || job(&file)).await
    }
}

#[async_trait]
impl DiskFile for RealFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.run(move |file| {
            let mut buffer = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match positioned_read(file, &mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.truncate(filled);
            Ok(buffer.into())
        })
        .await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<usize> {
        if data.len() <= WRITTEN_AT_ONCE_BYTES_MAX {
            return positioned_write(&self.file, &data, offset);
        }
        self.run(move |file| positioned_write(file, &data, offset)).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.run(File::sync_data).await
    }

    async fn write_and_sync(&self, offset: u64, data: Bytes, wait: Wait) -> Result<(), HalfDone> {
        let file = Arc::clone(&self.file);
        let job = move || {
            let written = write_all(&file, &data, offset).map_err(HalfDone::Writing);
            Ok(written.and_then(|()| file.sync_data().map_err(HalfDone::Syncing)))
        };
        self.disk.run_and_wait(wait, job).await.map_err(HalfDone::Writing)?
    }

    async fn sync_all(&self) -> io::Result<()> {
        self.run(File::sync_all).await
    }

    async fn zero_fill(&self, len: u64) -> io::Result<()> {
        self.run(move |file| {
            static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
            let mut offset = 0;
            while offset < len {
                let part = usize::try_from(len - offset).unwrap_or(usize::MAX).min(ZEROS.len());
                write_all(file, &ZEROS[..part], offset)?;
                offset += part as u64;
            }
            Ok(())
        })
        .await
    }

    async fn len(&self) -> io::Result<u64> {
        self.run(|file| Ok(file.metadata()?.len())).await
    }
}

fn write_all(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match positioned_write(file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                data = &data[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open_options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    match mode {
        OpenMode::Read => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true).truncate(true);
        }
    }
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create_private_dir(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    // Windows can't open a directory as a file; its file systems journal names by themselves.
    if cfg!(windows) { Ok(()) } else { File::open(directory)?.sync_all() }
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

#[cfg(unix)]
fn positioned_read(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

#[cfg(unix)]
fn positioned_write(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(data, offset)
}

#[cfg(windows)]
fn positioned_read(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

#[cfg(windows)]
fn positioned_write(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(data, offset)
}

fn flock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {
            // For people who wonder who has the directory (R25).
            file.set_len(0)?;
            (&file).write_all(format!("{}\n", std::process::id()).as_bytes())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Held by a disk and all that was opened through it. The fields drop in order: first the `flock`, then the
/// entry in the register, which lets the next engine in.
struct DirectoryLock {
    _file: LockFile,
    entry: Entry,
}

/// The file that is locked. Closing it is not enough: a process that is being started at that moment holds all
/// files of this one until it is under way, and the lock with them.
struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The directories that are open in this process. `flock` alone would refuse a second open at once; the
/// register also tells whether the first engine is on its way out, and when it is gone.
static OPEN: Mutex<BTreeMap<PathBuf, Arc<Tenancy>>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Tenancy {
    closing: AtomicBool,
    ended: AtomicBool,
    changed: Notify,
}

impl Tenancy {
    async fn wait_for_end(&self) {
        loop {
            let changed = self.changed.notified();
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

/// This engine's line in the register; dropping it strikes the line out.
struct Entry {
    path: PathBuf,
    tenancy: Arc<Tenancy>,
}

impl Entry {
    /// Enters the directory, or returns who has it and is about to leave, or nobody if there is no waiting.
    fn enter(path: &Path) -> Result<Self, Option<Arc<Tenancy>>> {
        let mut open = OPEN.lock();
        if let Some(tenancy) = open.get(path) {
            let closing = tenancy.closing.load(Ordering::Acquire);
            return Err(closing.then(|| Arc::clone(tenancy)));
        }
        let tenancy = Arc::<Tenancy>::default();
        open.insert(path.to_owned(), Arc::clone(&tenancy));
        Ok(Self { path: path.to_owned(), tenancy })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        OPEN.lock().remove(&self.path);
        self.tenancy.ended.store(true, Ordering::Release);
        self.tenancy.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_lock_ends_although_a_process_being_started_still_has_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let lock = LockFile(flock(&path).unwrap());
        // What a fork does.
        let _inherited = lock.0.try_clone().unwrap();
        assert_eq!(flock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        flock(&path).unwrap();
    }

    #[tokio::test]
    async fn who_waits_awake_lets_others_run_and_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::new().unwrap();
        let file = disk.open(&directory.path().join("file"), OpenMode::Create).await.unwrap();
        let others_ran = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&others_ran);
        let other = tokio::spawn(async move { noted.store(true, Ordering::Release) });
        for round in 0..20_u64 {
            // One after the other, and with a pause after which the I/O thread sleeps.
            if round % 5 == 4 {
                tokio::time::sleep(2 * AWAKE_FOR_MORE).await;
            }
            let data = Bytes::copy_from_slice(&round.to_le_bytes());
            file.write_and_sync(8 * round, data, Wait::Awake).await.unwrap();
            assert!(others_ran.load(Ordering::Acquire), "on the only thread of the runtime");
        }
        other.await.unwrap();
        assert_eq!(file.len().await.unwrap(), 160);
        let last = file.read_at(152, 8).await.unwrap();
        assert_eq!(*last, 19_u64.to_le_bytes());
    }

    #[tokio::test]
    async fn in_a_lane_operations_are_done_when_first_polled_and_behind_what_was_asked_for_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let disk = Arc::new(RealDisk::new().unwrap());
        let before = disk.open(&path, OpenMode::Create).await.unwrap();
        let (reply, done) = oneshot::channel();
        let here = Arc::clone(&disk);
        disk.run_in_lane(Box::new(move || {
            let opened = here.open(&path, OpenMode::ReadWrite).now_or_never();
            let file = opened.expect("it is not waited for").unwrap();
            let written = file.write_and_sync(0, Bytes::from_static(b"written"), Wait::Asleep);
            written.now_or_never().expect("nor is this").unwrap();
            reply.send(std::thread::current().name().map(str::to_owned)).unwrap();
        }));
        assert_eq!(done.await.unwrap().as_deref(), Some("anabranch-io"));
        assert_eq!(*before.read_at(0, 7).await.unwrap(), *b"written");
    }

    #[tokio::test]
    async fn what_fails_is_said_also_to_who_waits_awake() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"content").unwrap();
        let file = RealDisk::new().unwrap().open(&path, OpenMode::Read).await.unwrap();
        let failed = file.write_and_sync(0, Bytes::from_static(b"x"), Wait::Awake).await;
        assert!(matches!(failed, Err(HalfDone::Writing(_))), "{failed:?}");
    }
}
