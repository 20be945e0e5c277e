//! What anabranch is to reach, and the Markdown tables that say how far it is.

use std::fmt::Write;

use crate::engines::anabranch::default_shards;
use crate::engines::{self, Role};
use crate::outcome::{Cell, Run, ratio, ratio_spread};
use crate::store::Outcome;
use crate::table::short;
use crate::workload;

/// What a workload of anabranch is compared with.
enum Against {
    /// An engine on the same workload.
    Engine(&'static str),
    /// An engine on another workload.
    Other(&'static str, &'static str),
    BestPeer,
    /// Itself, with one shard.
    OneShard,
    /// Runs per commit, which are to be fewer than the bar.
    Runs,
}

struct Bar {
    what: &'static str,
    workload: &'static str,
    /// Where it is measured with another number of keys.
    keys: Option<f64>,
    against: Against,
    at_least: f64,
}

const MILLION: Option<f64> = Some(1e6);
const SURREALMX: Against = Against::Engine("surrealmx");
const SURREALKV: Against = Against::Engine("surrealkv");
const DASHMAP: Against = Against::Engine("dashmap");

const fn bar(what: &'static str, workload: &'static str, against: Against, at_least: f64) -> Bar {
    Bar { what, workload, keys: None, against, at_least }
}

const fn large(what: &'static str, workload: &'static str, against: Against, at_least: f64) -> Bar {
    Bar { what, workload, keys: MILLION, against, at_least }
}

const BARS: &[Bar] = &[
    bar("get, 1 task", "get-1", SURREALMX, 1.3),
    bar("get, 2 tasks", "get", SURREALMX, 1.3),
    large("get, 1 task, 1 M keys", "get-1", SURREALMX, 1.3),
    large("get, 2 tasks, 1 M keys", "get", SURREALMX, 1.3),
    bar("get, 1 task", "get-1", DASHMAP, 0.7),
    bar("get, 2 tasks", "get", DASHMAP, 0.7),
    large("get, 1 task, 1 M keys", "get-1", DASHMAP, 0.7),
    large("get, 2 tasks, 1 M keys", "get", DASHMAP, 0.7),
    bar("insert of new keys, 32 tasks", "insert", SURREALMX, 2.0),
    bar("update, 1 task", "update-1", SURREALMX, 1.5),
    bar("update, 32 tasks", "update", SURREALMX, 3.0),
    bar("update, 32 tasks", "update", DASHMAP, 0.5),
    bar("transfer across two shards, 32 tasks", "transfer", SURREALMX, 2.0),
    bar("transfer on 16 hot accounts, 32 tasks", "transfer-hot", SURREALMX, 1.5),
    bar("its runs per commit", "transfer-hot", Against::Runs, 2.0),
    bar("one hot counter, 32 tasks", "hot-counter", SURREALMX, 10.0),
    bar("read-only transaction of 10 gets", "read-10", SURREALMX, 2.0),
    bar("scan of 100", "scan-100", SURREALMX, 1.5),
    bar("ingest sink, in memory", "ingest", Against::Other("surrealmx", "load"), 4.0),
    bar("durable update, 1 task", "full-update-1", Against::Engine("raw-file"), 0.8),
    bar("durable update, 32 tasks", "full-update", SURREALKV, 1.5),
    bar("durable update, 256 tasks", "full-update-256", SURREALKV, 2.0),
    bar("durable hot counter, 32 tasks", "full-hot-counter", Against::BestPeer, 10.0),
    bar("relaxed update, 32 tasks", "relaxed-update", SURREALMX, 2.0),
    large("reopen with 1 M rows", "reopen", Against::BestPeer, 1.5),
    large("memory per key, 1 M keys", "memory", SURREALMX, 1.0),
    bar("begin + drop with 10,000 open", "begin-drop-10k", Against::Other("anabranch", "begin-drop"), 0.5),
    bar("default shards, full-update-1", "full-update-1", Against::OneShard, 1.0),
    bar("default shards, full-update", "full-update", Against::OneShard, 1.0),
    bar("default shards, full-update-256", "full-update-256", Against::OneShard, 1.0),
    bar("default shards, full-insert", "full-insert", Against::OneShard, 1.0),
    bar("default shards, full-transfer", "full-transfer", Against::OneShard, 1.0),
    bar("default shards, full-hot-counter", "full-hot-counter", Against::OneShard, 1.0),
    bar("default shards, relaxed-update", "relaxed-update", Against::OneShard, 1.0),
    bar("default shards, relaxed-insert", "relaxed-insert", Against::OneShard, 1.0),
    bar("default shards, relaxed-transfer", "relaxed-transfer", Against::OneShard, 1.0),
];

/// What a comparison came to.
struct Comparison {
    with: String,
    ratio: f64,
    spread: Option<(f64, f64)>,
    /// The numbers behind the ratio.
    numbers: String,
}

/// Both tables: the bars, and every workload against the best peer and the limit.
pub(crate) fn markdown(run: &Run) -> Outcome<String> {
    let mut text = String::new();
    writeln!(text, "| workload | against | bar | measured (least-most) | numbers | |")?;
    writeln!(text, "|---|---|---:|---:|---:|---|")?;
    let mut met = 0;
    for bar in BARS {
        let compared = compare(run, bar);
        met += usize::from(compared.as_ref().is_some_and(|compared| reached(bar, compared)));
        row(&mut text, bar, compared.as_ref())?;
    }
    writeln!(text, "\n{met} of {} bars are met.\n", BARS.len())?;
    writeln!(text, "| workload | anabranch | best peer | ratio (least-most) | limit | ratio |")?;
    writeln!(text, "|---|---:|---|---:|---|---:|")?;
    for cells in run.groups() {
        workload_row(&mut text, &cells)?;
    }
    writeln!(text, "\n`{}`\n", run.command)?;
    let facts = |facts: &[(String, String)]| {
        facts.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("; ")
    };
    writeln!(text, "{}.\n\n{}.", facts(&run.settings), facts(&run.machine))?;
    Ok(text)
}

fn reached(bar: &Bar, compared: &Comparison) -> bool {
    match bar.against {
        Against::Runs => compared.ratio < bar.at_least,
        _ => compared.ratio >= bar.at_least,
    }
}

fn row(text: &mut String, bar: &Bar, compared: Option<&Comparison>) -> Outcome<()> {
    let runs = matches!(bar.against, Against::Runs);
    let (least, unit) = if runs { ("under ", "") } else { ("", "x") };
    write!(text, "| {} ", bar.what)?;
    let Some(compared) = compared else {
        let with = match bar.against {
            Against::Engine(engine) | Against::Other(engine, _) => engine,
            Against::BestPeer => "best peer",
            Against::OneShard => "one shard",
            Against::Runs => "",
        };
        writeln!(text, "| {with} | {least}{}{unit} | | | not measured |", bar.at_least)?;
        return Ok(());
    };
    let spread = compared.spread.map_or(String::new(), |(least, most)| format!(" ({least:.2}-{most:.2})"));
    let could = compared.spread.is_some_and(|(_, most)| most >= bar.at_least);
    let verdict = match reached(bar, compared) {
        true => "met",
        false if could && !runs => "behind, within the spread",
        false => "**behind**",
    };
    writeln!(
        text,
        "| {} | {least}{}{unit} | {:.2}{unit}{spread} | {} | {verdict} |",
        compared.with, bar.at_least, compared.ratio, compared.numbers
    )?;
    Ok(())
}

fn compare(run: &Run, bar: &Bar) -> Option<Comparison> {
    let mine = find(run, "anabranch", bar.workload, bar.keys)?;
    let (other, with) = match bar.against {
        Against::Runs => {
            let runs = mine.runs()?;
            return Some(Comparison {
                with: String::new(),
                ratio: runs,
                spread: None,
                numbers: String::new(),
            });
        }
        Against::Engine(engine) => (find(run, engine, bar.workload, bar.keys)?, engine.to_owned()),
        Against::Other(engine, workload) => {
            (find(run, engine, workload, bar.keys)?, format!("{engine}, {workload}"))
        }
        Against::BestPeer => {
            let peers = engines::ALL.iter().filter(|engine| engine.role == Role::Peer);
            let cells = peers.filter_map(|peer| find(run, peer.name, bar.workload, bar.keys));
            let best = cells.max_by(|a, b| ratio(a, b).unwrap_or(1.0).total_cmp(&1.0))?;
            (best, best.engine.clone())
        }
        Against::OneShard => {
            let at = |shards| at(run, "anabranch", bar.workload, Some(("shards", shards)));
            let one = at(1.0)?;
            // In the same sweep, so that both were measured by turns.
            let default = workload::ALL.iter().find(|workload| workload.name == bar.workload)?;
            let default = u32::try_from(default_shards(default.level)).ok()?;
            return comparison(at(default.into()).unwrap_or(mine), one, "one shard".to_owned());
        }
    };
    comparison(mine, other, with)
}

fn comparison(mine: &Cell, other: &Cell, with: String) -> Option<Comparison> {
    let numbers = format!("{} / {}", short(mine.value()?), short(other.value()?));
    Some(Comparison { with, ratio: ratio(mine, other)?, spread: ratio_spread(mine, other), numbers })
}

fn find<'r>(run: &'r Run, engine: &str, workload: &str, keys: Option<f64>) -> Option<&'r Cell> {
    match keys {
        Some(keys) => at(run, engine, workload, Some(("keys", keys))),
        None => at(run, engine, workload, None).or_else(|| at(run, engine, workload, Some(("keys", 1e5)))),
    }
}

/// A cell at a point of a sweep that has a number.
fn at<'r>(run: &'r Run, engine: &str, workload: &str, point: Option<(&str, f64)>) -> Option<&'r Cell> {
    run.cells.iter().find(|cell| {
        let here = cell.point.as_ref().map(|(knob, value)| (knob.as_str(), *value));
        cell.engine == engine && cell.workload == workload && here == point && cell.value().is_some()
    })
}

fn workload_row(text: &mut String, cells: &[&Cell]) -> Outcome<()> {
    let Some((mine, peer, limit)) = crate::report::contenders(cells) else { return Ok(()) };
    let (Some(value), None) = (mine.value(), mine.point.as_ref()) else { return Ok(()) };
    write!(text, "| {} | {} {} ", mine.workload, short(value), mine.unit)?;
    for (other, spreads) in [(peer, true), (limit, false)] {
        let compared = other.and_then(|other| comparison(mine, other, other.engine.clone()));
        let Some(compared) = compared else {
            write!(text, "| | ")?;
            continue;
        };
        let spread = compared.spread.filter(|_| spreads);
        let spread = spread.map_or(String::new(), |(least, most)| format!(" ({least:.2}-{most:.2})"));
        let bold = if spreads && compared.ratio < 1.0 { "**" } else { "" };
        write!(text, "| {} | {bold}{:.2}x{bold}{spread} ", compared.with, compared.ratio)?;
    }
    writeln!(text, "|")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Measured, Round};

    fn cell(engine: &str, workload: &str, value: f64) -> Cell {
        let measured = Measured { value, runs_per_commit: Some(1.5), ..Measured::default() };
        Cell {
            workload: workload.into(),
            engine: engine.into(),
            point: None,
            unit: "ops/s".into(),
            lower_is_better: false,
            rounds: vec![Round::Measured(measured)],
        }
    }

    #[test]
    fn each_bar_is_met_behind_or_not_measured() {
        let cells = vec![
            cell("anabranch", "get", 10.0),
            cell("surrealmx", "get", 5.0),
            cell("dashmap", "get", 20.0),
            cell("anabranch", "transfer-hot", 10.0),
        ];
        let table = markdown(&Run { cells, ..Run::default() }).unwrap();
        assert!(table.contains("| get, 2 tasks | surrealmx | 1.3x | 2.00x (2.00-2.00) | 10 / 5 | met |"));
        assert!(
            table.contains("| get, 2 tasks | dashmap | 0.7x | 0.50x (0.50-0.50) | 10 / 20 | **behind** |")
        );
        assert!(table.contains("| its runs per commit |  | under 2 | 1.50 |  | met |"));
        assert!(table.contains("| scan of 100 | surrealmx | 1.5x | | | not measured |"));
        assert!(table.contains("2 of 36 bars are met"));
        assert!(table.contains("| get | 10 ops/s | surrealmx | 2.00x (2.00-2.00) | dashmap | 0.50x |"));
    }

    #[test]
    fn every_bar_is_about_a_workload_that_exists() {
        for bar in BARS {
            assert!(crate::workload::Workload::find(bar.workload).is_some(), "{}", bar.workload);
        }
    }
}
