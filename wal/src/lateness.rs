//! Lateness, for simulations: messages are sent late and taken late, each by a time that a seed decides, so that those
//! of different senders overtake each other. Those of one sender never do. Compiled only for tests.

use std::cell::Cell;
use std::time::Duration;

/// At most so long is a message late, most of them far less.
const MILLIS_MAX: u64 = 8;

thread_local!(static STATE: Cell<Option<u64>> = const { Cell::new(None) });

/// Makes messages on this thread late until the guard is dropped.
#[must_use]
pub fn make_late(seed: u64) -> Lateness {
    STATE.set(Some(seed));
    Lateness(())
}

/// Ends it when it is dropped.
#[derive(Debug)]
pub struct Lateness(());

impl Drop for Lateness {
    fn drop(&mut self) {
        STATE.set(None);
    }
}

/// Waits where a message may be late: not at all unless [`make_late`] said so.
pub async fn late() {
    let Some(state) = STATE.get() else { return };
    // SplitMix64.
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^= word >> 31;
    match word % 16 {
        0..8 => {}
        // Others that are ready go ahead.
        8..13 => {
            for _ in 0..=(word >> 8) % 4 {
                tokio::task::yield_now().await;
            }
        }
        // As long as a write or a sync takes: others finish what they are at.
        _ => tokio::time::sleep(Duration::from_micros((word >> 8) % (MILLIS_MAX * 1000))).await,
    }
}
