//! What the modules share: limits on time, engines to start from, and a way to await without tokio.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use anabranch::{Engine, Env, Error, Key, SystemEnv, Value};
use futures_core::Stream;

/// What takes longer than this hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// Awaits, and fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    within_limit(LIMIT, future).await
}

pub(crate) async fn within_limit<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.expect("nothing takes that long unless it hangs")
}

/// Awaits on a plain thread, with nothing of tokio.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = SystemEnv.now() + LIMIT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(SystemEnv.now() < deadline, "nothing takes that long unless it hangs");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

pub(crate) async fn in_memory<K: Key, V: Value>(shards: usize) -> Engine<K, V> {
    Engine::builder().shards(shards).in_memory().await.expect("nothing is wrong with these settings")
}

pub(crate) async fn open<K: Key, V: Value>(directory: impl AsRef<Path>, shards: usize) -> Engine<K, V> {
    within(Engine::builder().shards(shards).open(directory)).await.expect("the directory is in order")
}

/// What a scan yields, with the values copied out.
pub(crate) fn entries<K, V: Copy>(scan: impl Iterator<Item = Result<(K, Arc<V>), Error>>) -> Vec<(K, V)> {
    scan.map(|entry| entry.map(|(key, value)| (key, *value)).expect("the engine is open")).collect()
}

pub(crate) async fn collect<S: Stream + Unpin>(mut stream: S) -> Vec<S::Item> {
    let mut items = Vec::new();
    while let Some(item) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        items.push(item);
    }
    items
}

/// A directory to put databases in: in memory where the system has such a place, which makes tests that open
/// thousands of times bearable.
pub(crate) fn fast_directory() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir()
        && let Ok(directory) = tempfile::tempdir_in(shared_memory)
    {
        return directory;
    }
    tempfile::tempdir().expect("the system's temporary directory is writable")
}
