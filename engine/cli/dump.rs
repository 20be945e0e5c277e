//! `anabranch dump`: the newest content, as JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anabranch_wal::inspect;

use super::failure::Failure;
use super::session::Session;
use super::value::{compare_keys, write_json};
use super::{Outcome, Source};

/// Prints the newest content as JSON, one entry a line, sorted by key over all shards
///
/// A line is {"key": .., "value": .., "timestamp": ..}; the timestamp is that of the commit that
/// wrote the entry. Keys and values are MessagePack, and become JSON like this:
///
///   nil, booleans, text, arrays    as they are
///   integers                       as they are up to 2^53 - 1 either way;
///                                  beyond as {"$int": "digits"}
///   floating point                 as it is, always with a point or an exponent, single
///                                  precision as the double of equal value;
///                                  {"$float": "NaN"}, "Infinity", "-Infinity"
///   binary                         {"$bin": "hexadecimal"}
///   text that is not UTF-8         {"$str": "hexadecimal"}
///   maps                           as objects if all keys are different texts that don't
///                                  begin with $; else {"$map": [[key, value], ..]}
///   extension types                {"$ext": [type, "hexadecimal"]}
///   no MessagePack, or nested      {"$raw": "hexadecimal"}
///   more than 40 deep
///
/// Structs are maps of their fields, enums maps or text, as serde has it. Keys are sorted by kind
/// (nil, booleans, numbers, text, binary, arrays, maps, others), then by value, text by its bytes.
/// Keys that a program's own `Eq` takes for one, and that are encoded differently, are two here.
///
/// A damaged database is not dumped: salvage it first.
///
/// Exit status: 0 dumped; 1 DIR is damaged; 2 otherwise.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Write to this file, which must not exist yet, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let session = Session::open(&arguments.source.directory, true, "reading")?;
    let reading = |error| Failure::reading(&session.directory, &error);
    let source = inspect::Source::open(&session.disk, &session.directory).await.map_err(reading)?;
    let entries = source.entries().await.map_err(reading)?;
    session.done();
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| compare_keys(a, b));
    let lines = entries.iter().map(|(key, entry)| (&key[..], &entry.value[..], entry.timestamp.0));
    match &arguments.output {
        None => {
            let output = BufWriter::new(io::stdout().lock());
            write(output, lines).map_err(|error| Failure::io("writing to standard output", &error))?;
        }
        Some(path) => {
            let file = create(&session, path)?;
            if let Err(error) = write(BufWriter::new(file), lines) {
                // Half a dump must not be taken for one.
                let _ = fs::remove_file(path);
                return Err(Failure::io(format_args!("writing {}", path.display()), &error));
            }
        }
    }
    Ok(Outcome::Sound)
}

/// Makes the file, for its owner only, like the database's own.
fn create(session: &Session, path: &Path) -> Result<File, Failure> {
    session.check_new_directory(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(
            format!("{} exists already", path.display()),
            "give another name, or remove it first",
        ),
        _ => Failure::io(format_args!("creating {}", path.display()), &error),
    })
}

fn write<'a>(
    mut output: impl Write,
    lines: impl Iterator<Item = (&'a [u8], &'a [u8], u64)>,
) -> io::Result<()> {
    for (key, value, timestamp) in lines {
        output.write_all(b"{\"key\":")?;
        write_json(&mut output, key)?;
        output.write_all(b",\"value\":")?;
        write_json(&mut output, value)?;
        writeln!(output, ",\"timestamp\":{timestamp}}}")?;
    }
    output.flush()
}
