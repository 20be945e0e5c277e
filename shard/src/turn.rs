//! The turn: who holds it is the shard's one writer. Mostly that is the actor; an idle shard lends its turn to
//! whoever has a commit for it, who then runs it without a message and without waking anybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anabranch_wal::{Fault, Health, Histogram};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::core::{Leftovers, Queues, ShardCore};
use crate::counters::ShardCounters;
use crate::reject::panic_message;
use crate::sequencer::{AppliedPart, Sequencer};
use crate::{Key, Value};

/// A turn that is taken is tried again after pauses that double, each of so many spins as this power of two says: for as
/// long as several commits hold it, as to send a message makes all others send theirs until it is handled. Pauses that
/// stay short let two threads take the turn, and all that goes with it, from each other after every commit; those that
/// give the processor away cost more than the wait.
const PAUSES: std::ops::RangeInclusive<u32> = 2..=11;

/// A shard's core, behind the lock that makes its holder the writer.
pub(crate) struct Turn<K, V> {
    core: Mutex<ShardCore<K, V>>,
    sequencer: Arc<Sequencer>,
    /// Commits of one phase that were sent to the actor and not handled yet.
    pending: CachePadded<AtomicUsize>,
    gauges: CachePadded<Gauges>,
    counters: Arc<ShardCounters>,
    /// Messages that the actor handled in one batch.
    batch_messages: Histogram,
}

/// What the core looked like when the turn was last given up, for those who only want to know. Taking the turn
/// for that would wait for a user's closure, or hang if the closure itself asks.
#[derive(Default)]
struct Gauges {
    pinned: AtomicUsize,
    in_line: AtomicUsize,
    for_space: AtomicUsize,
    remembered: AtomicUsize,
    /// From which moment on it has entries to remove on its own account.
    removals_due: AtomicU64,
}

impl Gauges {
    /// Mostly nothing has changed, and then nothing is written.
    fn set(&self, queues: Queues, remembered: usize, removals_due: u64) {
        let set = |gauge: &AtomicUsize, value| {
            if gauge.load(Ordering::Relaxed) != value {
                gauge.store(value, Ordering::Relaxed);
            }
        };
        set(&self.pinned, queues.pinned);
        set(&self.in_line, queues.in_line);
        set(&self.for_space, queues.for_space);
        set(&self.remembered, remembered);
        if self.removals_due.load(Ordering::Relaxed) != removals_due {
            self.removals_due.store(removals_due, Ordering::Relaxed);
        }
    }
}

/// Counts a message from before it is sent until it was handled, or dropped on the way.
pub(crate) struct Pending<K, V>(Arc<Turn<K, V>>);

impl<K, V> Drop for Pending<K, V> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A turn, and what makes its holder the writer.
pub(crate) type Held<'t, K, V> = (&'t Turn<K, V>, MutexGuard<'t, ShardCore<K, V>>);

impl<K: Key, V: Value> Turn<K, V> {
    pub(crate) fn new(core: ShardCore<K, V>, sequencer: Arc<Sequencer>) -> Self {
        let counters = Arc::clone(core.counters());
        let (pending, gauges) = (CachePadded::default(), CachePadded::<Gauges>::default());
        gauges.set(core.queues(), core.remembered(), core.removals_due());
        let batch_messages = Histogram::default();
        Self { core: Mutex::new(core), sequencer, pending, gauges, counters, batch_messages }
    }

    pub(crate) const fn counters(&self) -> &Arc<ShardCounters> {
        &self.counters
    }

    pub(crate) const fn batch_messages(&self) -> &Histogram {
        &self.batch_messages
    }

    /// How many jobs are pinned, in line, and waiting for space; and how many keys are to be swept.
    pub(crate) fn queues(&self) -> (Queues, usize) {
        let read = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed);
        let Gauges { pinned, in_line, for_space, remembered, .. } = &*self.gauges;
        let queues = Queues { pinned: read(pinned), in_line: read(in_line), for_space: read(for_space) };
        (queues, read(remembered))
    }

    /// From which moment on the core has entries to remove on its own account.
    pub(crate) fn removals_due(&self) -> u64 {
        self.gauges.removals_due.load(Ordering::Relaxed)
    }

    /// Notes how the core is left.
    pub(crate) fn note(&self, core: &ShardCore<K, V>) {
        self.gauges.set(core.queues(), core.remembered(), core.removals_due());
    }

    pub(crate) fn pending(self: &Arc<Self>) -> Pending<K, V> {
        self.pending.fetch_add(1, Ordering::SeqCst);
        Pending(Arc::clone(self))
    }

    /// The turn, if it is free, or is within a moment, and no commit of one phase waits in the mailbox. What the
    /// coordinator has sent may be overtaken: what runs in line joins no line behind it (F2).
    pub(crate) fn try_hold(&self) -> Option<MutexGuard<'_, ShardCore<K, V>>> {
        let mut pauses = PAUSES;
        let core = loop {
            if let Some(core) = self.core.try_lock() {
                break core;
            }
            let pause = pauses.next().filter(|_| self.pending.load(Ordering::SeqCst) == 0)?;
            (0..1 << pause).for_each(|_: u32| std::hint::spin_loop());
        };
        let idle = self.pending.load(Ordering::SeqCst) == 0 && self.health().fault().is_none();
        idle.then_some(core)
    }

    /// Runs a whole batch in a turn that is free, or gives the work back.
    pub(crate) fn lend<W>(&self, work: W, run: impl FnOnce(&mut ShardCore<K, V>, W)) -> Result<(), W> {
        let Some(core) = self.try_hold() else { return Err(work) };
        let outbox = self.guarded(core, |core| {
            run(core, work);
            core.finish_batch()
        });
        if let Some(outbox) = outbox {
            self.deliver(outbox);
        }
        Ok(())
    }

    /// Runs something in a turn that is held, tidies up, and reports what `run` says was applied. `false` if it
    /// panicked.
    ///
    /// What `run` has to tell, it is to write where its caller reads it: a result that comes back through several calls
    /// is copied by each, and a copy waits for what was written just before.
    pub(crate) fn run_at_once(
        &self,
        core: MutexGuard<'_, ShardCore<K, V>>,
        run: impl FnOnce(&mut ShardCore<K, V>) -> Option<AppliedPart>,
    ) -> bool {
        let (mut applied, mut leftovers) = (None, None);
        let ran = self.guarded(core, |core| {
            applied = run(core);
            leftovers = core.finish_at_once();
        });
        let Some(()) = ran else { return false };
        self.report(applied.as_slice(), leftovers.as_mut());
        true
    }

    /// Reports what ran at once, and drops what it left, outside all turns.
    pub(crate) fn report<'l>(
        &self,
        applied: &[AppliedPart],
        leftovers: impl IntoIterator<Item = &'l mut Leftovers<V>>,
    ) {
        let reported = catch_unwind(AssertUnwindSafe(|| {
            self.sequencer.applied(applied);
            for Leftovers { garbage, governed } in leftovers {
                self.sequencer.applied(governed.as_slice());
                garbage.clear();
            }
        }));
        if let Err(panic) = reported {
            self.poison(&*panic);
        }
    }

    fn health(&self) -> &Arc<Health> {
        self.sequencer.health()
    }

    /// Takes the turn for some work. A panic in it, which is a user's `Ord`, `Hash`, `Clone` or `Drop`, leaves
    /// the content unknown: the engine is poisoned before the turn is given up (PROTOCOL U2), and everybody
    /// who waits is told.
    pub(crate) fn take<T>(&self, work: impl FnOnce(&mut ShardCore<K, V>) -> T) -> Option<T> {
        let mut core = self.core.lock();
        if self.health().fault().is_some() {
            core.abandon();
            self.note(&core);
            return None;
        }
        self.guarded(core, work)
    }

    fn guarded<T>(
        &self,
        mut core: MutexGuard<'_, ShardCore<K, V>>,
        work: impl FnOnce(&mut ShardCore<K, V>) -> T,
    ) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut core)));
        self.note(&core);
        match done {
            Ok(done) => Some(done),
            Err(panic) => {
                self.poison(&*panic);
                core.abandon();
                None
            }
        }
    }

    /// Ends a batch: reports and answers, outside the turn.
    pub(crate) fn finish_batch(&self) {
        if let Some(outbox) = self.take(ShardCore::finish_batch) {
            self.deliver(outbox);
        }
    }

    pub(crate) fn poison(&self, panic: &(dyn std::any::Any + Send)) {
        self.health().fail(Fault::Panic(panic_message(panic).into()));
    }

    pub(crate) fn deliver(&self, outbox: crate::outbox::Outbox<V>) {
        let delivered = catch_unwind(AssertUnwindSafe(|| outbox.deliver(&self.sequencer)));
        if let Err(panic) = delivered {
            // Only dropping old values runs a user's code here, after everything was delivered.
            self.poison(&*panic);
        }
    }

    /// The actor is gone: nothing that waits will be answered.
    pub(crate) fn close(&self) {
        self.health().fail(Fault::Closed);
        self.core.lock().abandon();
    }
}
