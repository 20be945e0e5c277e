//! An anomaly as a story that a person can follow.

use std::fmt::Write;

use super::anomaly::Anomaly;
use super::graph::{Edge, RW, WR, WW};
use super::history::{Element, History, Op};
use super::versions::Versions;

/// Of a long list, so many elements are shown.
const ELEMENTS_MAX: usize = 6;

pub(crate) fn tell(history: &History, versions: &Versions<'_>, anomaly: &Anomaly) -> String {
    let mut story = format!("{:?}: ", anomaly.kind());
    let mut told = Vec::new();
    match anomaly {
        Anomaly::Read { txn, key, element, .. } => {
            let element = element.map_or(String::new(), |element| format!(", element {element}"));
            line(&mut story, &format!("what T{txn} read of list {key}{element}"));
            told.push(*txn);
        }
        Anomaly::Fork { txn, other, key } => {
            line(&mut story, &format!("T{txn} and T{other} read list {key} as no one list can have been"));
            told.extend([*txn, *other]);
        }
        Anomaly::Lost { txn, reader, key, element } => {
            let what =
                format!("T{txn}'s acknowledged append of {element} to list {key} is unknown to T{reader}");
            line(&mut story, &what);
            told.extend([*txn, *reader]);
        }
        Anomaly::Cycle { edges, .. } => {
            line(&mut story, &format!("{} transactions that have no order", edges.len()));
            for (from, edge) in edges {
                line(&mut story, &format!("  {}", because(versions, *from, edge)));
                told.push(*from);
            }
        }
    }
    for txn in told {
        line(&mut story, &format!("  {}", transaction(history, txn)));
    }
    story
}

fn line(story: &mut String, line: &str) {
    writeln!(story, "{line}").expect("strings have room");
}

/// Why the edge's transactions can only be in this order.
fn because(versions: &Versions<'_>, from: u32, edge: &Edge) -> String {
    let to = edge.to;
    let list = &versions.lists[edge.list as usize];
    let (key, length) = (list.key, edge.length as usize);
    match edge.kind {
        WW => format!("T{from} -ww-> T{to}: to list {key}, T{to} appended {} next", list.elements[length]),
        WR => format!("T{from} -wr-> T{to}: in list {key}, T{to} saw {}", list.elements[length - 1]),
        RW => {
            format!("T{from} -rw-> T{to}: in list {key}, T{from} did not see {} yet", list.elements[length])
        }
        _ => format!("T{from} -rt-> T{to}: T{from} had completed when T{to} was invoked"),
    }
}

fn transaction(history: &History, txn: u32) -> String {
    let body = &history.txns[txn as usize];
    let completed = body.completed.map_or("?".to_owned(), |completed| completed.to_string());
    let mut text = format!(
        "T{txn} ({} by process {}, {:?}, from {} to {completed}):",
        body.what, body.process, body.outcome, body.invoked
    );
    for op in &body.ops {
        let op = match op {
            Op::Append(key, element) => format!(" append {element} to {key};"),
            Op::Undone(key, element) => format!(" append {element} to {key}, undone;"),
            Op::Read(key, elements) => format!(" read {key} as {};", shortened(elements)),
        };
        text.push_str(&op);
    }
    text
}

fn shortened(elements: &[Element]) -> String {
    let hidden = elements.len().saturating_sub(ELEMENTS_MAX);
    let shown = &elements[hidden..];
    if hidden == 0 { format!("{shown:?}") } else { format!("{hidden} elements and {shown:?}") }
}
