//! Virtual time ends a wait, but not a loop that never waits. Real time does.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

const PATIENCE_SECONDS: u32 = 60;

static WATCHED: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

pub(crate) struct Watched(String);

/// Ends the whole test, naming what spun, unless the result is dropped in time.
#[expect(clippy::disallowed_methods, reason = "the watchdog stands outside of the simulation")]
pub(crate) fn watch(what: String) -> Watched {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_secs(1));
                for (what, seconds) in WATCHED.lock().unwrap().iter_mut() {
                    *seconds += 1;
                    if *seconds > PATIENCE_SECONDS {
                        eprintln!("{what} spins without end");
                        std::process::exit(1);
                    }
                }
            }
        });
    });
    WATCHED.lock().unwrap().insert(what.clone(), 0);
    Watched(what)
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHED.lock().unwrap().remove(&self.0);
    }
}
