//! The report: one HTML page that needs nothing else, for light and dark, wide and narrow.

use std::fmt::Write;

use crate::chart::{self, Bar, Line};
use crate::engines::{self, Role};
use crate::outcome::{Cell, Measured, Run, ratio, ratio_spread};
use crate::store::Outcome;
use crate::table::{float, short, time};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --behind: #c60; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
svg { width: 100%; max-width: 560px; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
td:first-child, th:first-child, .text { text-align: left; }
td:first-child, th:first-child { position: sticky; left: 0; background: Canvas; }
tr:has(th) th { padding-top: 1.2rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin-bottom: .8rem; }
.legend i { display: inline-block; width: 1rem; height: .25rem; margin-right: .4rem; vertical-align: middle; }
.behind { color: var(--behind); font-weight: 600; } .why { white-space: normal; text-align: left; opacity: .75; min-width: 16rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
@media (prefers-color-scheme: dark) { :root { --behind: #fa5; } }
";

pub(crate) fn page(run: &Run) -> Outcome<String> {
    let mut html = String::new();
    write!(
        html,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>anabranch benchmark</title><style>{STYLE}</style></head><body>\
         <h1>anabranch, its peers, and the machine's limits</h1>\
         <p>Medians of interleaved rounds, each measurement in a process of its own. Every result was checked: sums, \
         counts, order, and on disk once more after reopening. Ratios compare better than numbers: machines vary, \
         and so do their minutes.</p>"
    )?;
    if !run.complete {
        html.push_str("<p class=\"behind\">This run was interrupted.</p>");
    }
    ratio_section(&mut html, run)?;
    curve_section(&mut html, run)?;
    latency_section(&mut html, run)?;
    table_section(&mut html, run)?;
    facts(&mut html, run)?;
    html.push_str("</body></html>\n");
    Ok(html)
}

fn is_limit(cell: &Cell) -> bool {
    has_role(cell, Role::Limit)
}

fn has_role(cell: &Cell, role: Role) -> bool {
    engines::find(&cell.engine).is_some_and(|engine| engine.role == role)
}

/// The place of an engine among those of the run, which is its colour.
fn color(run: &Run, cell: &Cell) -> usize {
    let mut engines: Vec<&str> = Vec::new();
    for cell in &run.cells {
        if !engines.contains(&cell.engine.as_str()) {
            engines.push(&cell.engine);
        }
    }
    engines.iter().position(|engine| *engine == cell.engine).unwrap_or(0)
}

fn title(cell: &Cell) -> String {
    let point = cell.point.as_ref().map(|(knob, value)| format!(", {knob} {value}")).unwrap_or_default();
    format!("{}{point}", cell.workload)
}

/// anabranch's cell of a group, the best of the peers, and the limit.
pub(crate) fn contenders<'a>(cells: &[&'a Cell]) -> Option<(&'a Cell, Option<&'a Cell>, Option<&'a Cell>)> {
    let mine = cells.iter().find(|cell| cell.engine == "anabranch" && cell.value().is_some())?;
    let others = || cells.iter().filter(|cell| cell.engine != "anabranch" && cell.value().is_some());
    let better = |a: &&&Cell, b: &&&Cell| ratio(a, b).unwrap_or(1.0).total_cmp(&1.0);
    let peer = others().filter(|cell| !is_limit(cell) && !has_role(cell, Role::Variant)).max_by(better);
    let limit = others().find(|cell| is_limit(cell));
    Some((mine, peer.copied(), limit.copied()))
}

/// anabranch over the best peer, and over the limit.
fn ratio_bars(run: &Run) -> (Vec<Bar>, Vec<Bar>) {
    let (mut against_peers, mut against_limits) = (Vec::new(), Vec::new());
    for cells in run.groups() {
        let Some((mine, peer, limit)) = contenders(&cells) else { continue };
        for (bars, other) in [(&mut against_peers, peer), (&mut against_limits, limit)] {
            if let Some(ratio) = other.and_then(|other| ratio(mine, other)) {
                let spread = other.and_then(|other| ratio_spread(mine, other));
                bars.push(Bar { label: title(mine), ratio, spread });
            }
        }
    }
    (against_peers, against_limits)
}

/// The ratios to the best peers as a picture of its own, for a page that can't hold a chart: dark on light, or light
/// on dark, as the reader's screen is.
pub(crate) fn picture(run: &Run) -> Outcome<String> {
    let chart = chart::ratios(&ratio_bars(run).0)?;
    let Some(rest) = chart.strip_prefix("<svg") else { return Err("the chart is no picture".into()) };
    let Some((tag, content)) = rest.split_once('>') else { return Err("the chart is no picture".into()) };
    let style = "svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}";
    Ok(format!("<svg{tag}><style>{style}</style>{content}"))
}

fn ratio_section(html: &mut String, run: &Run) -> Outcome<()> {
    let (against_peers, against_limits) = ratio_bars(run);
    for (title, note, bars) in [
        (
            "Against the best peer",
            "Above 1, anabranch is ahead. The line across a bar goes from the least to the most of a round.",
            against_peers,
        ),
        ("Against the limit", "A bare hash map, or write and fdatasync, which do much less.", against_limits),
    ] {
        if !bars.is_empty() {
            write!(html, "<h2>{title}</h2><p>{note}</p>{}", chart::ratios(&bars)?)?;
        }
    }
    Ok(())
}

/// Sweeps: a curve for each engine over the knob.
fn curve_section(html: &mut String, run: &Run) -> Outcome<()> {
    let swept = || run.cells.iter().filter(|cell| cell.point.is_some() && cell.value().is_some());
    let mut sweeps: Vec<(&str, &str)> = Vec::new();
    for cell in swept() {
        let sweep = (cell.workload.as_str(), knob(cell));
        if !sweeps.contains(&sweep) {
            sweeps.push(sweep);
        }
    }
    if sweeps.is_empty() {
        return Ok(());
    }
    html.push_str("<h2>Scaling</h2>");
    legend(html, run)?;
    html.push_str("<div class=\"charts\">");
    for (workload, knob_name) in sweeps {
        let cells: Vec<&Cell> =
            swept().filter(|cell| cell.workload == workload && knob(cell) == knob_name).collect();
        curves_of_sweep(html, run, &cells)?;
    }
    html.push_str("</div>");
    Ok(())
}

fn knob(cell: &Cell) -> &str {
    cell.point.as_ref().map_or("", |(knob, _)| knob)
}

type Look = fn(&Measured) -> f64;
type Label<'l> = &'l dyn Fn(&f64) -> String;

fn curves_of_sweep(html: &mut String, run: &Run, cells: &[&Cell]) -> Outcome<()> {
    let (workload, knob) = (&cells[0].workload, knob(cells[0]));
    let plain = |number: &f64| short(*number);
    let charts: [(&str, Look, Label<'_>); 4] = [
        (&cells[0].unit, |measured| measured.value, &plain),
        ("99th percentile", |measured| float(measured.p99), &|latency| time(*latency)),
        ("operations per sync", |measured| per(measured.operations, measured.syncs.unwrap_or(0)), &plain),
        ("bytes written per operation", bytes_per_operation, &plain),
    ];
    for (what, look, label) in charts {
        let lines = curves(run, cells, |cell| cell.median(look).filter(|number| *number > 0.0));
        if lines.is_empty() {
            continue;
        }
        let mut places: Vec<f64> = cells.iter().filter_map(|cell| Some(cell.point.as_ref()?.1)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let name = |place: &f64| if *place < 1e5 { place.to_string() } else { short(*place) };
        let ticks: Vec<String> = places.iter().map(name).collect();
        let place = |value: f64| places.iter().zip(0u32..).find(|(place, _)| place.total_cmp(&value).is_eq());
        let lines: Vec<Line> = lines
            .into_iter()
            .map(|line| {
                let points = line.points.into_iter();
                let points = points.filter_map(|(x, y)| Some((f64::from(place(x)?.1), y))).collect();
                Line { points, ..line }
            })
            .collect();
        let chart = chart::lines(&lines, &ticks, knob, "", label)?;
        write!(html, "<figure><figcaption>{workload}: {what}</figcaption>{chart}</figure>")?;
    }
    Ok(())
}

/// Zero where it isn't known.
fn per(number: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { float(number) / float(of) }
}

fn bytes_per_operation(measured: &Measured) -> f64 {
    if measured.written_exact { per(measured.written_bytes, measured.operations) } else { 0.0 }
}

/// Which colour is which engine.
fn legend(html: &mut String, run: &Run) -> Outcome<()> {
    html.push_str("<div class=\"legend\">");
    let mut shown: Vec<&str> = Vec::new();
    for cell in run.cells.iter().filter(|cell| cell.value().is_some()) {
        if !shown.contains(&cell.engine.as_str()) {
            shown.push(&cell.engine);
            let color = chart::css_color(color(run, cell));
            write!(html, "<span><i style=\"background:{color}\"></i>{}</span>", cell.engine)?;
        }
    }
    html.push_str("</div>");
    Ok(())
}

fn curves(run: &Run, cells: &[&Cell], of: impl Fn(&Cell) -> Option<f64>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for cell in cells {
        let (Some((_, x)), Some(y)) = (&cell.point, of(cell)) else { continue };
        match lines.iter_mut().find(|line| line.label == cell.engine) {
            Some(line) => line.points.push((*x, y)),
            None => lines.push(Line {
                label: cell.engine.clone(),
                color: color(run, cell),
                points: vec![(*x, y)],
            }),
        }
    }
    lines
}

fn latency_section(html: &mut String, run: &Run) -> Outcome<()> {
    html.push_str("<h2>Latency</h2><p>From the median to the 99.9th percentile.</p>");
    legend(html, run)?;
    html.push_str("<div class=\"charts\">");
    for cells in run.groups().iter().filter(|cells| cells[0].point.is_none()) {
        let line = |cell: &&Cell| {
            let of = |of: fn(&Measured) -> u64| cell.median(|measured| float(of(measured)));
            let points = [
                (0.0, of(|measured| measured.p50)?),
                (1.0, of(|measured| measured.p99)?),
                (2.0, of(|measured| measured.p999)?),
            ];
            (points[0].1 > 0.0).then(|| Line {
                label: cell.engine.clone(),
                color: color(run, cell),
                points: points.into(),
            })
        };
        let lines: Vec<Line> = cells.iter().filter_map(line).collect();
        if !lines.is_empty() {
            let ticks = ["50 %", "99 %", "99.9 %"].map(str::to_owned);
            let chart = chart::lines(&lines, &ticks, "", "", &|y| time(*y))?;
            write!(html, "<figure><figcaption>{}</figcaption>{chart}</figure>", title(cells[0]))?;
        }
    }
    html.push_str("</div>");
    Ok(())
}

fn table_section(html: &mut String, run: &Run) -> Outcome<()> {
    html.push_str(
        "<h2>All numbers</h2><p>Beside each ratio stand the least and the most of rounds that ran one after the \
         other. Written is what the engine says, or, after &le;, the pages that the kernel saw changed, which is up to \
         16 times more where small writes go into large files.</p><div class=\"scroll\"><table>",
    );
    for cells in run.groups() {
        write!(
            html,
            "<tr><th>{} ({})</th><th>median</th><th>min</th><th>max</th><th>anabranch is</th><th>p50</th><th>p99</th>\
             <th>p99.9</th><th>runs per commit</th><th>CPU s</th><th>peak memory</th><th>syncs</th>\
             <th>written</th></tr>",
            title(cells[0]),
            cells[0].unit
        )?;
        let mine = cells.iter().find(|cell| cell.engine == "anabranch");
        for cell in &cells {
            table_row(html, cell, mine.copied())?;
        }
    }
    html.push_str("</table></div>");
    Ok(())
}

fn table_row(html: &mut String, cell: &Cell, mine: Option<&Cell>) -> Outcome<()> {
    let (Some(value), Some((least, most))) = (cell.value(), cell.spread()) else {
        let why = escape(cell.failure().unwrap_or("not measured"));
        write!(html, "<tr><td>{}</td><td colspan=\"12\" class=\"why\">{why}</td></tr>", cell.engine)?;
        return Ok(());
    };
    let against = mine.filter(|mine| mine.engine != cell.engine).and_then(|mine| ratio(mine, cell));
    let against = against.map_or(String::new(), |ratio| {
        let class = if ratio < 1.0 { " class=\"behind\"" } else { "" };
        let spread = mine.and_then(|mine| ratio_spread(mine, cell));
        let spread = spread.map_or(String::new(), |(least, most)| format!(" ({least:.2}-{most:.2})"));
        format!("<span{class}>{ratio:.2}x</span>{spread}")
    });
    let number = |of: fn(&Measured) -> u64| cell.median(|measured| float(of(measured)));
    let latency = |of| number(of).filter(|latency| *latency > 0.0).map_or(String::new(), time);
    let bytes = |of| number(of).map_or(String::new(), |bytes| format!("{}B", short(bytes)));
    let mark = if cell.written_exact() { "" } else { "&le; " };
    let syncs = cell.median(|measured| measured.syncs.map_or(-1.0, float)).filter(|syncs| *syncs >= 0.0);
    write!(
        html,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{against}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{}</td><td>{:.2}</td><td>{}</td><td>{}</td><td>{mark}{}</td></tr>",
        cell.engine,
        short(value),
        short(least),
        short(most),
        latency(|measured: &Measured| measured.p50),
        latency(|measured: &Measured| measured.p99),
        latency(|measured: &Measured| measured.p999),
        cell.runs().map_or(String::new(), |runs| format!("{runs:.2}")),
        cell.median(|measured| measured.cpu_seconds).unwrap_or_default(),
        bytes(|measured: &Measured| measured.peak_bytes),
        syncs.map_or(String::new(), short),
        bytes(|measured: &Measured| measured.written_bytes),
    )?;
    Ok(())
}

fn facts(html: &mut String, run: &Run) -> Outcome<()> {
    write!(
        html,
        "<h2>How it was measured</h2><p><code>{}</code></p><div class=\"scroll\"><table>",
        escape(&run.command)
    )?;
    for (name, value) in run.settings.iter().chain(&run.machine) {
        write!(html, "<tr><td>{}</td><td class=\"text\">{}</td></tr>", escape(name), escape(value))?;
    }
    html.push_str("</table></div>");
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Round;

    fn cell(engine: &str, rounds: Vec<Round>) -> Cell {
        Cell {
            workload: "get".into(),
            engine: engine.into(),
            point: None,
            unit: "ops/s".into(),
            lower_is_better: false,
            rounds,
        }
    }

    fn measured(value: f64) -> Vec<Round> {
        vec![Round::Measured(Measured { value, p50: 100, p99: 200, p999: 300, ..Measured::default() })]
    }

    #[test]
    fn the_best_peer_is_compared_and_limits_are_no_peers() {
        let cells = [
            cell("anabranch", measured(10.0)),
            cell("slow", measured(5.0)),
            cell("fast", measured(20.0)),
            cell("broken", vec![Round::Failed("no".into())]),
            cell("dashmap", measured(100.0)),
        ];
        let cells: Vec<&Cell> = cells.iter().collect();
        let (mine, peer, limit) = contenders(&cells).unwrap();
        assert_eq!(mine.engine, "anabranch");
        assert_eq!(peer.unwrap().engine, "fast");
        assert_eq!(limit.unwrap().engine, "dashmap");
    }

    #[test]
    fn a_picture_stands_alone_and_follows_the_readers_screen() {
        let cells = vec![cell("anabranch", measured(10.0)), cell("fast", measured(20.0))];
        let picture = picture(&Run { cells, ..Run::default() }).unwrap();
        assert!(picture.starts_with("<svg") && picture.contains("xmlns=") && picture.contains("0.50"));
        assert!(picture.contains("prefers-color-scheme:dark") && picture.contains("currentColor"));
    }

    #[test]
    fn a_page_says_what_failed_and_loads_nothing() {
        let failed = cell("broken", vec![Round::Failed("it <hangs>".into())]);
        let cells = vec![cell("anabranch", measured(10.0)), cell("fast", measured(20.0)), failed];
        let page = page(&Run { cells, ..Run::default() }).unwrap();
        assert!(page.contains("it &lt;hangs&gt;") && page.contains("0.50x") && page.contains("interrupted"));
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("url("));
    }
}
