//! The leader: writes, and sends what it has written to the copy.

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;

use anabranch::{Engine, Error, Timestamp};
use futures_core::Stream;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::process::{ChildStdin, Command};

use crate::Failure;
use crate::message::{Db, FromCopy, ToCopy, digest, receive, send};

/// Entries of a snapshot in one message.
const ENTRIES: usize = 500;

pub(crate) async fn run(leader: &Path, follower: &Path, commits: u64) -> Result<(), Failure> {
    let engine: Engine<String, String> = Engine::builder().retain_log_bytes(64 << 20).open(leader).await?;
    let db = engine.handle();
    let mut copy = Command::new(std::env::current_exe()?)
        .arg("--copy")
        .arg(follower)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(to), Some(from)) = (copy.stdin.take(), copy.stdout.take()) else {
        unreachable!("both are piped")
    };
    let (mut to, mut from) = (BufWriter::new(to), BufReader::new(from));

    let last = Timestamp(db.snapshot().timestamp().0 + commits);
    let writing = tokio::spawn(write(db.clone(), last));
    let Some(FromCopy::Reached(reached)) = receive(&mut from).await? else {
        return Err("the copy ended".into());
    };
    let process = copy.id().map_or_else(String::new, |id| format!(", process {id},"));
    let at = reached.map_or_else(|| "nothing".to_owned(), |commit| format!("commit {commit}"));
    println!("the copy{process} has reached {at}");
    follow(&db, reached.map(Timestamp), last, &mut to).await?;
    writing.await??;
    to.shutdown().await?;
    drop(to);

    let Some(FromCopy::Holds { entries, digest: copied }) = receive(&mut from).await? else {
        return Err("the copy ended".into());
    };
    copy.wait().await?;
    let (expected, original) = digest(db.range(..))?;
    engine.close().await?;
    if (entries, copied) != (expected, original) {
        return Err(format!("the copy differs: {entries} entries, and not {expected}").into());
    }
    println!("identical at commit {last}: {entries} entries, digest {copied:016x}");
    Ok(())
}

/// Changes something in every commit, up to the last one.
async fn write(db: Db, last: Timestamp) -> Result<(), Error> {
    loop {
        let now = db.snapshot().timestamp();
        if now >= last {
            return Ok(());
        }
        db.transaction(|txn| {
            let number = now.0;
            let (first, second) = (format!("key {}", number % 97), format!("key {}", (number * 31) % 997));
            txn.update(first, |old| {
                Some(format!("{} {number}", old.map_or("", |old| old.get(..8).unwrap_or(old))))
            })?;
            if number.is_multiple_of(5) {
                txn.remove(&second);
            } else {
                txn.insert(second, format!("{number:>20}"));
            }
            Ok::<_, Error>(())
        })
        .await?;
    }
}

/// Sends the changes up to `last`, after a snapshot if it must.
async fn follow(
    db: &Db,
    reached: Option<Timestamp>,
    last: Timestamp,
    to: &mut BufWriter<ChildStdin>,
) -> Result<(), Failure> {
    let mut reached = match reached {
        Some(reached) => reached,
        None => begin(db, to).await?,
    };
    let mut changes = db.changes(reached);
    while reached < last {
        let next = poll_fn(|context| Pin::new(&mut changes).poll_next(context)).await;
        match next.ok_or("a feed has no end")? {
            Ok(set) => {
                reached = set.timestamp;
                let changes = set.changes.into_iter().map(|change| (change.key, change.value)).collect();
                send(to, &ToCopy::Commit { timestamp: reached.0, changes }).await?;
            }
            Err(Error::ChangesGone { .. }) => {
                reached = begin(db, to).await?;
                changes = db.changes(reached);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends a snapshot, and returns the commit that it shows.
async fn begin(db: &Db, to: &mut BufWriter<ChildStdin>) -> Result<Timestamp, Failure> {
    let snapshot = db.snapshot();
    send(to, &ToCopy::Begin).await?;
    let mut entries = Vec::new();
    for entry in snapshot.range(..) {
        let (key, value) = entry?;
        entries.push((key, value.as_ref().clone()));
        if entries.len() == ENTRIES {
            send(to, &ToCopy::Entries(std::mem::take(&mut entries))).await?;
        }
    }
    send(to, &ToCopy::Entries(entries)).await?;
    send(to, &ToCopy::Begun(snapshot.timestamp().0)).await?;
    println!("a snapshot of commit {} was sent", snapshot.timestamp());
    Ok(snapshot.timestamp())
}
