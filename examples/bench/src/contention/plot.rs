//! The plot: a panel for each number of keys, with a line for each engine, as an SVG that stands for itself, on white.
//! All panels have the same scale, from nothing to everything, so that they compare at a glance.

use std::fmt::Write;

use super::{ENGINES, KEYS_EACH, Load, Row, ZIPFS, median};

const PANEL: (f64, f64) = (480.0, 260.0);
/// Room for the labels of a panel, to the left, above, to the right and below.
const MARGIN: (f64, f64, f64, f64) = (56.0, 30.0, 20.0, 44.0);
const LEGEND: f64 = 40.0;
/// Distinct for colour-blind eyes (Okabe and Ito).
const COLORS: [&str; 3] = ["#0072b2", "#e69f00", "#009e73"];
/// A line that lies on another must not hide it.
const DASHES: [&str; 3] = ["none", "none", "6 4"];

pub(super) fn page(rows: &[Row]) -> String {
    let (width, height) = (2.0 * PANEL.0, 2.0 * PANEL.1 + LEGEND);
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut x = MARGIN.0;
    for (number, (engine, _)) in ENGINES.iter().enumerate() {
        line(&mut page, number, &[(x, 22.0), (x + 26.0, 22.0)]);
        let _ = writeln!(page, "<text x=\"{}\" y=\"26\">{engine}</text>", x + 34.0);
        x += 240.0;
    }
    let places = [(0.0, 0.0), (PANEL.0, 0.0), (0.0, PANEL.1), PANEL];
    for (keys_each, (x, y)) in KEYS_EACH.into_iter().zip(places) {
        let _ = writeln!(page, "<g transform=\"translate({x},{})\">", y + LEGEND);
        panel(&mut page, rows, keys_each);
        page.push_str("</g>\n");
    }
    page.push_str("</svg>\n");
    page
}

fn panel(page: &mut String, rows: &[Row], keys_each: usize) {
    let (left, top) = (MARGIN.0, MARGIN.1);
    let (right, bottom) = (PANEL.0 - MARGIN.2, PANEL.1 - MARGIN.3);
    let (first, last) = (ZIPFS[0], ZIPFS[ZIPFS.len() - 1]);
    let x_of = |zipf: f64| left + (zipf - first) / (last - first) * (right - left);
    let y_of = |percent: f64| bottom - percent / 100.0 * (bottom - top);
    let _ = writeln!(
        page,
        "<text x=\"{left}\" y=\"18\" font-size=\"14\">{keys_each} keys in each transaction</text>"
    );
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let y = y_of(percent);
        let _ = writeln!(
            page,
            "<path d=\"M{left} {y}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{percent} %</text>",
            left - 6.0,
            y + 4.0
        );
    }
    for zipf in ZIPFS {
        let y = bottom + 18.0;
        let _ =
            writeln!(page, "<text x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{zipf:.1}</text>", x_of(zipf));
    }
    let _ = writeln!(
        page,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">Zipf's exponent; upwards: tries that were refused</text>",
        f64::midpoint(left, right),
        bottom + 36.0
    );
    for (number, (engine, _)) in ENGINES.iter().enumerate() {
        let point = |zipf: f64| (zipf, median(rows, engine, Load { zipf, keys_each }, Row::refused_percent));
        let points = ZIPFS.map(point).into_iter().filter(|point| !point.1.is_nan());
        let points: Vec<_> = points.map(|(zipf, percent)| (x_of(zipf), y_of(percent))).collect();
        line(page, number, &points);
    }
}

fn line(page: &mut String, engine: usize, points: &[(f64, f64)]) {
    let (color, dashes) = (COLORS[engine % COLORS.len()], DASHES[engine % DASHES.len()]);
    let corners: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let corners = corners.join(" ");
    let _ = writeln!(
        page,
        "<polyline points=\"{corners}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>"
    );
    for (x, y) in points {
        let _ = writeln!(page, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{color}\"/>");
    }
}
