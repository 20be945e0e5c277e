//! Tables for the terminal.

use crate::outcome::{Cell, Run, cpu_ratio, ratio, ratio_spread};
use crate::{engines, workload};

pub(crate) fn list() {
    println!("workloads:");
    for workload in workload::ALL {
        println!("  {:<18} {:<8} {}", workload.name, format!("{:?}", workload.level), workload.about);
    }
    println!("\nengines of this build:");
    for engine in engines::ALL {
        println!("  {:<18} {}", engine.name, engine.about);
    }
    println!("\nPeers come with --features peers, or a feature each.");
}

/// One workload on all engines.
pub(crate) fn group(cells: &[&Cell]) {
    let Some(first) = cells.first() else { return };
    let point = first.point.as_ref().map(|(knob, value)| format!(", {knob} {value}")).unwrap_or_default();
    println!(
        "\n{}{point} ({}): median (min-max) | p50 p99 | runs/commit | CPU s | peak | syncs | written",
        first.workload, first.unit
    );
    for cell in cells {
        println!("  {:<10} {}", cell.engine, row(cell));
    }
}

fn row(cell: &Cell) -> String {
    let (Some(value), Some((least, most))) = (cell.value(), cell.spread()) else {
        return format!("- {}", cell.failure().unwrap_or("not measured"));
    };
    let nanoseconds = |of: fn(&crate::outcome::Measured) -> u64| {
        cell.median(|measured| float(of(measured))).map_or(String::new(), time)
    };
    let bytes = |of: fn(&crate::outcome::Measured) -> u64| {
        cell.median(|measured| float(of(measured)))
            .map_or(String::new(), |bytes| format!("{}B", short(bytes)))
    };
    let cpu = cell.median(|measured| measured.cpu_seconds).unwrap_or_default();
    let syncs = cell.median(|measured| measured.syncs.map_or(-1.0, float)).filter(|syncs| *syncs >= 0.0);
    format!(
        "{:>8} ({}-{}) | {} {} | {} | {cpu:.2} | {} | {} | {}{}{}",
        short(value),
        short(least),
        short(most),
        nanoseconds(|measured| measured.p50),
        nanoseconds(|measured| measured.p99),
        cell.runs().map_or("-".to_owned(), |runs| format!("{runs:.2}")),
        bytes(|measured| measured.peak_bytes),
        syncs.map_or("-".to_owned(), short),
        if cell.written_exact() { "" } else { "<= " },
        bytes(|measured| measured.written_bytes),
        cell.failure().map_or(String::new(), |reason| format!(" | a round failed: {reason}")),
    )
}

pub(crate) fn all(run: &Run) {
    for cells in run.groups() {
        group(&cells);
    }
}

/// How anabranch compares, workload by workload: above 1 it is ahead.
pub(crate) fn ratios(run: &Run) {
    println!("\nanabranch against the others: median (by rounds, by CPU time); above 1 it is ahead");
    for cells in run.groups() {
        let Some(mine) = cells.iter().find(|cell| cell.engine == "anabranch") else { continue };
        let against: Vec<String> = cells
            .iter()
            .filter(|cell| cell.engine != "anabranch")
            .filter_map(|cell| {
                let (least, most) = ratio_spread(mine, cell)?;
                let cpu = cpu_ratio(mine, cell).map_or(String::new(), |ratio| format!(", CPU {ratio:.2}x"));
                let ratio = ratio(mine, cell)?;
                Some(format!("{} {ratio:.2}x ({least:.2}-{most:.2}{cpu})", cell.engine))
            })
            .collect();
        if against.is_empty() {
            continue;
        }
        let point = mine.point.as_ref().map(|(knob, value)| format!(" {knob} {value}")).unwrap_or_default();
        println!("  {:<24} {}", format!("{}{point}", mine.workload), against.join("  "));
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// Three digits and a letter.
pub(crate) fn short(number: f64) -> String {
    let (scaled, letter) = match number.abs() {
        size if size >= 1e9 => (number / 1e9, " G"),
        size if size >= 1e6 => (number / 1e6, " M"),
        size if size >= 1e3 => (number / 1e3, " k"),
        _ => (number, ""),
    };
    let digits = if scaled.abs() >= 100.0 || (letter.is_empty() && scaled.fract() == 0.0) {
        0
    } else if scaled.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$}{letter}")
}

/// Nanoseconds in the unit that fits.
pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        size if size >= 1e9 => format!("{:.2} s", size / 1e9),
        size if size >= 1e6 => format!("{:.2} ms", size / 1e6),
        size if size >= 1e3 => format!("{:.1} µs", size / 1e3),
        size => format!("{size:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shortened_to_three_digits() {
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1.234), "1.23");
        assert_eq!(short(12_345.0), "12.3 k");
        assert_eq!(short(123_456_789.0), "123 M");
        assert_eq!(time(1500.0), "1.5 µs");
    }
}
