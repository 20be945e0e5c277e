//! What is measured, and the medians of it.

use serde::{Deserialize, Serialize};

/// One cell's order, as its process gets it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) engine: String,
    pub(crate) workload: String,
    pub(crate) tasks: usize,
    pub(crate) threads: usize,
    pub(crate) shards: Option<usize>,
    #[serde(default)]
    pub(crate) memory_limit: Option<u64>,
    pub(crate) value_bytes: usize,
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
    /// Rows of a commit, where many are loaded; the engine's best if `None`.
    pub(crate) batch: Option<usize>,
    /// Another file of flights than the bundled one.
    #[serde(default)]
    pub(crate) flights: Option<std::path::PathBuf>,
    /// Do so many operations, on one thread and however long it takes, instead of as many as the time allows.
    #[serde(default)]
    pub(crate) operations: Option<u64>,
    pub(crate) draw: crate::plan::Draw,
    pub(crate) level: crate::store::Level,
    pub(crate) directory: Option<std::path::PathBuf>,
}

/// What one cell measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// In the workload's unit.
    pub(crate) value: f64,
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    /// Of how many tasks or threads.
    pub(crate) workers: usize,
    /// In nanoseconds; of every 16th operation in memory, of every one on disk.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    /// Runs of transactions for each one that committed.
    pub(crate) runs_per_commit: Option<f64>,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) syncs: Option<u64>,
    /// Bytes written to files: as the engine counts them, else what the kernel accounts to the process, which is the
    /// memory of whole pages (folios) of its cache that were changed.
    pub(crate) written_bytes: u64,
    /// Whether the engine counted them itself.
    #[serde(default)]
    pub(crate) written_exact: bool,
}

/// What came of one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Round {
    Measured(Measured),
    Failed(String),
}

/// One engine under one workload, at one point of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) workload: String,
    pub(crate) engine: String,
    /// The knob that is swept, and its value here.
    pub(crate) point: Option<(String, f64)>,
    pub(crate) unit: String,
    pub(crate) lower_is_better: bool,
    pub(crate) rounds: Vec<Round>,
}

/// The whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) command: String,
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) complete: bool,
    pub(crate) cells: Vec<Cell>,
}

impl Cell {
    fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.rounds.iter().filter_map(|round| match round {
            Round::Measured(measured) => Some(measured),
            Round::Failed(_) => None,
        })
    }

    /// Why there is no number, or why a round is missing.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.rounds.iter().find_map(|round| match round {
            Round::Failed(reason) => Some(reason.as_str()),
            Round::Measured(_) => None,
        })
    }

    /// The median over the rounds of something measured.
    pub(crate) fn median(&self, of: impl Fn(&Measured) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.measured().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            count if count % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    pub(crate) fn value(&self) -> Option<f64> {
        self.median(|measured| measured.value)
    }

    /// The smallest and the largest value of a round.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        let values = || self.measured().map(|measured| measured.value);
        Some((values().reduce(f64::min)?, values().reduce(f64::max)?))
    }

    /// Whether the engine counts by itself what it writes.
    pub(crate) fn written_exact(&self) -> bool {
        self.measured().all(|measured| measured.written_exact)
    }

    /// Runs per commit, if it was counted.
    pub(crate) fn runs(&self) -> Option<f64> {
        self.measured().next()?.runs_per_commit?;
        self.median(|measured| measured.runs_per_commit.unwrap_or(1.0))
    }
}

impl Run {
    /// Puts the measurements of another run beside its own.
    pub(crate) fn add(&mut self, other: Self) {
        self.command = format!("{}; {}", self.command, other.command);
        self.complete &= other.complete;
        self.cells.extend(other.cells);
    }

    /// Cells that compare with each other: the same workload at the same point, in order.
    pub(crate) fn groups(&self) -> Vec<Vec<&Cell>> {
        let mut groups: Vec<Vec<&Cell>> = Vec::new();
        for cell in &self.cells {
            let same =
                |group: &&mut Vec<&Cell>| group[0].workload == cell.workload && group[0].point == cell.point;
            match groups.iter_mut().find(same) {
                Some(group) => group.push(cell),
                None => groups.push(vec![cell]),
            }
        }
        groups
    }
}

/// How many times better than `other` this is.
pub(crate) fn ratio(cell: &Cell, other: &Cell) -> Option<f64> {
    let (mine, theirs) = (cell.value()?, other.value()?);
    Some(if cell.lower_is_better { theirs / mine } else { mine / theirs })
}

/// The smallest and the largest ratio of two rounds that ran one after the other.
pub(crate) fn ratio_spread(cell: &Cell, other: &Cell) -> Option<(f64, f64)> {
    let ratios = || {
        cell.measured().zip(other.measured()).map(|(mine, theirs)| {
            if cell.lower_is_better { theirs.value / mine.value } else { mine.value / theirs.value }
        })
    };
    Some((ratios().reduce(f64::min)?, ratios().reduce(f64::max)?))
}

/// As [`ratio`], by CPU time instead of time: what other programs take of a shared machine hardly shows in it, but
/// neither does waiting.
pub(crate) fn cpu_ratio(cell: &Cell, other: &Cell) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |cell: &Cell| cell.median(|measured| measured.operations as f64 / measured.cpu_seconds);
    let ratio = rate(cell)? / rate(other)?;
    (!cell.lower_is_better && ratio.is_finite()).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(values: &[f64], lower_is_better: bool) -> Cell {
        let round = |value: &f64| Round::Measured(Measured { value: *value, ..Measured::default() });
        Cell {
            workload: "get".into(),
            engine: "anabranch".into(),
            point: None,
            unit: "ops/s".into(),
            lower_is_better,
            rounds: values.iter().map(round).collect(),
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(cell(&[3.0, 1.0, 2.0], false).value(), Some(2.0));
        assert_eq!(cell(&[4.0, 1.0, 2.0, 3.0], false).value(), Some(2.5));
        assert_eq!(cell(&[], false).value(), None);
        assert_eq!(cell(&[4.0, 1.0], false).spread(), Some((1.0, 4.0)));
    }

    #[test]
    fn a_ratio_above_one_is_better_in_either_direction() {
        assert_eq!(ratio(&cell(&[4.0], false), &cell(&[2.0], false)), Some(2.0));
        assert_eq!(ratio(&cell(&[2.0], true), &cell(&[4.0], true)), Some(2.0));
        let (fast, slow) = (cell(&[4.0, 9.0], false), cell(&[2.0, 3.0], false));
        assert_eq!(ratio_spread(&fast, &slow), Some((2.0, 3.0)));
    }
}
