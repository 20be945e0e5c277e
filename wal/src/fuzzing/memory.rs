//! A disk of plain vectors. What is asked of it is done at once; a read allocates what it was asked for, as the
//! real disk does, so that a length that was trusted too early shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, OpenMode};

type Content = Arc<Mutex<Vec<u8>>>;

#[derive(Clone, Default)]
pub(super) struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Content>>>,
    directories: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl MemoryDisk {
    /// A disk with these files.
    pub(super) fn of(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
        let disk = Self::default();
        for (path, bytes) in files {
            disk.directories.lock().extend(path.parent().map(Path::to_owned));
            disk.files.lock().insert(path, Arc::new(Mutex::new(bytes)));
        }
        disk
    }
}

#[async_trait]
impl Disk for MemoryDisk {
    async fn create_dir(&self, directory: &Path) -> io::Result<()> {
        self.directories.lock().insert(directory.to_owned());
        Ok(())
    }

    async fn lock(&self, _: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.clone()))
    }

    fn closing(&self) {}

    fn lane(&self, _: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(self.clone()))
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.files.lock();
        if mode == OpenMode::Create {
            files.insert(path.to_owned(), Content::default());
        }
        let content = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile(Arc::clone(content))))
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        if !self.directories.lock().contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = self.files.lock();
        let here = files.keys().filter(|path| path.parent() == Some(directory));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.lock().remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct MemoryFile(Content);

#[async_trait]
impl DiskFile for MemoryFile {
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let content = self.0.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let part = &content[from..content.len().min(from.saturating_add(len))];
        let mut buffer = vec![0; len];
        buffer[..part.len()].copy_from_slice(part);
        buffer.truncate(part.len());
        Ok(buffer.into())
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> io::Result<usize> {
        let mut content = self.0.lock();
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = from + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[from..end].copy_from_slice(&data);
        Ok(data.len())
    }

    async fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    async fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    async fn zero_fill(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut content = self.0.lock();
        let end = content.len().max(len);
        content.resize(end, 0);
        content[..len].fill(0);
        Ok(())
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }
}
