//! `nestling inspect`: the shape of a collection's graph, as a report and as a picture.

mod chart;

use std::fs;
use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use nestling::{CollectionStats, LayerStats};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{open, output};
use chart::Chart;

/// Show the shape of the graphs: levels, degrees and what can be reached
///
/// Reads the whole graph. Out-degrees are the numbers of a node's neighbors, in-degrees those of the nodes that have it as a neighbor. All of
/// layer 0 can be reached from where searches start; on the layers above it, almost all is enough.
///
/// The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The store's directory
    store: PathBuf,
    /// The collection's name; all of them unless given
    collection: Option<String>,
    /// Draw the charts into this file as well, of the collection that is named
    #[arg(long, value_name = "FILE", requires = "collection")]
    svg: Option<PathBuf>,
    /// Print a line of JSON per collection
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let store = open::for_reading(&self.store)?;
        if let Some(name) = &self.collection {
            open::collection(&store, name)?;
        }
        let is_wanted =
            |stats: &CollectionStats| self.collection.as_ref().is_none_or(|name| *name == stats.name);
        let mut separator = false;
        for stats in store.stats()?.collections.iter().filter(|stats| is_wanted(stats)) {
            if let Some(path) = &self.svg {
                let svg = chart::to_svg(&title(stats), &charts(stats));
                let failed = |source| Failure::Export { path: path.clone(), source };
                fs::write(path, svg).map_err(failed)?;
            }
            if self.json {
                output::line(to_json(stats))?;
                continue;
            }
            if std::mem::replace(&mut separator, true) {
                output::line("")?;
            }
            print(stats)?;
        }
        Ok(())
    }
}

fn title(stats: &CollectionStats) -> String {
    let parameters = &stats.parameters;
    format!(
        "{}: {} vectors of {} components, {}, m {} ({} on layer 0)",
        stats.name,
        HumanCount(stats.vectors),
        parameters.dimension,
        parameters.metric,
        parameters.m,
        parameters.m0
    )
}

fn print(stats: &CollectionStats) -> Result<(), Failure> {
    output::line(title(stats))?;
    output::line("")?;
    let columns = ["layer", "nodes", "edges", "mean degree", "max out", "max in", "reached"];
    let [layer, nodes, edges, mean, out, inbound, reached] = columns;
    output::line(format_args!(
        "{layer:>5}{nodes:>13}{edges:>14}{mean:>13}{out:>9}{inbound:>8}{reached:>12}"
    ))?;
    for (layer, of_layer) in stats.layers.iter().enumerate() {
        output::line(format_args!(
            "{layer:>5}{:>13}{:>14}{:>13.1}{:>9}{:>8}{:>12}",
            HumanCount(of_layer.nodes).to_string(),
            HumanCount(of_layer.edges).to_string(),
            of_layer.edges as f64 / of_layer.nodes.max(1) as f64,
            of_layer.max_degree,
            of_layer.in_degrees.len().saturating_sub(1),
            percent(of_layer.reachable, of_layer.nodes)
        ))?;
    }
    for chart in charts(stats) {
        output::line("")?;
        chart.lines().into_iter().try_for_each(output::line)?;
    }
    Ok(())
}

fn charts(stats: &CollectionStats) -> Vec<Chart> {
    let mut charts = vec![Chart::new("nodes by their level", levels(&stats.layers), 1)];
    if let Some(base) = stats.layers.first() {
        charts.push(Chart::of_degrees("nodes by their out-degree on layer 0", &base.degrees));
        charts.push(Chart::of_degrees("nodes by their in-degree on layer 0", &base.in_degrees));
    }
    charts
}

/// How many nodes have each level: those of a layer that are not on the one above it.
fn levels(layers: &[LayerStats]) -> Vec<u64> {
    let above = layers.iter().skip(1).map(|layer| layer.nodes).chain([0]);
    layers.iter().zip(above).map(|(layer, above)| layer.nodes - above).collect()
}

/// Never 100 % for less than all.
fn percent(part: u64, whole: u64) -> String {
    if part == whole {
        return "all".to_owned();
    }
    format!("{:.2} %", (part as f64 / whole as f64 * 1e4).floor() / 1e2)
}

fn to_json(stats: &CollectionStats) -> Value {
    let layer = |layer: &LayerStats| {
        json!({
            "nodes": layer.nodes,
            "edges": layer.edges,
            "out_degrees": layer.degrees,
            "in_degrees": layer.in_degrees,
            "reachable": layer.reachable,
        })
    };
    json!({
        "name": stats.name,
        "vectors": stats.vectors,
        "levels": levels(&stats.layers),
        "layers": stats.layers.iter().map(layer).collect::<Value>(),
    })
}
