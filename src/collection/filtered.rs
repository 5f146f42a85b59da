//! Searching with a filter or a budget.
//!
//! Which way is cheapest depends on how many of the vectors near the query pass the filter, and nobody knows that beforehand: of
//! a set of keys the size is known, of a closure not even that, and either may favour the query's surroundings or shun them. So
//! a search walks first, narrowly, and sees. Often that is enough, or a somewhat wider walk is. Once
//! the walk that would find enough is likely to cost more than comparing with everything that passes, the latter is done, at the
//! price of the short walk before. Small sets are compared with at once.

use super::budget::Budget;
use super::code_space::{CodeSpace, CodedQuery};
use super::filter::{Filter, KeySet};
use super::hits::{Hit, Hits, QueryStatistics, Strategy, nearer};
use super::index::{Comparison, Index};
use super::search::{Search, VECTORS_AHEAD, with_scratch};
use super::vector_space::VectorQuery;
use super::view::View;
use crate::distance::Kernel;
use crate::error::{Error, Result};
use crate::graph::{GraphSnapshot, PAGE_SLOTS};
use crate::hnsw::{Candidate, Guide, Progress, Scratch, Space, compare, search_filtered};
use crate::vectors::Slot;

/// What a search may find, and what it may cost.
pub(super) struct Conditions<'a> {
    pub(super) filter: Filter<'a>,
    pub(super) budget: Budget<'a>,
}

/// What things cost, in distances computed on a walk.
mod cost {
    /// Finding the slot of a key.
    pub(super) const LOOK_UP: f64 = 16.0;
    /// Asking a filter about a slot when all are asked about, one after the other.
    pub(super) const CHECK: f64 = 0.25;
    /// A distance when slots are compared one after the other.
    pub(super) const COMPARE: f64 = 0.5;
    /// Widening a walk by one node.
    pub(super) const WIDEN: f64 = 12.0;
    /// A walk without a filter, per node that it keeps.
    pub(super) const KEEP: f64 = 20.0;
}

/// How many admitted nodes a walk shall have come by, times k: the nearest of those that it comes by are not all of the nearest.
const MARGIN: usize = 2;
/// A walk does not widen by more than this at a time: the estimate that it is made by improves on the way.
const LARGEST_STEP: f64 = 4.0;
/// Nor by less.
const SMALLEST_STEP: f64 = 1.25;
/// When a smaller part of the nodes that a walk keeps is admitted, those farther away are looked at as well…
const FEW: f64 = 0.1;
/// …about so many of them.
const SAMPLE: usize = 256;
/// A walk starts narrower than one without a filter, by this factor: if few pass, that much less is in vain.
const PROBE: usize = 4;
/// Slots that are gathered before they are compared.
const CHUNK: usize = 64;
/// Pages whose keys are asked about before the budget is looked at again.
const PAGES_BETWEEN: usize = 8;
/// Keys that are looked up before what passes of them is visited, and the budget looked at again.
const KEYS_BETWEEN: usize = 16;

impl<'a, K: Kernel> Search<'a, K> {
    /// Compares the vectors of all that pass with the query.
    pub(super) fn scan_filtered(&self, query: &VectorQuery<'a>, conditions: Conditions<'_>) -> Result<Hits> {
        let mut pilot = Pilot::new(self.view, self.k, 0, conditions);
        with_scratch(|scratch| {
            scratch.reset_counters();
            let hits = self.scan_admitted(query, &mut pilot, scratch)?;
            let distances = scratch.distances;
            let statistics = QueryStatistics { distances, reranked: distances, ..QueryStatistics::default() };
            Ok(pilot.finish(self.best(hits, statistics)))
        })
    }

    /// Walks the graph on the vectors.
    pub(super) fn walk_filtered(
        &self,
        query: &VectorQuery<'a>,
        ef: usize,
        conditions: Conditions<'_>,
    ) -> Result<Hits> {
        let mut pilot = Pilot::new(self.view, self.k, ef, conditions);
        with_scratch(|scratch| {
            let walk = self.find_admitted(&self.exact, query, &mut pilot, scratch)?;
            let before = scratch.distances;
            let hits = match walk.strategy {
                Strategy::Walk => self.tell(scratch.admitted())?,
                Strategy::Scan | Strategy::WalkThenScan => self.scan_admitted(query, &mut pilot, scratch)?,
            };
            let reranked = scratch.distances - before;
            let statistics = QueryStatistics { distances: scratch.distances, reranked, ..walk };
            Ok(pilot.finish(self.best(hits, statistics)))
        })
    }

    /// Walks the graph on codes and re-ranks the best by their vectors.
    pub(super) fn walk_filtered_on_codes(
        &self,
        codes: &Index<&GraphSnapshot, CodeSpace<'a, K>>,
        coded: &CodedQuery,
        query: &VectorQuery<'a>,
        ef: usize,
        conditions: Conditions<'_>,
    ) -> Result<Hits> {
        let mut pilot = Pilot::new(self.view, self.k, ef, conditions);
        let all = self.is_exhaustive(ef);
        with_scratch(|scratch| {
            let walk = self.find_admitted(codes, coded, &mut pilot, scratch)?;
            let (hits, reranked) = match walk.strategy {
                Strategy::Walk => {
                    let lower_bound = |candidate| codes.space.lower_bound(coded, candidate);
                    let (hits, reranked) = self.rerank(scratch.admitted(), lower_bound, query, all)?;
                    scratch.distances += reranked;
                    (hits, reranked)
                }
                Strategy::Scan | Strategy::WalkThenScan if all || pilot.admits_few() => {
                    let before = scratch.distances;
                    (self.scan_admitted(query, &mut pilot, scratch)?, scratch.distances - before)
                }
                Strategy::Scan | Strategy::WalkThenScan => {
                    self.scan_codes_admitted(codes, coded, query, &mut pilot, scratch)?
                }
            };
            let statistics = QueryStatistics { distances: scratch.distances, reranked, ..walk };
            Ok(pilot.finish(self.best(hits, statistics)))
        })
    }

    /// Finds admitted candidates by a walk, unless a scan is to be preferred from the start or found to be on the way: the
    /// strategy says what was done, and what is to be done yet. A scan from the start has descended through nothing and keeps nothing.
    fn find_admitted<S: Comparison>(
        &self,
        index: &Index<&GraphSnapshot, S>,
        query: &S::Query,
        pilot: &mut Pilot<'a, '_>,
        scratch: &mut Scratch,
    ) -> Result<QueryStatistics> {
        scratch.reset_counters();
        if pilot.scans_at_once() {
            return Ok(QueryStatistics { strategy: Strategy::Scan, ..QueryStatistics::default() });
        }
        let entries = self.enter(index, query, scratch)?;
        let saw_all = search_filtered(index, index, query, &entries, pilot.ef, pilot, scratch)?;
        let is_done = saw_all || pilot.budget.is_spent();
        let is_short = pilot.gave_up || scratch.admitted().take(self.k).count() < self.k;
        let strategy = if is_short && !is_done { Strategy::WalkThenScan } else { Strategy::Walk };
        Ok(QueryStatistics { strategy, ..self.walked(pilot.ef, scratch, 0) })
    }

    /// Compares the codes of all that pass, and the vectors of those that may be among the `k` nearest as far as their codes tell: the
    /// nearest hits, and how many vectors that took.
    fn scan_codes_admitted(
        &self,
        codes: &Index<&GraphSnapshot, CodeSpace<'a, K>>,
        coded: &CodedQuery,
        query: &VectorQuery<'a>,
        pilot: &mut Pilot<'a, '_>,
        scratch: &mut Scratch,
    ) -> Result<(Vec<Hit>, u64)> {
        let mut hits: Vec<Hit> = Vec::with_capacity(self.k + 1);
        let mut near: Vec<Candidate> = Vec::with_capacity(CHUNK);
        let mut reranked = 0;
        pilot.for_all_admitted(|budget, slots| {
            let worst = hits.get(self.k - 1).map_or(f32::INFINITY, |hit| hit.distance);
            near.clear();
            compare(codes, coded, slots, |distance, slot| {
                let candidate = Candidate::new(distance, slot);
                if codes.space.lower_bound(coded, candidate) <= worst {
                    near.push(candidate);
                }
                Ok(())
            })?;
            near.sort_unstable_by(Candidate::nearer);
            near.iter().take(VECTORS_AHEAD).for_each(|candidate| self.prefetch(candidate.slot));
            for (i, &candidate) in near.iter().enumerate() {
                if let Some(ahead) = near.get(i + VECTORS_AHEAD) {
                    self.prefetch(ahead.slot);
                }
                let is_full = hits.len() == self.k;
                if let (true, Some(worst)) = (is_full, hits.last())
                    && codes.space.lower_bound(coded, candidate) > worst.distance
                {
                    continue;
                }
                self.rank(candidate.slot, query, &mut hits)?;
                reranked += 1;
            }
            scratch.distances += slots.len() as u64;
            Ok(budget.allows(scratch.distances + reranked))
        })?;
        scratch.distances += reranked;
        Ok((hits, reranked))
    }

    /// Compares the vectors of all that pass: the `k` nearest, and some more.
    fn scan_admitted(
        &self,
        query: &VectorQuery<'a>,
        pilot: &mut Pilot<'a, '_>,
        scratch: &mut Scratch,
    ) -> Result<Vec<Hit>> {
        let (k, mut hits) = (self.k, Vec::new());
        pilot.for_all_admitted(|budget, slots| {
            compare(&self.exact, query, slots, |distance, slot| {
                hits.push(Hit { key: self.exact.resolve(slot)?.key(), distance });
                Ok(())
            })?;
            scratch.distances += slots.len() as u64;
            // Now and then only the best so far are kept: memory stays a small multiple of k.
            if hits.len() >= 4 * k + 1024 {
                hits.select_nth_unstable_by(k - 1, nearer);
                hits.truncate(k);
            }
            Ok(budget.allows(scratch.distances))
        })?;
        Ok(hits)
    }
}

/// Decides on the way how a search goes on.
struct Pilot<'a, 'q> {
    view: View<'a>,
    filter: Filter<'q>,
    budget: Budget<'q>,
    k: usize,
    ef: usize,
    /// A scan is cheaper than the walk would be.
    gave_up: bool,
}

impl<'a, 'q> Pilot<'a, 'q> {
    fn new(view: View<'a>, k: usize, ef: usize, Conditions { filter, budget }: Conditions<'q>) -> Self {
        Self { view, filter, budget, k, ef, gave_up: false }
    }

    /// With what it has noted on the way.
    fn finish(self, mut hits: Hits) -> Hits {
        hits.statistics.filter_calls = self.filter.calls;
        hits.is_partial = self.budget.is_spent();
        hits
    }

    fn live(&self) -> f64 {
        self.view.state.live as f64
    }

    /// What part of some slots, which have been resolved, passes: an estimate by a sample, never 0.
    fn part_of(&mut self, slots: impl ExactSizeIterator<Item = Slot>) -> f64 {
        let stride = slots.len().div_ceil(SAMPLE).max(1);
        let (mut seen, mut passed) = (1, 1);
        for slot in slots.step_by(stride) {
            seen += 1;
            passed += u32::from(self.admits(slot));
        }
        f64::from(passed) / f64::from(seen)
    }

    /// True when all that pass would be re-ranked anyway.
    fn admits_few(&self) -> bool {
        self.filter.set().is_some_and(|set| set.len() <= self.ef as u64)
    }

    /// True when comparing with everything that passes is no dearer than the narrowest walk.
    fn scans_at_once(&self) -> bool {
        self.filter.set().is_some() && self.scan_cost(0.0) <= cost::KEEP * self.ef as f64
    }

    /// What it would cost to compare with everything that passes, if that is so large a part of all.
    fn scan_cost(&self, part: f64) -> f64 {
        let checks = self.live() * cost::CHECK;
        match self.filter.set() {
            Some(set) => {
                let keys = set.len() as f64;
                checks.min(keys * cost::LOOK_UP) + keys.min(self.live()) * cost::COMPARE
            }
            None => checks + self.live() * part * cost::COMPARE,
        }
    }

    /// Visits the slots of all that pass, some at a time, until `visit` says that it is enough.
    fn for_all_admitted(
        &mut self,
        mut visit: impl FnMut(&mut Budget<'q>, &[Slot]) -> Result<bool>,
    ) -> Result<()> {
        let Self { view, filter, budget, .. } = self;
        let live = view.state.live as f64;
        match filter.set().filter(|set| set.len() as f64 * cost::LOOK_UP < live * cost::CHECK) {
            Some(set) => {
                let set = set.clone();
                by_keys(view, &set, filter, |slots| visit(budget, slots))
            }
            None => by_pages(view, filter, |slots| visit(budget, slots)),
        }
    }
}

impl Guide for Pilot<'_, '_> {
    fn width(&self) -> usize {
        self.k.max(self.ef / PROBE)
    }

    #[inline]
    fn admits(&mut self, slot: Slot) -> bool {
        self.filter.is_empty() || self.filter.admits(self.view.segments.code(slot).key())
    }

    #[inline]
    fn goes_on(&mut self, distances: u64) -> bool {
        self.budget.allows(distances)
    }

    /// With a part p of the nodes near the query admitted, a walk of width w finds p · w. Of these there shall be [`MARGIN`] · k;
    /// and w = ef / √p, which is between what keeps the admitted ones as many as without a filter, and what keeps the walk as short.
    fn widen(&mut self, progress: &Progress, beyond: impl ExactSizeIterator<Item = Slot>) -> Option<usize> {
        let (ef, width, admitted) = (self.ef as f64, progress.width as f64, progress.admitted as f64);
        let enough = self.ef.min(MARGIN * self.k) as f64;
        if admitted >= enough && admitted * width >= ef * ef {
            return None;
        }
        // What the size of a set lets expect counts as much as having seen one admitted node.
        let expected = match self.filter.set() {
            Some(set) => (set.len() as f64 / self.live()).min(1.0),
            None => 0.5,
        };
        let mut part = (admitted + 1.0) / (width + 1.0 / expected);
        if part < FEW {
            part = part.min(self.part_of(beyond));
        }
        let target = (ef / part.sqrt()).max(enough / part);
        if target * cost::WIDEN > self.scan_cost(part) {
            self.gave_up = true;
            return None;
        }
        Some(target.clamp(width * SMALLEST_STEP, width * LARGEST_STEP) as usize)
    }
}

/// Visits the slots of the set's keys that pass.
fn by_keys(
    view: &View<'_>,
    set: &KeySet<'_>,
    filter: &mut Filter<'_>,
    mut visit: impl FnMut(&[Slot]) -> Result<bool>,
) -> Result<()> {
    let mut chunk = Vec::with_capacity(KEYS_BETWEEN);
    let (mut last, mut looked_up) = (None, 0);
    for key in set.iter() {
        if last.replace(key) == Some(key) {
            continue;
        }
        looked_up += 1;
        if let Some(slot) = view.slot_of(key)? {
            view.expect_key(slot, key)?;
            if filter.admits_of_set(key) {
                chunk.push(slot);
            }
        }
        if looked_up % KEYS_BETWEEN == 0 {
            if !visit(&chunk)? {
                return Ok(());
            }
            chunk.clear();
        }
    }
    visit(&chunk).map(|_| ())
}

/// Visits all slots whose keys pass.
fn by_pages(
    view: &View<'_>,
    filter: &mut Filter<'_>,
    mut visit: impl FnMut(&[Slot]) -> Result<bool>,
) -> Result<()> {
    let View { graph, state, .. } = view;
    let mut chunk = Vec::with_capacity(CHUNK + PAGE_SLOTS);
    let mut nodes = 0;
    for number in 0..graph.pages() {
        let page = graph.page(number)?;
        for index in 0..PAGE_SLOTS {
            let Some(node) = page.node(index) else { continue };
            nodes += 1;
            if filter.is_empty() || filter.admits(node.record.key) {
                chunk.push((number * PAGE_SLOTS + index) as Slot);
            }
        }
        if chunk.len() >= CHUNK || number % PAGES_BETWEEN == 0 {
            if !visit(&chunk)? {
                return Ok(());
            }
            chunk.clear();
        }
    }
    // A node whose rows are all lost leaves no other trace than the count.
    if nodes != state.live {
        return Err(Error::corrupted(
            format!("collection {:?}", state.name),
            format!("{nodes} nodes where {} were expected", state.live),
        ));
    }
    visit(&chunk).map(|_| ())
}
