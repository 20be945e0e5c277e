//! The disk's traits on top of the simulation. Each operation yields once, so that tasks interleave.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::SimDisk;
use super::fault::Operation;
use super::file_system::{FileSystem, normalized};
use super::inode::{FILE_BYTES_MAX, InodeNumber};
use super::lock::{DirectoryLock, Tenant};
use super::state::{Call, Plan, Terms};
use crate::disk::{Disk, DiskFile, OpenMode};

impl SimDisk {
    async fn perform<T>(
        &self,
        call: Call<'_>,
        action: impl FnOnce(&mut FileSystem, Terms) -> io::Result<T>,
    ) -> io::Result<T> {
        tokio::task::yield_now().await;
        let latency = self.core.state.lock().draw_latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let delay = {
            let mut state = self.core.state.lock();
            match state.plan(call)? {
                Plan::Delay(delay) => delay,
                plan => {
                    let outcome = state.execute(plan, action);
                    if state.is_frozen() {
                        self.core.register.wake();
                    }
                    return outcome;
                }
            }
        };
        tokio::time::sleep(delay).await;
        let mut state = self.core.state.lock();
        state.check_alive()?;
        state.execute(Plan::Delay(delay), action)
    }

    /// An operation on a path as a whole.
    async fn perform_at<T>(
        &self,
        operation: Operation,
        path: &Path,
        action: impl FnOnce(&mut FileSystem) -> io::Result<T>,
    ) -> io::Result<T> {
        self.perform(Call { operation, path, offset: 0, len: 0 }, |files, _| action(files)).await
    }
}

#[async_trait]
impl Disk for SimDisk {
    async fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let path = normalized(directory);
        self.perform_at(Operation::CreateDir, &path, |files| files.create_dir(&path)).await
    }

    async fn lock(&self, directory: &Path) -> io::Result<Arc<dyn Disk>> {
        let path = normalized(directory);
        self.perform_at(Operation::Lock, &path, |files| files.directory(&path).map(drop)).await?;
        loop {
            let changed = self.core.register.changed();
            self.core.state.lock().check_alive()?;
            match DirectoryLock::take(&self.core, &path) {
                Ok(lock) => {
                    let lock = Some(Arc::new(lock));
                    return Ok(Arc::new(Self { core: Arc::clone(&self.core), lock }));
                }
                Err(Tenant::Staying) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(Tenant::Leaving) => changed.await,
            }
        }
    }

    fn closing(&self) {
        if let Some(lock) = &self.lock {
            lock.announce_end();
        }
    }

    fn lane(&self, _name: &str) -> io::Result<Arc<dyn Disk>> {
        self.core.state.lock().check_alive()?;
        Ok(Arc::new(self.clone()))
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let path = normalized(path);
        let operation = if mode == OpenMode::Create { Operation::Create } else { Operation::Open };
        let (inode, handle) = self
            .perform_at(operation, &path, |files| {
                let number =
                    if mode == OpenMode::Create { files.create(&path)? } else { files.find(&path)? };
                Ok((number, files.inode(number)?.handle()))
            })
            .await?;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            path,
            inode,
            writable: mode != OpenMode::Read,
            _handle: handle,
        }))
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let path = normalized(directory);
        self.perform_at(Operation::List, &path, |files| {
            Ok(files.directory(&path)?.live.keys().cloned().collect())
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normalized(path);
        self.perform_at(Operation::Remove, &path, |files| files.remove(&path)).await
    }

    async fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let path = normalized(directory);
        self.perform_at(Operation::SyncDir, &path, |files| files.sync_dir(&path)).await
    }
}

struct SimFile {
    /// Holds the directory's lock, if there is one.
    disk: SimDisk,
    path: PathBuf,
    inode: InodeNumber,
    writable: bool,
    /// Keeps the content while the name is gone.
    _handle: Arc<()>,
}

impl SimFile {
    fn call(&self, operation: Operation, offset: u64, len: u64) -> Call<'_> {
        Call { operation, path: &self.path, offset, len }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::other("the file is open for reading only")) }
    }

    async fn sync(&self) -> io::Result<()> {
        let call = self.call(Operation::Sync, 0, 0);
        self.disk.perform(call, |files, terms| files.inode_mut(self.inode)?.sync(terms.sync)).await
    }
}

#[async_trait]
impl DiskFile for SimFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let call = self.call(Operation::Read, offset, len as u64);
        self.disk
            .perform(call, |files, _| {
                let bytes = files.inode(self.inode)?.bytes();
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(len).min(bytes.len());
                Ok(Bytes::copy_from_slice(&bytes[start..end]))
            })
            .await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<usize> {
        let call = self.call(Operation::Write, offset, data.len() as u64);
        self.disk
            .perform(call, |files, terms| {
                self.check_writable()?;
                files.write(self.inode, offset, &data[..terms.bytes_max.min(data.len())])
            })
            .await
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.sync().await
    }

    async fn sync_all(&self) -> io::Result<()> {
        self.sync().await
    }

    async fn zero_fill(&self, len: u64) -> io::Result<()> {
        let call = self.call(Operation::ZeroFill, 0, len);
        self.disk
            .perform(call, |files, terms| {
                self.check_writable()?;
                if len > FILE_BYTES_MAX {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                let zeros = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(terms.bytes_max)];
                let filled = files.write(self.inode, 0, &zeros)?;
                if filled < zeros.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            })
            .await
    }

    async fn len(&self) -> io::Result<u64> {
        let call = self.call(Operation::Len, 0, 0);
        self.disk.perform(call, |files, _| Ok(files.inode(self.inode)?.bytes().len() as u64)).await
    }
}
