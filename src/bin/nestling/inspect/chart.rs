//! Bar charts, of text and as SVG.

use std::fmt::Write;

use indicatif::HumanCount;

/// Bars of a chart of degrees, at most.
const MOST_BARS: usize = 17;
/// Characters of the longest bar: with label and count the line has 80.
const WIDTH: u64 = 50;

/// Counts of values from 0 up, gathered into bars of equally many values.
pub(super) struct Chart {
    title: String,
    /// What each bar stands for, and its count.
    bars: Vec<(String, u64)>,
}

impl Chart {
    /// One with `values` values to a bar, of which the first has 0 and so on.
    pub(super) fn new(title: &str, counts: Vec<u64>, values: usize) -> Self {
        let bar = |(bar, counts): (usize, &[u64])| {
            let first = bar * values;
            let last = first + counts.len() - 1;
            let label = if first == last { first.to_string() } else { format!("{first}–{last}") };
            (label, counts.iter().sum())
        };
        let bars = counts.chunks(values).enumerate().map(bar).collect();
        Self { title: title.to_owned(), bars }
    }

    /// One of degrees, with their mean.
    pub(super) fn of_degrees(title: &str, counts: &[u64]) -> Self {
        let edges: u64 = (0..).zip(counts).map(|(degree, count)| degree * count).sum();
        let mean = edges as f64 / counts.iter().sum::<u64>().max(1) as f64;
        let values = counts.len().div_ceil(MOST_BARS).max(1);
        Self::new(&format!("{title} (mean {mean:.1})"), counts.to_vec(), values)
    }

    fn longest(&self) -> u64 {
        self.bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1)
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let bar = |(label, count): &(String, u64)| {
            let bar = bar_of(*count, self.longest());
            format!("{label:>11}  {bar:<50} {:>13}", HumanCount(*count).to_string()).trim_end().to_owned()
        };
        [self.title.clone()].into_iter().chain(self.bars.iter().map(bar)).collect()
    }
}

/// A bar in eighths of a character. What is not nothing can be seen.
fn bar_of(count: u64, longest: u64) -> String {
    let eighths = (u128::from(count) * u128::from(8 * WIDTH)).div_ceil(longest.into()) as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let part = part.get(eighths % 8).copied().unwrap_or_default();
    "█".repeat(eighths / 8) + part
}

/// All charts below one another.
pub(super) fn to_svg(title: &str, charts: &[Chart]) -> String {
    const ROW: usize = 22;
    const LEFT: usize = 90;
    const LONGEST: f64 = 520.0;
    let height = 60 + charts.iter().map(|chart| 50 + ROW * chart.bars.len()).sum::<usize>();
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"{height}\" viewBox=\"0 0 720 {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"32\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    let mut y = 60;
    for chart in charts {
        y += 20;
        let _ =
            writeln!(svg, "<text x=\"20\" y=\"{y}\" font-weight=\"bold\">{}</text>", escaped(&chart.title));
        y += 10;
        for (label, count) in &chart.bars {
            let width = *count as f64 / chart.longest() as f64 * LONGEST;
            let text = y + 15;
            let (label_x, bar_y, count_x) = (LEFT - 8, y + 3, LEFT as f64 + width + 6.0);
            let _ = writeln!(
                svg,
                "<text x=\"{label_x}\" y=\"{text}\" text-anchor=\"end\">{label}</text>\
                 <rect x=\"{LEFT}\" y=\"{bar_y}\" width=\"{width:.1}\" height=\"16\" fill=\"#3b6ea5\"/>\
                 <text x=\"{count_x:.1}\" y=\"{text}\" fill=\"#555\">{}</text>",
                HumanCount(*count)
            );
            y += ROW;
        }
        y += 20;
    }
    svg += "</svg>\n";
    svg
}

/// A collection's name may hold anything.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
