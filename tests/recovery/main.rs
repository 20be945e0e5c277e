//! Recovery by itself: that it reads all logs at once, what it costs, what it takes for a usable file, and that an
//! engine leaves nothing behind in memory. Old mistakes have tests of their own here.

mod keeper;
mod memory;
mod parallel;
mod segments;
mod speed;

use std::sync::Arc;
use std::time::Duration;

use anabranch::{Engine, EngineBuilder, Partition};
use anabranch_wal::disk::sim::SimDisk;
use tokio::runtime::{Builder, Runtime};

/// A runtime on this thread alone, whose clock jumps to the next timer when nothing else is to be done.
fn simulated() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Keys go to the shards in turn, so that a test knows what each holds.
#[derive(Clone, Copy, Debug)]
struct InTurn;

impl Partition<u64> for InTurn {
    fn shard(&self, key: &u64, _: u64, shards: usize) -> usize {
        usize::try_from(*key).expect("small") % shards
    }
}

type Db = Engine<u64, Vec<u8>, InTurn>;

/// An engine with small segments on a simulated disk.
fn builder(disk: &SimDisk, shards: usize) -> EngineBuilder<u64, Vec<u8>, InTurn> {
    Engine::builder()
        .partition(InTurn)
        .shards(shards)
        .segment_bytes(16 << 10)
        .segments_max(64)
        .checkpoint_after_bytes(1 << 30)
        .disk(Arc::new(disk.clone()))
}

/// Awaits, and fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), future)
        .await
        .expect("nothing takes that long unless it hangs")
}
