//! Sweeps: the same workloads at several values of one knob.

use crate::cli::{Knobs, workloads};
use crate::store::Outcome;
use crate::workload::Workload;

/// The knobs of one point of a sweep.
pub(crate) struct Point {
    /// The knob that is swept, and its value here.
    pub(crate) label: Option<(String, f64)>,
    pub(crate) knobs: Knobs,
}

/// Workloads at points that are compared with each other.
pub(crate) struct Part {
    pub(crate) workloads: Vec<&'static Workload>,
    pub(crate) points: Vec<Point>,
    /// Whether it is about anabranch alone, unless engines are named.
    pub(crate) alone: bool,
}

/// What `scale` sweeps if it isn't told.
const SCALE: &[(&str, &[&str])] = &[
    ("shards=1,2,4,8", &["full-update", "full-transfer", "relaxed-update"]),
    ("tasks=1,4,16,64,256", &["full-update", "update"]),
    ("keys=10000,100000,1000000", &["get", "update"]),
    ("value-size=8,100,1000,10000", &["full-update"]),
    ("cross-share=0,0.25,0.5,0.75,1", &["full-transfer", "transfer"]),
];

/// The workloads asked for, at the points asked for.
pub(crate) fn asked(knobs: &Knobs) -> Outcome<Vec<Part>> {
    let whole = Point { label: None, knobs: knobs.clone() };
    let sweeps: Vec<_> = knobs.sweep.iter().map(|sweep| points(knobs, sweep)).collect::<Outcome<_>>()?;
    let sweeps = if sweeps.is_empty() { vec![vec![whole]] } else { sweeps };
    let part = |points| Ok(Part { workloads: knobs.workloads()?, points, alone: false });
    sweeps.into_iter().map(part).collect()
}

/// As [`asked`], with sweeps and workloads of its own choice.
pub(crate) fn scale(knobs: &Knobs) -> Outcome<Vec<Part>> {
    if !knobs.sweep.is_empty() {
        let alone = |part| Part { alone: true, ..part };
        return Ok(asked(knobs)?.into_iter().map(alone).collect());
    }
    let part = |(sweep, names): &(&str, &[&str])| {
        let workloads = if knobs.workload.is_empty() { workloads(names)? } else { knobs.workloads()? };
        Ok(Part { workloads, points: points(knobs, sweep)?, alone: true })
    };
    SCALE.iter().map(part).collect()
}

fn points(knobs: &Knobs, sweep: &str) -> Outcome<Vec<Point>> {
    let (name, values) = sweep.split_once('=').ok_or("a sweep looks like this: shards=1,2,4,8")?;
    values.split(',').map(|text| point(knobs, name, text.trim())).collect()
}

fn point(knobs: &Knobs, name: &str, text: &str) -> Outcome<Point> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    let whole = || text.parse::<usize>().map_err(|_| format!("{text:?} is not a whole number"));
    let mut knobs = knobs.clone();
    match name {
        "shards" => knobs.shards = Some(whole()?),
        "tasks" => knobs.tasks = whole()?.max(1),
        "keys" => knobs.keys = Some(whole()?),
        "value" | "value-size" => knobs.value = whole()?,
        "cross" | "cross-share" => knobs.cross = value,
        "batch" => knobs.batch = Some(whole()?.max(1)),
        _ => {
            let known = "shards, tasks, keys, value-size, cross-share and batch";
            return Err(format!("{name:?} can't be varied; {known} can").into());
        }
    }
    Ok(Point { label: Some((name.to_owned(), value)), knobs })
}
