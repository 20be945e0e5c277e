//! Two results, one beside the other: what got slower.

use crate::outcome::{Cell, Run, ratio};
use crate::table::short;

/// Prints the differences; `true` if something got slower than noise explains.
pub(crate) fn print(before: &Run, after: &Run, noise_percent: f64) -> bool {
    let mut slower = false;
    for cell in &after.cells {
        let same = |other: &&Cell| {
            other.workload == cell.workload && other.engine == cell.engine && other.point == cell.point
        };
        let Some(old) = before.cells.iter().find(same) else { continue };
        let (Some(factor), Some(was), Some(is)) = (ratio(cell, old), old.value(), cell.value()) else {
            continue;
        };
        let percent = (factor - 1.0) * 100.0;
        let verdict = if percent.abs() < noise_percent || overlap(old, cell) {
            "within noise"
        } else if percent < 0.0 {
            slower |= cell.engine == "anabranch";
            "SLOWER"
        } else {
            "faster"
        };
        let point = cell.point.as_ref().map(|(knob, value)| format!(" {knob} {value}")).unwrap_or_default();
        println!(
            "{:<12} {:<26} {:>9} -> {:>9} {} {percent:+6.1} %  {verdict}",
            cell.engine,
            format!("{}{point}", cell.workload),
            short(was),
            short(is),
            cell.unit
        );
    }
    slower
}

/// Whether the rounds of one reach into those of the other.
fn overlap(a: &Cell, b: &Cell) -> bool {
    let (Some(a), Some(b)) = (a.spread(), b.spread()) else { return true };
    a.0 <= b.1 && b.0 <= a.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Measured, Round};

    fn run(values: &[f64]) -> Run {
        let round = |value: &f64| Round::Measured(Measured { value: *value, ..Measured::default() });
        let cell = Cell {
            workload: "get".into(),
            engine: "anabranch".into(),
            point: None,
            unit: "ops/s".into(),
            lower_is_better: false,
            rounds: values.iter().map(round).collect(),
        };
        Run { cells: vec![cell], ..Run::default() }
    }

    #[test]
    fn slower_is_what_noise_does_not_explain() {
        assert!(print(&run(&[100.0, 110.0]), &run(&[50.0, 60.0]), 15.0));
        assert!(!print(&run(&[100.0, 110.0]), &run(&[95.0, 99.0]), 15.0), "a small difference");
        assert!(!print(&run(&[40.0, 110.0]), &run(&[50.0, 60.0]), 15.0), "within the spread");
        assert!(!print(&run(&[50.0]), &run(&[100.0]), 15.0), "faster");
    }
}
