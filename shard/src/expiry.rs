//! When an entry ceases to be there.

/// The moment, in milliseconds since the Unix epoch, from which on an entry is no longer returned; or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(u64);

impl Expiry {
    /// The entry stays until it is written or removed.
    pub const NEVER: Self = Self(u64::MAX);

    /// At this moment, or never.
    #[must_use]
    pub fn new(unix_millis: Option<u64>) -> Self {
        unix_millis.map_or(Self::NEVER, Self)
    }

    /// The moment, unless it is never.
    #[must_use]
    pub fn unix_millis(self) -> Option<u64> {
        (self != Self::NEVER).then_some(self.0)
    }

    /// Whether it is past at this moment.
    pub(crate) const fn is_past(self, unix_millis: u64) -> bool {
        self.0 <= unix_millis && self.0 != u64::MAX
    }
}

impl Default for Expiry {
    fn default() -> Self {
        Self::NEVER
    }
}
