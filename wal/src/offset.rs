//! How far a source has been taken in: an offset under the source's name, written like an entry, in a keyspace
//! of its own. So it is a part of a commit, and goes wherever commits go: to the log, into checkpoints and backups.

use std::sync::Arc;

use crate::record::{Malformed, Write};

/// The keyspace of offsets.
pub(crate) const OFFSETS_KEYSPACE: u32 = 1;

/// Up to here, in units that only the source knows, everything of it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOffset {
    /// The source's name.
    pub source: Arc<str>,
    /// How far it is in.
    pub offset: u64,
}

impl Write {
    /// Whether this has a meaning in this version: an entry, which may expire, its removal, or an offset; none with
    /// metadata.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let may_expire = self.keyspace < OFFSETS_KEYSPACE && self.value.is_some();
        self.keyspace <= OFFSETS_KEYSPACE
            && self.metadata.is_none()
            && (may_expire || self.expires_unix_millis.is_none())
    }

    /// The offset that this write sets, or `None` if it is one of an entry.
    ///
    /// # Errors
    /// If it is of the keyspace of offsets, and no offset.
    pub fn as_offset(&self) -> Result<Option<SourceOffset>, Malformed> {
        if self.keyspace != OFFSETS_KEYSPACE {
            return Ok(None);
        }
        let malformed = Malformed::Shape("an offset that is not a name and a number");
        let source = std::str::from_utf8(&self.key).map_err(|_| malformed.clone())?;
        let number = self.value.as_deref().and_then(|value| <[u8; 8]>::try_from(value).ok());
        let offset = u64::from_le_bytes(number.ok_or(malformed)?);
        Ok(Some(SourceOffset { source: source.into(), offset }))
    }
}
