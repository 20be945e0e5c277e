//! Why a command could not do its work, and what to do next.

use std::fmt::Display;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anabranch::{Timestamp, WalError};
use anstyle::{AnsiColor, Style};

const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// An error, and what its reader can do about it.
pub(super) struct Failure {
    message: String,
    advice: Option<String>,
    status: u8,
    /// Nobody reads on: no reason to complain.
    pipe_closed: bool,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { message: message.into(), advice: Some(advice.into()), status: 2, pipe_closed: false }
    }

    pub(super) fn io(action: impl Display, error: &io::Error) -> Self {
        let pipe_closed = error.kind() == io::ErrorKind::BrokenPipe;
        Self { message: format!("{action}: {error}"), advice: None, status: 2, pipe_closed }
    }

    /// An error of reading the database in `directory`.
    pub(super) fn reading(directory: &Path, error: &WalError) -> Self {
        let shown = directory.display();
        let damaged = matches!(error, WalError::Corrupt { .. });
        let (message, advice) = match error {
            WalError::Locked { .. } => (
                format!("{shown} is in use by an engine"),
                Some(format!(
                    "close it first; `anabranch inspect --no-lock {shown}` looks at it while it changes"
                )),
            ),
            WalError::Missing { .. } => (
                format!("{shown} holds no anabranch database"),
                Some("give the directory that a program opens with anabranch".to_owned()),
            ),
            WalError::NotADatabase { example, .. } => (
                format!("{shown} holds other files ({example}) and no anabranch database"),
                Some("give the directory that a program opens with anabranch".to_owned()),
            ),
            WalError::Corrupt { .. } => (
                describe(error),
                Some(format!(
                    "`anabranch verify {shown}` lists all damage; restore a backup, or save what can be read \
                     with `anabranch salvage {shown} NEWDIR`"
                )),
            ),
            _ => (describe(error), None),
        };
        Self { message, advice, status: if damaged { 1 } else { 2 }, pipe_closed: false }
    }

    /// An error of a command that writes to `new`; `begun` if there may be an unfinished copy.
    pub(super) fn copying(directory: &Path, new: &Path, error: &WalError) -> Self {
        match error {
            WalError::NotADatabase { path, example } if path == new => Self::usage(
                format!("{} is not empty: it holds {example}", new.display()),
                "give a directory that is missing or empty",
            ),
            WalError::Locked { path } if path == new => Self::usage(
                format!("{} is in use by an engine", new.display()),
                "give a directory that is missing or empty",
            ),
            _ => {
                let mut failure = Self::reading(directory, error);
                if new.exists() && failure.advice.is_none() {
                    failure.advice =
                        Some(format!("an unfinished copy in {} does not open; remove it", new.display()));
                }
                failure
            }
        }
    }

    pub(super) fn with_advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    pub(super) const fn is_damage(&self) -> bool {
        self.status == 1
    }

    /// Says so on standard error.
    pub(super) fn report(&self) -> ExitCode {
        if self.pipe_closed {
            return ExitCode::SUCCESS;
        }
        let mut stderr = anstream::stderr();
        // Where standard error is closed, the exit status has to do.
        let _ = writeln!(stderr, "{RED}error:{RED:#} {}", self.message);
        if let Some(advice) = &self.advice {
            let _ = writeln!(stderr, "{CYAN}next:{CYAN:#} {advice}");
        }
        ExitCode::from(self.status)
    }
}

/// An error with the commits concerned.
pub(super) fn describe(error: &WalError) -> String {
    match error {
        WalError::Corrupt { commits: Some((first, last)), .. } if first == last => {
            format!("{error} (commit {first})")
        }
        WalError::Corrupt { commits: Some((first, last)), .. } => {
            format!("{error} ({})", commits(*first, *last))
        }
        _ => error.to_string(),
    }
}

/// A range of commits, in words.
pub(super) fn commits(first: Timestamp, last: Timestamp) -> String {
    if first == last { format!("commit {first}") } else { format!("commits {first} to {last}") }
}
