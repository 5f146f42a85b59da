//! The figures as pictures, on white, so that they read on light and on dark pages.

use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::growth::Size;
use crate::peers::Curve;
use crate::report::thousands;
use crate::{Result, failure};

const SIZE: (u32, u32) = (840, 500);
const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);
/// Colours that people with any colour vision can tell apart (Okabe and Ito), ours first.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Queries per second over recall, with the `ef` beside each point. The first curve is ours.
pub(crate) fn recall(path: &Path, title: &str, k: usize, curves: &[Curve]) -> Result<()> {
    let lines: Vec<Line> =
        curves.iter().enumerate().map(|(number, curve)| Line::of_curve(number, curve)).collect();
    let lowest = curves.iter().flat_map(|curve| &curve.points).map(|point| point.recall).fold(1.0, f64::min);
    // Ticks in whole hundredths, from 1 down.
    let from = lowest - 0.01;
    let every = ((1.0 - from) * 10.0).ceil() / 100.0;
    let recalls = Axis {
        range: from..1.0 + 0.04 * (1.0 - from),
        ticks: (0..12).map(|tick| 1.0 - every * f64::from(tick)).filter(|&recall| recall > from).collect(),
        label: |recall| format!("{recall:.2}"),
        scale: |recall| recall,
    };
    draw(path, title, &format!("recall@{k}   (at each point: its ef)"), recalls, &lines)
}

/// Queries per second at one recall over the number of vectors.
pub(crate) fn growth(path: &Path, title: &str, sizes: &[Size]) -> Result<()> {
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return failure(
            "nothing to plot: no --ef was low enough, or none high enough, for the recall of \"growth\"",
        );
    };
    let (from, to) = (first.vectors as f64, last.vectors as f64);
    let expected = |vectors: f64| (vectors, first.qps * from.log2() / vectors.log2(), None);
    let steps = (0..=60).map(|step| from * (to / from).powf(f64::from(step) / 60.0));
    let ours = sizes.iter().map(|size| (size.vectors as f64, size.qps, Some(thousands(size.qps))));
    let lines = [
        Line {
            name: "nestling",
            color: COLORS[0],
            dashed: false,
            labels_above: true,
            points: ours.collect(),
        },
        Line {
            name: "falling as 1 / log n",
            color: GREY,
            dashed: true,
            labels_above: false,
            points: steps.map(expected).collect(),
        },
    ];
    let vectors = Axis {
        range: from / 1.2..to * 1.5,
        ticks: sizes.iter().map(|size| size.vectors as f64).collect(),
        label: thousands,
        scale: f64::ln,
    };
    draw(path, title, "vectors", vectors, &lines)
}

struct Line<'a> {
    name: &'a str,
    color: RGBColor,
    dashed: bool,
    labels_above: bool,
    /// Where it is on the axis, queries per second, and what is said beside it.
    points: Vec<(f64, f64, Option<String>)>,
}

impl<'a> Line<'a> {
    fn of_curve(number: usize, curve: &'a Curve) -> Self {
        let points = curve.points.iter().map(|point| (point.recall, point.qps, Some(point.ef.to_string())));
        Self {
            name: &curve.name,
            color: COLORS[number % COLORS.len()],
            dashed: false,
            labels_above: number == 0,
            points: points.collect(),
        }
    }
}

/// Lines over an axis; queries per second are vertical.
fn draw(path: &Path, title: &str, description: &str, axis: Axis, lines: &[Line<'_>]) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let speeds = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let range = speeds().fold(f64::INFINITY, f64::min) / 1.2..speeds().fold(0.0, f64::max) * 1.25;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 19))
        .margin(12)
        .x_label_area_size(46)
        .y_label_area_size(80)
        .build_cartesian_2d(axis, Axis::of_speeds(range))?;
    chart
        .configure_mesh()
        .x_desc(description)
        .y_desc("queries per second")
        .axis_desc_style((FONT, 16))
        .label_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    for line in lines {
        let style = line.color.stroke_width(if line.dashed { 2 } else { 3 });
        let places: Vec<(f64, f64)> = line.points.iter().map(|&(x, qps, _)| (x, qps)).collect();
        let series = if line.dashed {
            chart.draw_series([DashedPathElement::new(places, 6, 5, style).into_dyn()])?
        } else {
            chart.draw_series([PathElement::new(places, style).into_dyn()])?
        };
        series.label(line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
        let (offset, position) = match line.labels_above {
            true => ((6, -4), Pos::new(HPos::Left, VPos::Bottom)),
            false => ((-6, 4), Pos::new(HPos::Right, VPos::Top)),
        };
        let text = (FONT, 13).into_font().color(&line.color).pos(position);
        let labelled = line.points.iter().filter_map(|(x, qps, label)| Some((*x, *qps, label.clone()?)));
        chart.draw_series(labelled.map(|(x, qps, label)| {
            EmptyElement::at((x, qps))
                + Circle::new((0, 0), 4, line.color.filled())
                + Text::new(label, offset, text.clone())
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .margin(14)
        .legend_area_size(30)
        .label_font((FONT, 15))
        .background_style(WHITE)
        .border_style(BLACK.mix(0.25))
        .draw()?;
    Ok(area.present()?)
}

struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
    /// What is spread evenly: the value itself, or its logarithm.
    scale: fn(f64) -> f64,
}

impl Axis {
    /// A logarithmic one, with ticks at 1, 1.5, 2, 3, 5 and 7 times the powers of ten.
    fn of_speeds(range: Range<f64>) -> Self {
        let ticks =
            (0..9).flat_map(|power| [1.0, 1.5, 2.0, 3.0, 5.0, 7.0].map(|step| step * 10f64.powi(power)));
        Self {
            ticks: ticks.filter(|speed| range.contains(speed)).collect(),
            range,
            label: thousands,
            scale: f64::ln,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let [start, end, value] = [self.range.start, self.range.end, *value].map(self.scale);
        from + (f64::from(to - from) * (value - start) / (end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}
