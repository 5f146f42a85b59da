//! Search: greedy descent through the upper layers, best-first with a bounded pool on one layer.

use super::pool::{Candidate, Pool};
use super::visited::Visited;
use super::{Anchors, Graph, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// What a search needs besides the graph; kept from one search to the next, so that none allocates.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    visited: Visited,
    pool: Pool,
    batch: Vec<Slot>,
    pub(crate) distances: u64,
    pub(crate) expanded: u64,
}

impl Scratch {
    /// The result of the last [`search_layer`], nearest first.
    pub(crate) fn found(&self) -> &[Candidate] {
        self.pool.candidates()
    }

    pub(crate) fn reset_counters(&mut self) {
        self.distances = 0;
        self.expanded = 0;
    }
}

/// Walks greedily from the entry point down to `layer`, which is then left to search: the paper's algorithm 5, lines 1–5.
pub(crate) fn descend<G: Graph, S: Space>(
    graph: &G,
    space: &S,
    query: &S::Query,
    anchors: &Anchors,
    layer: u8,
    scratch: &mut Scratch,
) -> Result<Slot> {
    let mut nearest = anchors.entry;
    if anchors.level <= layer {
        return Ok(nearest);
    }
    space.verify(nearest)?;
    let mut distance = space.distance(query, nearest);
    scratch.distances += 1;
    for layer in (layer + 1..=anchors.level).rev() {
        loop {
            let from = nearest;
            let neighbors = graph.neighbors(from, layer)?;
            for &slot in neighbors {
                space.verify(slot)?;
                space.prefetch(slot);
            }
            for &slot in neighbors {
                let d = space.distance(query, slot);
                if d < distance {
                    (nearest, distance) = (slot, d);
                }
            }
            scratch.distances += neighbors.len() as u64;
            scratch.expanded += 1;
            if nearest == from {
                break;
            }
        }
    }
    Ok(nearest)
}

/// Collects the `ef` nearest nodes of `layer` that the walk from `entries` comes by, into [`Scratch::found`]: the paper's
/// algorithm 2. With `ef` no less than the number of nodes, that is every node reachable from the entries.
pub(crate) fn search_layer<G: Graph, S: Space>(
    graph: &G,
    space: &S,
    query: &S::Query,
    entries: &[Slot],
    ef: usize,
    layer: u8,
    scratch: &mut Scratch,
) -> Result<()> {
    let Scratch { visited, pool, batch, distances, expanded } = scratch;
    visited.start(graph.slots());
    pool.start(ef);
    batch.clear();
    for &slot in entries {
        if visited.insert(slot) {
            space.verify(slot)?;
            batch.push(slot);
        }
    }
    loop {
        *distances += batch.len() as u64;
        for &slot in batch.iter() {
            pool.insert(space.distance(query, slot), slot);
        }
        let Some(slot) = pool.expand() else { return Ok(()) };
        *expanded += 1;
        batch.clear();
        for &neighbor in graph.neighbors(slot, layer)? {
            if visited.insert(neighbor) {
                space.verify(neighbor)?;
                space.prefetch(neighbor);
                batch.push(neighbor);
            }
        }
    }
}
