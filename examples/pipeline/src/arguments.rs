//! The command line.

use std::path::PathBuf;

/// Takes rows from CSV, NDJSON and Parquet files into an anabranch engine
///
/// Files end in .csv, .ndjson or .jsonl, and .gz or .zst behind that if they are packed, or in .parquet. A directory
/// stands for all such files in it, in the order of their names; - is standard input, which
/// may be packed, too. Parquet from there is written to a temporary file first.
///
/// Run it again after Ctrl-C, or a crash, with the same arguments: it goes on behind the last record that is in. Records
/// that are taken in are not looked at again, so what was rejected is not rejected again either.
///
/// Exit status: 0 done, 130 interrupted, 1 an error, 2 wrong arguments.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "pipeline", version)]
pub(crate) struct Arguments {
    /// Files, directories, or - for standard input.
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// The engine's directory; made if it is missing.
    #[arg(long, default_value = "pipeline-data", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The columns whose values, joined by /, make the key of a row. A later row replaces an earlier one.
    #[arg(long, required = true, value_delimiter = ',', value_name = "COLUMN,..")]
    pub(crate) key: Vec<String>,
    /// The columns to keep; all if it is not given.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,..")]
    pub(crate) columns: Vec<String>,
    /// Count rows by these columns, and sum up a column of whole numbers with =COLUMN: --group origin,hour=delay. May
    /// be given several times. A row that is read again counts again, as each row of the input is one event.
    #[arg(long, value_name = "COLUMN,..[=COLUMN]", value_parser = Group::parse)]
    pub(crate) group: Vec<Group>,
    /// What standard input, and files of unknown endings, hold.
    #[arg(long, value_enum, default_value = "csv")]
    pub(crate) format: Format,
    /// What an acknowledged row survives: full is power loss, relaxed the end of the process, with a sync each second.
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) durability: Mode,
    /// Only read and parse, and say what would be taken in.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write rejected records to this file, each with its place and the reason, as NDJSON. It is appended to.
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,
    /// In the end, write everything that is there to this file, as NDJSON in the order of the keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) dump: Option<PathBuf>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The first record names the columns.
    Csv,
    /// A JSON object on each line.
    Ndjson,
    /// Columns, read row by row.
    Parquet,
}

/// When the log is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    Full,
    Relaxed,
}

/// An aggregate: rows by some columns, with the sum of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) by: Vec<String>,
    pub(crate) sum: Option<String>,
}

impl Group {
    fn parse(text: &str) -> Result<Self, String> {
        let (by, sum) = match text.split_once('=') {
            Some((by, sum)) => (by, Some(sum.to_owned())),
            None => (text, None),
        };
        let by: Vec<_> = by.split(',').map(ToOwned::to_owned).collect();
        if by.iter().any(String::is_empty) || sum.as_ref().is_some_and(String::is_empty) {
            return Err("expected COLUMN,.. or COLUMN,..=COLUMN".to_owned());
        }
        Ok(Self { by, sum })
    }
}
