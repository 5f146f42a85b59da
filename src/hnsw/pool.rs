//! The pool of a search: the nearest candidates so far, sorted, each expanded or not.

use std::cmp::Ordering;

use crate::vectors::Slot;

/// A node and its distance to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f32,
    pub(crate) slot: Slot,
    expanded: bool,
}

impl Candidate {
    pub(crate) fn new(distance: f32, slot: Slot) -> Self {
        Self { distance, slot, expanded: false }
    }

    /// Nearest first, ties by slot: an order that does not depend on how the candidates were found.
    pub(crate) fn nearer(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.slot.cmp(&other.slot))
    }
}

/// At most `ef` candidates in one sorted array. It serves as both heaps of the paper's algorithm 2.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    candidates: Vec<Candidate>,
    ef: usize,
    /// Everything before this index is expanded.
    next: usize,
}

impl Pool {
    pub(crate) fn start(&mut self, ef: usize) {
        self.candidates.clear();
        self.ef = ef.max(1);
        self.next = 0;
    }

    /// Takes the candidate unless `ef` others are at least as near.
    #[inline]
    pub(crate) fn insert(&mut self, distance: f32, slot: Slot) {
        if self.candidates.len() >= self.ef {
            match self.candidates.last() {
                Some(last) if distance < last.distance => self.candidates.pop(),
                _ => return,
            };
        }
        let at = self.candidates.partition_point(|c| c.distance <= distance);
        self.candidates.insert(at, Candidate::new(distance, slot));
        self.next = self.next.min(at);
    }

    /// The nearest candidate that was not expanded yet.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Slot> {
        self.candidates.get(self.next..)?.iter().find(|candidate| !candidate.expanded).map(|c| c.slot)
    }

    /// The nearest candidate that was not expanded yet; it is from now on.
    #[inline]
    pub(crate) fn expand(&mut self) -> Option<Slot> {
        while let Some(candidate) = self.candidates.get_mut(self.next) {
            self.next += 1;
            if !candidate.expanded {
                candidate.expanded = true;
                return Some(candidate.slot);
            }
        }
        None
    }

    /// The candidates, nearest first.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_nearest_and_expands_each_once_nearest_first() {
        let mut pool = Pool::default();
        pool.start(3);
        for (distance, slot) in [(5.0, 5), (3.0, 3), (4.0, 4), (5.0, 50), (9.0, 9)] {
            pool.insert(distance, slot);
        }
        assert_eq!(
            pool.candidates().iter().map(|c| c.slot).collect::<Vec<_>>(),
            [3, 4, 5],
            "a tie with the last stays out"
        );
        assert_eq!(pool.expand(), Some(3));
        assert_eq!(pool.expand(), Some(4));
        pool.insert(1.0, 1);
        assert_eq!(pool.expand(), Some(1));
        assert_eq!(pool.expand(), None, "5 fell out");
    }
}
