//! Every interleaving, by loom, of what is nearly lock-free: a watermark and those who wait for it, the registry
//! of readers against the reclaimer, and a version chain that is trimmed while it is read.
//!
//! The modules are those of the crate, included by their path with loom's primitives in the place of the real
//! ones: `--cfg loom` would break tokio.

mod clock;
mod primitives;
mod sequencer;

#[path = "../../src/access.rs"]
mod access;
#[path = "../../src/chain.rs"]
#[expect(dead_code, reason = "not all of it is used here")]
mod chain;
#[path = "../../src/expiry.rs"]
#[expect(dead_code, unreachable_pub, reason = "not all of it is used here, and nothing is public in a test")]
mod expiry;
#[path = "../../src/front.rs"]
mod front;
#[path = "../../src/readers.rs"]
#[expect(dead_code, unreachable_pub, reason = "not all of it is used here, and nothing is public in a test")]
mod readers;
#[path = "../../src/watermark.rs"]
#[expect(dead_code, unreachable_pub, reason = "not all of it is used here, and nothing is public in a test")]
mod watermark;

use std::sync::Arc;
use std::time::Duration;

use anabranch_wal::Timestamp;
use chain::{Chain, Garbage, Version};
use clock::Clock;
use front::Front;
use loom::thread::spawn;
use primitives::Mutex;
use readers::Readers;
use sequencer::{Level, Sequencer};
use watermark::{Reached, Watermark};

fn version(timestamp: u64) -> Version<u64> {
    Version {
        timestamp: Timestamp(timestamp),
        expires: expiry::Expiry::NEVER,
        value: Some(Arc::new(timestamp)),
    }
}

fn watermark() -> Arc<Watermark> {
    Arc::new(Watermark::new(Timestamp(0)))
}

fn reached(watermark: &Arc<Watermark>, timestamp: u64) -> Reached {
    Reached::new(Arc::clone(watermark), Arc::default(), Timestamp(timestamp))
}

/// Three preemptions in any place: enough for two threads that take a few locks, and in a bearable time.
fn bounded(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn whoever_waits_for_a_watermark_is_woken() {
    loom::model(|| {
        let watermark = watermark();
        let raised = Arc::clone(&watermark);
        let other = spawn(move || raised.raise(Timestamp(1)));
        // A wake-up that is lost is a deadlock here.
        loom::future::block_on(reached(&watermark, 1)).unwrap();
        other.join().unwrap();
    });
}

#[test]
fn of_two_who_raise_a_watermark_the_higher_counts_and_nobody_is_forgotten() {
    bounded(|| {
        let watermark = watermark();
        let raisers = [1, 2].map(|to| {
            let raised = Arc::clone(&watermark);
            spawn(move || raised.raise(Timestamp(to)))
        });
        loom::future::block_on(reached(&watermark, 2)).unwrap();
        for raiser in raisers {
            raiser.join().unwrap();
        }
        assert_eq!(watermark.get(), Timestamp(2));
    });
}

#[test]
fn one_who_gives_up_does_not_take_anothers_wake_up_along() {
    // Three threads are too many for every interleaving; two preemptions in any place are not.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let watermark = watermark();
        let (raised, left) = (Arc::clone(&watermark), Arc::clone(&watermark));
        let other = spawn(move || raised.raise(Timestamp(2)));
        let leaver = spawn(move || {
            let mut waiting = std::pin::pin!(reached(&left, 1));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = waiting.as_mut().poll(&mut context);
        });
        loom::future::block_on(reached(&watermark, 2)).unwrap();
        other.join().unwrap();
        leaver.join().unwrap();
    });
}

#[test]
fn what_all_have_applied_is_behind_the_watermark_however_far_ahead_somebody_was() {
    bounded(|| {
        let front = Arc::new(Front::new(Timestamp(0)));
        // With one slot, the second is ahead of it until the first is applied.
        let taken = [front.take(), front.take()];
        assert_eq!(taken, [Timestamp(1), Timestamp(2)]);
        let others = taken.map(|timestamp| {
            let front = Arc::clone(&front);
            spawn(move || front.apply(timestamp))
        });
        let third = front.take();
        front.apply(third);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!((front.applied().get(), front.last()), (third, third));
    });
}

#[test]
fn the_watermark_waits_for_a_commit_that_is_not_applied() {
    bounded(|| {
        let front = Arc::new(Front::new(Timestamp(0)));
        let (first, second) = (front.take(), front.take());
        let other = {
            let front = Arc::clone(&front);
            spawn(move || front.apply(second))
        };
        assert_eq!(front.applied().get(), Timestamp(0));
        front.apply(first);
        assert!(front.applied().get() >= first, "whoever has applied a commit reads it");
        other.join().unwrap();
        assert_eq!(front.applied().get(), second);
    });
}

#[test]
fn nothing_is_reclaimed_that_a_registered_reader_may_ask_for() {
    loom::model(|| {
        let sequencer = Sequencer::new(1);
        let readers = Readers::new(Arc::clone(&sequencer), Clock::new(), None);
        let reclaimed = {
            let readers = Arc::clone(&readers);
            spawn(move || {
                sequencer.raise(2);
                readers.refresh()
            })
        };
        let reader = readers.register(Level::Durable);
        let horizon = reclaimed.join().unwrap();
        assert!(horizon <= reader.timestamp(), "{horizon:?} was reclaimed under {:?}", reader.timestamp());
        assert!(readers.horizon() <= reader.timestamp());
        drop(reader);
        assert_eq!(readers.refresh(), Timestamp(2));
    });
}

#[test]
fn what_is_dropped_at_once_nobody_asks_for() {
    loom::model(|| {
        let sequencer = Sequencer::new(1);
        let readers = Readers::new(Arc::clone(&sequencer), Clock::new(), None);
        let chain = Arc::new(Mutex::new(Chain::new(version(1))));
        let writer = {
            let (chain, readers) = (Arc::clone(&chain), Arc::clone(&readers));
            spawn(move || {
                let mut chain = chain.lock();
                let previous = chain.replace(version(2));
                sequencer.raise(2);
                if !readers.nobody_reads() {
                    chain.keep(previous, &mut Garbage::new());
                }
            })
        };
        let reader = readers.register(Level::Durable);
        let found = chain.lock().at(reader.timestamp()).and_then(|version| version.value.as_deref().copied());
        assert_eq!(found, Some(reader.timestamp().0));
        writer.join().unwrap();
        drop(reader);
        assert!(readers.nobody_reads());
    });
}

#[test]
fn a_clone_of_a_reader_is_served_after_it() {
    loom::model(|| {
        let sequencer = Sequencer::new(1);
        let readers = Readers::new(Arc::clone(&sequencer), Clock::new(), None);
        let chain = Arc::new(Mutex::new(Chain::new(version(1))));
        let reader = readers.register(Level::Durable);
        let writer = {
            let (chain, readers) = (Arc::clone(&chain), Arc::clone(&readers));
            spawn(move || {
                chain.lock().push(version(2));
                sequencer.raise(2);
                chain.lock().trim(readers.refresh(), &mut Garbage::new());
            })
        };
        let clone = reader.clone();
        drop(reader);
        let found = chain.lock().at(clone.timestamp()).and_then(|version| version.value.as_deref().copied());
        assert_eq!(found, Some(1));
        writer.join().unwrap();
        drop(clone);
        assert_eq!(readers.refresh(), Timestamp(2));
        assert!(readers.nobody_reads());
    });
}

#[test]
fn an_unregistered_reader_finds_a_version_however_the_chain_is_trimmed() {
    loom::model(|| {
        let sequencer = Sequencer::new(1);
        let chain = Arc::new(Mutex::new(Chain::new(version(1))));
        let writer = {
            let (chain, sequencer) = (Arc::clone(&chain), Arc::clone(&sequencer));
            spawn(move || {
                chain.lock().push(version(2));
                sequencer.raise(2);
                let mut garbage = Garbage::new();
                chain.lock().trim(sequencer.get(Level::Durable), &mut garbage);
                assert_eq!(garbage.versions.len(), 1);
            })
        };
        // H2: takes hold of the chain first, and loads the watermark second.
        let chain = chain.lock();
        let read_at = sequencer.get(Level::Durable);
        let found = chain.at(read_at).and_then(|version| version.value.as_deref().copied());
        assert_eq!(found, Some(read_at.0), "at {read_at:?}");
        drop(chain);
        writer.join().unwrap();
    });
}

#[test]
fn whoever_is_ended_for_its_age_is_told_so_or_has_read_what_was_there() {
    bounded(|| {
        let (sequencer, clock) = (Sequencer::new(1), Clock::new());
        let readers =
            Readers::new(Arc::clone(&sequencer), Arc::clone(&clock) as _, Some(Duration::from_nanos(5)));
        let chain = Arc::new(Mutex::new(Chain::new(version(1))));
        let reader = readers.register(Level::Durable);
        let reclaimer = {
            let (chain, readers) = (Arc::clone(&chain), Arc::clone(&readers));
            spawn(move || {
                chain.lock().push(version(2));
                sequencer.raise(2);
                clock.set(6);
                assert_eq!(readers.tick(), 1);
                let horizon = readers.refresh();
                assert_eq!(horizon, Timestamp(2));
                let mut garbage = Garbage::new();
                chain.lock().trim(horizon, &mut garbage);
                assert_eq!(garbage.versions.len(), 1);
            })
        };
        // V8: the look-up first, the clock second.
        let found = chain.lock().at(reader.timestamp()).and_then(|version| version.value.as_deref().copied());
        if reader.too_old().is_none() {
            assert_eq!(found, Some(1));
        }
        reclaimer.join().unwrap();
        drop(reader);
        assert_eq!(readers.oldest(), (None, 0));
    });
}

#[test]
fn what_lies_between_readers_is_reclaimed_and_not_what_they_ask_for() {
    bounded(|| {
        let sequencer = Sequencer::new(1);
        let readers = Readers::new(Arc::clone(&sequencer), Clock::new(), None);
        let chain = Arc::new(Mutex::new(Chain::new(version(1))));
        let first = readers.register(Level::Durable);
        let writer = {
            let (chain, readers) = (Arc::clone(&chain), Arc::clone(&readers));
            spawn(move || {
                for timestamp in [2, 3] {
                    chain.lock().push(version(timestamp));
                    sequencer.raise(timestamp);
                }
                readers.refresh();
                let mut garbage = Garbage::new();
                chain.lock().thin(&readers.read_at(), &mut garbage);
            })
        };
        let second = readers.register(Level::Durable);
        for reader in [&first, &second] {
            let chain = chain.lock();
            let found = chain.at(reader.timestamp()).and_then(|version| version.value.as_deref().copied());
            assert_eq!(found, Some(reader.timestamp().0));
        }
        writer.join().unwrap();
    });
}
