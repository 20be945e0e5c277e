//! When an entry was accessed last, and how often, in one word.

/// The lower bits hold the count, the others the tick of the last access.
const COUNT_BITS: u32 = 10;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
const TICKS: u32 = 1 << (32 - COUNT_BITS);

/// Ticks are a shard's own time: they pass with its writes, and with its clock while it is idle. They are counted
/// modulo 4 Mi, and several accesses within one count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u32);

impl Access {
    pub(crate) const fn new(tick: u32, count: u32) -> Self {
        let count = if count > COUNT_MAX { COUNT_MAX } else { count };
        Self(((tick % TICKS) << COUNT_BITS) | count)
    }

    /// In how many ticks it was accessed, up to 1023.
    pub(crate) const fn count(self) -> u32 {
        self.0 & COUNT_MAX
    }

    /// How many ticks ago the last access was.
    pub(crate) const fn age(self, tick: u32) -> u32 {
        (tick % TICKS).wrapping_sub(self.0 >> COUNT_BITS) % TICKS
    }

    /// With one more access; `None` if there was one in this tick.
    pub(crate) const fn touched(self, tick: u32) -> Option<Self> {
        let (count, ticked) = (self.count(), tick << COUNT_BITS);
        if self.0 == ticked | count && count > 0 {
            return None;
        }
        Some(Self(ticked | if count < COUNT_MAX { count + 1 } else { count }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_counts_once_in_a_tick() {
        let first = Access::default().touched(0).unwrap();
        assert_eq!((first.count(), first.age(3)), (1, 3));
        assert_eq!(first.touched(0), None);
        assert_eq!(first.touched(1).unwrap(), Access::new(1, 2));
    }

    #[test]
    fn neither_count_nor_tick_runs_over() {
        let hot = Access::new(TICKS - 1, u32::MAX);
        assert_eq!((hot.count(), hot.age(TICKS + 4)), (COUNT_MAX, 5));
        assert_eq!(hot.touched(TICKS).unwrap(), Access::new(0, COUNT_MAX));
    }
}
