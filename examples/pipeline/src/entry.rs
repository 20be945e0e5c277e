//! What the engine holds: rows under `row/KEY`, and aggregates under `group/COLUMNS/VALUES`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anabranch::Handle;
use serde::{Deserialize, Serialize};

use crate::PipelineError;

/// The fields of a row.
pub(crate) type Fields = BTreeMap<String, serde_json::Value>;

/// A value of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A row.
    Row(Fields),
    /// How many rows a group has, and the sum of its column.
    Group {
        /// Rows.
        rows: u64,
        /// The sum, 0 if nothing is summed up.
        sum: i64,
    },
}

impl Entry {
    /// The aggregate with one more row.
    pub(crate) fn with_row(old: Option<&Self>, amount: i64) -> Self {
        match old {
            Some(Self::Group { rows, sum }) => {
                Self::Group { rows: rows + 1, sum: sum.saturating_add(amount) }
            }
            Some(Self::Row(_)) | None => Self::Group { rows: 1, sum: amount },
        }
    }
}

/// Writes one moment of the engine to a file, in the order of the keys.
pub(crate) fn dump(db: &Handle<String, Entry>, path: &Path) -> Result<(), PipelineError> {
    let io = |error| PipelineError::Input(crate::InputError::io("write", path.display(), error));
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    for entry in db.range(..) {
        let (key, value) = entry?;
        let line = serde_json::json!({ "key": key, "value": *value });
        writeln!(file, "{line}").map_err(io)?;
    }
    file.flush().map_err(io)
}
