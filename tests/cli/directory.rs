//! Directories to run the tool on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch::{Engine, EngineBuilder, Error};
use tempfile::TempDir;

/// What one commit wrote.
pub(crate) type Writes = Vec<(String, Option<String>)>;
/// All keys and values.
pub(crate) type Content = BTreeMap<String, String>;

pub(crate) const SHARDS: usize = 3;

/// In memory where the system has such a place.
pub(crate) fn root() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir()
        && let Ok(directory) = tempfile::tempdir_in(shared_memory)
    {
        return directory;
    }
    tempfile::tempdir().expect("the system's temporary directory is writable")
}

pub(crate) fn builder() -> EngineBuilder<String, String> {
    Engine::builder().shards(SHARDS).segment_bytes(16 << 10)
}

/// A database and its commits: the first is that of timestamp 1.
pub(crate) struct Database {
    pub(crate) path: PathBuf,
    pub(crate) commits: Vec<Writes>,
}

impl Database {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, commits: Vec::new() }
    }

    pub(crate) async fn open(&self) -> Engine<String, String> {
        open(&self.path).await.unwrap()
    }

    /// One life: inserts, removals, transactions over all shards; long values now and then.
    pub(crate) async fn live(&mut self, commits: usize) {
        let engine = self.open().await;
        self.write(&engine, commits).await;
        engine.close().await.unwrap();
    }

    /// A life with a checkpoint in the middle.
    pub(crate) async fn live_with_checkpoint(&mut self, commits: usize) {
        let engine = self.open().await;
        self.write(&engine, commits).await;
        engine.checkpoint().await.unwrap();
        self.write(&engine, commits).await;
        engine.close().await.unwrap();
    }

    pub(crate) async fn write(&mut self, engine: &Engine<String, String>, commits: usize) {
        let db = engine.handle();
        for _ in 0..commits {
            let number = self.commits.len();
            let writes = writes(number);
            db.transaction(|txn| {
                for (key, value) in &writes {
                    match value {
                        Some(value) => txn.insert(key.clone(), value.clone()),
                        None => txn.remove(key),
                    }
                }
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
            self.commits.push(writes);
        }
    }

    /// What the database held at a commit.
    pub(crate) fn at(&self, timestamp: usize) -> Content {
        let mut content = Content::new();
        for (key, value) in self.commits[..timestamp].iter().flatten() {
            match value {
                Some(value) => content.insert(key.clone(), value.clone()),
                None => content.remove(key),
            };
        }
        content
    }

    pub(crate) fn last(&self) -> Content {
        self.at(self.commits.len())
    }
}

fn writes(number: usize) -> Writes {
    let key = |number: usize| format!("key-{}", number % 50);
    match number % 7 {
        3 => vec![(key(number * 31), None)],
        5 => (0..6).map(|step| (key(number + step * 8), Some(format!("{number}/{step}")))).collect(),
        6 if number.is_multiple_of(3) => vec![(key(number), Some("long".repeat(2_000 + number)))],
        _ => vec![(key(number * 17), Some(format!("{number}")))],
    }
}

/// Opens a directory. Something may hold on to it for a moment: an open before that failed, or a process that
/// another test is starting.
async fn open(path: &Path) -> Result<Engine<String, String>, Error> {
    loop {
        match builder().open(path).await {
            Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => return other,
        }
    }
}

/// Opens a directory and reads it all.
pub(crate) async fn content(path: &Path) -> Result<Content, Error> {
    let engine = open(path).await?;
    let entries = engine.handle().range(..).map(|entry| entry.map(|(key, value)| (key, value.to_string())));
    let content = entries.collect::<Result<_, _>>()?;
    engine.close().await?;
    Ok(content)
}

/// All files, with their bytes.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()))
        .collect()
}

pub(crate) fn names(directory: &Path, ending: &str) -> Vec<String> {
    files(directory).into_keys().filter(|name| name.ends_with(ending)).collect()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
