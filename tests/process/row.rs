//! Keys and values: a value tells who wrote it, and its other bytes follow from that.

use std::fmt;

pub(crate) type Key = String;
/// A write's number and the bytes that follow from it; for a counter, the count and nothing.
pub(crate) type Value = (u64, String);

/// Keys of counters, which any task adds to.
pub(crate) const COUNTER: &str = "counter/";
/// Keys that any task writes to, in transactions.
pub(crate) const SHARED: &str = "shared/";
/// Keys of one task each.
pub(crate) const OWN: &str = "own/";
pub(crate) const OWN_SLOTS: u64 = 16;

pub(crate) fn own_key(task: u64, slot: u64) -> Key {
    format!("{OWN}{task}/{slot:02}")
}

/// A write's number, unique over all lives of a directory, with the length of its value in the low bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(pub(crate) u64);

const LENGTH_BITS: u32 = 20;
const NUMBER_BITS: u32 = 20;
const TASK_BITS: u32 = 6;

impl Tag {
    pub(crate) fn new(life: u64, task: u64, number: u64, length: u64) -> Self {
        assert!(length < 1 << LENGTH_BITS && number < 1 << NUMBER_BITS && task < 1 << TASK_BITS);
        Self((((life << TASK_BITS | task) << NUMBER_BITS | number) << LENGTH_BITS) | length)
    }

    pub(crate) fn value(self) -> Value {
        let length = usize::try_from(self.0 & ((1 << LENGTH_BITS) - 1)).expect("20 bits");
        let mut fill = format!("{:016x}", self.0).repeat(length / 16 + 1);
        fill.truncate(length);
        (self.0, fill)
    }

    /// The tag of a value read, or `None` if the bytes don't belong to it.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let tag = Self(value.0);
        (tag.value() == *value).then_some(tag)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, rest) = (self.0 & ((1 << LENGTH_BITS) - 1), self.0 >> LENGTH_BITS);
        let (number, rest) = (rest & ((1 << NUMBER_BITS) - 1), rest >> NUMBER_BITS);
        let (task, life) = (rest & ((1 << TASK_BITS) - 1), rest >> TASK_BITS);
        write!(formatter, "life {life} task {task} operation {number} ({length} B)")
    }
}
