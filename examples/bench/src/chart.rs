//! Charts as SVG. What is to follow the page's own colour is drawn in [`INK`] and replaced afterwards.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::store::Outcome;

const INK: RGBColor = RGBColor(1, 1, 1);
const INK_IN_SVG: &str = "#010101";
const WIDTH: u32 = 420;
const FONT: (&str, i32) = ("sans-serif", 14);

/// Distinct for colour-blind eyes, on white and on black (Okabe and Ito).
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(128, 128, 128),
    RGBColor(160, 150, 40),
    RGBColor(120, 94, 200),
    RGBColor(150, 90, 60),
];

pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) ratio: f64,
    /// The least and the most over the rounds.
    pub(crate) spread: Option<(f64, f64)>,
}

pub(crate) struct Line {
    pub(crate) label: String,
    /// The same for the same engine in all charts of a page.
    pub(crate) color: usize,
    pub(crate) points: Vec<(f64, f64)>,
}

/// The colour of lines with this number, for a legend.
pub(crate) fn css_color(color: usize) -> String {
    let RGBColor(red, green, blue) = COLORS[color % COLORS.len()];
    format!("rgb({red} {green} {blue})")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws, and lets ink follow the page.
fn svg(height: u32, draw: impl FnOnce(&Area<'_>) -> Outcome<()>) -> Outcome<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(text.replace(INK_IN_SVG, "currentColor"))
}

/// One bar for each ratio, from 1 to the right where it is ahead, to the left where it is behind.
pub(crate) fn ratios(bars: &[Bar]) -> Outcome<String> {
    let rows = u32::try_from(bars.len())?;
    svg(60 + rows * 22, |area| {
        let (least, most) = (0.05, 20.0);
        let labels = 150;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_left(labels)
            .x_label_area_size(30)
            .build_cartesian_2d((least..most).log_scale(), 0.0..f64::from(rows))
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(7)
            .x_label_formatter(&|ratio| format!("{ratio}x"))
            .axis_style(INK)
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.15))
            .label_style(FONT.into_font().color(&INK))
            .draw()
            .map_err(|error| error.to_string())?;
        for (row, bar) in bars.iter().rev().enumerate() {
            let middle = f64::from(u32::try_from(row)?) + 0.5;
            let end = bar.ratio.clamp(least, most);
            let color = if bar.ratio < 1.0 { COLORS[1] } else { COLORS[0] };
            let corners = [(end.min(1.0), middle - 0.32), (end.max(1.0), middle + 0.32)];
            let pixel = chart.backend_coord(&(least, middle));
            let drawn = chart.draw_series([Rectangle::new(corners, color.filled())]);
            drawn.map_err(|error| error.to_string())?;
            if let Some((low, high)) = bar.spread {
                let whisker = [low, high].map(|end| (end.clamp(least, most), middle));
                let drawn = chart.draw_series([PathElement::new(whisker, INK)]);
                drawn.map_err(|error| error.to_string())?;
            }
            let style = FONT.into_font().color(&INK);
            let name = Text::new(bar.label.clone(), (4, pixel.1 - 7), style.clone());
            area.draw(&name).map_err(|error| error.to_string())?;
            let number = Text::new(format!("{:.2}", bar.ratio), (labels - 36, pixel.1 - 7), style);
            area.draw(&number).map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

/// A range that is wide enough to show two powers of ten, which are what a logarithmic axis names.
fn decades(bottom: f64, top: f64) -> (f64, f64) {
    if top.log10().floor() - bottom.log10().ceil() >= 1.0 {
        (bottom, top)
    } else {
        (10f64.powf(bottom.log10().floor()), 10f64.powf(top.log10().ceil()))
    }
}

/// Lines over a logarithmic scale. `ticks` are the names of the places 0, 1, 2 .. from left to right.
pub(crate) fn lines(
    lines: &[Line],
    ticks: &[String],
    x_title: &str,
    y_title: &str,
    y_label: &dyn Fn(&f64) -> String,
) -> Outcome<String> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.collect();
        let least = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
        (least, values.iter().copied().reduce(f64::max).unwrap_or(1.0))
    };
    let right = f64::from(u32::try_from(ticks.len().saturating_sub(1))?);
    let x_label = |x: &f64| {
        let near = ticks.iter().zip(0u32..).find(|(_, place)| (x - f64::from(*place)).abs() < 0.01);
        near.map_or(String::new(), |(name, _)| name.clone())
    };
    let (bottom, top) = range(&mut all().map(|point| point.1));
    let (bottom, top) = decades(bottom.max(1e-9) * 0.8, top.max(1e-9) * 1.3);
    svg(240, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(28)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right.max(1e-9), (bottom..top).log_scale())
            .map_err(|error| error.to_string())?;
        chart
            .configure_mesh()
            .x_desc(x_title)
            .y_desc(y_title)
            .disable_x_mesh()
            .x_labels(ticks.len())
            .x_label_formatter(&x_label)
            .y_label_formatter(y_label)
            .y_labels(6)
            .axis_style(INK)
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.15))
            .label_style(FONT.into_font().color(&INK))
            .draw()
            .map_err(|error| error.to_string())?;
        for line in lines {
            let color = COLORS[line.color % COLORS.len()];
            let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2)).point_size(3);
            chart.draw_series(series).map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_follow_the_colour_of_the_page() {
        let bar = |ratio| Bar { label: "get".into(), ratio, spread: Some((0.4, 2.0)) };
        let chart = ratios(&[bar(0.5), bar(1000.0)]).unwrap();
        assert!(chart.starts_with("<svg") && chart.contains("currentColor") && !chart.contains(INK_IN_SVG));
        let line = Line { label: "anabranch".into(), color: 0, points: vec![(0.0, 10.0), (1.0, 20.0)] };
        let ticks = ["1 shard".to_owned(), "4 shards".to_owned()];
        let chart = lines(&[line], &ticks, "shards", "ops/s", &|y| y.to_string()).unwrap();
        assert!(chart.contains("4 shards") && chart.contains("polyline"));
    }

    #[test]
    fn an_axis_shows_two_powers_of_ten() {
        assert_eq!(decades(20.0, 70.0), (10.0, 100.0));
        assert_eq!(decades(5.0, 2000.0), (5.0, 2000.0));
    }

    #[test]
    fn a_line_of_one_point_is_drawn() {
        let line = Line { label: "anabranch".into(), color: 0, points: vec![(0.0, 10.0)] };
        assert!(lines(&[line], &["1".to_owned()], "", "", &|y| y.to_string()).is_ok());
    }
}
