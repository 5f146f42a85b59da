//! Browsing: a walk over layer 0 that forgets nothing that it came by, and so can go on from where it stopped.
//!
//! [`search_layer`](super::search_layer) keeps `ef` candidates and drops the rest, which is all that a search for k takes. A search
//! for all within a radius, or for the next page, does not know beforehand how many it will take. So here a node that was seen waits
//! in a heap until its turn comes, however far it is: best-first browsing, as Hjaltason and Samet ("Distance browsing in spatial
//! databases", 1999) do it on trees. Every node gets its turn in the end, since every node can be reached from the root.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pool::Candidate;
use super::search::{BATCH, Batch, Scratch, descend};
use super::{Anchors, Graph, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// A walk that has come so far.
#[derive(Debug, Default)]
pub(crate) struct Browse {
    /// Its pool is not used.
    scratch: Scratch,
    /// Seen and not expanded, the nearest on top.
    frontier: BinaryHeap<Reverse<u64>>,
    /// Expanded and not taken yet, nearest first.
    settled: Vec<Candidate>,
}

/// How far to walk: until of all that was seen and not taken the nearest are expanded…
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// …those within this distance…
    pub(crate) radius: f32,
    /// …though no more of them than this…
    pub(crate) most: usize,
    /// …and so many that come after.
    pub(crate) beyond: usize,
}

impl Reach {
    /// So many of the nearest, wherever they are.
    pub(crate) fn nearest(count: usize) -> Self {
        Self { radius: f32::NEG_INFINITY, most: 0, beyond: count }
    }

    fn wanted(&self, settled: &[Candidate]) -> usize {
        let inside = if self.most == 0 { 0 } else { inside(settled, self.radius) };
        inside.min(self.most).saturating_add(self.beyond)
    }
}

impl Browse {
    /// Descends to where the walk on layer 0 begins. The scratch is given back by [`into_scratch`](Browse::into_scratch).
    pub(crate) fn start<G: Graph, S: Space>(
        graph: &G,
        space: &S,
        query: &S::Query,
        anchors: &Anchors,
        mut scratch: Scratch,
    ) -> Result<Self> {
        scratch.reset_counters();
        let entry = descend(graph, space, query, anchors, 0, &mut scratch)?;
        scratch.visited.start(graph.slots());
        let mut browse = Self { scratch, ..Self::default() };
        let entries = [entry, anchors.root];
        space.vectorized(|| browse.visit(graph, space, query, &entries, &mut Batch::new()))?;
        Ok(browse)
    }

    /// Walks on, until `reach` is settled or everything is.
    pub(crate) fn walk<G: Graph, S: Space>(
        &mut self,
        graph: &G,
        space: &S,
        query: &S::Query,
        reach: Reach,
    ) -> Result<()> {
        space.vectorized(|| {
            let mut batch = Batch::new();
            while !self.is_settled(reach)
                && let Some(Reverse(next)) = self.frontier.pop()
            {
                let next = from_ordered(next);
                self.scratch.expanded += 1;
                let at = self.settled.partition_point(|other| other.nearer(&next).is_lt());
                self.settled.insert(at, next);
                self.visit(graph, space, query, graph.neighbors(next.slot, 0)?, &mut batch)?;
            }
            Ok(())
        })
    }

    /// Puts those of the slots that were not seen before on the frontier.
    #[inline(always)]
    fn visit<'s, G: Graph, S: Space>(
        &mut self,
        graph: &G,
        space: &'s S,
        query: &S::Query,
        slots: &[Slot],
        batch: &mut Batch<S::Handle<'s>>,
    ) -> Result<()> {
        let mut fresh = [0; BATCH];
        for slots in slots.chunks(BATCH) {
            let fresh = self.scratch.visited.filter(slots, &mut fresh);
            batch.resolve(space, fresh.iter().copied())?;
            // Unless something nearer turns up now, this is where the walk goes on.
            if let Some(&Reverse(next)) = self.frontier.peek() {
                graph.prefetch_neighbors(from_ordered(next).slot, 0);
            }
            self.scratch.distances += fresh.len() as u64;
            for (distance, slot) in batch.compare(space, query) {
                self.frontier.push(Reverse(to_ordered(Candidate { distance, slot })));
            }
        }
        Ok(())
    }

    fn is_settled(&self, reach: Reach) -> bool {
        let Some(last) = reach.wanted(&self.settled).checked_sub(1) else { return true };
        match (self.settled.get(last), self.frontier.peek()) {
            (Some(last), Some(&Reverse(next))) => to_ordered(*last) <= next,
            (None, Some(_)) => false,
            (_, None) => true,
        }
    }

    /// Expanded and not taken yet, nearest first.
    pub(crate) fn settled(&self) -> &[Candidate] {
        &self.settled
    }

    /// Seen and not expanded, in no order.
    pub(crate) fn frontier(&self) -> impl Iterator<Item = Candidate> {
        self.frontier.iter().map(|&Reverse(candidate)| from_ordered(candidate))
    }

    /// Takes the nearest that are settled, `count` of them or as many as there are.
    pub(crate) fn take(&mut self, count: usize) -> impl ExactSizeIterator<Item = Candidate> {
        self.settled.drain(..count.min(self.settled.len()))
    }

    pub(crate) fn reset_counters(&mut self) {
        self.scratch.reset_counters();
    }

    /// Distances computed so far.
    pub(crate) fn distances(&self) -> u64 {
        self.scratch.distances
    }

    /// Nodes expanded so far.
    pub(crate) fn expanded(&self) -> u64 {
        self.scratch.expanded
    }

    pub(crate) fn into_scratch(self) -> Scratch {
        self.scratch
    }
}

/// How many of the candidates, which are sorted, lie within the radius.
pub(crate) fn inside(sorted: &[Candidate], radius: f32) -> usize {
    sorted.partition_point(|candidate| candidate.distance <= radius)
}

const SIGN: u32 = 1 << 31;

/// A number that orders candidates as [`Candidate::nearer`] does: heaps compare much, and one comparison of integers is cheap.
#[inline]
fn to_ordered(candidate: Candidate) -> u64 {
    let bits = candidate.distance.to_bits();
    // Positive floats are ordered like their bits, negative ones the other way round.
    let bits = if bits & SIGN == 0 { bits | SIGN } else { !bits };
    u64::from(bits) << 32 | u64::from(candidate.slot)
}

#[inline]
fn from_ordered(number: u64) -> Candidate {
    let bits = (number >> 32) as u32;
    let bits = if bits & SIGN == 0 { !bits } else { bits & !SIGN };
    Candidate { distance: f32::from_bits(bits), slot: number as Slot }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_as_numbers_keep_their_order_and_come_back_whole() {
        let distances = [f32::MIN, -1.0, -f32::MIN_POSITIVE, -0.0, 0.0, 1e-40, 1.0, f32::MAX, f32::INFINITY];
        let candidates: Vec<Candidate> =
            distances.iter().flat_map(|&d| [0, 7, Slot::MAX].map(|slot| Candidate::new(d, slot))).collect();
        for (i, a) in candidates.iter().enumerate() {
            let back = from_ordered(to_ordered(*a));
            assert_eq!((back.distance.to_bits(), back.slot), (a.distance.to_bits(), a.slot));
            for (j, b) in candidates.iter().enumerate() {
                assert_eq!(a.nearer(b), i.cmp(&j), "{a:?} and {b:?}");
                assert_eq!(to_ordered(*a).cmp(&to_ordered(*b)), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }
}
