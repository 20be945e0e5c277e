//! Names and the files behind them. Synchronous; knows nothing of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::inode::{FILE_BYTES_MAX, Inode, InodeNumber};

#[derive(Default)]
pub(super) struct FileSystem {
    pub(super) directories: BTreeMap<PathBuf, Directory>,
    pub(super) inodes: BTreeMap<InodeNumber, Inode>,
    /// The journal: changes of names that no `sync_dir` has made durable, oldest first.
    pub(super) pending: Vec<NameChange>,
    pub(super) capacity: Option<u64>,
    next_inode: u64,
}

#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) live: BTreeMap<String, Entry>,
    pub(super) durable: BTreeMap<String, Entry>,
}

/// What a name stands for. A directory is found by its path, because nothing renames one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(InodeNumber),
    Directory,
}

#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) directory: PathBuf,
    pub(super) name: String,
    /// What the name stands for from now on, if anything.
    pub(super) entry: Option<Entry>,
}

impl FileSystem {
    pub(super) fn new() -> Self {
        let roots = ["", "/"].map(|root| (PathBuf::from(root), Directory::default()));
        Self { directories: BTreeMap::from(roots), ..Self::default() }
    }

    /// The same content for another generation of the disk, without files that are only held open.
    pub(super) fn closed_copy(&self) -> Self {
        let mut copy = Self {
            directories: self.directories.clone(),
            inodes: self.inodes.iter().map(|(number, inode)| (*number, inode.closed_copy())).collect(),
            pending: self.pending.clone(),
            capacity: self.capacity,
            next_inode: self.next_inode,
        };
        copy.drop_unnamed();
        copy
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        for (parent, name) in lineage(path) {
            // A drive is a root like any other.
            self.directories.entry(parent.clone()).or_default();
            match self.directories[&parent].live.get(&name) {
                Some(Entry::Directory) => {}
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    self.directories.insert(parent.join(&name), Directory::default());
                    self.rename(parent, name, Some(Entry::Directory));
                }
            }
        }
        Ok(())
    }

    pub(super) fn directory(&self, path: &Path) -> io::Result<&Directory> {
        self.directories.get(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<InodeNumber> {
        let (parent, name) = split(path)?;
        match self.directory(&parent)?.live.get(&name) {
            Some(Entry::File(number)) => Ok(*number),
            Some(Entry::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn inode(&self, number: InodeNumber) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode_mut(&mut self, number: InodeNumber) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes an empty file, or empties the one of that name.
    pub(super) fn create(&mut self, path: &Path) -> io::Result<InodeNumber> {
        match self.find(path) {
            Ok(number) => {
                self.inode_mut(number)?.empty();
                Ok(number)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) = split(path)?;
                self.directory(&parent)?;
                let number = self.add_inode(Inode::default());
                self.rename(parent, name, Some(Entry::File(number)));
                Ok(number)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn add_inode(&mut self, inode: Inode) -> InodeNumber {
        let number = InodeNumber(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        number
    }

    /// Removes the name. The file lives on while it is open, and comes back if power fails before the
    /// directory is synced.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        let (parent, name) = split(path)?;
        self.rename(parent, name, None);
        Ok(())
    }

    /// Makes the names in this directory durable, and no others.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.directories.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        directory.durable = directory.live.clone();
        self.pending.retain(|change| change.directory != path);
        self.drop_unnamed();
        Ok(())
    }

    /// Writes as much as there is room for.
    pub(super) fn write(&mut self, number: InodeNumber, offset: u64, data: &[u8]) -> io::Result<usize> {
        let len = self.inode(number)?.bytes().len() as u64;
        let end = offset.saturating_add(data.len() as u64);
        if end > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let end_max = len.saturating_add(self.room());
        if end > len && offset >= end_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let offset = index(offset)?;
        let fits = (index(end.min(end_max.max(len)))? - offset).min(data.len());
        self.inode_mut(number)?.write(offset, &data[..fits]);
        Ok(fits)
    }

    fn room(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let used = self.files().map(|(_, inode)| inode.bytes().len() as u64).sum();
        capacity.saturating_sub(used)
    }

    /// All files that have a name, in order of their paths.
    pub(super) fn files(&self) -> impl Iterator<Item = (PathBuf, &Inode)> {
        self.entries(|directory| &directory.live)
    }

    /// All files that would have a name if power failed now.
    pub(super) fn durable_files(&self) -> impl Iterator<Item = (PathBuf, &Inode)> {
        self.entries(|directory| &directory.durable)
    }

    fn entries(
        &self,
        names: impl Fn(&Directory) -> &BTreeMap<String, Entry>,
    ) -> impl Iterator<Item = (PathBuf, &Inode)> {
        self.directories.iter().flat_map(move |(path, directory)| {
            names(directory).iter().filter_map(move |(name, entry)| match entry {
                Entry::File(number) => Some((path.join(name), self.inodes.get(number)?)),
                Entry::Directory => None,
            })
        })
    }

    /// Sets a name both for programs and on disk, as if it had never been otherwise.
    pub(super) fn settle(&mut self, directory: &Path, name: &str, entry: Option<Entry>) {
        self.pending.retain(|change| change.directory != directory || change.name != name);
        let names = self.directories.entry(directory.to_owned()).or_default();
        set(&mut names.live, name, entry);
        set(&mut names.durable, name, entry);
        self.drop_unnamed();
    }

    fn rename(&mut self, directory: PathBuf, name: String, entry: Option<Entry>) {
        if let Some(names) = self.directories.get_mut(&directory) {
            set(&mut names.live, &name, entry);
        }
        self.pending.push(NameChange { directory, name, entry });
    }

    /// Forgets files that have no name, can't get one back, and aren't open.
    pub(super) fn drop_unnamed(&mut self) {
        let entries =
            self.directories.values().flat_map(|names| names.live.values().chain(names.durable.values()));
        let pending = self.pending.iter().filter_map(|change| change.entry.as_ref());
        let named: BTreeSet<InodeNumber> = entries
            .chain(pending)
            .filter_map(|entry| match entry {
                Entry::File(number) => Some(*number),
                Entry::Directory => None,
            })
            .collect();
        self.inodes.retain(|number, inode| inode.is_open() || named.contains(number));
    }
}

pub(super) fn set(names: &mut BTreeMap<String, Entry>, name: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(name.to_owned(), entry),
        None => names.remove(name),
    };
}

/// `./a/./b` is `a/b`.
pub(super) fn normalized(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

/// The directory and the name in it.
pub(super) fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), name.to_string_lossy().into_owned())),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Parent and name of the path and of all directories above it, from the top.
pub(super) fn lineage(path: &Path) -> Vec<(PathBuf, String)> {
    let mut steps: Vec<_> = path.ancestors().filter_map(|ancestor| split(ancestor).ok()).collect();
    steps.reverse();
    steps
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
