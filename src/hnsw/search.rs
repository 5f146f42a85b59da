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
    let mut distance = space.distance(query, space.resolve(nearest)?);
    scratch.distances += 1;
    let mut batch = Batch::new();
    for layer in (layer + 1..=anchors.level).rev() {
        loop {
            let from = nearest;
            for slots in graph.neighbors(from, layer)?.chunks(BATCH) {
                batch.clear();
                for &slot in slots {
                    batch.resolve(space, slot)?;
                }
                scratch.distances += slots.len() as u64;
                batch.compare(space, query, |d, slot| {
                    if d < distance {
                        (nearest, distance) = (slot, d);
                    }
                });
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
    let Scratch { visited, pool, distances, expanded } = scratch;
    visited.start(graph.slots());
    pool.start(ef);
    let mut batch = Batch::new();
    let mut next = entries;
    loop {
        for slots in next.chunks(BATCH) {
            batch.clear();
            for &slot in slots {
                if visited.insert(slot) {
                    batch.resolve(space, slot)?;
                }
            }
            // Unless something nearer turns up now, this is where the walk goes on.
            if let Some(slot) = pool.peek() {
                graph.prefetch_neighbors(slot, layer);
            }
            *distances += batch.len as u64;
            batch.compare(space, query, |distance, slot| pool.insert(distance, slot));
        }
        let Some(slot) = pool.expand() else { return Ok(()) };
        *expanded += 1;
        next = graph.neighbors(slot, layer)?;
    }
}

/// More than most rows have neighbours.
const BATCH: usize = 64;
/// How many codes are fetched ahead of the one that is compared: enough to hide the latency of memory, few enough for the
/// lines that a core can fetch at a time.
const AHEAD: usize = 8;

/// Slots found and about to be compared.
struct Batch<H> {
    slots: [Option<(Slot, H)>; BATCH],
    len: usize,
}

impl<H: Copy> Batch<H> {
    fn new() -> Self {
        Self { slots: [None; BATCH], len: 0 }
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a slot. A batch is never given more than it holds.
    #[inline]
    fn resolve<'a, S>(&mut self, space: &'a S, slot: Slot) -> Result<()>
    where
        S: Space<Handle<'a> = H> + 'a,
    {
        let handle = match space.resolved(slot) {
            Some(handle) => handle,
            None => space.resolve(slot)?,
        };
        if let Some(place) = self.slots.get_mut(self.len) {
            *place = Some((slot, handle));
            self.len += 1;
        }
        Ok(())
    }

    /// Computes the distances in order.
    #[inline]
    fn compare<'a, S>(&self, space: &'a S, query: &S::Query, mut found: impl FnMut(f32, Slot))
    where
        S: Space<Handle<'a> = H> + 'a,
    {
        let slots = self.slots.get(..self.len).unwrap_or(&[]);
        for (_, handle) in slots.iter().take(AHEAD).flatten() {
            space.prefetch(*handle);
        }
        for (i, &(slot, handle)) in slots.iter().flatten().enumerate() {
            if let Some(Some((_, ahead))) = slots.get(i + AHEAD) {
                space.prefetch(*ahead);
            }
            found(space.distance(query, handle), slot);
        }
    }
}
