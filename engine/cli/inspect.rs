//! `anabranch inspect`: what the files hold.

use std::io::{self, Write};

use anabranch_wal::inspect::{
    BatchView, CheckpointView, Detail, LayoutView, ManifestView, SegmentRole, SegmentView, inspect,
};

use super::failure::{Failure, commits};
use super::session::{BAD, FAINT, GOOD, NOTE, Session, TITLE, print};
use super::{Outcome, Source};

/// Shows what the files hold: both slots of the manifest, logs, segments, batches, checkpoints.
///
/// Damage is shown as it is found and does not stop it; whether anything is lost, `verify` says. Nothing is
/// written, not even to the file LOCK.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Print JSON. The numbers of database and seed are text in it, since they may use 64 bits.
    #[arg(long)]
    json: bool,
    /// List the batches of each segment, or the first N of each.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "4294967295")]
    batches: Option<u32>,
    /// List the records that end in each batch, too.
    #[arg(long)]
    records: bool,
    /// Look without the lock, also while an engine has the directory. What is shown may then be torn: files
    /// change while they are read, and what looks damaged need not be.
    #[arg(long)]
    no_lock: bool,
}

pub(super) async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let session = Session::open(&arguments.source.directory, !arguments.no_lock, "reading")?;
    let batches = arguments.batches.unwrap_or(if arguments.records { u32::MAX } else { 0 });
    let detail =
        Detail { batches_max: usize::try_from(batches).unwrap_or(usize::MAX), records: arguments.records };
    let layout = inspect(&session.disk, &session.directory, detail).await;
    session.done();
    let layout = layout.map_err(|error| Failure::reading(&session.directory, &error))?;
    print(|output| {
        if arguments.json {
            let mut json = serde_json::to_value(&layout)?;
            if let Some(object) = json.as_object_mut() {
                object.insert("directory".into(), session.directory.display().to_string().into());
                object.insert("locked".into(), (!arguments.no_lock).into());
            }
            serde_json::to_writer_pretty(&mut *output, &json)?;
            return writeln!(output);
        }
        if arguments.no_lock {
            writeln!(output, "{NOTE}note:{NOTE:#} looked at without the lock; the view may be torn")?;
        }
        show(output, &layout, arguments.batches.is_some() || arguments.records)
    })?;
    Ok(Outcome::Sound)
}

fn show(output: &mut dyn Write, layout: &LayoutView, batches: bool) -> io::Result<()> {
    writeln!(output, "{TITLE}Manifest{TITLE:#}")?;
    if layout.slots.is_empty() {
        writeln!(output, "  {BAD}missing{BAD:#}")?;
    }
    for slot in &layout.slots {
        let sequence = slot.sequence.map_or_else(String::new, |sequence| format!("write {sequence}, "));
        let state = match slot.state.as_str() {
            good @ ("intact" | "empty") => good.to_owned(),
            bad => format!("{BAD}{bad}{BAD:#}"),
        };
        let chosen = if slot.chosen { format!(", {GOOD}counts{GOOD:#}") } else { String::new() };
        writeln!(output, "  slot at byte {}: {sequence}{state}{chosen}", slot.offset)?;
    }
    if let Some(manifest) = layout.manifest() {
        show_manifest(output, manifest)?;
    }
    writeln!(output, "{TITLE}Segments{TITLE:#}")?;
    for segment in &layout.segments {
        show_segment(output, segment)?;
        for batch in &segment.batches {
            show_batch(output, batch)?;
        }
        if batches && segment.batch_count > segment.batches.len() as u64 {
            let more = segment.batch_count - segment.batches.len() as u64;
            writeln!(output, "    {FAINT}and {more} more batches{FAINT:#}")?;
        }
        writeln!(output, "    {FAINT}then {}{FAINT:#}", segment.ends)?;
        problem(output, segment.problem.as_deref())?;
    }
    writeln!(output, "{TITLE}Checkpoints{TITLE:#}")?;
    if layout.checkpoints.is_empty() {
        writeln!(output, "  none")?;
    }
    for checkpoint in &layout.checkpoints {
        show_checkpoint(output, checkpoint)?;
    }
    if let Some(other) = &layout.other {
        writeln!(output, "{NOTE}note:{NOTE:#} there are files that are not anabranch's, such as {other}")?;
    }
    Ok(())
}

fn show_manifest(output: &mut dyn Write, manifest: &ManifestView) -> io::Result<()> {
    let ManifestView { format, database, incarnation, hash, hash_seed, synced, .. } = manifest;
    writeln!(output, "  format {format}, database {database}, incarnation {incarnation}")?;
    writeln!(output, "  keys are routed by {hash}, seed {hash_seed}")?;
    writeln!(output, "  promises that everything was synced up to commit {synced}")?;
    writeln!(output, "  next log {}, next checkpoint {}", manifest.next_log, manifest.next_file)?;
    for fence in &manifest.fences {
        writeln!(output, "  of incarnation {}, commits up to {} count", fence.incarnation, fence.cut)?;
    }
    writeln!(output, "{TITLE}Logs{TITLE:#}")?;
    for (shard, log) in manifest.logs.iter().enumerate() {
        write!(
            output,
            "  shard {shard}: log {}, first segment {}, synced up to batch {}, {} files, ",
            log.id, log.first_segment, log.durable_lsn, log.files
        )?;
        match log.checkpoint {
            Some(checkpoint) => writeln!(
                output,
                "checkpoint {} at commit {}: {} entries, {} bytes",
                checkpoint.file, checkpoint.timestamp, checkpoint.entries, checkpoint.bytes
            )?,
            None => writeln!(output, "no checkpoint")?,
        }
    }
    Ok(())
}

fn show_segment(output: &mut dyn Write, segment: &SegmentView) -> io::Result<()> {
    let role = match segment.role {
        SegmentRole::Needed => "needed",
        SegmentRole::Free => "free for reuse",
        SegmentRole::Blank if segment.ends == "zeros" => "never used",
        SegmentRole::Blank => "no intact header",
        SegmentRole::Orphan => "orphan: the manifest does not name its log",
        SegmentRole::Unknown => "no manifest says whether it counts",
    };
    write!(output, "  {}: {} bytes, {role}", segment.file, segment.bytes)?;
    if let (Some(number), Some(incarnation)) = (segment.number, segment.incarnation) {
        write!(output, ", segment {number} of incarnation {incarnation}")?;
    }
    writeln!(output, ", {} used, {} free", segment.used_bytes, segment.free_bytes)?;
    if let (Some(first), Some(last)) = (segment.first_lsn, segment.last_lsn) {
        write!(output, "    batches {first} to {last}, {} records", segment.record_count)?;
        if let (Some(lowest), Some(highest)) = (segment.lowest, segment.highest) {
            write!(output, " of {}", commits(lowest, highest))?;
        }
        if let Some(cut) = segment.cut {
            write!(output, "; those up to {cut} count")?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn show_batch(output: &mut dyn Write, batch: &BatchView) -> io::Result<()> {
    write!(
        output,
        "    batch {} at byte {}: {}, {} bytes",
        batch.lsn, batch.offset, batch.kind, batch.bytes
    )?;
    if batch.kind == "data" {
        let range = commits(batch.lowest, batch.highest);
        write!(output, ", {} records, {range}, {} bytes of records", batch.records, batch.payload_bytes)?;
    }
    writeln!(output, "; promises batch {}, commit {}", batch.durable_lsn, batch.synced)?;
    for record in &batch.contents {
        let logs: Vec<_> = record.logs.iter().map(ToString::to_string).collect();
        writeln!(
            output,
            "      commit {} in log {}: {} writes, {} bytes",
            record.timestamp,
            logs.join(", "),
            record.writes,
            record.bytes
        )?;
    }
    Ok(())
}

fn show_checkpoint(output: &mut dyn Write, checkpoint: &CheckpointView) -> io::Result<()> {
    write!(output, "  {}: {} bytes", checkpoint.file, checkpoint.bytes)?;
    if let (Some(log), Some(timestamp)) = (checkpoint.log, checkpoint.timestamp) {
        write!(output, ", log {log} at commit {timestamp}")?;
    }
    if let Some(entries) = checkpoint.entries {
        write!(output, ", {entries} entries")?;
    }
    writeln!(output, "{}", if checkpoint.named { "" } else { ", not named by the manifest" })?;
    problem(output, checkpoint.problem.as_deref())
}

fn problem(output: &mut dyn Write, problem: Option<&str>) -> io::Result<()> {
    problem.map_or(Ok(()), |problem| writeln!(output, "    {BAD}problem:{BAD:#} {problem}"))
}
