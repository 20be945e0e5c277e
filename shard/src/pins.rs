//! The pins and the lines of one shard: who may go ahead, who waits, and for whom.
//!
//! Owns every entry (one transaction's footprint here) from its admission to its release. An entry is
//! *pinned* once nothing earlier conflicts with it, and stands *in line* until then. Two entries conflict if
//! one writes a key that the other reads or writes, by key or by a range around it, whether or not the key
//! exists; reads never conflict with reads.
//!
//! Promises:
//!
//! - a write waits behind reads and writes alike, blind ones included (V2);
//! - an entry waits for *every* earlier entry that it conflicts with, pinned or itself in line (V3), so each
//!   waits only for earlier ones and no cycle can form;
//! - a release, of a pin or of a place in line, leaves nothing behind and drains the lines (V4);
//! - a hot key drains in `O(n log n)` for `n` entries, ranges among them (V10).
//!
//! How: each key that an entry names has a queue of requests in order of arrival, of which a prefix is
//! granted. A range is a read request in the queue of *every* written key inside its bounds: it joins those
//! that exist when it arrives, and a queue takes it over from the list of ranges with its first write. So all
//! waiting happens in queues, and an entry is pinned when none of its requests waits. The price is that a
//! range looks at each named key within it, and the first write of a key at each live range.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::ops::{Bound, RangeBounds};

/// The bounds of a range read, as it was asked for (V6). They may be empty or inverted: such a range holds no
/// key and conflicts with nothing.
pub type Bounds<K> = (Bound<K>, Bound<K>);

/// The order of arrival at this shard: unique, given by the caller, larger for each `admit` than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Arrival(pub(crate) u64);

/// What one transaction touches on this shard. Keys may repeat, and may be both read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint<'a, K> {
    /// Keys read, existing or not.
    pub(crate) reads: &'a [K],
    /// Ranges read: reads of every key inside, existing or not.
    pub(crate) ranges: &'a [Bounds<K>],
    /// Keys written or removed, blindly or not.
    pub(crate) writes: &'a [K],
}

impl<'a, K> Footprint<'a, K> {
    /// Of one written key.
    pub(crate) const fn of_write(key: &'a K) -> Self {
        Self { reads: &[], ranges: &[], writes: std::slice::from_ref(key) }
    }
}

/// What became of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Admission {
    /// Pinned: nothing earlier conflicts with it.
    Granted,
    /// In line: a later `release` will return it.
    Waiting,
}

/// All pins and lines of a shard.
#[derive(Debug)]
pub(crate) struct Pins<K> {
    entries: BTreeMap<Arrival, Entry<K>>,
    /// A queue for each key that a live entry names. None is empty.
    queues: BTreeMap<K, Queue>,
    /// The live ranges that aren't empty, for keys that are written later.
    ranges: BTreeMap<Arrival, Vec<Bounds<K>>>,
    waiting: usize,
}

impl<K: Clone + Ord> Pins<K> {
    /// No pins, no lines.
    pub(crate) const fn new() -> Self {
        Self { entries: BTreeMap::new(), queues: BTreeMap::new(), ranges: BTreeMap::new(), waiting: 0 }
    }

    /// True if nothing is pinned and nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries there are, pinned and waiting.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many entries stand in line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many entries are pinned.
    pub(crate) fn pinned(&self) -> usize {
        self.entries.len() - self.waiting
    }

    /// Whether this entry is pinned (or in line); `None` if there is no such entry.
    #[cfg(test)]
    pub(crate) fn is_pinned(&self, arrival: Arrival) -> Option<bool> {
        self.entries.get(&arrival).map(Entry::is_pinned)
    }

    /// Whether a live entry, pinned or in line, names this key or has a range around it. Eviction passes over
    /// such keys (H5).
    pub(crate) fn touches(&self, key: &K) -> bool {
        !self.is_empty()
            && (self.queues.contains_key(key) || ranges_around(&self.ranges, key).next().is_some())
    }

    /// Whether a newcomer with this footprint would have to wait (V2, V3).
    pub(crate) fn conflicts(&self, footprint: &Footprint<'_, K>) -> bool {
        if self.is_empty() {
            return false;
        }
        footprint.writes.iter().any(|key| self.touches(key))
            || footprint.reads.iter().any(|key| self.queues.get(key).is_some_and(Queue::has_write))
            || footprint.ranges.iter().filter(|bounds| holds_a_key(bounds)).any(|bounds| {
                let mut inside = self.queues.range(by_reference(bounds));
                inside.any(|(_, queue)| queue.has_write())
            })
    }

    /// Takes a newcomer in: pinned if nothing earlier conflicts with it, else at the end of the line.
    ///
    /// # Panics
    ///
    /// If `arrival` is not larger than that of every live entry: places in line follow it (V3).
    pub(crate) fn admit(&mut self, arrival: Arrival, footprint: &Footprint<'_, K>) -> Admission {
        let newest = self.entries.last_key_value();
        assert!(newest.is_none_or(|(&newest, _)| newest < arrival), "V3: arrivals increase");

        let named = footprint.writes.len() + footprint.reads.len();
        let mut entry = Entry { keys: Vec::with_capacity(named), ungranted: 0 };
        // Writes first: the first request of an entry for a key is its only one, and a write covers a read.
        for key in footprint.writes {
            self.join_queue(arrival, &mut entry, key, Mode::Write);
        }
        for key in footprint.reads {
            self.join_queue(arrival, &mut entry, key, Mode::Read);
        }
        self.join_ranges(arrival, &mut entry, footprint.ranges);

        let admission = if entry.is_pinned() { Admission::Granted } else { Admission::Waiting };
        self.waiting += usize::from(admission == Admission::Waiting);
        self.entries.insert(arrival, entry);
        admission
    }

    /// Removes an entry, whether pinned or still in line (V4), and returns those that are pinned from now on
    /// because of it, in order of arrival. An unknown entry (released before, say) changes nothing.
    #[must_use = "what was granted has to go on, or it stays pinned for ever"]
    pub(crate) fn release(&mut self, arrival: Arrival) -> Vec<Arrival> {
        let Some(entry) = self.entries.remove(&arrival) else { return Vec::new() };
        self.waiting -= usize::from(!entry.is_pinned());

        // An arrival is in here once for each of its requests that was granted.
        let mut requests = Vec::new();
        for key in entry.keys {
            // Only an inconsistent `Ord` of the user's could lose the queue: better poison than a lost pin.
            let Place::Occupied(mut queue) = self.queues.entry(key) else {
                unreachable!("a queue stays while an entry names its key")
            };
            queue.get_mut().leave(arrival, &mut requests);
            if queue.get().is_empty() {
                queue.remove();
            }
        }
        for bounds in self.ranges.remove(&arrival).unwrap_or_default() {
            let emptied = self.queues.extract_if(by_reference(&bounds), |_, queue| {
                queue.leave(arrival, &mut requests);
                queue.is_empty()
            });
            emptied.for_each(drop);
        }

        requests.retain(|&waiter| self.grant_request(waiter));
        requests.sort_unstable();
        requests
    }

    /// Forgets all entries.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Adds a request to the queue of `key`, unless the entry has one there.
    fn join_queue(&mut self, arrival: Arrival, entry: &mut Entry<K>, key: &K, mode: Mode) {
        let queue = self.queues.entry(key.clone()).or_insert_with(Queue::new);
        if queue.newest() == Some(arrival) {
            return;
        }
        if mode == Mode::Write && !queue.has_ranges {
            queue.take_ranges(ranges_around(&self.ranges, key));
        }
        entry.ungranted += usize::from(!queue.join(arrival, mode));
        entry.keys.push(key.clone());
    }

    /// Adds a read request to each queue inside the ranges that has seen a write, and the ranges to the list
    /// for the others.
    fn join_ranges(&mut self, arrival: Arrival, entry: &mut Entry<K>, ranges: &[Bounds<K>]) {
        let ranges: Vec<_> = ranges.iter().filter(|bounds| holds_a_key(bounds)).cloned().collect();
        for bounds in &ranges {
            for (_, queue) in self.queues.range_mut(by_reference(bounds)) {
                // The entry is there already if it names the key, or if its ranges overlap.
                if queue.has_ranges && queue.newest() != Some(arrival) {
                    entry.ungranted += usize::from(!queue.join(arrival, Mode::Read));
                }
            }
        }
        if !ranges.is_empty() {
            self.ranges.insert(arrival, ranges);
        }
    }

    /// Notes that one more request of an entry was granted, and says whether it was the last.
    fn grant_request(&mut self, waiter: Arrival) -> bool {
        let entry = self.entries.get_mut(&waiter).expect("requests leave their queues with their entry");
        entry.ungranted -= 1;
        self.waiting -= usize::from(entry.is_pinned());
        entry.is_pinned()
    }
}

/// One transaction, pinned or in line. Its ranges are in the list of ranges.
#[derive(Debug)]
struct Entry<K> {
    /// The keys it names, each once.
    keys: Vec<K>,
    /// How many of its requests, those through ranges included, are not granted.
    ungranted: usize,
}

impl<K> Entry<K> {
    fn is_pinned(&self) -> bool {
        self.ungranted == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
}

/// The requests for one key in order of arrival, at most one of each entry. A prefix is granted: the readers
/// up to the first writer, or the one writer in front. So what is granted follows from the place in the queue
/// alone, whether the entries before it are pinned or wait elsewhere (V3).
#[derive(Debug)]
struct Queue {
    requests: BTreeMap<Arrival, Mode>,
    /// Where the granted prefix ends; kept, so that no step looks for it (V10).
    first_waiting: Option<(Arrival, Mode)>,
    /// Whether the live ranges around the key are in here: from the first write on. Before, they would cost
    /// room and stop nobody.
    has_ranges: bool,
}

impl Queue {
    const fn new() -> Self {
        Self { requests: BTreeMap::new(), first_waiting: None, has_ranges: false }
    }

    fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn newest(&self) -> Option<Arrival> {
        self.requests.last_key_value().map(|(&arrival, _)| arrival)
    }

    /// Whether a write is granted or waits: among reads only, nothing waits.
    fn has_write(&self) -> bool {
        let front = self.requests.first_key_value();
        self.first_waiting.is_some() || front.is_some_and(|(_, &mode)| mode == Mode::Write)
    }

    /// Adds the reads of earlier entries through ranges. There is no write yet, so all of them are granted.
    fn take_ranges(&mut self, readers: impl Iterator<Item = Arrival>) {
        self.requests.extend(readers.map(|reader| (reader, Mode::Read)));
        self.has_ranges = true;
    }

    /// Adds a request at the end, and says whether it is granted at once.
    fn join(&mut self, arrival: Arrival, mode: Mode) -> bool {
        let granted = match mode {
            Mode::Read => !self.has_write(),
            Mode::Write => self.is_empty(), // V2: behind reads, too
        };
        if !granted && self.first_waiting.is_none() {
            self.first_waiting = Some((arrival, mode));
        }
        self.requests.insert(arrival, mode);
        granted
    }

    /// Removes a request, if it is there, and appends to `granted` whose requests are granted thereby.
    fn leave(&mut self, arrival: Arrival, granted: &mut Vec<Arrival>) {
        self.requests.remove(&arrival);
        if self.first_waiting.is_some_and(|(first, _)| first == arrival) {
            self.first_waiting = self.after(arrival);
        }
        while let Some(request) = self.first_waiting
            && self.may_be_granted(request)
        {
            granted.push(request.0);
            self.first_waiting = self.after(request.0);
        }
    }

    /// Whether the first request that waits may be granted: nothing before it is left, or all are reads.
    fn may_be_granted(&self, (arrival, mode): (Arrival, Mode)) -> bool {
        self.requests
            .first_key_value()
            .is_some_and(|(&front, &held)| front == arrival || (held == Mode::Read && mode == Mode::Read))
    }

    fn after(&self, arrival: Arrival) -> Option<(Arrival, Mode)> {
        let mut rest = self.requests.range((Bound::Excluded(arrival), Bound::Unbounded));
        rest.next().map(|(&arrival, &mode)| (arrival, mode))
    }
}

/// The entries with a range around `key`, in order of arrival.
fn ranges_around<K: Ord>(
    ranges: &BTreeMap<Arrival, Vec<Bounds<K>>>,
    key: &K,
) -> impl Iterator<Item = Arrival> {
    let around = |(&arrival, ranges): (&Arrival, &Vec<Bounds<K>>)| {
        ranges.iter().any(|bounds| bounds.contains(key)).then_some(arrival)
    };
    ranges.iter().filter_map(around)
}

/// False for the empty and the inverted ranges, on some of which `BTreeMap::range` would panic.
pub fn holds_a_key<K: Ord>(bounds: &Bounds<K>) -> bool {
    match bounds {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(start), Bound::Included(end)) => start <= end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start < end
        }
    }
}

fn by_reference<K>(bounds: &Bounds<K>) -> (Bound<&K>, Bound<&K>) {
    (bounds.0.as_ref(), bounds.1.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Bound::{Excluded, Included, Unbounded};
    use proptest::prelude::*;
    use std::iter::once;

    /// An owned footprint.
    #[derive(Clone, Debug, Default)]
    struct Spec {
        reads: Vec<u8>,
        ranges: Vec<Bounds<u8>>,
        writes: Vec<u8>,
    }

    impl Spec {
        fn footprint(&self) -> Footprint<'_, u8> {
            Footprint { reads: &self.reads, ranges: &self.ranges, writes: &self.writes }
        }

        fn sees(&self, key: u8) -> bool {
            self.reads.contains(&key) || self.ranges.iter().any(|bounds| bounds.contains(&key))
        }

        fn conflicts(&self, other: &Self) -> bool {
            self.writes.iter().any(|&key| other.sees(key) || other.writes.contains(&key))
                || other.writes.iter().any(|&key| self.sees(key))
        }
    }

    fn reads(keys: &[u8]) -> Spec {
        Spec { reads: keys.to_vec(), ..Spec::default() }
    }

    fn writes(keys: &[u8]) -> Spec {
        Spec { writes: keys.to_vec(), ..Spec::default() }
    }

    fn ranges(bounds: &[Bounds<u8>]) -> Spec {
        Spec { ranges: bounds.to_vec(), ..Spec::default() }
    }

    /// Admits each footprint in order of arrival, from 0, and says which were granted.
    fn admitted(specs: &[Spec]) -> (Pins<u8>, Vec<bool>) {
        let mut pins = Pins::new();
        let mut granted = Vec::new();
        for (arrival, spec) in (0..).zip(specs) {
            let conflicts = pins.conflicts(&spec.footprint());
            granted.push(pins.admit(Arrival(arrival), &spec.footprint()) == Admission::Granted);
            assert_eq!(granted.last(), Some(&!conflicts));
            check_invariants(&pins);
        }
        (pins, granted)
    }

    fn released(pins: &mut Pins<u8>, arrival: u64) -> Vec<u64> {
        let granted = pins.release(Arrival(arrival));
        check_invariants(pins);
        granted.into_iter().map(|arrival| arrival.0).collect()
    }

    /// What the comments on the fields say, recomputed from scratch.
    fn check_invariants(pins: &Pins<u8>) {
        let mut ungranted: BTreeMap<Arrival, usize> = BTreeMap::new();
        for (key, queue) in &pins.queues {
            assert!(!queue.is_empty(), "queue of {key} is empty");
            let touching = pins.entries.iter().filter(|(arrival, entry)| {
                let around = pins.ranges.get(arrival).is_some_and(|all| all.iter().any(|b| b.contains(key)));
                entry.keys.contains(key) || (around && queue.has_ranges)
            });
            assert!(queue.has_ranges || !queue.has_write(), "queue of {key}");
            assert!(touching.map(|(arrival, _)| arrival).eq(queue.requests.keys()), "queue of {key}");

            let (mut earlier, mut earlier_write, mut first_waiting) = (false, false, None);
            for (&arrival, &mode) in &queue.requests {
                if earlier_write || (mode == Mode::Write && earlier) {
                    first_waiting = first_waiting.or(Some((arrival, mode)));
                    *ungranted.entry(arrival).or_default() += 1;
                }
                earlier = true;
                earlier_write |= mode == Mode::Write;
            }
            assert_eq!(queue.first_waiting, first_waiting, "queue of {key}");
        }
        for (arrival, entry) in &pins.entries {
            assert_eq!(entry.ungranted, ungranted.get(arrival).copied().unwrap_or(0), "{arrival:?}");
            assert!(entry.keys.iter().all(|key| pins.queues.contains_key(key)), "{arrival:?}");
        }
        assert!(
            pins.ranges.iter().all(|(arrival, all)| pins.entries.contains_key(arrival) && !all.is_empty())
        );
        assert_eq!(pins.waiting, pins.entries.values().filter(|entry| !entry.is_pinned()).count());
    }

    #[test]
    fn readers_of_a_key_share_it_and_a_writer_waits_for_them_all() {
        let (mut pins, granted) = admitted(&[reads(&[1]), reads(&[1]), writes(&[1])]);
        assert_eq!(granted, [true, true, false]);
        assert_eq!((pins.len(), pins.pinned(), pins.waiting()), (3, 2, 1));
        assert_eq!(released(&mut pins, 1), []);
        assert_eq!(released(&mut pins, 0), [2]);
        assert_eq!(pins.is_pinned(Arrival(2)), Some(true));
    }

    #[test]
    fn blind_writes_wait_behind_writes_and_go_one_at_a_time() {
        let (mut pins, granted) = admitted(&[writes(&[1]), writes(&[1]), writes(&[1])]);
        assert_eq!(granted, [true, false, false]);
        assert_eq!(released(&mut pins, 0), [1]);
        assert_eq!(released(&mut pins, 1), [2]);
        assert_eq!(released(&mut pins, 2), []);
        assert!(pins.is_empty() && pins.queues.is_empty());
    }

    #[test]
    fn a_reader_does_not_overtake_a_writer_that_waits() {
        let (mut pins, granted) = admitted(&[reads(&[1]), writes(&[1]), reads(&[1])]);
        assert_eq!(granted, [true, false, false]);
        assert_eq!(released(&mut pins, 0), [1]);
        assert_eq!(released(&mut pins, 1), [2]);
    }

    #[test]
    fn an_entry_waits_behind_one_that_waits_for_another_key() {
        let (mut pins, granted) = admitted(&[writes(&[1]), writes(&[1, 2]), writes(&[2, 3]), reads(&[3])]);
        assert_eq!(granted, [true, false, false, false]);
        assert_eq!(released(&mut pins, 0), [1]);
        assert_eq!(released(&mut pins, 1), [2]);
        assert_eq!(released(&mut pins, 2), [3]);
    }

    #[test]
    fn an_entry_that_leaves_the_line_lets_those_behind_it_pass() {
        let (mut pins, _) = admitted(&[reads(&[1]), writes(&[1]), reads(&[1]), reads(&[1]), writes(&[1])]);
        assert_eq!(released(&mut pins, 1), [2, 3]);
        assert_eq!(released(&mut pins, 4), []);
        assert_eq!((pins.pinned(), pins.waiting()), (3, 0));
    }

    #[test]
    fn an_entry_does_not_conflict_with_itself() {
        let everything =
            Spec { reads: vec![1, 1, 2], ranges: vec![(Unbounded, Unbounded); 2], writes: vec![2, 1, 1] };
        let (mut pins, granted) = admitted(&[everything.clone(), everything]);
        assert_eq!(granted, [true, false]);
        assert_eq!(released(&mut pins, 0), [1]);
        assert_eq!(released(&mut pins, 1), []);
        assert!(pins.queues.is_empty() && pins.ranges.is_empty());
    }

    #[test]
    fn a_range_waits_for_the_writers_inside_it_and_no_others() {
        let inside = (Excluded(2), Included(4));
        let (mut pins, granted) = admitted(&[writes(&[2]), writes(&[3]), writes(&[4]), ranges(&[inside])]);
        assert_eq!(granted, [true, true, true, false]);
        assert_eq!(released(&mut pins, 3), []);
        let (mut pins, _) = admitted(&[writes(&[2]), writes(&[3]), writes(&[4]), ranges(&[inside])]);
        assert_eq!(released(&mut pins, 3), []);
        assert_eq!(
            pins.admit(Arrival(9), &ranges(&[(Excluded(4), Unbounded)]).footprint()),
            Admission::Granted
        );
        assert_eq!(pins.admit(Arrival(10), &ranges(&[inside]).footprint()), Admission::Waiting);
        assert_eq!(released(&mut pins, 1), []);
        assert_eq!(released(&mut pins, 2), [10]);
    }

    #[test]
    fn a_writer_of_a_key_that_nobody_named_waits_for_the_ranges_around_it() {
        let (mut pins, granted) = admitted(&[
            ranges(&[(Included(1), Excluded(5))]),
            ranges(&[(Unbounded, Included(3))]),
            writes(&[5]),
            writes(&[3]),
            reads(&[3]),
        ]);
        assert_eq!(granted, [true, true, true, false, false]);
        assert_eq!(released(&mut pins, 0), []);
        assert_eq!(released(&mut pins, 1), [3]);
        assert_eq!(released(&mut pins, 3), [4]);
    }

    #[test]
    fn a_range_without_keys_conflicts_with_nothing() {
        let nothing = [
            (Included(3), Included(2)),
            (Excluded(3), Excluded(3)),
            (Included(3), Excluded(3)),
            (Excluded(3), Included(3)),
            (Excluded(4), Excluded(1)),
        ];
        let (pins, granted) = admitted(&[writes(&[3]), ranges(&nothing), writes(&[2])]);
        assert_eq!(granted, [true, true, true]);
        assert!(pins.ranges.is_empty());
    }

    #[test]
    fn eviction_is_told_of_keys_pinned_or_waited_for_or_in_a_range() {
        let (pins, _) = admitted(&[
            writes(&[1]),
            Spec { reads: vec![2], ranges: vec![(Included(5), Unbounded)], writes: vec![1] },
        ]);
        assert!([1, 2, 5, 9].iter().all(|key| pins.touches(key)));
        assert!([0, 3, 4].iter().all(|key| !pins.touches(key)));
    }

    #[test]
    fn what_is_unknown_changes_nothing_and_clearing_forgets_everything() {
        let (mut pins, _) = admitted(&[writes(&[1]), ranges(&[(Unbounded, Unbounded)])]);
        assert_eq!(released(&mut pins, 7), []);
        assert_eq!((pins.len(), pins.is_pinned(Arrival(7))), (2, None));
        pins.clear();
        assert!(pins.is_empty() && pins.waiting() == 0 && !pins.touches(&1));
        assert_eq!(released(&mut pins, 0), []);
    }

    #[test]
    #[should_panic(expected = "V3: arrivals increase")]
    fn an_arrival_out_of_order_is_refused() {
        let mut pins = Pins::new();
        let _ = pins.admit(Arrival(5), &reads(&[1]).footprint());
        let _ = pins.admit(Arrival(4), &reads(&[1]).footprint());
    }

    /// No clock: if a step walked the line, this would take 10^9 steps and more, which nobody overlooks.
    #[test]
    fn a_hot_key_drains_without_walking_its_line() {
        const ENTRIES: u64 = 100_000;
        let all = ranges(&[(Unbounded, Unbounded)]);
        let (read, write) = (reads(&[1]), writes(&[1]));
        // What follows a first writer: readers, writers or ranges only, then in turn.
        let mixes = [vec![&read], vec![&write], vec![&all], vec![&write, &all], vec![&read, &all, &write]];
        for mix in &mixes {
            for backwards in [false, true] {
                let mut pins = Pins::new();
                for (arrival, spec) in (0..ENTRIES).zip(once(&write).chain(mix.iter().copied().cycle())) {
                    assert_eq!(
                        pins.conflicts(&spec.footprint()),
                        pins.admit(Arrival(arrival), &spec.footprint()) == Admission::Waiting
                    );
                }
                let mut granted = pins.pinned();
                for turn in 0..ENTRIES {
                    let arrival = if backwards { ENTRIES - 1 - turn } else { turn };
                    granted += pins.release(Arrival(arrival)).len();
                }
                assert!(pins.is_empty() && pins.queues.is_empty() && pins.ranges.is_empty());
                assert!(backwards || granted == usize::try_from(ENTRIES).expect("100,000 fits"));
            }
        }
    }

    /// The rule itself: entries in order of arrival, each blocked by any earlier one that conflicts.
    #[derive(Default)]
    struct Model(Vec<(u64, Spec)>);

    impl Model {
        fn blocked(&self, place: usize) -> bool {
            self.0[..place].iter().any(|(_, earlier)| earlier.conflicts(&self.0[place].1))
        }

        fn granted(&self) -> Vec<u64> {
            (0..self.0.len()).filter(|&place| !self.blocked(place)).map(|place| self.0[place].0).collect()
        }

        fn release(&mut self, arrival: u64) -> Vec<u64> {
            let before = self.granted();
            self.0.retain(|(live, _)| *live != arrival);
            self.granted().into_iter().filter(|live| !before.contains(live)).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(Spec),
        /// Of the live entry at this place, modulo their number.
        Release(usize),
        /// Of any arrival so far or to come.
        ReleaseArrival(u64),
    }

    const KEYS: u8 = 7;

    fn any_bound() -> impl Strategy<Value = Bound<u8>> {
        prop_oneof![
            2 => (0..KEYS).prop_map(Included),
            2 => (0..KEYS).prop_map(Excluded),
            1 => Just(Unbounded),
        ]
    }

    fn any_spec() -> impl Strategy<Value = Spec> {
        let keys = || prop::collection::vec(0..KEYS, 0..3);
        let ranges = prop_oneof![
            3 => Just(Vec::new()),
            2 => prop::collection::vec((any_bound(), any_bound()), 1..3),
        ];
        (keys(), ranges, keys()).prop_map(|(reads, ranges, writes)| Spec { reads, ranges, writes })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            10 => any_spec().prop_map(Step::Admit),
            8 => any::<usize>().prop_map(Step::Release),
            1 => (0..80_u64).prop_map(Step::ReleaseArrival),
        ]
    }

    fn compare(pins: &Pins<u8>, model: &Model) {
        check_invariants(pins);
        let granted = model.granted();
        for (arrival, _) in &model.0 {
            assert_eq!(pins.is_pinned(Arrival(*arrival)), Some(granted.contains(arrival)), "{arrival}");
        }
        assert_eq!(pins.len(), model.0.len());
        assert_eq!(pins.pinned(), granted.len());
        assert_eq!(pins.waiting(), model.0.len() - granted.len());
        for key in 0..KEYS {
            let touched = model.0.iter().any(|(_, spec)| spec.sees(key) || spec.writes.contains(&key));
            assert_eq!(pins.touches(&key), touched, "key {key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn pins_and_lines_agree_with_the_rule_at_every_step(
            steps in prop::collection::vec(any_step(), 1..60),
            probe in any_spec(),
        ) {
            let (mut pins, mut model) = (Pins::new(), Model::default());
            for (arrival, step) in (0..).zip(steps) {
                let leaving = match step {
                    Step::Admit(spec) => {
                        let conflicts = model.0.iter().any(|(_, earlier)| earlier.conflicts(&spec));
                        assert_eq!(pins.conflicts(&spec.footprint()), conflicts);
                        let admission = pins.admit(Arrival(arrival), &spec.footprint());
                        assert_eq!(admission == Admission::Waiting, conflicts);
                        model.0.push((arrival, spec));
                        None
                    }
                    Step::Release(place) if model.0.is_empty() => Some(place as u64),
                    Step::Release(place) => Some(model.0[place % model.0.len()].0),
                    Step::ReleaseArrival(arrival) => Some(arrival),
                };
                if let Some(leaving) = leaving {
                    assert_eq!(released(&mut pins, leaving), model.release(leaving));
                }
                compare(&pins, &model);
                let conflicts = model.0.iter().any(|(_, earlier)| earlier.conflicts(&probe));
                assert_eq!(pins.conflicts(&probe.footprint()), conflicts);
            }
            while let Some(&(oldest, _)) = model.0.first() {
                assert_eq!(released(&mut pins, oldest), model.release(oldest));
            }
            assert!(pins.is_empty() && pins.queues.is_empty() && pins.ranges.is_empty());
        }
    }
}
