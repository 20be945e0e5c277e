//! Where records come from: files, plain or packed, directories, standard input. A thread reads them: lines here, and
//! the rows of Parquet files in `table.rs`.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::arguments::Format;
use crate::csv::Splitter;
use crate::entry::Fields;
use crate::table::Table;

/// A longer record is rejected, and a CSV record that is open for longer than this is taken to end.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// An input that can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("can't {what} {name}: {error}")]
    Io { what: &'static str, name: String, error: io::Error },
    #[error("{0}: no file in it ends in .csv, .ndjson or .jsonl, or .gz or .zst behind that, or in .parquet")]
    NothingIn(PathBuf),
    #[error("{name}: {reason}")]
    Header { name: String, reason: String },
    #[error("{name}, behind row {rows}: {error}")]
    Parquet { name: String, rows: u64, error: parquet::errors::ParquetError },
}

impl InputError {
    pub(crate) fn io(what: &'static str, name: impl Display, error: io::Error) -> Self {
        Self::Io { what, name: name.to_string(), error }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

/// One file, or standard input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// As it was given; also the name of its offset.
    pub(crate) name: String,
    /// `None` is standard input.
    path: Option<PathBuf>,
    pub(crate) format: Format,
    packing: Packing,
}

impl Input {
    /// All inputs that the arguments name, directories taken apart.
    pub(crate) fn all(arguments: &[PathBuf], format: Format) -> Result<Vec<Self>, InputError> {
        let mut inputs = Vec::new();
        for argument in arguments {
            if argument.as_os_str() == "-" {
                let name = "standard input".to_owned();
                inputs.push(Self { name, path: None, format, packing: Packing::None });
            } else if argument.is_dir() {
                let before = inputs.len();
                inputs.extend(Self::within(argument)?);
                if inputs.len() == before {
                    return Err(InputError::NothingIn(argument.clone()));
                }
            } else {
                let (found, packing) = by_ending(argument);
                let name = argument.display().to_string();
                let path = Some(argument.clone());
                inputs.push(Self { name, path, format: found.unwrap_or(format), packing });
            }
        }
        // Before anything is made.
        for input in &inputs {
            if let Some(path) = &input.path {
                File::open(path).map_err(|error| InputError::io("read", &input.name, error))?;
            }
        }
        Ok(inputs)
    }

    fn within(directory: &Path) -> Result<Vec<Self>, InputError> {
        let io = |error| InputError::io("list", directory.display(), error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(io)? {
            paths.push(entry.map_err(io)?.path());
        }
        paths.sort();
        let known = |path: PathBuf| {
            let (format, packing) = by_ending(&path);
            let name = path.display().to_string();
            Some(Self { name, format: format.filter(|_| path.is_file())?, path: Some(path), packing })
        };
        Ok(paths.into_iter().filter_map(known).collect())
    }

    /// How many bytes are to be read, if that is known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        Some(self.path.as_ref()?.metadata().ok()?.len())
    }

    /// Opens it. The bar counts the bytes as they are read, before they are unpacked.
    pub(crate) fn open(&self, bar: &ProgressBar) -> Result<Records, InputError> {
        let io = |error| InputError::io("read", &self.name, error);
        if self.format == Format::Parquet {
            let file = match &self.path {
                Some(path) => File::open(path).map_err(io)?,
                None => spooled(bar.wrap_read(io::stdin())).map_err(io)?,
            };
            return Ok(Records::Rows(Table::open(file, &self.name, bar)?));
        }
        let (raw, packing): (Box<dyn Read + Send>, _) = if let Some(path) = &self.path {
            (Box::new(File::open(path).map_err(io)?), self.packing)
        } else {
            let (raw, packing) = by_beginning(io::stdin()).map_err(io)?;
            (Box::new(raw), packing)
        };
        let raw = BufReader::with_capacity(1 << 16, bar.wrap_read(raw));
        let unpacked: Box<dyn Read + Send> = match packing {
            Packing::None => Box::new(raw),
            Packing::Gzip => Box::new(MultiGzDecoder::new(raw)),
            Packing::Zstd => Box::new(zstd::Decoder::with_buffer(raw).map_err(io)?),
        };
        let reader = BufReader::with_capacity(1 << 16, unpacked);
        let csv = (self.format == Format::Csv).then(Splitter::new);
        Ok(Records::Lines(Box::new(Lines {
            reader,
            csv,
            name: self.name.clone(),
            line: 0,
            buffer: Vec::new(),
        })))
    }
}

fn by_ending(path: &Path) -> (Option<Format>, Packing) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    let (name, packing) = if let Some(name) = name.strip_suffix(".gz") {
        (name, Packing::Gzip)
    } else if let Some(name) = name.strip_suffix(".zst") {
        (name, Packing::Zstd)
    } else {
        (name.as_str(), Packing::None)
    };
    let format = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("csv") => Some(Format::Csv),
        Some("ndjson" | "jsonl") => Some(Format::Ndjson),
        // It is packed within.
        Some("parquet") if packing == Packing::None => Some(Format::Parquet),
        _ => None,
    };
    (format, packing)
}

/// What has no name tells how it is packed by its first bytes, which no text begins with.
fn by_beginning(mut raw: impl Read) -> io::Result<(impl Read, Packing)> {
    let mut first = Vec::new();
    raw.by_ref().take(4).read_to_end(&mut first)?;
    let packing = match *first {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
        _ => Packing::None,
    };
    Ok((Cursor::new(first).chain(raw), packing))
}

/// Parquet is read from its end, so what only comes once goes to a file without a name first, which ends with us.
fn spooled(mut raw: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut raw, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// A record, and the line or row that it begins at, counted from 1.
#[derive(Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) line: u64,
    pub(crate) content: Content,
}

/// What is known of a record before it is parsed.
#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    /// Its text.
    Text(String),
    /// Its text, which ends within a quoted field.
    Open(String),
    /// It is not UTF-8, or too long.
    Bad,
    /// Its fields.
    Fields(Fields),
}

/// The records of an input, one after the other.
pub(crate) enum Records {
    Lines(Box<Lines>),
    Rows(Table),
}

impl Records {
    /// The next record that is not empty.
    pub(crate) fn next(&mut self) -> Result<Option<Raw>, InputError> {
        match self {
            Self::Lines(lines) => lines.next(),
            Self::Rows(table) => table.next(),
        }
    }
}

/// Records that are lines, or in CSV go on over several.
pub(crate) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    /// Knows where a record ends, if that is not at the end of its line.
    csv: Option<Splitter>,
    name: String,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    fn next(&mut self) -> Result<Option<Raw>, InputError> {
        loop {
            let line = self.line + 1;
            let Some(first) = self.line()? else { return Ok(None) };
            let Line::Text(text) = first else { return Ok(Some(Raw { line, content: Content::Bad })) };
            if !text.trim().is_empty() {
                return Ok(Some(Raw { line, content: self.rest(text)? }));
            }
        }
    }

    /// The record that begins with this line.
    fn rest(&mut self, mut text: String) -> Result<Content, InputError> {
        let Some(mut csv) = self.csv.take() else { return Ok(Content::Text(text)) };
        csv.begin();
        let mut is_open = csv.stays_open(&text);
        let content = loop {
            if !is_open {
                break Content::Text(text);
            }
            if text.len() > RECORD_BYTES_MAX {
                break Content::Open(text);
            }
            match self.line()? {
                None => break Content::Open(text),
                Some(Line::Bad) => break Content::Bad,
                Some(Line::Text(more)) => {
                    is_open = csv.stays_open(&more);
                    text.push('\n');
                    text.push_str(&more);
                }
            }
        };
        self.csv = Some(csv);
        Ok(content)
    }

    fn line(&mut self) -> Result<Option<Line>, InputError> {
        self.buffer.clear();
        let mut limited = (&mut self.reader).take(RECORD_BYTES_MAX as u64);
        let io = |error| InputError::io("read", &self.name, error);
        if limited.read_until(b'\n', &mut self.buffer).map_err(io)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        if self.buffer.len() == RECORD_BYTES_MAX && !self.buffer.ends_with(b"\n") {
            skip_line(&mut self.reader).map_err(io)?;
            return Ok(Some(Line::Bad));
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Some(std::str::from_utf8(text).map_or(Line::Bad, |text| Line::Text(text.to_owned()))))
    }
}

enum Line {
    Text(String),
    Bad,
}

/// Goes to the end of the line without keeping it.
fn skip_line(lines: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = lines.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        if buffer.is_empty() {
            return Ok(());
        }
        lines.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}
