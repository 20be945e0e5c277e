//! The example as a process, with files of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// An engine's directory, an input and an answers file, which end with it.
pub(crate) struct Job {
    files: TempDir,
    input: String,
}

impl Job {
    pub(crate) fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let input = files.path().join("flights.csv").into_os_string().into_string().unwrap();
        Self { files, input }
    }

    pub(crate) fn with_input(input: &[u8]) -> Self {
        let job = Self::new();
        fs::write(&job.input, input).unwrap();
        job
    }

    /// The path of the input.
    pub(crate) fn input(&self) -> &str {
        &self.input
    }

    /// The engine's directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.files.path().join("engine")
    }

    pub(crate) fn spawn(&self, arguments: &[&str], stdin: Stdio) -> Child {
        Command::new(example())
            .args(arguments)
            .arg("--dir")
            .arg(self.directory())
            .arg("--answers")
            .arg(self.files.path().join("answers"))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs it to its end, without answers from before.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let _ = fs::remove_file(self.files.path().join("answers"));
        self.spawn(arguments, Stdio::null()).wait_with_output().unwrap()
    }

    pub(crate) fn answers(&self) -> String {
        fs::read_to_string(self.files.path().join("answers")).unwrap()
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The path of the example, built. `cargo test` builds it before; `cargo test --test ingest` does not, so this
/// asks cargo, which does nothing if it is up to date.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let test = std::env::current_exe().unwrap(); // target/debug/deps/ingest-…
        let target = test.parent().and_then(Path::parent).unwrap();
        let example = target.join("examples").join(format!("ingest{}", std::env::consts::EXE_SUFFIX));
        // Without cargo around, or in a target directory of another shape, what is there is used.
        let profile = match target.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "test",
            _ => "release",
        };
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--example", "ingest", "--profile", profile]);
            build.arg("--target-dir").arg(target.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(build.status().unwrap().success(), "the example does not build");
        }
        assert!(example.exists(), "{} is missing; run `cargo build --example ingest`", example.display());
        example
    })
}
