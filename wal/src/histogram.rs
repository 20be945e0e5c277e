//! Histograms of latencies and of sizes: fixed buckets, recorded by any number of tasks without a lock.
//!
//! Our own and not `hdrhistogram`'s: that one wants `&mut` or a recorder for each thread, and what is read from it
//! does not serialise as a plain struct. The buckets are the usual ones, four to each doubling, so a quantile is at
//! the most a quarter too high. Recorded for flushes and batches, never for single operations.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Buckets to each doubling, as a power of two.
const SUB_BITS: u32 = 2;
const SUBS: u64 = 1 << SUB_BITS;
const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// A live histogram of whole numbers.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64; BUCKETS]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = Box::new(array::from_fn(|_| AtomicU64::new(0)));
        Self { counts, sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Records a value.
    pub fn record(&self, value: u64) {
        self.counts[bucket_of(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    /// Records how long something took, in nanoseconds.
    pub fn record_elapsed(&self, elapsed: std::time::Duration) {
        self.record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was recorded so far.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.counts.iter().enumerate().map(|(index, count)| (upper_bound(index), read(count)));
        let buckets: Vec<(u64, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Distribution { count, sum: read(&self.sum), max: read(&self.max), buckets }
    }
}

/// What a histogram has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Distribution {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The largest.
    pub max: u64,
    /// The highest value that belongs into each bucket, ascending, and how many values did. Empty buckets are left
    /// out.
    pub buckets: Vec<(u64, u64)>,
}

impl Distribution {
    /// A value that this share of all values, from 0 to 1, does not exceed; at the most a quarter too high. Zero if
    /// there is none.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count, for people"
    )]
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bound, count) in &self.buckets {
            seen += count;
            if seen >= wanted {
                return self.max.min(*bound);
            }
        }
        self.max
    }

    /// The mean, `None` if there is no value.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// What came on top of an earlier reading of the same histogram: each bucket's bound, and by how much it grew.
    pub fn since<'d>(&'d self, earlier: &'d Self) -> impl Iterator<Item = (u64, u64)> + 'd {
        self.buckets.iter().filter_map(|(bound, count)| {
            let at = earlier.buckets.binary_search_by_key(bound, |(bound, _)| *bound);
            let before = at.map_or(0, |at| earlier.buckets[at].1);
            let more = count.saturating_sub(before);
            (more > 0).then_some((*bound, more))
        })
    }
}

impl std::ops::AddAssign<&Self> for Distribution {
    fn add_assign(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        for (bound, count) in &other.buckets {
            match self.buckets.binary_search_by_key(bound, |(bound, _)| *bound) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*bound, *count)),
            }
        }
    }
}

fn bucket_of(value: u64) -> usize {
    let bucket = match value.checked_ilog2() {
        Some(log) if log >= SUB_BITS => {
            let sub = (value >> (log - SUB_BITS)) & (SUBS - 1);
            (u64::from(log - SUB_BITS + 1) << SUB_BITS) | sub
        }
        _ => value,
    };
    usize::try_from(bucket).expect("there are few buckets")
}

/// The highest value in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUBS {
        return bucket;
    }
    let (doubling, sub) = ((bucket >> SUB_BITS) - 1, bucket & (SUBS - 1));
    // In this order: the last bucket's bound is all of `u64`.
    ((SUBS + sub) << doubling) + ((1 << doubling) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_at_or_below_its_buckets_bound_and_not_far(value: u64) {
            let bucket = bucket_of(value);
            let bound = upper_bound(bucket);
            prop_assert!(value <= bound && bound - value <= value / 4, "{value} below {bound}");
            prop_assert!(bucket == 0 || upper_bound(bucket - 1) < value);
        }

        #[test]
        fn quantiles_are_at_the_most_a_quarter_too_high(mut values in prop::collection::vec(0u64..100_000, 1..200)) {
            let histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let read = histogram.read();
            prop_assert_eq!(read.count, values.len() as u64);
            prop_assert_eq!(read.sum, values.iter().sum::<u64>());
            prop_assert_eq!(read.max, *values.last().unwrap());
            for (share, at) in [(0.0, 0), (0.5, (values.len() - 1) / 2), (1.0, values.len() - 1)] {
                let (exact, quantile) = (values[at], read.quantile(share));
                prop_assert!(exact <= quantile && quantile <= exact + exact / 4, "{quantile} for {exact}");
            }
        }
    }

    #[test]
    fn the_buckets_end_with_the_largest_number() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn readings_add_up_and_differ_by_what_came_between() {
        let histogram = Histogram::default();
        histogram.record(5);
        let first = histogram.read();
        histogram.record(5);
        histogram.record(1_000);
        let second = histogram.read();
        assert_eq!(second.since(&first).map(|(_, more)| more).collect::<Vec<_>>(), [1, 1]);
        let mut sum = first.clone();
        sum += &second;
        assert_eq!((sum.count, sum.sum, sum.max), (4, 1_015, 1_000));
        assert_eq!(Distribution::default().quantile(0.5), 0);
    }
}
