//! From inputs to the engine: read on a thread, parse in parallel, take in in order.

use std::fmt;
use std::time::Duration;

use anabranch::{Handle, Ingest, IngestOptions};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::PipelineError;
use crate::arguments::{Arguments, Format};
use crate::csv::Splitter;
use crate::entry::Entry;
use crate::input::{Content, Input, InputError, Raw, Records};
use crate::record::{Parser, Row};
use crate::rejects::{Reject, Rejects};

/// Records parsed by one task.
const CHUNK_RECORDS: usize = 512;
/// Chunks read and not taken in.
const CHUNKS_AHEAD: usize = 8;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    dry: bool,
    rows: u64,
    rejected: u64,
    skipped: u64,
    elapsed: Duration,
    pub(crate) interrupted: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry { "would take in" } else { "took in" };
        write!(formatter, "{verb} {} rows", HumanCount(self.rows))?;
        if !self.elapsed.is_zero() {
            let rate = u128::from(self.rows) * 1_000_000 / self.elapsed.as_micros().max(1);
            write!(
                formatter,
                " in {:.1?}, {} a second",
                self.elapsed,
                HumanCount(rate.try_into().unwrap_or(0))
            )?;
        }
        write!(formatter, "; rejected {}", HumanCount(self.rejected))?;
        write!(formatter, "; {} records were dealt with before", HumanCount(self.skipped))
    }
}

/// Some records, each with its line.
type Chunk = Vec<(u64, Result<Row, Reject>)>;
type Parsing = JoinHandle<Chunk>;

/// Takes inputs in.
pub(crate) struct Load<'a> {
    arguments: &'a Arguments,
    rejects: Rejects,
    target: Option<(Handle<String, Entry>, Ingest<String, Entry>)>,
    summary: Summary,
}

impl<'a> Load<'a> {
    pub(crate) fn dry(arguments: &'a Arguments, rejects: Rejects) -> Self {
        Self { arguments, rejects, target: None, summary: Summary { dry: true, ..Summary::default() } }
    }

    pub(crate) fn into(arguments: &'a Arguments, rejects: Rejects, db: Handle<String, Entry>) -> Self {
        // Without aggregates, a row that is taken in twice changes nothing.
        let options = IngestOptions::default();
        let options = if arguments.group.is_empty() { options } else { options.batch_rows(1_024).exact() };
        let sink = db.ingest(options);
        Self { arguments, rejects, target: Some((db, sink)), summary: Summary::default() }
    }

    /// All of them, one after the other.
    pub(crate) async fn all(mut self, inputs: Vec<Input>) -> Result<Summary, PipelineError> {
        for input in inputs {
            let loaded = self.input(input).await;
            self.rejects.flush().map_err(PipelineError::Rejects)?;
            self.finish_input().await?;
            loaded?;
            if self.summary.interrupted {
                break;
            }
        }
        if let Some((_, sink)) = self.target {
            self.summary.elapsed = sink.report().elapsed;
            sink.finish().await.map_err(anabranch::Error::from)?;
        }
        Ok(Summary { rejected: self.rejects.count, ..self.summary })
    }

    /// Whatever was sent is acknowledged, also after an error.
    async fn finish_input(&mut self) -> Result<(), PipelineError> {
        if let Some((_, sink)) = &mut self.target {
            sink.flush().await.map_err(anabranch::Error::from)?;
        }
        Ok(())
    }

    async fn input(&mut self, input: Input) -> Result<(), PipelineError> {
        let taken = match &self.target {
            Some((db, _)) => db.source_offset(&input.name)?.unwrap_or(0),
            None => 0,
        };
        self.summary.skipped += taken;
        let bar = bar(&input);
        let (sender, mut chunks) = mpsc::channel(CHUNKS_AHEAD);
        let reader = {
            let (input, arguments, bar) = (input.clone(), self.arguments.clone(), bar.clone());
            tokio::task::spawn_blocking(move || read(&input, &arguments, &bar, taken, &sender))
        };
        let mut done = taken;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let parsing: Option<Parsing> = tokio::select! {
                parsing = chunks.recv() => parsing,
                _ = &mut interrupt => {
                    self.summary.interrupted = true;
                    return Ok(());
                }
            };
            let Some(parsing) = parsing else { break };
            let chunk = parsing.await.expect("a parser does not panic, and nobody aborts it");
            self.take_in(&input, chunk, &mut done, &bar).await?;
        }
        bar.finish_and_clear();
        reader.await.expect("a reader does not panic, and nobody aborts it")
    }

    async fn take_in(
        &mut self,
        input: &Input,
        chunk: Chunk,
        done: &mut u64,
        bar: &ProgressBar,
    ) -> Result<(), PipelineError> {
        let failed = anabranch::Error::from;
        for (line, parsed) in chunk {
            *done += 1;
            match parsed {
                Ok(row) => {
                    self.summary.rows += 1;
                    if let Some((_, sink)) = &mut self.target {
                        for (group, amount) in row.groups {
                            let change = move |old: Option<&Entry>| Some(Entry::with_row(old, amount));
                            sink.update(group, change).await.map_err(failed)?;
                        }
                        sink.send(row.key, Entry::Row(row.fields)).await.map_err(failed)?;
                    }
                }
                Err(reject) => {
                    let noted = self.rejects.note(&input.name, line, &reject);
                    if let Some(shown) = noted.map_err(PipelineError::Rejects)? {
                        bar.suspend(|| eprintln!("{shown}"));
                    }
                }
            }
            if let Some((_, sink)) = &mut self.target {
                sink.offset(&input.name, *done);
            }
        }
        bar.set_message(format!("{} rows", HumanCount(self.summary.rows)));
        Ok(())
    }
}

/// Reads records and has them parsed, chunk by chunk. On a thread of its own.
fn read(
    input: &Input,
    arguments: &Arguments,
    bar: &ProgressBar,
    taken: u64,
    chunks: &mpsc::Sender<Parsing>,
) -> Result<(), PipelineError> {
    let mut records = input.open(bar)?;
    let parser = match input.format {
        Format::Ndjson => Parser::ndjson(arguments),
        Format::Csv | Format::Parquet => match header(&mut records, arguments, &input.name)? {
            Some(parser) => parser,
            None if taken == 0 => return Ok(()),
            None => return Err(PipelineError::Shorter { source_name: input.name.clone(), found: 0, taken }),
        },
    };
    for found in 0..taken {
        if records.next()?.is_none() {
            return Err(PipelineError::Shorter { source_name: input.name.clone(), found, taken });
        }
    }
    loop {
        let mut raw = Vec::with_capacity(CHUNK_RECORDS);
        let mut ended = Ok(());
        while raw.len() < CHUNK_RECORDS {
            match records.next() {
                Ok(Some(record)) => raw.push(record),
                Ok(None) => break,
                Err(error) => {
                    // What was read before it is good.
                    ended = Err(error);
                    break;
                }
            }
        }
        let last = raw.len() < CHUNK_RECORDS;
        let parser = parser.clone();
        let parsing = tokio::task::spawn_blocking(move || parse(&parser, raw));
        if chunks.blocking_send(parsing).is_err() || last {
            return Ok(ended?);
        }
    }
}

fn header(records: &mut Records, arguments: &Arguments, name: &str) -> Result<Option<Parser>, InputError> {
    let parser = match records {
        Records::Rows(table) => Parser::table(arguments, table.columns()),
        Records::Lines(_) => match records.next()?.map(|raw| raw.content) {
            Some(Content::Text(header)) => Parser::csv(arguments, &header),
            Some(_) => Err("the names of the columns can't be read".to_owned()),
            None => return Ok(None),
        },
    };
    parser.map(Some).map_err(|reason| InputError::Header { name: name.to_owned(), reason })
}

fn parse(parser: &Parser, raw: Vec<Raw>) -> Chunk {
    let mut csv = Splitter::new();
    raw.into_iter().map(|Raw { line, content }| (line, parser.parse(content, &mut csv))).collect()
}

fn bar(input: &Input) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let (bar, style) = match input.bytes() {
        Some(bytes) => (
            ProgressBar::with_draw_target(Some(bytes), target),
            "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left, {msg}",
        ),
        None => (ProgressBar::with_draw_target(None, target), "{prefix} {bytes} {bytes_per_sec}, {msg}"),
    };
    let style = ProgressStyle::with_template(style).expect("the template is well-formed: a test draws it");
    bar.with_style(style).with_prefix(input.name.clone())
}
