//! The input: a CSV of flights, plain or gzip, a file or standard input, read in chunks on a thread of its own.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::IngestError;
use crate::flights::Progress;

const HEADER: &str = "date,delay,distance,origin,destination";
/// Lines after which the progress is committed.
const CHUNK_LINES: usize = 5_000;
/// A longer line is malformed, and is not read into memory.
const LINE_BYTES_MAX: usize = 1_024;
/// Of a malformed line, so much is shown.
const FOUND_CHARS_MAX: usize = 80;

/// A flight, as a line of the file gives it.
#[derive(Debug)]
pub(crate) struct Row {
    /// The line's number in the input. The header is line 1.
    pub(crate) line: u64,
    /// As in `2001-01-01T00:01`.
    pub(crate) time: String,
    /// Minutes; below zero means early.
    pub(crate) delay: i32,
    /// Miles.
    pub(crate) distance: u32,
    pub(crate) origin: String,
    pub(crate) destination: String,
}

/// Some rows, and how far the input is done with them.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) rows: Vec<Row>,
    pub(crate) malformed: Vec<Malformed>,
    pub(crate) progress: Progress,
}

/// A line that is not a flight. The lines around it are not affected.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}:{line}: expected {expected}, found {found:?}")]
pub(crate) struct Malformed {
    pub(crate) source_name: String,
    pub(crate) line: u64,
    pub(crate) expected: &'static str,
    pub(crate) found: String,
}

/// Where the lines come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Stdin,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Stdin => formatter.write_str("standard input"),
        }
    }
}

impl Source {
    /// Opens the source behind the bar, and sees by its first bytes whether it is gzip.
    pub(crate) fn open(self, bar: &ProgressBar) -> Result<Lines, IngestError> {
        let reader = match &self {
            Self::File(path) => File::open(path).and_then(|file| {
                bar.set_length(file.metadata()?.len());
                unpacked(bar.wrap_read(file))
            }),
            Self::Stdin => unpacked(bar.wrap_read(io::stdin())),
        };
        match reader {
            Ok(reader) => Ok(Lines::new(self, reader)),
            Err(error) => Err(IngestError::Read { source_name: self.to_string(), error }),
        }
    }
}

fn unpacked(raw: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(64 << 10, raw);
    if raw.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(BufReader::with_capacity(64 << 10, MultiGzDecoder::new(raw))))
    } else {
        Ok(Box::new(raw))
    }
}

/// Reads the lines to their end, and sends what comes after `done` in chunks. A chunk waits until there is room
/// for it. Blocks: for a blocking thread.
pub(crate) fn read(
    mut lines: Lines,
    done: Progress,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), IngestError> {
    if !lines.next()? || lines.text != HEADER.as_bytes() {
        return Err(lines.malformed("the header date,delay,distance,origin,destination").into());
    }
    while lines.number < done.lines && lines.next()? {}
    if done.lines > 0 && (lines.number, lines.checksum()) != (done.lines, done.checksum) {
        return Err(IngestError::OtherInput { source_name: lines.source.to_string(), lines: done.lines });
    }

    let mut chunk = Chunk { rows: Vec::new(), malformed: Vec::new(), progress: done };
    loop {
        let outcome = fill(&mut lines, &mut chunk);
        // A fault in the middle, such as a gzip that breaks off, ends the input after what was good.
        let ended = !matches!(outcome, Ok(true));
        let progress = chunk.progress;
        if chunk.progress.lines > done.lines && chunks.blocking_send(chunk).is_err() {
            return Ok(()); // Interrupted: nobody wants more.
        }
        if ended {
            return outcome.map(drop);
        }
        chunk = Chunk { rows: Vec::new(), malformed: Vec::new(), progress };
    }
}

/// Reads a chunk; `false` if the input has ended.
fn fill(lines: &mut Lines, chunk: &mut Chunk) -> Result<bool, IngestError> {
    let progress = &mut chunk.progress;
    for _ in 0..CHUNK_LINES {
        if !lines.next()? {
            return Ok(false);
        }
        match parse(lines.number, &lines.text()) {
            _ if lines.text.is_empty() => {}
            Ok(row) => {
                chunk.rows.push(row);
                progress.flights += 1;
            }
            Err(expected) => {
                chunk.malformed.push(lines.malformed(expected));
                progress.rejected += 1;
            }
        }
        (progress.lines, progress.checksum) = (lines.number, lines.checksum());
    }
    Ok(true)
}

/// The lines of a source, numbered from 1, with a checksum of all so far.
pub(crate) struct Lines {
    source: Source,
    reader: Box<dyn BufRead + Send>,
    number: u64,
    /// The line, without its end.
    text: Vec<u8>,
    checksum: crc32fast::Hasher,
}

impl Lines {
    fn new(source: Source, reader: Box<dyn BufRead + Send>) -> Self {
        Self { source, reader, number: 0, text: Vec::new(), checksum: crc32fast::Hasher::new() }
    }

    /// Reads the next line; `false` at the end.
    fn next(&mut self) -> Result<bool, IngestError> {
        let read = self.try_next();
        read.map_err(|error| IngestError::Read { source_name: self.source.to_string(), error })
    }

    fn try_next(&mut self) -> io::Result<bool> {
        self.text.clear();
        let bytes = (&mut self.reader).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.text)?;
        if bytes == 0 {
            return Ok(false);
        }
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
        } else if bytes == LINE_BYTES_MAX {
            self.reader.skip_until(b'\n')?;
        }
        if self.text.last() == Some(&b'\r') {
            self.text.pop();
        }
        self.number += 1;
        self.checksum.update(&self.text);
        self.checksum.update(b"\n");
        Ok(true)
    }

    /// What to say of the current line.
    fn malformed(&self, expected: &'static str) -> Malformed {
        let mut found = self.text();
        if let Some((end, _)) = found.char_indices().nth(FOUND_CHARS_MAX) {
            found.truncate(end);
            found.push('…');
        }
        Malformed { source_name: self.source.to_string(), line: self.number.max(1), expected, found }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    fn checksum(&self) -> u32 {
        self.checksum.clone().finalize()
    }
}

/// Reads a line as a flight, or says what it should have been.
fn parse(line: u64, text: &str) -> Result<Row, &'static str> {
    let fields: Vec<&str> = text.split(',').collect();
    let &[time, delay, distance, origin, destination] = fields.as_slice() else {
        return Err("five fields, date,delay,distance,origin,destination");
    };
    if !is_time(time) {
        return Err("a date like 2001-01-31T23:59 in the first field");
    }
    let delay = delay.parse().map_err(|_| "a delay in whole minutes in the second field")?;
    let distance = distance.parse().map_err(|_| "a distance in whole miles in the third field")?;
    if !is_airport(origin) {
        return Err("an origin of three capital letters in the fourth field");
    }
    if !is_airport(destination) {
        return Err("a destination of three capital letters in the fifth field");
    }
    let (time, origin, destination) = (time.to_owned(), origin.to_owned(), destination.to_owned());
    Ok(Row { line, time, delay, distance, origin, destination })
}

/// Whether this is a time like `2001-01-31T23:59`, which then sorts as text.
fn is_time(text: &str) -> bool {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<u32>().ok())
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':')];
    text.len() == 16
        && separators.iter().all(|&(at, separator)| text.as_bytes()[at] == separator)
        && number(0, 4).is_some()
        && number(5, 7).is_some_and(|month| (1..=12).contains(&month))
        && number(8, 10).is_some_and(|day| (1..=31).contains(&day))
        && number(11, 13).is_some_and(|hour| hour < 24)
        && number(14, 16).is_some_and(|minute| minute < 60)
}

fn is_airport(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|letter| letter.is_ascii_uppercase())
}
