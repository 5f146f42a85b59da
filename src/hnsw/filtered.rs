//! Search for nodes that a filter admits.
//!
//! The walk goes through all nodes, those near the query first, and keeps the admitted ones in a pool of their own. It starts
//! narrow. When it has come to its end, a guide either is content with what was found or widens it, and it takes up what it had
//! passed over. So it needs no estimate beforehand of how many of the nodes near the query are admitted: that shows on the way.

use super::pool::{Candidate, Pool, Width};
use super::search::{BATCH, Batch};
use super::{Graph, Scratch, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// What tells a filtered walk where to go.
pub(crate) trait Guide {
    /// How many nodes the walk keeps at first.
    fn width(&self) -> usize;
    /// True when the slot, which has been resolved, may be a result.
    fn admits(&mut self, slot: Slot) -> bool;
    /// True while the walk may go on. Asked before every expansion.
    fn goes_on(&mut self, distances: u64) -> bool;
    /// The width to go on with when a walk has ended, or `None` to leave it at that. `beyond` are nodes that it came by and that are
    /// farther away than those it keeps.
    fn widen(&mut self, progress: &Progress, beyond: impl ExactSizeIterator<Item = Slot>) -> Option<usize>;
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// How many nodes it keeps…
    pub(crate) width: usize,
    /// …and how many admitted ones are as near as those.
    pub(crate) admitted: usize,
}

/// A node that had no place in the pool.
#[derive(Debug)]
pub(crate) struct Leftover {
    candidate: Candidate,
    past: Past,
}

/// What was done to a leftover before there was no place for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    Compared,
    Kept { expanded: bool },
}

/// Collects the nearest admitted nodes that the walk from `entries` comes by, `ef` at most, into [`Scratch::admitted`]; true when it
/// came by every node that can be reached.
pub(crate) fn search_filtered<G: Graph, S: Space>(
    graph: &G,
    space: &S,
    query: &S::Query,
    entries: &[Slot],
    ef: usize,
    guide: &mut impl Guide,
    scratch: &mut Scratch,
) -> Result<bool> {
    space.vectorized(|| walk(graph, space, query, entries, ef, guide, scratch))
}

/// [`search_filtered`], to be inlined where the instructions for distances are enabled.
#[inline(always)]
fn walk<G: Graph, S: Space>(
    graph: &G,
    space: &S,
    query: &S::Query,
    entries: &[Slot],
    ef: usize,
    guide: &mut impl Guide,
    scratch: &mut Scratch,
) -> Result<bool> {
    let Scratch { visited, pool, admitted, leftovers, distances, expanded, .. } = scratch;
    visited.start(graph.slots());
    let mut width = guide.width();
    pool.start(Width::with_all_ties(width));
    admitted.start(Width::with_all_ties(ef));
    leftovers.clear();
    let mut batch = Batch::new();
    let mut fresh = [0; BATCH];
    let mut next = entries;
    loop {
        for slots in next.chunks(BATCH) {
            let fresh = visited.filter(slots, &mut fresh);
            batch.resolve(space, fresh.iter().copied())?;
            if let Some(slot) = pool.peek() {
                graph.prefetch_neighbors(slot, 0);
            }
            *distances += fresh.len() as u64;
            for (distance, slot) in batch.compare(space, query) {
                let candidate = Candidate { distance, slot };
                if !pool.takes(distance) {
                    leftovers.push(Leftover { candidate, past: Past::Compared });
                    continue;
                }
                if let Some((candidate, expanded)) = pool.evict() {
                    leftovers.push(Leftover { candidate, past: Past::Kept { expanded } });
                }
                pool.insert(distance, slot);
                if guide.admits(slot) {
                    admitted.insert(distance, slot);
                }
            }
        }
        if !guide.goes_on(*distances) {
            return Ok(false);
        }
        let slot = loop {
            if let Some(slot) = pool.expand() {
                break slot;
            }
            if leftovers.is_empty() {
                return Ok(true);
            }
            let near = pool.farthest().map_or(0, |farthest| admitted.within(farthest));
            let progress = Progress { width, admitted: near };
            let beyond = leftovers.iter().map(|leftover| leftover.candidate.slot);
            let Some(wider) = guide.widen(&progress, beyond) else { return Ok(false) };
            width = wider.max(width + 1);
            let room = pool.widen(width);
            take_up(leftovers, room, pool, admitted, guide);
        };
        *expanded += 1;
        next = graph.neighbors(slot, 0)?;
    }
}

/// Puts the nearest leftovers, as many as there is `room` for, back into the pool.
fn take_up(
    leftovers: &mut Vec<Leftover>,
    room: usize,
    pool: &mut Pool,
    admitted: &mut Pool,
    guide: &mut impl Guide,
) {
    let room = room.min(leftovers.len());
    if let (true, Some(last)) = (room < leftovers.len(), room.checked_sub(1)) {
        leftovers.select_nth_unstable_by(last, |a, b| a.candidate.nearer(&b.candidate));
    }
    for Leftover { candidate, past } in leftovers.drain(..room) {
        pool.restore(candidate, past == Past::Kept { expanded: true });
        if past == Past::Compared && guide.admits(candidate.slot) {
            admitted.insert(candidate.distance, candidate.slot);
        }
    }
}

/// Compares slots that no walk has led to, and tells `tell` their distances.
pub(crate) fn compare<S: Space>(
    space: &S,
    query: &S::Query,
    slots: &[Slot],
    mut tell: impl FnMut(f32, Slot) -> Result<()>,
) -> Result<()> {
    space.vectorized(|| {
        let mut batch = Batch::new();
        for slots in slots.chunks(BATCH) {
            batch.resolve(space, slots.iter().copied())?;
            for (distance, slot) in batch.compare(space, query) {
                tell(distance, slot)?;
            }
        }
        Ok(())
    })
}
