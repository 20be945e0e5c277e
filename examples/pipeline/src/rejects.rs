//! Records that could not be taken in: counted, the first few shown, all of them written to a file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// So many are shown.
const SHOWN_MAX: u64 = 10;

/// A record that is not a row, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) reason: String,
    pub(crate) text: String,
}

pub(crate) struct Rejects {
    file: Option<BufWriter<File>>,
    pub(crate) count: u64,
}

impl Rejects {
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| OpenOptions::new().append(true).create(true).open(path);
        Ok(Self { file: path.map(open).transpose()?.map(BufWriter::new), count: 0 })
    }

    /// Notes one. Returns what to show of it, if it is one of the first.
    pub(crate) fn note(&mut self, source: &str, line: u64, reject: &Reject) -> io::Result<Option<String>> {
        self.count += 1;
        if let Some(file) = &mut self.file {
            let line = serde_json::json!({
                "source": source, "line": line, "reason": reject.reason, "record": reject.text,
            });
            writeln!(file, "{line}")?;
        }
        Ok((self.count <= SHOWN_MAX).then(|| format!("{source}:{line}: {}", reject.reason)))
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}
