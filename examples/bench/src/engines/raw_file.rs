//! The limit on disk: a loop of write and `fdatasync` on a file that was written with zeros before. It stores
//! nothing that could be read, so only durable writes by one task compare.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::keys::{Key, Value};
use crate::store::{Counters, Level, Outcome, Setup, Store, Style};

/// A page: what a file system writes at the least.
const RECORD_BYTES: usize = 4096;
const RECORDS: u64 = 4096;

#[derive(Clone)]
pub(crate) struct RawFile {
    file: Arc<File>,
    record: Arc<AtomicU64>,
}

impl Store for RawFile {
    const STYLE: Style = Style::Threads;
    const READABLE: bool = false;

    async fn open(setup: &Setup) -> Outcome<Self> {
        if setup.level != Level::Full {
            return Err("it always syncs".into());
        }
        std::fs::create_dir_all(&setup.directory)?;
        let path = setup.directory.join("records");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        for _ in 0..RECORDS {
            file.write_all(&[0; RECORD_BYTES])?;
        }
        file.sync_all()?;
        Ok(Self { file: Arc::new(file), record: Arc::default() })
    }

    async fn get(&self, _: &str) -> Outcome<Option<u64>> {
        Err("it can't be read".into())
    }

    async fn put(&self, key: &str, value: &Value) -> Outcome<()> {
        let mut record = [0; RECORD_BYTES];
        let bytes = [key.as_bytes(), &value.to_bytes()].concat();
        let length = bytes.len().min(RECORD_BYTES);
        record[..length].copy_from_slice(&bytes[..length]);
        let number = self.record.fetch_add(1, Ordering::Relaxed);
        self.file.write_all_at(&record, number % RECORDS * RECORD_BYTES as u64)?;
        Ok(rustix::fs::fdatasync(&*self.file)?)
    }

    async fn add(&self, _: &str, _: u64) -> Outcome<u64> {
        Err("it can't be read".into())
    }

    async fn read(&self, _: &[&str]) -> Outcome<u64> {
        Err("it can't be read".into())
    }

    async fn transfer(&self, _: &str, _: &str) -> Outcome<u64> {
        Err("it can't be read".into())
    }

    async fn scan(&self, _: &str, _: usize, _: bool) -> Outcome<usize> {
        Err("it can't be read".into())
    }

    /// Nothing that it holds is ever asked for.
    async fn load(&self, _: impl Iterator<Item = (Key, Value)> + Send, _: usize) -> Outcome<()> {
        Ok(())
    }

    fn begin(&self) -> Outcome<Box<dyn Any + Send>> {
        Err("it has no transactions".into())
    }

    async fn maintain(&self) -> Outcome<()> {
        Ok(())
    }

    fn counters(&self) -> Counters {
        let records = self.record.load(Ordering::Relaxed);
        Counters { syncs: Some(records), written: Some(records * RECORD_BYTES as u64) }
    }

    async fn close(self) -> Outcome<()> {
        Ok(())
    }
}
