//! A disk that can't write, and a lock that leaves no trace.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::WalError;
use crate::disk::{Disk, DiskFile, OpenMode};

/// Called with the number of bytes after each read, for whoever shows progress.
pub type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

/// A disk whose every write is refused. What is opened for writing is opened for reading; there is nothing to
/// sync.
#[derive(Clone)]
pub struct ReadOnlyDisk {
    inner: Arc<dyn Disk>,
    on_read: OnRead,
}

impl ReadOnlyDisk {
    /// Reads through `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, on_read: OnRead) -> Self {
        Self { inner, on_read }
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "this directory is only looked at")
}

#[async_trait]
impl Disk for ReadOnlyDisk {
    async fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    async fn lock(&self, _: &Path) -> io::Result<Arc<dyn Disk>> {
        Err(refused())
    }

    fn closing(&self) {}

    fn lane(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Self { inner: self.inner.lane(name)?, on_read: Arc::clone(&self.on_read) }))
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::Create {
            return Err(refused());
        }
        let inner = self.inner.open(path, OpenMode::Read).await?;
        Ok(Box::new(ReadOnlyFile { inner, on_read: Arc::clone(&self.on_read) }))
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.inner.list(directory).await
    }

    async fn remove(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct ReadOnlyFile {
    inner: Box<dyn DiskFile>,
    on_read: OnRead,
}

#[async_trait]
impl DiskFile for ReadOnlyFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = self.inner.read_at(offset, len).await?;
        (self.on_read)(read.len() as u64);
        Ok(read)
    }

    async fn write_at(&self, _: u64, _: Bytes) -> io::Result<usize> {
        Err(refused())
    }

    async fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    async fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    async fn zero_fill(&self, _: u64) -> io::Result<()> {
        Err(refused())
    }

    async fn len(&self) -> io::Result<u64> {
        self.inner.len().await
    }
}

/// Keeps engines out of a directory of the real file system while it is read, and lets other readers in. The
/// file `LOCK` is not written to, and not made where it is missing.
pub struct SharedLock {
    /// `None` where there is no `LOCK`: no engine ever had this directory, or somebody copied it.
    _file: Option<File>,
}

impl SharedLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`WalError::Locked`] if an engine has the directory, or the I/O error.
    pub fn take(directory: &Path) -> Result<Self, WalError> {
        let path = directory.join("LOCK");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self { _file: None }),
            Err(error) => return Err(WalError::io("opening", &path, error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(WalError::Locked { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(WalError::io("locking", &path, error)),
        }
    }
}
