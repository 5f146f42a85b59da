//! Counts, sizes and shapes.

use crate::collection::CollectionSnapshot;
use crate::error::Result;
use crate::graph::{GraphSnapshot, PAGE_SLOTS};
use crate::options::Parameters;
use crate::transaction::Published;
use crate::vectors::Slot;

/// What [`Store::stats`](crate::Store::stats) tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// The number of the commit that this describes.
    pub commit: u64,
    /// Bytes that the store's files take on disk.
    pub bytes_on_disk: u64,
    /// Small commits whose rows are in the journal, and not all of them in the tables yet.
    pub journal_entries: usize,
    /// The collections, in the order of their names.
    pub collections: Vec<CollectionStats>,
}

/// What [`Store::stats`](crate::Store::stats) tells of a collection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CollectionStats {
    /// The collection's name.
    pub name: String,
    /// The parameters it was created with; `ef_construction` as a writer last stated it.
    pub parameters: Parameters,
    /// Live vectors.
    pub vectors: u64,
    /// Slots in use or free; each takes its place in a segment.
    pub slots: u64,
    /// Slots of removed vectors, to be used again.
    pub dead_slots: u64,
    /// Segment files.
    pub segments: usize,
    /// Pages of the graph.
    pub graph_pages: usize,
    /// Pages of the graph in memory.
    pub graph_pages_loaded: usize,
    /// Bytes that those pages take.
    pub resident_bytes: usize,
    /// The layers, from 0 up.
    pub layers: Vec<LayerStats>,
}

/// One layer of a collection's graph.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LayerStats {
    /// Nodes whose level is this layer or higher.
    pub nodes: u64,
    /// Edges.
    pub edges: u64,
    /// The lowest number of neighbours.
    pub min_degree: usize,
    /// The highest number of neighbours.
    pub max_degree: usize,
    /// How many nodes have 0, 1, 2… neighbours, up to the highest number.
    pub degrees: Vec<u64>,
    /// How many nodes are a neighbour of 0, 1, 2… others, up to the highest number.
    pub in_degrees: Vec<u64>,
    /// The highest number of one-way in-edges.
    pub max_inbound: usize,
    /// Nodes that a walk on this layer alone reaches from the entry point, on layer 0 from the root: there it is all of them.
    pub reachable: u64,
}

impl Stats {
    pub(crate) fn collect(published: &Published) -> Result<Self> {
        // What is stored is read again, without pages in memory: looking must not fill it.
        let (tables, stored) = published.reread()?;
        // Each goes with the pages that it has loaded before the next one's turn.
        let stats = |stored: CollectionSnapshot| collection(published, &stored);
        Ok(Self {
            commit: published.commit,
            bytes_on_disk: published.engine.directory.bytes_on_disk()?,
            journal_entries: tables.entries.len(),
            collections: stored.into_iter().map(stats).collect::<Result<_>>()?,
        })
    }
}

fn collection(published: &Published, stored: &CollectionSnapshot) -> Result<CollectionStats> {
    let CollectionSnapshot { state, graph, segments, .. } = stored;
    let slots = u64::from(graph.slots());
    let loaded = || published.collections.get(&state.name).into_iter().flat_map(|c| c.graph.loaded());
    Ok(CollectionStats {
        name: state.name.to_string(),
        parameters: state.parameters,
        vectors: state.live,
        slots,
        dead_slots: slots.saturating_sub(state.live),
        segments: segments.len(),
        graph_pages: graph.pages(),
        graph_pages_loaded: loaded().count(),
        resident_bytes: loaded().map(|page| page.resident()).sum(),
        layers: layers(stored, graph)?,
    })
}

fn layers(snapshot: &CollectionSnapshot, graph: &GraphSnapshot) -> Result<Vec<LayerStats>> {
    let mut layers: Vec<LayerStats> = Vec::new();
    // By layer and slot: how many have it as a neighbour.
    let mut inward: Vec<Vec<u32>> = Vec::new();
    for number in 0..graph.pages() {
        let page = graph.page(number)?;
        for (index, node) in (0..PAGE_SLOTS).filter_map(|index| Some((index, page.node(index)?))) {
            for layer in 0..=node.record.level {
                let at = usize::from(layer);
                if layers.len() <= at {
                    layers.push(LayerStats { min_degree: usize::MAX, ..LayerStats::default() });
                    inward.push(vec![0; graph.slots() as usize]);
                }
                let neighbors = page.neighbors(index, layer).unwrap_or(&[]);
                let degree = neighbors.len();
                let (Some(stats), Some(inward)) = (layers.get_mut(at), inward.get_mut(at)) else { continue };
                for &neighbor in neighbors {
                    if let Some(count) = inward.get_mut(neighbor as usize) {
                        *count += 1;
                    }
                }
                count(&mut stats.degrees, degree);
                stats.nodes += 1;
                stats.edges += degree as u64;
                stats.min_degree = stats.min_degree.min(degree);
                stats.max_degree = stats.max_degree.max(degree);
                stats.max_inbound = stats.max_inbound.max(node.inbound(layer).map_or(0, <[Slot]>::len));
            }
        }
    }
    for number in 0..graph.pages() {
        let page = graph.page(number)?;
        for (index, node) in (0..PAGE_SLOTS).filter_map(|index| Some((index, page.node(index)?))) {
            let slot = number * PAGE_SLOTS + index;
            for (stats, inward) in layers.iter_mut().zip(&inward).take(usize::from(node.record.level) + 1) {
                count(&mut stats.in_degrees, inward.get(slot).map_or(0, |&count| count as usize));
            }
        }
    }
    if let Some(anchors) = snapshot.state.anchors {
        for (layer, stats) in (0..).zip(&mut layers) {
            let start = if layer == 0 { anchors.root } else { anchors.entry };
            if layer <= anchors.level {
                stats.reachable = reachable(graph, start, layer)?.iter().filter(|&&seen| seen).count() as u64;
            }
        }
    }
    Ok(layers)
}

/// Counts a value in a histogram.
fn count(histogram: &mut Vec<u64>, value: usize) {
    if histogram.len() <= value {
        histogram.resize(value + 1, 0);
    }
    if let Some(count) = histogram.get_mut(value) {
        *count += 1;
    }
}

/// For every slot, whether a walk on `layer` reaches it from `start`.
pub(crate) fn reachable(graph: &GraphSnapshot, start: Slot, layer: u8) -> Result<Vec<bool>> {
    let mut seen = vec![false; graph.slots() as usize];
    let mut open = vec![start];
    if let Some(first) = seen.get_mut(start as usize) {
        *first = true;
    }
    while let Some(slot) = open.pop() {
        for &neighbor in graph.neighbors(slot, layer)? {
            if let Some(seen @ false) = seen.get_mut(neighbor as usize) {
                *seen = true;
                open.push(neighbor);
            }
        }
    }
    Ok(seen)
}
