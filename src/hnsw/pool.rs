//! The pool of a search: the nearest candidates so far, sorted, each expanded or not.

use std::cmp::Ordering;

use crate::vectors::Slot;

/// A node and its distance to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f32,
    pub(crate) slot: Slot,
}

impl Candidate {
    pub(crate) fn new(distance: f32, slot: Slot) -> Self {
        Self { distance, slot }
    }

    /// Nearest first, ties by slot: an order that does not depend on how the candidates were found.
    pub(crate) fn nearer(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.slot.cmp(&other.slot))
    }
}

/// How much a search keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Width {
    ef: usize,
    /// Of candidates at one and the same distance no more than this are taken.
    ties: usize,
}

impl Width {
    /// For a search for `k`. Candidates that tie are copies of each other as a rule, and where there are as many as `ef`, they would keep
    /// everything else out: a crowd beside the way would end every walk that comes by. So half of the places are for others.
    pub(crate) fn new(ef: usize, k: usize) -> Self {
        Self { ef: ef.max(1), ties: k.max(ef / 2).max(1) }
    }

    /// The same, with a place for every one of those that tie.
    pub(crate) fn with_all_ties(ef: usize) -> Self {
        Self { ef: ef.max(1), ties: usize::MAX }
    }
}

/// At most [`Width::ef`] candidates, sorted. It serves as both heaps of the paper's algorithm 2.
///
/// Distances stand apart from the rest, so that a place among them is found by counting, many at a time.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    distances: Vec<f32>,
    nodes: Vec<Node>,
    width: Width,
    /// Everything before this index is expanded.
    next: usize,
    /// Beyond this no candidate is taken: the last one's distance once there are `ef`.
    bound: f32,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    slot: Slot,
    expanded: bool,
}

/// Distances that are counted at a time.
const BLOCK: usize = 64;

impl Pool {
    pub(crate) fn start(&mut self, width: Width) {
        self.distances.clear();
        self.nodes.clear();
        self.width = width;
        self.next = 0;
        self.bound = f32::INFINITY;
    }

    /// Takes the candidate unless `ef` others are at least as near, or as many as may tie are at its distance.
    #[inline(always)]
    pub(crate) fn insert(&mut self, distance: f32, slot: Slot) {
        if distance >= self.bound && self.distances.len() >= self.width.ef {
            return;
        }
        let at = self.position(distance);
        let first_tie = at.checked_sub(self.width.ties).and_then(|first| self.distances.get(first));
        if first_tie == Some(&distance) {
            return;
        }
        if self.distances.len() >= self.width.ef {
            self.distances.pop();
            self.nodes.pop();
        }
        self.distances.insert(at, distance);
        self.nodes.insert(at, Node { slot, expanded: false });
        self.next = self.next.min(at);
        if let (true, Some(&last)) = (self.distances.len() >= self.width.ef, self.distances.last()) {
            self.bound = last;
        }
    }

    /// How many are at least as near.
    #[inline(always)]
    fn position(&self, distance: f32) -> usize {
        let (blocks, rest) = self.distances.as_chunks::<BLOCK>();
        let count = |some: &[f32]| some.iter().map(|&d| u32::from(d <= distance)).sum::<u32>() as usize;
        let whole = blocks.partition_point(|block| block.last().is_some_and(|&last| last <= distance));
        whole * BLOCK + count(blocks.get(whole).map_or(rest, |block| block))
    }

    /// The nearest candidate that was not expanded yet.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<Slot> {
        self.nodes.get(self.next..)?.iter().find(|node| !node.expanded).map(|node| node.slot)
    }

    /// The nearest candidate that was not expanded yet; it is from now on.
    #[inline(always)]
    pub(crate) fn expand(&mut self) -> Option<Slot> {
        while let Some(node) = self.nodes.get_mut(self.next) {
            self.next += 1;
            if !node.expanded {
                node.expanded = true;
                return Some(node.slot);
            }
        }
        None
    }

    /// True when a candidate at this distance would be taken.
    #[inline(always)]
    pub(super) fn takes(&self, distance: f32) -> bool {
        distance < self.bound || self.distances.len() < self.width.ef
    }

    /// Makes room for one more: what had to go, and whether it was expanded.
    #[inline(always)]
    pub(super) fn evict(&mut self) -> Option<(Candidate, bool)> {
        if self.distances.len() < self.width.ef {
            return None;
        }
        let (distance, node) = self.distances.pop().zip(self.nodes.pop())?;
        Some((Candidate { distance, slot: node.slot }, node.expanded))
    }

    /// Keeps up to `ef` from now on, no less than before; tells how many more there is room for.
    pub(super) fn widen(&mut self, ef: usize) -> usize {
        self.width.ef = self.width.ef.max(ef);
        self.bound = f32::INFINITY;
        self.width.ef - self.distances.len()
    }

    /// [`Pool::insert`], for a candidate that may have been expanded before.
    pub(super) fn restore(&mut self, Candidate { distance, slot }: Candidate, expanded: bool) {
        self.insert(distance, slot);
        // Ties go before what is inserted, so it is the last of its distance.
        let at = self.position(distance);
        if let Some(node) = at.checked_sub(1).and_then(|at| self.nodes.get_mut(at)) {
            debug_assert!(node.slot == slot, "a candidate is restored where there is room");
            node.expanded = expanded;
        }
    }

    /// The distance of the last one.
    pub(super) fn farthest(&self) -> Option<f32> {
        self.distances.last().copied()
    }

    /// How many are at most this far.
    pub(super) fn within(&self, distance: f32) -> usize {
        self.position(distance)
    }

    /// The candidates, nearest first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Candidate> + Clone {
        self.distances
            .iter()
            .zip(&self.nodes)
            .map(|(&distance, node)| Candidate { distance, slot: node.slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_nearest_and_expands_each_once_nearest_first() {
        let mut pool = Pool::default();
        pool.start(Width::with_all_ties(3));
        for (distance, slot) in [(5.0, 5), (3.0, 3), (4.0, 4), (5.0, 50), (9.0, 9)] {
            pool.insert(distance, slot);
        }
        assert_eq!(
            pool.candidates().map(|c| c.slot).collect::<Vec<_>>(),
            [3, 4, 5],
            "a tie with the last stays out"
        );
        assert_eq!(pool.expand(), Some(3));
        assert_eq!(pool.expand(), Some(4));
        pool.insert(1.0, 1);
        assert_eq!(pool.expand(), Some(1));
        assert_eq!(pool.expand(), None, "5 fell out");
    }

    #[test]
    fn a_crowd_at_one_distance_leaves_half_of_the_places_to_others() {
        let mut pool = Pool::default();
        pool.start(Width::new(6, 1));
        (0..10).for_each(|slot| pool.insert(2.0, slot));
        for (distance, slot) in [(4.0, 40), (3.0, 30), (1.0, 10), (5.0, 50)] {
            pool.insert(distance, slot);
        }
        assert_eq!(pool.candidates().map(|c| c.slot).collect::<Vec<_>>(), [10, 0, 1, 2, 30, 40]);
        pool.start(Width::new(6, 5));
        (0..10).for_each(|slot| pool.insert(2.0, slot));
        assert_eq!(pool.candidates().count(), 5, "whoever asks for five gets five");
    }
}
