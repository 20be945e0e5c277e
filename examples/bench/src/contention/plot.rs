//! The plot: a panel for each number of keys, with a line for each engine.

use std::fmt::Write;

use super::{ENGINES, KEYS_EACH, Load, Row, ZIPFS, median};
use crate::chart::{Line, lines};
use crate::store::Outcome;

const PANEL: (usize, usize) = (530, 340);
const TITLE: usize = 26;
/// The scale is logarithmic, and has no zero: what is less is drawn here.
const PERCENT_MIN: f64 = 0.1;

/// An SVG that stands for itself, on white.
pub(super) fn page(rows: &[Row]) -> Outcome<String> {
    let (width, height) = (2 * PANEL.0, 2 * PANEL.1);
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         color=\"#333\" font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (panel, keys_each) in KEYS_EACH.into_iter().enumerate() {
        let (x, y) = (panel % 2 * PANEL.0, panel / 2 * PANEL.1);
        let chart = lines(
            &engines(rows, keys_each),
            "Zipf's exponent",
            "refused tries",
            &|zipf| format!("{zipf:.1}"),
            &|percent| format!("{percent} %"),
        )?;
        let title = format!("{keys_each} keys in each transaction");
        let _ = writeln!(
            page,
            "<g transform=\"translate({x},{y})\"><text x=\"72\" y=\"18\" font-size=\"15\" fill=\"#333\">{title}</text>\n\
             <g transform=\"translate(0,{TITLE})\">{chart}</g></g>"
        );
    }
    page.push_str("</svg>\n");
    Ok(page)
}

fn engines(rows: &[Row], keys_each: usize) -> Vec<Line> {
    let line = |(color, (engine, _)): (usize, &(&str, _))| {
        let point = |zipf: f64| (zipf, median(rows, engine, Load { zipf, keys_each }, Row::refused_percent));
        let points = ZIPFS.map(point).into_iter().filter(|point| !point.1.is_nan());
        let points = points.map(|(zipf, percent)| (zipf, percent.max(PERCENT_MIN))).collect();
        Line { label: (*engine).to_owned(), color, points }
    };
    ENGINES.iter().enumerate().map(line).collect()
}
