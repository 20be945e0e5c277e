//! What readers ask of the sequencer: where the watermark is.

use std::sync::Arc;

use anabranch_wal::Timestamp;

use crate::primitives::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Durable,
}

pub(crate) struct Sequencer(AtomicU64);

impl Sequencer {
    pub(crate) fn new(durable: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(durable)))
    }

    pub(crate) fn raise(&self, to: u64) {
        self.0.store(to, Ordering::SeqCst);
    }

    pub(crate) fn get(&self, level: Level) -> Timestamp {
        match level {
            Level::Durable => Timestamp(self.0.load(Ordering::SeqCst)),
        }
    }
}
