//! The commit and recovery protocol as an exhaustive model: every interleaving of submitting, syncing,
//! checkpointing, recycling, crashing and recovering, over a few transactions and crashes.
//!
//! The engine's rule passes, and each rule that leaves something out fails, with the shortest way into the
//! failure. It models failed syncs and the granularity of segments besides; it does not model time, conflicts or
//! readers. `docs/rules.md` names the rules.
//!
//! `cargo test -p anabranch-wal --test commit_protocol`

mod explore;
mod state;

use explore::{Verdict, explore};
use state::{Rules, Scenario};

/// States after which a search gives up: a rule that is right and was searched whole stays below it.
const STATES_MAX: usize = 3_000_000;

fn passes(name: &str, rules: Rules, scenario: Scenario) {
    match explore(rules, scenario, STATES_MAX) {
        Verdict::Passes { states } => println!("{name}: {states} states, no violation"),
        Verdict::TooLarge => panic!("{name}: more than {STATES_MAX} states"),
        Verdict::Fails { trace } => panic!("{name} must hold, and fails:\n{}", trace.join("\n")),
    }
}

fn fails(name: &str, rules: Rules, with: &str) {
    let verdict = explore(rules, Scenario::default(), STATES_MAX);
    let Verdict::Fails { trace } = verdict else { panic!("{name} must fail, and does not: {verdict:?}") };
    let violation = trace.last().expect("a failure has a last step");
    assert!(violation.contains(with), "{name} must fail with {with}, not with {violation}");
    println!("{name}: found after {} steps", trace.len());
}

#[test]
fn the_rule_holds_through_crashes() {
    passes("full, 2 crashes", Rules::RIGHT, Scenario::default());
    passes("full, 3 crashes", Rules::RIGHT, Scenario { crashes: 3, sync_failures: 0, transactions: 3 });
}

#[test]
fn the_rule_holds_in_relaxed_mode() {
    let relaxed = Rules { acknowledge_unsynced: true, ..Rules::RIGHT };
    passes("relaxed, 2 crashes", relaxed, Scenario { sync_failures: 0, ..Scenario::default() });
}

#[test]
fn a_commit_counted_by_its_records_alone_breaks_when_segments_are_recycled() {
    fails("no cover by checkpoints", Rules { checkpoint_covers: false, ..Rules::RIGHT }, "PREFIX");
}

#[test]
fn a_checkpoint_of_what_is_undecided_breaks() {
    fails("checkpoint ahead of synced", Rules { checkpoint_at_synced: false, ..Rules::RIGHT }, "");
}

#[test]
fn deciding_each_transaction_by_itself_breaks_the_prefix() {
    let rules = Rules { dense_prefix: false, acknowledge_at_watermark: false, ..Rules::RIGHT };
    fails("each by itself", rules, "PREFIX");
}

#[test]
fn acknowledging_by_own_logs_alone_loses_what_was_acknowledged() {
    fails("own logs alone", Rules { acknowledge_at_watermark: false, ..Rules::RIGHT }, "DURABILITY");
}

#[test]
fn without_a_fence_what_was_dropped_comes_back() {
    fails("no fence", Rules { fence: false, ..Rules::RIGHT }, "");
}

#[test]
fn serving_what_only_the_page_cache_holds_loses_it() {
    fails("not persisted again", Rules { persist_again: false, ..Rules::RIGHT }, "");
}

#[test]
fn believing_a_sync_that_was_tried_again_loses_what_was_acknowledged() {
    fails("sync tried again", Rules { poison_on_failed_sync: false, ..Rules::RIGHT }, "DURABILITY");
}

#[test]
fn a_full_segment_left_unsynced_loses_what_was_acknowledged() {
    fails("seal not synced", Rules { sync_full_segment: false, ..Rules::RIGHT }, "DURABILITY");
}

#[test]
fn recycling_a_segment_that_is_covered_in_part_breaks() {
    fails("part of a segment", Rules { recycle_whole_segments: false, ..Rules::RIGHT }, "");
}
