//! The turn: who holds it is the shard's one writer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anabranch_wal::{Fault, Health};
use parking_lot::Mutex;

use crate::core::ShardCore;
use crate::reject::panic_message;
use crate::sequencer::Sequencer;
use crate::{Key, Value};

/// A shard's core, behind the lock that makes its holder the writer.
pub(crate) struct Turn<K, V> {
    core: Mutex<ShardCore<K, V>>,
    sequencer: Arc<Sequencer>,
}

impl<K: Key, V: Value> Turn<K, V> {
    pub(crate) fn new(core: ShardCore<K, V>, sequencer: Arc<Sequencer>) -> Self {
        Self { core: Mutex::new(core), sequencer }
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
            return None;
        }
        match catch_unwind(AssertUnwindSafe(|| work(&mut core))) {
            Ok(done) => Some(done),
            Err(panic) => {
                self.health().fail(Fault::Panic(panic_message(&*panic).into()));
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

    fn deliver(&self, outbox: crate::outbox::Outbox<V>) {
        let delivered = catch_unwind(AssertUnwindSafe(|| outbox.deliver(&self.sequencer)));
        if let Err(panic) = delivered {
            // Only dropping old values runs a user's code here, after everything was delivered.
            self.health().fail(Fault::Panic(panic_message(&*panic).into()));
        }
    }

    /// The actor is gone: nothing that waits will be answered.
    pub(crate) fn close(&self) {
        self.health().fail(Fault::Closed);
        self.core.lock().abandon();
    }
}
