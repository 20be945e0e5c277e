//! Breadth first through all states, so that a violation is reached by the fewest steps.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::BuildHasherDefault;

use super::state::{Rules, Scenario, State};

/// What a search found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// No violation in any reachable state.
    Passes { states: usize },
    /// The steps to a violation; the last names it.
    Fails { trace: Vec<String> },
    /// Given up.
    TooLarge,
}

type Seen = HashSet<State, BuildHasherDefault<std::hash::DefaultHasher>>;

pub(crate) fn explore(rules: Rules, scenario: Scenario, states_max: usize) -> Verdict {
    let start = State::start(scenario);
    let mut seen = Seen::default();
    // The state that each was reached from, and by which step.
    let mut steps: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    let mut queue = VecDeque::from([(start.clone(), 0)]);
    seen.insert(start);
    let mut states = 1;
    while let Some((state, number)) = queue.pop_front() {
        for (step, outcome) in state.steps(rules) {
            match outcome {
                Err(violation) => {
                    let mut trace = vec![format!("{step}: {violation}")];
                    let mut at = number;
                    while let Some((before, step)) = steps.get(&at) {
                        trace.push(step.clone());
                        at = *before;
                    }
                    trace.reverse();
                    return Verdict::Fails { trace };
                }
                Ok(next) => {
                    if seen.insert(next.clone()) {
                        steps.insert(states, (number, step));
                        queue.push_back((next, states));
                        states += 1;
                    }
                }
            }
        }
        if states > states_max {
            return Verdict::TooLarge;
        }
    }
    Verdict::Passes { states }
}
