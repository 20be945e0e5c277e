//! The follower: applies what the leader sends.

use std::path::Path;
use std::time::Duration;

use anabranch::{Engine, Error, IngestOptions};
use tokio::io::{BufReader, stdin, stdout};

use crate::Failure;
use crate::message::{Change, FromCopy, ToCopy, digest, receive, send};

/// The leader's commits are this source, and their timestamps its offsets.
const LEADER: &str = "leader";

/// Opens the directory. A copy whose leader was killed may still be about to give it back.
async fn open(directory: &Path) -> Result<Engine<String, String>, Error> {
    let mut tries = 0;
    loop {
        match Engine::builder().open(directory).await {
            Err(Error::Locked { .. }) if tries < 100 => tries += 1,
            outcome => return outcome,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn run(directory: &Path) -> Result<(), Failure> {
    let engine = open(directory).await?;
    let db = engine.handle();
    let (mut from, mut to) = (BufReader::new(stdin()), stdout());
    // 0 stands for a snapshot that is not whole.
    let reached = db.source_offset(LEADER)?.filter(|reached| *reached > 0);
    send(&mut to, &FromCopy::Reached(reached)).await?;
    let mut sink = db.ingest(IngestOptions::default().exact());
    while let Some(message) = receive(&mut from).await? {
        let (changes, reached) = match message {
            ToCopy::Begin => {
                let keys: Vec<_> =
                    db.range(..).map(|entry| Ok((entry?.0, None))).collect::<Result<_, Failure>>()?;
                (keys, 0)
            }
            ToCopy::Entries(entries) => {
                (entries.into_iter().map(|(key, value)| (key, Some(value))).collect::<Vec<Change>>(), 0)
            }
            ToCopy::Begun(timestamp) => (Vec::new(), timestamp),
            ToCopy::Commit { timestamp, changes } => (changes, timestamp),
        };
        for (key, value) in changes {
            match value {
                Some(value) => sink.send(key, value).await?,
                None => sink.remove(key).await?,
            }
        }
        // In exact mode the commit and its place are one.
        sink.offset(LEADER, reached);
    }
    sink.finish().await?;
    let (entries, digest) = digest(db.range(..))?;
    send(&mut to, &FromCopy::Holds { entries, digest }).await?;
    engine.close().await?;
    Ok(())
}
