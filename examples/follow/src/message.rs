//! What the two processes say to each other: JSON, one message on each line.

use std::hash::Hasher;

use anabranch::{Error, Handle};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::Failure;

pub(crate) type Db = Handle<String, String>;

/// A key, and its value from here on; `None` if it was removed.
pub(crate) type Change = (String, Option<String>);

/// From the leader.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToCopy {
    /// What the copy holds is of no use: a snapshot follows.
    Begin,
    /// Entries of the snapshot.
    Entries(Vec<(String, String)>),
    /// The snapshot is whole, and shows this commit.
    Begun(u64),
    /// A commit.
    Commit { timestamp: u64, changes: Vec<Change> },
}

/// From the copy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromCopy {
    /// It holds everything up to this commit of the leader. `None`: it has yet to begin.
    Reached(Option<u64>),
    /// It has come to the end, and holds this.
    Holds { entries: u64, digest: u64 },
}

/// Sends a message.
pub(crate) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    Ok(())
}

/// The next message, or `None` at the end.
pub(crate) async fn receive<M: for<'m> Deserialize<'m>>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<M>, Failure> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 || !line.ends_with('\n') {
        // Half a line is the end of a process that was killed.
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// How many entries there are, and a digest of them all.
pub(crate) fn digest(
    entries: impl Iterator<Item = Result<(String, std::sync::Arc<String>), Error>>,
) -> Result<(u64, u64), Error> {
    let mut count = 0;
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    for entry in entries {
        let (key, value) = entry?;
        count += 1;
        for text in [&key, &*value] {
            fnv.write(&(text.len() as u64).to_le_bytes());
            fnv.write(text.as_bytes());
        }
    }
    Ok((count, fnv.finish()))
}

/// FNV-1a: the same in both processes, and for this enough.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
