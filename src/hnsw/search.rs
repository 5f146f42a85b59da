//! Search: greedy descent through the upper layers, best-first with a bounded pool on one layer.

use super::filtered::Leftover;
use super::pool::{Candidate, Pool, Width};
use super::visited::Visited;
use super::{Anchors, Graph, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// What a search needs besides the graph; kept from one search to the next, so that none allocates.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) visited: Visited,
    pub(super) pool: Pool,
    /// What a filtered search found.
    pub(super) admitted: Pool,
    pub(super) leftovers: Vec<Leftover>,
    /// A node that the next [`search_layer`] is to act as if it were not there.
    pub(crate) leave_out: Option<Slot>,
    pub(crate) distances: u64,
    pub(crate) expanded: u64,
}

impl Scratch {
    /// The result of the last [`search_layer`], nearest first.
    pub(crate) fn found(&self) -> impl Iterator<Item = Candidate> + Clone {
        self.pool.candidates()
    }

    /// The result of the last filtered search, nearest first.
    pub(crate) fn admitted(&self) -> impl Iterator<Item = Candidate> + Clone {
        self.admitted.candidates()
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
    let mut distance = space.distance(query, space.resolve(nearest)?);
    scratch.distances += 1;
    let mut batch = Batch::new();
    for layer in (layer + 1..=anchors.level).rev() {
        loop {
            let from = nearest;
            for slots in graph.neighbors(from, layer)?.chunks(BATCH) {
                batch.resolve(space, slots.iter().copied())?;
                scratch.distances += slots.len() as u64;
                for (d, slot) in batch.compare(space, query) {
                    if d < distance {
                        (nearest, distance) = (slot, d);
                    }
                }
            }
            scratch.expanded += 1;
            if nearest == from {
                break;
            }
        }
    }
    Ok(nearest)
}

/// Collects the `ef` nearest nodes of `layer` that the walk from `entries` comes by, into [`Scratch::found`]: the paper's
/// algorithm 2. With `ef` no less than the number of nodes, and places for all ties, that is every node reachable from the entries.
pub(crate) fn search_layer<G: Graph, S: Space>(
    graph: &G,
    space: &S,
    query: &S::Query,
    entries: &[Slot],
    width: Width,
    layer: u8,
    scratch: &mut Scratch,
) -> Result<()> {
    space.vectorized(|| walk(graph, space, query, entries, width, layer, scratch))
}

/// [`search_layer`], to be inlined where the instructions for distances are enabled.
#[inline(always)]
fn walk<G: Graph, S: Space>(
    graph: &G,
    space: &S,
    query: &S::Query,
    entries: &[Slot],
    width: Width,
    layer: u8,
    scratch: &mut Scratch,
) -> Result<()> {
    let Scratch { visited, pool, leave_out, distances, expanded, .. } = scratch;
    visited.start(graph.slots());
    if let Some(slot) = leave_out.take() {
        visited.filter(&[slot], &mut [0]);
    }
    pool.start(width);
    let mut batch = Batch::new();
    let mut fresh = [0; BATCH];
    let mut next = entries;
    loop {
        for slots in next.chunks(BATCH) {
            let fresh = visited.filter(slots, &mut fresh);
            batch.resolve(space, fresh.iter().copied())?;
            // Unless something nearer turns up now, this is where the walk goes on.
            if let Some(slot) = pool.peek() {
                graph.prefetch_neighbors(slot, layer);
            }
            *distances += fresh.len() as u64;
            for (distance, slot) in batch.compare(space, query) {
                pool.insert(distance, slot);
            }
        }
        let Some(slot) = pool.expand() else { break };
        *expanded += 1;
        next = graph.neighbors(slot, layer)?;
    }
    Ok(())
}

/// More than most rows have neighbours.
pub(super) const BATCH: usize = 64;
/// How many codes are fetched ahead of the one that is compared: enough to hide the latency of memory, few enough for the
/// lines that a core can fetch at a time.
const AHEAD: usize = 8;

/// Slots found and about to be compared.
pub(super) struct Batch<H> {
    slots: [Slot; BATCH],
    handles: [Option<H>; BATCH],
    distances: [f32; BATCH],
    len: usize,
}

impl<H: Copy> Batch<H> {
    pub(super) fn new() -> Self {
        Self { slots: [0; BATCH], handles: [None; BATCH], distances: [0.0; BATCH], len: 0 }
    }

    /// Takes other slots, no more than it holds.
    #[inline(always)]
    pub(super) fn resolve<'a, S>(&mut self, space: &'a S, slots: impl Iterator<Item = Slot>) -> Result<()>
    where
        S: Space<Handle<'a> = H> + 'a,
    {
        self.len = 0;
        for ((slot, to), handle) in slots.zip(&mut self.slots).zip(&mut self.handles) {
            *to = slot;
            *handle = match space.resolved(slot) {
                Some(handle) => Some(handle),
                None => Some(space.resolve(slot)?),
            };
            self.len += 1;
        }
        Ok(())
    }

    /// Computes the distances. What is to be done with them comes afterwards, since a branch on a distance that is mispredicted
    /// waits for all that the distance depends on.
    #[inline(always)]
    pub(super) fn compare<'a, S>(
        &mut self,
        space: &'a S,
        query: &S::Query,
    ) -> impl Iterator<Item = (f32, Slot)>
    where
        S: Space<Handle<'a> = H> + 'a,
    {
        let handles = self.handles.get(..self.len).unwrap_or(&[]);
        for handle in handles.iter().take(AHEAD).flatten() {
            space.prefetch(*handle);
        }
        for (i, (handle, distance)) in handles.iter().zip(&mut self.distances).enumerate() {
            if let Some(Some(ahead)) = handles.get(i + AHEAD) {
                space.prefetch(*ahead);
            }
            if let Some(handle) = handle {
                *distance = space.distance(query, *handle);
            }
        }
        self.distances.iter().copied().zip(self.slots.iter().copied()).take(self.len)
    }
}
