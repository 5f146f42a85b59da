//! `nestling stats`: counts, sizes and shapes.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use nestling::{CollectionStats, LayerStats};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::{open, output};

/// Print counts, sizes and the shape of every collection's graph
///
/// Reads the whole graph. The store is opened read-only: beside other readers, but not while a process has it open for writing.
#[derive(Args)]
pub(crate) struct Stats {
    /// The store's directory
    store: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let stats = open::for_reading(&self.store)?.stats()?;
        if self.json {
            return output::line(json!({
                "commit": stats.commit,
                "bytes_on_disk": stats.bytes_on_disk,
                "journal_entries": stats.journal_entries,
                "collections": stats.collections.iter().map(to_json).collect::<Value>(),
            }));
        }
        output::line(self.store.display())?;
        print_rows([
            ("collections", stats.collections.len().to_string()),
            ("on disk", HumanBytes(stats.bytes_on_disk).to_string()),
            ("commit", stats.commit.to_string()),
            ("journal entries", HumanCount(stats.journal_entries as u64).to_string()),
        ])?;
        stats.collections.iter().try_for_each(print)
    }
}

fn print(collection: &CollectionStats) -> Result<(), Failure> {
    let parameters = &collection.parameters;
    output::line("")?;
    output::line(&collection.name)?;
    print_rows([
        ("vectors", HumanCount(collection.vectors).to_string()),
        ("dimension", HumanCount(parameters.dimension as u64).to_string()),
        ("metric", parameters.metric.to_string()),
        ("m", format!("{} ({} on layer 0)", parameters.m, parameters.m0)),
        ("ef construction", parameters.ef_construction.to_string()),
        ("seed", parameters.seed.to_string()),
        ("codes", parameters.codes.to_string()),
        ("element", parameters.element.to_string()),
        ("dead slots", format!("{} of {}", HumanCount(collection.dead_slots), HumanCount(collection.slots))),
        ("segments", collection.segments.to_string()),
        ("graph pages", HumanCount(collection.graph_pages as u64).to_string()),
    ])?;
    let columns = ["layer", "nodes", "mean degree", "max degree", "reachable"];
    let [layer, nodes, mean, max, reachable] = columns;
    output::line(format_args!("  {layer:>5}{nodes:>14}{mean:>14}{max:>12}{reachable:>14}"))?;
    for (layer, stats) in collection.layers.iter().enumerate() {
        output::line(format_args!(
            "  {layer:>5}{:>14}{:>14.1}{:>12}{:>14}",
            HumanCount(stats.nodes).to_string(),
            mean_degree(stats),
            stats.max_degree,
            HumanCount(stats.reachable).to_string()
        ))?;
    }
    Ok(())
}

fn print_rows<const N: usize>(rows: [(&str, String); N]) -> Result<(), Failure> {
    rows.into_iter().try_for_each(|(name, value)| output::line(format_args!("  {name:<16}{value}")))
}

fn to_json(collection: &CollectionStats) -> Value {
    let parameters = &collection.parameters;
    json!({
        "name": collection.name,
        "vectors": collection.vectors,
        "dimension": parameters.dimension,
        "metric": parameters.metric.to_string(),
        "m": parameters.m,
        "m0": parameters.m0,
        "ef_construction": parameters.ef_construction,
        "seed": parameters.seed,
        "codes": parameters.codes.to_string(),
        "element": parameters.element.to_string(),
        "slots": collection.slots,
        "dead_slots": collection.dead_slots,
        "segments": collection.segments,
        "graph_pages": collection.graph_pages,
        "graph_pages_loaded": collection.graph_pages_loaded,
        "resident_bytes": collection.resident_bytes,
        "layers": collection.layers.iter().map(layer_to_json).collect::<Value>(),
    })
}

fn layer_to_json(layer: &LayerStats) -> Value {
    json!({
        "nodes": layer.nodes,
        "edges": layer.edges,
        "min_degree": layer.min_degree,
        "mean_degree": mean_degree(layer),
        "max_degree": layer.max_degree,
        "max_inbound": layer.max_inbound,
        "reachable": layer.reachable,
    })
}

fn mean_degree(layer: &LayerStats) -> f64 {
    if layer.nodes == 0 { 0.0 } else { layer.edges as f64 / layer.nodes as f64 }
}
