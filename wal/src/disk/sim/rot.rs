//! Looking at files, and damaging them, behind the engine's back. None of this counts as an operation.

use std::path::{Path, PathBuf};

use super::SimDisk;
use super::file_system::{Directory, Entry, FileSystem, lineage, normalized, split};
use super::inode::Inode;
use super::random::Digest;

impl SimDisk {
    /// All files and their lengths, in order of their paths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.core.state.lock();
        state.files.files().map(|(path, inode)| (path, inode.bytes().len() as u64)).collect()
    }

    /// The content of a file as programs see it.
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.core.state.lock();
        let number = state.files.find(&normalized(path)).ok()?;
        Some(state.files.inode(number).ok()?.bytes().to_vec())
    }

    /// Puts a file there, durably, with the directories above it; it replaces one of that name.
    ///
    /// # Panics
    /// When the path has no file name.
    pub fn write_file(&self, path: &Path, bytes: impl Into<Vec<u8>>) {
        let path = normalized(path);
        let (parent, name) = split(&path).expect("a file's path ends in its name");
        let files = &mut self.core.state.lock().files;
        for (above, directory) in lineage(&parent) {
            files.directories.entry(above.join(&directory)).or_default();
            files.settle(&above, &directory, Some(Entry::Directory));
        }
        let number = files.add_inode(Inode::durable(bytes.into()));
        files.settle(&parent, &name, Some(Entry::File(number)));
    }

    /// Turns one bit of a file over, on disk and in the cache, also for those who have it open.
    ///
    /// # Panics
    /// When there is no such file or no such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) {
        let len = self.read_file(path).map_or(0, |content| content.len() as u64);
        assert!(byte < len, "only a byte that exists can be damaged");
        let byte = usize::try_from(byte).expect("files are shorter than FILE_BYTES_MAX");
        self.damage(path, |content| {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        });
    }

    /// Cuts a file off, or pads it with zeros, on disk and in the cache.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, path: &Path, len: u64) {
        let len = usize::try_from(len).expect("files are shorter than FILE_BYTES_MAX");
        self.damage(path, |content| content.resize(len, 0));
    }

    /// Deletes a file for good. Those who have it open keep it.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn delete(&self, path: &Path) {
        let path = normalized(path);
        let files = &mut self.core.state.lock().files;
        files.find(&path).expect("only a file that exists can be deleted");
        let (parent, name) = split(&path).expect("a file's path ends in its name");
        files.settle(&parent, &name, None);
    }

    fn damage(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let files = &mut self.core.state.lock().files;
        let number = files.find(&normalized(path)).expect("only a file that exists can be damaged");
        files.inode_mut(number).expect("a name stands for a file").damage(change);
    }

    /// A hash over the names and the content of all files and directories, as programs see them and as they
    /// are on disk. Equal disks have equal fingerprints, whatever their history.
    pub fn fingerprint(&self) -> u64 {
        let state = self.core.state.lock();
        let mut digest = Digest::default();
        add_files(&mut digest, state.files.files(), Inode::bytes);
        add_files(&mut digest, state.files.durable_files(), Inode::durable_bytes);
        add_directories(&mut digest, &state.files);
        digest.finish()
    }
}

fn add_files<'a>(
    digest: &mut Digest,
    files: impl Iterator<Item = (PathBuf, &'a Inode)>,
    bytes: impl Fn(&Inode) -> &[u8],
) {
    let mut count = 0;
    for (path, inode) in files {
        digest.add_bytes(path.as_os_str().as_encoded_bytes());
        digest.add_bytes(bytes(inode));
        count += 1;
    }
    digest.add(count);
}

fn add_directories(digest: &mut Digest, files: &FileSystem) {
    for (path, Directory { live, durable }) in &files.directories {
        digest.add_bytes(path.as_os_str().as_encoded_bytes());
        digest.add(live.len() as u64);
        digest.add(durable.len() as u64);
    }
}
