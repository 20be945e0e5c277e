//! What the commands share: the source directory, locked and read only; a progress bar; standard output.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::{RealDisk, WalError};
use anabranch_wal::inspect::{OnRead, ReadOnlyDisk, SharedLock};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::Failure;

pub(super) const TITLE: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const NOTE: Style = AnsiColor::Yellow.on_default();

/// A directory that is being read.
pub(super) struct Session {
    pub(super) directory: PathBuf,
    pub(super) disk: ReadOnlyDisk,
    bar: ProgressBar,
    _lock: Option<SharedLock>,
}

impl Session {
    /// Takes the lock, unless it is not wanted, and starts the bar.
    pub(super) fn open(directory: &Path, locked: bool, doing: &'static str) -> Result<Self, Failure> {
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let message = format!("{} is a file", directory.display());
                return Err(Failure::usage(message, "give the directory of a database"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = WalError::Missing { path: directory.to_owned() };
                return Err(Failure::reading(directory, &missing));
            }
            Err(error) => return Err(Failure::io(directory.display(), &error)),
        }
        let lock = if locked {
            let taken = SharedLock::take(directory);
            Some(taken.map_err(|error| Failure::reading(directory, &error))?)
        } else {
            None
        };
        let disk = real_disk()?;
        let bar = progress(directory, doing);
        let counted = bar.clone();
        let on_read: OnRead = Arc::new(move |bytes| counted.inc(bytes));
        let disk = ReadOnlyDisk::new(Arc::new(disk), on_read);
        Ok(Self { directory: directory.to_owned(), disk, bar, _lock: lock })
    }

    /// The work is done: the bar goes.
    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }

    /// A new database must not be made within the one that is read.
    pub(super) fn check_new_directory(&self, new: &Path) -> Result<(), Failure> {
        let source = fs::canonicalize(&self.directory);
        let source = source.map_err(|error| Failure::io(self.directory.display(), &error))?;
        let absolute = std::path::absolute(new).map_err(|error| Failure::io(new.display(), &error))?;
        let existing = absolute.ancestors().find_map(|ancestor| fs::canonicalize(ancestor).ok());
        if existing.is_some_and(|existing| existing.starts_with(&source)) {
            let message = format!("{} lies within {}", new.display(), self.directory.display());
            return Err(Failure::usage(message, "give a directory elsewhere: the source is never changed"));
        }
        Ok(())
    }
}

/// Also when the work came to nothing: the error is not written behind a bar.
impl Drop for Session {
    fn drop(&mut self) {
        self.done();
    }
}

pub(super) fn real_disk() -> Result<RealDisk, Failure> {
    RealDisk::new().map_err(|error| Failure::io("starting an I/O thread", &error))
}

/// A bar over the bytes of all files. It hides itself where standard error is no terminal.
fn progress(directory: &Path, doing: &'static str) -> ProgressBar {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(doing);
    bar
}

/// Writes to standard output, with styles only where somebody sees them.
pub(super) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut output = BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    write(&mut output)
        .and_then(|()| output.flush())
        .map_err(|error| Failure::io("writing to standard output", &error))
}
