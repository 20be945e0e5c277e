//! The numbers that name things in the log. Each is a type of its own, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number that follows this one. It saturates: a hostile file may hold any number, and a
            /// count of commits does not come near.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The number before this one; zero stays.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A commit timestamp: the place of a commit in the one commit order of the engine. Dense from 1; 0 is
    /// "before every commit".
    Timestamp(u64)
}
number! {
    /// One shard's log. Never reused within a database (PROTOCOL L3).
    LogId(u32)
}
number! {
    /// One life of the engine between an open and the next (RELIABILITY R1, "epoch").
    Incarnation(u64)
}
number! {
    /// The number of a segment within its log. Never reused: a recycled file gets a new one.
    SegmentNumber(u64)
}
number! {
    /// The number of a batch within its log, dense from 1 across segments and incarnations.
    Lsn(u64)
}
number! {
    /// The number in a checkpoint's file name. Never reused within a database.
    FileNumber(u64)
}
number! {
    /// Identifies one database, so that a file of another is never taken for ours (RELIABILITY R1b).
    DatabaseId(u64)
}

impl Timestamp {
    /// Before every commit.
    pub const ZERO: Self = Self(0);
    /// After every commit: the floor of a log that holds nothing back.
    pub const MAX: Self = Self(u64::MAX);
}
