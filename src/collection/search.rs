//! Running a search without conditions: a walk through the graph, or a scan.

use std::cell::RefCell;

use super::code_space::{CodeSpace, CodedQuery};
use super::hits::{Hit, Hits, QueryStatistics, Strategy, nearer};
use super::index::{Comparison, Index};
use super::vector_space::{VectorQuery, VectorSpace};
use super::view::View;
use crate::distance::Kernel;
use crate::error::{Error, Result};
use crate::graph::{GraphSnapshot, PAGE_SLOTS};
use crate::hnsw::{Candidate, Scratch, Space, Width, descend, search_layer};
use crate::vectors::Slot;

/// How many vectors are fetched ahead of the one that is compared.
pub(super) const VECTORS_AHEAD: usize = 3;
/// Collections of up to this many vectors are scanned: no walk through a graph is cheaper.
const SCAN_UP_TO: u64 = 64;

/// True when comparing with every vector is cheaper than any walk.
pub(super) fn is_small(view: View<'_>) -> bool {
    // After removals there may be far more slots than vectors: then walking is cheaper.
    let dense = u64::from(view.graph.slots()) <= 4 * SCAN_UP_TO;
    dense && view.state.live <= SCAN_UP_TO
}

/// A search with one set of kernels.
pub(super) struct Search<'a, K> {
    pub(super) view: View<'a>,
    /// The distances that hits are told with.
    pub(super) exact: Index<&'a GraphSnapshot, VectorSpace<'a, K>>,
    pub(super) k: usize,
    /// See [`Query::leave_out`].
    pub(super) leave_out: Option<Slot>,
}

impl<'a, K: Kernel> Search<'a, K> {
    /// Walks the graph on the vectors.
    pub(super) fn walk(&self, query: &VectorQuery<'a>, ef: usize) -> Result<Hits> {
        with_scratch(|scratch| {
            let found = self.find(&self.exact, query, ef, scratch)?;
            let hits = self.tell(found)?;
            Ok(self.best(hits, self.walked(ef, scratch, 0)))
        })
    }

    /// The nearest candidates, which are sorted by the distance of their vectors, as hits: `k`, and those that tie with the last.
    pub(super) fn tell(&self, found: impl Iterator<Item = Candidate> + Clone) -> Result<Vec<Hit>> {
        // Those that tie with the k-th are among the best as well: keys decide.
        let farthest = found.clone().nth(self.k - 1).map_or(f32::INFINITY, |kth| kth.distance);
        let mut hits = Vec::with_capacity(self.k);
        for candidate in found.take_while(|candidate| candidate.distance <= farthest) {
            let key = self.exact.resolve(candidate.slot)?.key();
            hits.push(Hit { key, distance: candidate.distance });
        }
        Ok(hits)
    }

    /// What a walk has cost, with the re-ranking after it.
    pub(super) fn walked(&self, ef: usize, scratch: &Scratch, reranked: u64) -> QueryStatistics {
        QueryStatistics {
            strategy: Strategy::Walk,
            ef,
            layers: self.view.state.anchors.map_or(0, |anchors| anchors.level),
            distances: scratch.distances + reranked,
            expanded: scratch.expanded,
            reranked,
            filter_calls: 0,
        }
    }

    /// Walks the graph on codes and re-ranks the best by their vectors.
    pub(super) fn walk_on_codes(
        &self,
        codes: &Index<&GraphSnapshot, CodeSpace<'a, K>>,
        coded: &CodedQuery,
        query: &VectorQuery<'a>,
        ef: usize,
    ) -> Result<Hits> {
        with_scratch(|scratch| {
            let found = self.find(codes, coded, ef, scratch)?;
            let all = self.is_exhaustive(ef);
            let lower_bound = |candidate| codes.space.lower_bound(coded, candidate);
            let (hits, reranked) = self.rerank(found, lower_bound, query, all)?;
            Ok(Hits { hits, statistics: self.walked(ef, scratch, reranked), ..Hits::default() })
        })
    }

    /// Whoever asks for as many candidates as there are vectors asks for the exact answer.
    pub(super) fn is_exhaustive(&self, ef: usize) -> bool {
        ef as u64 >= self.view.state.live
    }

    /// The candidates that a walk from the anchors finds, `ef` at most, nearest first.
    fn find<'s, S: Comparison>(
        &self,
        index: &Index<&GraphSnapshot, S>,
        query: &S::Query,
        ef: usize,
        scratch: &'s mut Scratch,
    ) -> Result<impl Iterator<Item = Candidate> + Clone + use<'s, S, K>> {
        scratch.reset_counters();
        let entries = self.enter(index, query, scratch)?;
        scratch.leave_out = self.leave_out;
        let width = if self.is_exhaustive(ef) { Width::with_all_ties(ef) } else { Width::new(ef, self.k) };
        search_layer(index, index, query, &entries, width, 0, scratch)?;
        Ok(scratch.found())
    }

    /// Where a walk on the lowest layer starts.
    pub(super) fn enter<S: Comparison>(
        &self,
        index: &Index<&GraphSnapshot, S>,
        query: &S::Query,
        scratch: &mut Scratch,
    ) -> Result<[Slot; 2]> {
        let anchors = self.view.anchors()?;
        Ok([descend(index, index, query, &anchors, 0, scratch)?, anchors.root])
    }

    /// The `k` best of the candidates, which are sorted by the distance of their codes, by the distance of their vectors; and how
    /// many vectors that took: candidates whose codes say that they are too far are left out, unless `all` are to be compared.
    pub(super) fn rerank(
        &self,
        found: impl Iterator<Item = Candidate> + Clone,
        lower_bound: impl Fn(Candidate) -> f32,
        query: &VectorQuery<'a>,
        all: bool,
    ) -> Result<(Vec<Hit>, u64)> {
        let prefetch = |candidate: Candidate| self.prefetch(candidate.slot);
        let mut ahead = found.clone();
        ahead.by_ref().take(VECTORS_AHEAD).for_each(prefetch);
        let mut hits: Vec<Hit> = Vec::with_capacity(self.k + 1);
        let mut reranked = 0;
        for candidate in found {
            let is_full = hits.len() == self.k;
            if let (false, true, Some(worst)) = (all, is_full, hits.last())
                && lower_bound(candidate) > worst.distance
            {
                continue;
            }
            if let (false, Some(candidate)) = (is_full, ahead.next()) {
                prefetch(candidate);
            }
            self.rank(candidate.slot, query, &mut hits)?;
            reranked += 1;
        }
        Ok((hits, reranked))
    }

    #[inline]
    pub(super) fn prefetch(&self, slot: Slot) {
        self.view.segments.prefetch_vector(slot, self.exact.space.kernel());
    }

    /// Puts a slot into its place among the `k` nearest.
    #[inline]
    pub(super) fn rank(&self, slot: Slot, query: &VectorQuery<'a>, hits: &mut Vec<Hit>) -> Result<()> {
        let handle = self.exact.resolve(slot)?;
        let hit = Hit { key: handle.key(), distance: self.exact.distance(query, handle) };
        let at = hits.partition_point(|other| nearer(other, &hit).is_le());
        hits.insert(at, hit);
        hits.truncate(self.k);
        Ok(())
    }

    /// Compares with every vector. Those beyond the radius are no hits.
    pub(super) fn scan(&self, query: &VectorQuery<'a>, radius: f32) -> Result<Hits> {
        let (View { graph, state, .. }, k) = (self.view, self.k);
        let mut distances = 0;
        let mut hits = Vec::new();
        for number in 0..graph.pages() {
            let page = graph.page(number)?;
            for index in 0..PAGE_SLOTS {
                let Some(node) = page.node(index) else { continue };
                let handle = self.exact.resolve((number * PAGE_SLOTS + index) as Slot)?;
                let distance = self.exact.distance(query, handle);
                if distance <= radius {
                    hits.push(Hit { key: node.record.key, distance });
                }
                distances += 1;
            }
            // Now and then only the best so far are kept: memory stays a small multiple of k.
            if hits.len() >= k.saturating_mul(4).saturating_add(1024) {
                hits.select_nth_unstable_by(k - 1, nearer);
                hits.truncate(k);
            }
        }
        // A node whose rows are all lost leaves no other trace than the count.
        if distances != state.live {
            return Err(Error::corrupted(
                format!("collection {:?}", state.name),
                format!("{distances} nodes where {} were expected", state.live),
            ));
        }
        Ok(self.best(hits, QueryStatistics { distances, reranked: distances, ..QueryStatistics::default() }))
    }

    /// The `k` nearest of `hits`, in order.
    pub(super) fn best(&self, mut hits: Vec<Hit>, statistics: QueryStatistics) -> Hits {
        hits.sort_unstable_by(nearer);
        hits.truncate(self.k);
        Hits { hits, statistics, ..Hits::default() }
    }
}

/// Lends this thread's scratch. A search inside of a search (from an iterator's closure, say) gets a fresh one.
pub(super) fn with_scratch<T>(run: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    let mut scratch = SCRATCH.take();
    let result = run(&mut scratch);
    SCRATCH.set(scratch);
    result
}
