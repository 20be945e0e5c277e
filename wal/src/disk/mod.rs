//! The disk that the log writes to, as a trait: the real one for users, a simulated one for tests.
//!
//! Nothing else in the engine touches files. All buffers are owned ([`Bytes`]), because the real disk hands
//! them to an I/O thread.

mod real;
#[cfg(feature = "testing")]
pub mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};

pub use real::RealDisk;

use crate::WalError;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A new file; an existing one of that name is emptied. Readable by its owner only.
    Create,
}

/// A file system, as far as the engine needs one.
///
/// Cancel safety: dropping the future of an operation leaves it undecided whether the operation takes place,
/// but it never takes place after the lock of [`Disk::lock`] was given back.
#[async_trait]
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory and its parents, accessible to its owner only. An existing one is left as it is.
    async fn create_dir(&self, directory: &Path) -> io::Result<()>;

    /// Takes the directory for this engine alone, against other processes and against other engines in this
    /// one. The lock is held by the returned disk and by everything opened through it, and ends with the last
    /// of them. An engine in this process that has announced its end ([`Disk::closing`]) is waited for.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it.
    async fn lock(&self, directory: &Path) -> io::Result<Arc<dyn Disk>>;

    /// Announces that the lock held through this disk will be given back without further action by a user.
    fn closing(&self);

    /// The same disk with a queue of its own: operations on files opened through different lanes run side by
    /// side, those of one lane one after the other.
    fn lane(&self, name: &str) -> io::Result<Arc<dyn Disk>>;

    /// Whether this lane has a thread of its own, on which operations on the disk and its files are done when they are first
    /// polled.
    fn has_thread(&self) -> bool {
        false
    }

    /// Runs something on that thread, behind what was asked for before; here and now, if there is none.
    fn run_in_lane(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    /// Runs something on the caller's thread, which waits for each operation on such a disk and its files when it is first
    /// polled. Only where there is [a thread](Disk::has_thread).
    fn run_here(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Opens a file.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// The names of all files in a directory, sorted. A missing directory is `NotFound`.
    async fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Removes a file.
    async fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations and removals in a directory survive power loss (RELIABILITY R20).
    async fn sync_dir(&self, directory: &Path) -> io::Result<()>;
}

/// An open file. It stays open for as long as the engine relies on it (RELIABILITY R16).
#[expect(clippy::len_without_is_empty, reason = "a file's length is asked of the disk, and can fail")]
#[async_trait]
pub trait DiskFile: Send + Sync {
    /// Reads up to `len` bytes at `offset`: fewer only at the end of the file.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;

    /// Writes at `offset` and returns how many bytes were written, which may be fewer than given.
    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<usize>;

    /// Makes the content survive power loss (`fdatasync`).
    async fn sync_data(&self) -> io::Result<()>;

    /// Writes all of `data` at `offset` and makes it survive power loss: a disk with a thread of its own does both
    /// without going back and forth in between.
    async fn write_and_sync(&self, offset: u64, data: Bytes, _: Wait) -> Result<(), HalfDone> {
        write_all(self, offset, data).await.map_err(HalfDone::Writing)?;
        self.sync_data().await.map_err(HalfDone::Syncing)
    }

    /// Makes content and length survive power loss (`fsync`).
    async fn sync_all(&self) -> io::Result<()>;

    /// Fills the file with `len` zero bytes from its start, as written blocks, not as a hole.
    async fn zero_fill(&self, len: u64) -> io::Result<()>;

    /// The length of the file in bytes.
    async fn len(&self) -> io::Result<u64>;
}

/// How to wait for [`DiskFile::write_and_sync`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Asleep, until woken.
    Asleep,
    /// Looking for the answer again and again for a moment, and letting others run in between: to wake a thread takes
    /// as long as a good disk, and whoever commits alone has nothing else to do meanwhile.
    Awake,
}

/// Which half of [`DiskFile::write_and_sync`] failed, and how.
#[derive(Debug)]
pub enum HalfDone {
    /// It was not all written.
    Writing(io::Error),
    /// It was written.
    Syncing(io::Error),
}

impl HalfDone {
    pub(crate) fn at(self, path: &Path) -> WalError {
        match self {
            Self::Writing(error) => WalError::io("writing", path, error),
            Self::Syncing(error) => WalError::io("syncing", path, error),
        }
    }
}

/// Writes all of `data`, going on after short writes (RELIABILITY R19).
async fn write_all<F: DiskFile + ?Sized>(file: &F, mut offset: u64, mut data: Bytes) -> io::Result<()> {
    while data.has_remaining() {
        match file.write_at(offset, data.clone()).await {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                data.advance(written.min(data.len()));
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// [`write_all`], with an error that names the file.
pub(crate) async fn write_all_at(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    data: Bytes,
) -> Result<(), WalError> {
    write_all(file, offset, data).await.map_err(|error| WalError::io("writing", path, error))
}

/// Reads exactly `len` bytes, or fewer where the file ends. An I/O error is never taken for an end (R14).
pub(crate) async fn read_at(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<Bytes, WalError> {
    file.read_at(offset, len).await.map_err(|error| WalError::io("reading", path, error))
}
