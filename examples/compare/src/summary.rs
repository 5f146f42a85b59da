//! The medians of a file of measurements, as a table in Markdown.

use std::path::Path;

use serde_json::Value;

use crate::Result;

pub(crate) fn print(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let mut peers: Vec<&str> = Vec::new();
    for peer in lines.iter().filter_map(|line| line["peer"].as_str()) {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    let peers: Vec<Measured> = peers.into_iter().map(|peer| Measured::of(peer, &lines)).collect();
    let reference = peers.iter().find(|peer| peer.name == "hnswlib");

    println!("| peer | elements | build, vectors/s | as durable | QPS at .95 | QPS at .99 | disk, MB |");
    println!("|---|---|--:|--:|--:|--:|--:|");
    for peer in &peers {
        let ratio = |figure: fn(&Measured) -> Option<f64>| {
            let times = reference.and_then(figure).zip(figure(peer)).map(|(theirs, ours)| ours / theirs);
            let times = times.map_or(String::new(), |times| format!(" ({times:.2}×)"));
            figure(peer).map_or("–".to_owned(), |figure| format!("{figure:.0}{times}"))
        };
        println!(
            "| {} {} | {} | {} | {} | {} | {} | {} |",
            peer.name,
            peer.text("version"),
            peer.text("elements"),
            ratio(|peer| peer.median("build", "vectors_per_second")),
            ratio(|peer| peer.median("build", "vectors_per_second_durable")),
            ratio(|peer| peer.qps_at(0.95)),
            ratio(|peer| peer.qps_at(0.99)),
            figure(peer.median("disk", "bytes").map(|bytes| bytes / 1e6), 1),
        );
    }
    println!();
    println!(
        "| peer | durable insert: median, ms | mean | max | written each, KB | open to first result, ms |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for peer in &peers {
        let [median, mean, max] = ["median_ms", "mean_ms", "max_ms"].map(|name| peer.median("insert", name));
        let written = peer.median("insert", "bytes_written_each").map(|bytes| bytes / 1e3);
        let [load, view] = ["load", "view"].map(|how| peer.reopened(how));
        let view = view.map_or(String::new(), |_| format!(" (viewed: {})", figure(view, 2)));
        println!(
            "| {} | {} | {} | {} | {} | {}{view} |",
            peer.name,
            figure(median, 2),
            figure(mean, 2),
            figure(max, 2),
            figure(written, 1),
            figure(load, 2),
        );
    }
    Ok(())
}

/// The middle one; of an even number, the mean of the middle two.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// All lines of one peer.
struct Measured<'a> {
    name: &'a str,
    lines: Vec<&'a Value>,
}

impl<'a> Measured<'a> {
    fn of(name: &'a str, lines: &'a [Value]) -> Self {
        Self { name, lines: lines.iter().filter(|line| line["peer"] == name).collect() }
    }

    fn text(&self, field: &str) -> &str {
        self.lines.iter().find_map(|line| line[field].as_str()).unwrap_or("")
    }

    fn median(&self, measure: &str, field: &str) -> Option<f64> {
        self.median_where(field, |line| line["measure"] == measure)
    }

    fn reopened(&self, how: &str) -> Option<f64> {
        self.median_where("first_result_ms", |line| line["how"] == how)
    }

    fn median_where(&self, field: &str, wanted: impl Fn(&Value) -> bool) -> Option<f64> {
        let figures: Vec<f64> =
            self.lines.iter().filter(|line| wanted(line)).filter_map(|line| line[field].as_f64()).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// Queries per second at a recall, between the two neighboring points of the curve of medians that enclose it: the logarithm
    /// is taken to be linear in recall there.
    fn qps_at(&self, target: f64) -> Option<f64> {
        let mut efs: Vec<u64> = self.lines.iter().filter_map(|line| line["ef"].as_u64()).collect();
        efs.sort_unstable();
        efs.dedup();
        let at = |ef: &u64, field| self.median_where(field, |line| line["ef"] == *ef);
        let curve: Vec<(f64, f64)> =
            efs.iter().filter_map(|ef| at(ef, "recall").zip(at(ef, "qps"))).collect();
        let (low, high) = curve
            .iter()
            .zip(curve.iter().skip(1))
            .find(|((low, _), (high, _))| *low < target && target <= *high)?;
        let part = (target - low.0) / (high.0 - low.0);
        Some(low.1 * (high.1 / low.1).powf(part))
    }
}

fn figure(figure: Option<f64>, digits: usize) -> String {
    figure.map_or("–".to_owned(), |figure| format!("{figure:.digits$}"))
}
