//! Running the tool.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::directory::files;

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The run failed with this status, and says this.
    pub(crate) fn assert_fails(&self, status: i32, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.stderr.contains(says), "{says:?} is not in {self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
    }
}

/// Runs the tool. Nothing that is piped holds an escape sequence.
pub(crate) fn tool<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_anabranch"))
        .args(arguments)
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR")
        .output()
        .expect("the tool was built");
    let run = Run {
        status: output.status.code().expect("no signal ends the tool"),
        stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
    };
    assert!(!run.stdout.contains('\x1b') && !run.stderr.contains('\x1b'), "{run:?}");
    assert!(!run.stderr.contains("panicked"), "{run:?}");
    run
}

/// Runs a command on a directory that no engine has, as [`once`] does.
///
/// A process that another test starts holds all our files for the moment between `fork` and `exec`, locks of
/// engines that are closed meanwhile included. So what is said to be in use is asked again.
pub(crate) fn on(directory: &Path, command: &str, more: &[&OsStr]) -> Run {
    for _ in 0..100 {
        let run = once(directory, command, more);
        if !run.stderr.contains("in use by an engine") {
            return run;
        }
    }
    panic!("{} stays in use", directory.display());
}

/// Runs a command on a directory, and sees to it that the directory stays as it is, byte by byte.
pub(crate) fn once(directory: &Path, command: &str, more: &[&OsStr]) -> Run {
    let before = files(directory);
    let run = tool([OsStr::new(command), directory.as_os_str()].iter().chain(more));
    assert!(before == files(directory), "`{command}` changed its source: {run:?}");
    run
}

#[test]
fn help_and_version_are_there() {
    let help = tool(["--help"]);
    assert_eq!(help.status, 0);
    for command in ["inspect", "verify", "salvage", "dump", "backup", "Exit status"] {
        assert!(help.stdout.contains(command), "{command} is not in {help:?}");
    }
    let version = tool(["--version"]);
    assert_eq!(version.stdout.trim(), format!("anabranch {}", env!("CARGO_PKG_VERSION")));
    for command in ["inspect", "verify", "salvage", "dump", "backup"] {
        let help = tool([command, "--help"]);
        assert_eq!(help.status, 0, "{help:?}");
        assert!(help.stdout.contains("DIR"), "{help:?}");
    }
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    assert_eq!(tool(["verify"]).status, 2);
    assert_eq!(tool(["repair", "x"]).status, 2);
    assert_eq!(tool(["verify", "x", "--fix"]).status, 2);
}
