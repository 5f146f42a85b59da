//! Searching.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::budget::Limits;
use super::code_space::{CodeSpace, CodedQuery};
use super::filter::{Filter, KeySet};
use super::filtered::Conditions;
use super::index::{Comparison, Index};
use super::input::check_vector;
use super::vector_space::{VectorQuery, VectorSpace};
use super::view::View;
use crate::distance::{InstructionSet, Kernel, dispatch};
use crate::error::{Error, Result, VectorSubject};
use crate::graph::{GraphSnapshot, PAGE_SLOTS};
use crate::hnsw::{Candidate, Scratch, Space, Width, descend, search_layer};
use crate::options::Codes;
use crate::trace::{self, span};
use crate::vectors::Slot;

/// The `ef` of a search that does not state one.
pub(super) const DEFAULT_EF: usize = 64;
/// How many vectors are fetched ahead of the one that is compared.
pub(super) const VECTORS_AHEAD: usize = 3;
/// Collections of up to this many vectors are scanned: no walk through a graph is cheaper.
const SCAN_UP_TO: u64 = 64;

/// A vector found.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Hit {
    /// The vector's key.
    pub key: u64,
    /// Its exact distance to the query under the collection's [`Metric`](crate::Metric).
    pub distance: f32,
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QueryStatistics {
    /// How the hits were found.
    pub strategy: Strategy,
    /// Layers of the graph that were descended through before the walk on the lowest one.
    pub layers: u8,
    /// How many candidates were kept; 0 when all vectors were compared.
    pub ef: usize,
    /// Distances computed, on codes and on vectors.
    pub distances: u64,
    /// Nodes whose neighbours were looked at.
    pub expanded: u64,
    /// Candidates that were found on codes and whose exact distance was computed then.
    pub reranked: u64,
    /// Keys that the filter was asked about.
    pub filter_calls: u64,
}

/// How a search found its hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Strategy {
    /// By comparing with every vector that the filter lets pass.
    #[default]
    Scan,
    /// By a walk through the graph.
    Walk,
    /// By a walk that was to be given up, since too few of the vectors near the query pass the filter, and a scan after it.
    WalkThenScan,
}

/// The result of a search: hits, nearest first, ties in key order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits {
    pub(super) hits: Vec<Hit>,
    pub(super) statistics: QueryStatistics,
    pub(super) is_partial: bool,
    pub(super) is_cut: bool,
}

impl Hits {
    /// Tells the search's span what it did.
    pub(super) fn record_in(&self, span: &trace::Span) {
        if !trace::is_enabled(span) {
            return;
        }
        let QueryStatistics { strategy, ef, distances, .. } = self.statistics;
        span.record("strategy", format!("{strategy:?}").as_str())
            .record("ef", ef)
            .record("distances", distances);
        span.record("hits", self.hits.len()).record("partial", self.is_partial);
    }

    /// What the search did.
    pub fn statistics(&self) -> QueryStatistics {
        self.statistics
    }

    /// True when the search was stopped before its end, by a limit or by being cancelled. The hits are then the nearest of those
    /// vectors that it had come by, with their exact distances: there may be nearer ones, and fewer than `k` were found if it was
    /// stopped that early.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// True when a [search within a radius](crate::Within) found more than its limit allowed to return. Where a walk through the
    /// graph was ended by the limit it may be true although the next vector is just outside.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The hits as a vector.
    pub fn into_vec(self) -> Vec<Hit> {
        self.hits
    }
}

impl Deref for Hits {
    type Target = [Hit];

    fn deref(&self) -> &[Hit] {
        &self.hits
    }
}

impl<'a> IntoIterator for &'a Hits {
    type Item = &'a Hit;
    type IntoIter = std::slice::Iter<'a, Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.iter()
    }
}

impl IntoIterator for Hits {
    type Item = Hit;
    type IntoIter = std::vec::IntoIter<Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

/// A search being put together; [`run`](Query::run) runs it.
///
/// ```
/// # use nestling::{CollectionDefinition, Metric, Store};
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::open(dir.path().join("app.nestling"))?;
/// # const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);
/// # let tx = store.begin_write()?;
/// # tx.open_collection(POINTS)?.insert_many((0..100).map(|i| (i, [i as f32, 0.0])))?;
/// # tx.commit()?;
/// let points = store.begin_read()?.open_collection(POINTS)?;
/// let hits = points.query(&[40.2, 0.0]).k(3).ef(100).run()?;
/// assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [40, 41, 39]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a query does nothing until `run` is called"]
pub struct Query<'a> {
    view: View<'a>,
    target: Target<'a>,
    k: usize,
    effort: Effort,
    filter: Filter<'a>,
    limits: Limits<'a>,
    /// A node that a walk is to act as if it were not there.
    leave_out: Option<Slot>,
}

/// How hard to search.
#[derive(Debug, Clone, Copy)]
enum Effort {
    Ef(usize),
    Recall(f64),
    Exact,
}

enum Target<'a> {
    Vector(&'a [f32]),
    Key(u64),
}

impl<'a> Query<'a> {
    pub(super) fn by_vector(view: View<'a>, vector: &'a [f32]) -> Self {
        Self::new(view, Target::Vector(vector))
    }

    pub(super) fn by_key(view: View<'a>, key: u64) -> Self {
        Self::new(view, Target::Key(key))
    }

    fn new(view: View<'a>, target: Target<'a>) -> Self {
        Self {
            view,
            target,
            k: 10,
            effort: Effort::Ef(DEFAULT_EF),
            filter: Filter::default(),
            limits: Limits::default(),
            leave_out: None,
        }
    }

    /// How many hits to return, 10 by default. With fewer vectors in the collection all of them are returned.
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// How many candidates to keep while searching, 64 by default and at least `k`. More costs time and finds more: with `ef`
    /// no less than the collection's size the result is exact.
    pub fn ef(mut self, ef: usize) -> Self {
        self.effort = Effort::Ef(ef);
        self
    }

    /// Compares with every vector instead of walking the graph.
    pub fn exact(mut self) -> Self {
        self.effort = Effort::Exact;
        self
    }

    /// Lets a calibration choose `ef`: of the `k` nearest vectors a share of `recall` is found, in the mean of many queries.
    ///
    /// The collection measures itself as it grows: one insertion in a number of them also searches for a stored vector as if it were
    /// not there, and counts how many of the 1, 10 and 100 nearest are found with which `ef`. For `k` in between, and beyond, `ef` is
    /// interpolated. That answers for queries that are distributed like what is stored. Up to 1,000 vectors, with `recall` 1.0,
    /// and wherever it cannot be promised otherwise, all vectors are compared; [`QueryStatistics::ef`] tells.
    ///
    /// ```
    /// # use nestling::{CollectionDefinition, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("app.nestling"))?;
    /// # const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);
    /// # let tx = store.begin_write()?;
    /// # let spiral = |i: u64| [(i as f32).sqrt() * (i as f32).sin(), (i as f32).sqrt() * (i as f32).cos()];
    /// # tx.open_collection(POINTS)?.insert_many((0..2_000).map(|i| (i, spiral(i))))?;
    /// # tx.commit()?;
    /// let points = store.begin_read()?.open_collection(POINTS)?;
    /// let hits = points.query(&[3.0, 4.0]).k(5).recall(0.95).run()?;
    /// assert!((5..100).contains(&hits.statistics().ef));
    /// let all = points.query(&[3.0, 4.0]).k(5).recall(1.0).run()?;
    /// assert_eq!(all.statistics().ef, 0); // every vector was compared
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`run`](Query::run) refuses a recall that is not above 0 and at most 1.
    pub fn recall(mut self, recall: f64) -> Self {
        self.effort = Effort::Recall(recall);
        self
    }

    /// Walks as if the node in this slot, whose level is 0, were not there.
    pub(super) fn leave_out(mut self, slot: Slot) -> Self {
        self.leave_out = Some(slot);
        self
    }

    /// Finds only vectors whose keys pass: the `k` nearest of them, or all when there are fewer.
    ///
    /// The search walks the graph for as long as that is likely to be cheaper than comparing with everything that passes, and
    /// compares with everything otherwise, so that a filter that few vectors near the query pass costs time, never hits.
    /// [`QueryStatistics::strategy`] tells which it was. To know what passes, the filter is asked about the keys of vectors that the
    /// search comes by, in no particular order and maybe twice; it must give the same answer each time. Where the keys that
    /// pass are known, [`among`](Query::among) is faster. A query may have several filters: hits pass all of them.
    ///
    /// ```
    /// # use nestling::{CollectionDefinition, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("app.nestling"))?;
    /// # const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);
    /// # let tx = store.begin_write()?;
    /// # tx.open_collection(POINTS)?.insert_many((0..100).map(|i| (i, [i as f32, 0.0])))?;
    /// # tx.commit()?;
    /// let points = store.begin_read()?.open_collection(POINTS)?;
    /// let hits = points.query(&[40.2, 0.0]).k(3).filter(|key| key % 10 == 0).run()?;
    /// assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [40, 50, 30]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter(mut self, passes: impl FnMut(u64) -> bool + 'a) -> Self {
        self.filter.and(passes);
        self
    }

    /// Finds only vectors whose keys are in the set; otherwise like [`filter`](Query::filter).
    ///
    /// ```
    /// # use nestling::{CollectionDefinition, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("app.nestling"))?;
    /// # const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);
    /// # let tx = store.begin_write()?;
    /// # tx.open_collection(POINTS)?.insert_many((0..100).map(|i| (i, [i as f32, 0.0])))?;
    /// # tx.commit()?;
    /// let points = store.begin_read()?.open_collection(POINTS)?;
    /// let folder = vec![7, 38, 44, 99];
    /// let hits = points.query(&[40.2, 0.0]).k(2).among(&folder).run()?;
    /// assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [38, 44]);
    ///
    /// // Of the ten nearest to one point, those nearest to another.
    /// let near = points.query(&[20.0, 0.0]).k(10).run()?;
    /// let hits = points.query(&[40.2, 0.0]).k(1).among(&near).run()?;
    /// assert_eq!(hits[0].key, 24);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn among(mut self, keys: impl Into<KeySet<'a>>) -> Self {
        self.filter.and_among(keys.into());
        self
    }

    /// Stops when about so many distances have been computed, on codes or on vectors: the check is made between one node's neighbours and the
    /// next, and what was found on codes by then is still ranked by its vectors. See [`Hits::is_partial`].
    pub fn max_distances(mut self, distances: u64) -> Self {
        self.limits.distances = Some(distances);
        self
    }

    /// Stops when so much time has passed since the call of [`run`](Query::run), within some 20 µs if the data is in memory. See
    /// [`Hits::is_partial`].
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.limits.time = Some(time);
        self
    }

    /// Stops soon after another thread has set the flag. See [`Hits::is_partial`].
    pub fn cancel(mut self, flag: &'a AtomicBool) -> Self {
        self.limits.cancel = Some(flag);
        self
    }

    /// Runs the search.
    ///
    /// # Errors
    ///
    /// [`Error::WrongDimension`] and [`Error::InvalidVector`] for a query that no distance can be computed with,
    /// [`Error::KeyNotFound`] for a search by a key that is not there, [`Error::InvalidParameter`] for a recall out of range,
    /// [`Error::Corrupted`] when stored bytes do not verify.
    pub fn run(self) -> Result<Hits> {
        let span = span!(DEBUG, "search" [ef, strategy, distances, hits, partial], collection = %self.view.state.name, k = self.k);
        let span = span.entered();
        let hits = self.search()?;
        hits.record_in(&span);
        Ok(hits)
    }

    fn search(self) -> Result<Hits> {
        self.check_effort()?;
        let view = self.view;
        let parameters = &view.state.parameters;
        let vector = match self.target {
            Target::Vector(vector) => Cow::Borrowed(vector),
            Target::Key(key) => view
                .vector_of(key)?
                .ok_or_else(|| Error::KeyNotFound { key, collection: view.state.name.to_string() })?,
        };
        let norm = check_vector(VectorSubject::Query, &vector, parameters)?;
        let live = usize::try_from(view.state.live).unwrap_or(usize::MAX);
        let allowed =
            self.filter.set().map_or(usize::MAX, |keys| usize::try_from(keys.len()).unwrap_or(usize::MAX));
        let k = self.k.min(live).min(allowed);
        if k == 0 {
            return Ok(Hits::default());
        }
        let ef = self.chosen_ef(k).map(|ef| ef.max(k).min(live));
        let exact_query = VectorQuery::new(Cow::Borrowed(&vector), norm, parameters.metric);
        let ef = ef.filter(|_| !is_small(view));
        let conditions = (!self.filter.is_empty() || !self.limits.are_none())
            .then(|| Conditions { filter: self.filter, budget: self.limits.start() });
        let View { graph, segments, .. } = view;
        let metric = parameters.metric;
        dispatch!(InstructionSet::best(), kernel => {
            let search = Search { view, exact: Index { rows: graph, space: VectorSpace { segments, metric, kernel } }, k, leave_out: self.leave_out };
            let on_codes = || {
                let index = Index { rows: graph, space: CodeSpace { segments, metric, kernel } };
                (index, CodedQuery::new(&vector, metric))
            };
            match (ef, parameters.codes, conditions) {
                (None, _, None) => search.scan(&exact_query, f32::INFINITY),
                (None, _, Some(conditions)) => search.scan_filtered(&exact_query, conditions),
                (Some(ef), Codes::None, None) => search.walk(&exact_query, ef),
                (Some(ef), Codes::None, Some(conditions)) => search.walk_filtered(&exact_query, ef, conditions),
                (Some(ef), Codes::SevenBit, None) => {
                    let (index, coded) = on_codes();
                    search.walk_on_codes(&index, &coded, &exact_query, ef)
                }
                (Some(ef), Codes::SevenBit, Some(conditions)) => {
                    let (index, coded) = on_codes();
                    search.walk_filtered_on_codes(&index, &coded, &exact_query, ef, conditions)
                }
            }
        })
    }

    /// The `ef` to search with, `None` for a scan.
    fn chosen_ef(&self, k: usize) -> Option<usize> {
        match self.effort {
            Effort::Ef(ef) => Some(ef),
            Effort::Exact => None,
            Effort::Recall(recall) => {
                let state = self.view.state;
                state.calibration.ef(state.live, k, recall)
            }
        }
    }

    /// Refuses what no search can be run with.
    fn check_effort(&self) -> Result<()> {
        match self.effort {
            Effort::Recall(recall) if !(recall > 0.0 && recall <= 1.0) => Err(Error::InvalidParameter {
                parameter: "the recall",
                found: recall.to_string(),
                expected: "above 0 and at most 1",
            }),
            _ => Ok(()),
        }
    }
}

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
    fn walk(&self, query: &VectorQuery<'a>, ef: usize) -> Result<Hits> {
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
    fn walk_on_codes(
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

pub(super) fn nearer(a: &Hit, b: &Hit) -> std::cmp::Ordering {
    a.distance.total_cmp(&b.distance).then(a.key.cmp(&b.key))
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
