//! Searching for everything within a distance.

use std::borrow::Cow;

use super::code_space::{CodeSpace, CodedQuery};
use super::hits::{Hit, Hits, QueryStatistics, Strategy, nearer};
use super::index::{Comparison, Index};
use super::input::check_vector;
use super::query::DEFAULT_EF;
use super::search::{Search, VECTORS_AHEAD, is_small, with_scratch};
use super::vector_space::{VectorQuery, VectorSpace};
use super::view::View;
use crate::distance::{InstructionSet, Kernel, dispatch};
use crate::error::{Error, Result, VectorSubject};
use crate::graph::GraphSnapshot;
use crate::hnsw::{Browse, Candidate, Reach, Space, inside};
use crate::options::Codes;
use crate::trace::span;

/// Where more than one in so many vectors lies within the radius, all are compared: the walk costs that much more for each vector.
const SCAN_SHARE: usize = 8;

/// A search for everything within a distance being put together; [`run`](Within::run) runs it.
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
/// let query = [40.2, 0.0];
/// let hits = points.within(&query, 2.0).run()?; // under L2 distances are squared: 1.4 away and nearer
/// assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [40, 41, 39]);
/// assert!(!hits.is_cut());
///
/// let hits = points.within(&query, 2.0).limit(2).run()?;
/// assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [40, 41]);
/// assert!(hits.is_cut());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a search does nothing until `run` is called"]
pub struct Within<'a> {
    view: View<'a>,
    vector: &'a [f32],
    radius: f32,
    limit: usize,
    ef: usize,
    exact: bool,
}

impl std::fmt::Debug for Within<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { view, radius, limit, ef, exact, .. } = self;
        f.debug_struct("Within")
            .field("collection", &view.state.name)
            .field("radius", radius)
            .field("limit", limit)
            .field("ef", ef)
            .field("exact", exact)
            .finish_non_exhaustive()
    }
}

impl<'a> Within<'a> {
    pub(super) fn new(view: View<'a>, vector: &'a [f32], radius: f32) -> Self {
        Self { view, vector, radius, limit: usize::MAX, ef: DEFAULT_EF, exact: false }
    }

    /// How many hits to return at most: the nearest. [`Hits::is_cut`] tells whether there were more. No limit by default.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// How many candidates beyond the radius to look around, 64 by default: what the graph connects with the rest only by way of
    /// vectors that are farther than the radius is found through them. With `ef` no less than the collection's size the result is
    /// exact.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = ef;
        self
    }

    /// Compares with every vector instead of walking the graph.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Runs the search. Its time grows with the number of hits, up to the time that comparing with every vector takes, which is
    /// what it does once it has found a considerable part of the collection.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] for a radius that is NaN, [`Error::WrongDimension`] and [`Error::InvalidVector`] for a query that
    /// no distance can be computed with, [`Error::Corrupted`] when stored bytes do not verify.
    pub fn run(self) -> Result<Hits> {
        let span = span!(DEBUG, "within" [ef, strategy, distances, hits, partial], collection = %self.view.state.name, radius = self.radius);
        let span = span.entered();
        let hits = self.search()?;
        hits.record_in(&span);
        Ok(hits)
    }

    fn search(self) -> Result<Hits> {
        let Self { view, radius, .. } = self;
        if radius.is_nan() {
            return Err(Error::InvalidParameter {
                parameter: "radius",
                found: "NaN".to_owned(),
                expected: "a number; infinities are",
            });
        }
        let parameters = &view.state.parameters;
        let norm = check_vector(VectorSubject::Query, self.vector, parameters)?;
        let live = usize::try_from(view.state.live).unwrap_or(usize::MAX);
        if live == 0 {
            return Ok(Hits::default());
        }
        let (limit, ef) = (self.limit.min(live), self.ef.max(1));
        let metric = parameters.metric;
        let query = &VectorQuery::new(Cow::Borrowed(self.vector), norm, metric);
        let View { graph, segments, .. } = view;
        dispatch!(InstructionSet::best(), kernel => {
            let exact = Index { rows: graph, space: VectorSpace { segments, metric, kernel } };
            let ball = Ball { view, exact, query, radius, limit };
            if self.exact || ef >= live || is_small(view) {
                return ball.scan();
            }
            // Beyond these the rest is sooner scanned than walked through.
            let most = limit.min(live / SCAN_SHARE);
            let reach = Reach { radius, most, beyond: ef };
            match parameters.codes {
                Codes::None => ball.walk(&ball.exact, query, |candidate| candidate.distance, reach),
                Codes::SevenBit => {
                    let index = Index { rows: graph, space: CodeSpace { segments, metric, kernel } };
                    let coded = CodedQuery::new(self.vector, metric);
                    ball.walk(&index, &coded, |candidate| index.space.lower_bound(&coded, candidate), reach)
                }
            }
        })
    }
}

/// A radius search with one set of kernels.
struct Ball<'a, 'q, K> {
    view: View<'a>,
    /// The distances that decide.
    exact: Index<&'a GraphSnapshot, VectorSpace<'a, K>>,
    query: &'q VectorQuery<'a>,
    radius: f32,
    limit: usize,
}

impl<'a, K: Kernel> Ball<'a, '_, K> {
    /// Compares with every vector.
    fn scan(&self) -> Result<Hits> {
        // One more than the limit tells whether there are more.
        let k = self.limit.saturating_add(1);
        let search = Search { view: self.view, exact: self.exact, k, leave_out: None };
        Ok(self.cut(search.scan(self.query, self.radius)?))
    }

    /// Walks until everything within reach is settled, and gives the vectors themselves the last word. Where so much lies within the
    /// radius that a scan is to be preferred, it scans.
    fn walk<S: Comparison>(
        &self,
        index: &Index<&GraphSnapshot, S>,
        query: &S::Query,
        lower_bound: impl Fn(Candidate) -> f32,
        reach: Reach,
    ) -> Result<Hits> {
        let hits = with_scratch(|scratch| {
            let anchors = self.view.anchors()?;
            let mut browse = Browse::start(index, index, query, &anchors, std::mem::take(scratch))?;
            browse.walk(index, index, query, reach)?;
            let (mut hits, strategy) = match self.near(&browse, lower_bound, reach.most) {
                Some((candidates, is_cut)) => (Hits { is_cut, ..self.rank(&candidates)? }, Strategy::Walk),
                None => (self.scan()?, Strategy::WalkThenScan),
            };
            hits.statistics.strategy = strategy;
            hits.statistics.layers = anchors.level;
            hits.statistics.ef = reach.beyond;
            hits.statistics.distances += browse.distances();
            hits.statistics.expanded = browse.expanded();
            *scratch = browse.into_scratch();
            Ok::<_, Error>(hits)
        })?;
        Ok(self.cut(hits))
    }

    /// What of all that a walk saw may be among the hits; and whether the limit has ended the walk. `None` where it ended at `most`
    /// without a limit.
    fn near(
        &self,
        browse: &Browse,
        lower_bound: impl Fn(Candidate) -> f32,
        most: usize,
    ) -> Option<(Vec<Candidate>, bool)> {
        let settled = browse.settled();
        let farthest = match settled.last() {
            Some(last) if inside(settled, self.radius) > most => {
                if most < self.limit {
                    return None;
                }
                // All that is farther is beyond the limit.
                last.distance.min(self.radius)
            }
            _ => self.radius,
        };
        let near =
            |candidate: &Candidate| candidate.distance <= farthest || lower_bound(*candidate) <= farthest;
        let candidates = settled.iter().copied().chain(browse.frontier()).filter(near).collect();
        Some((candidates, farthest < self.radius))
    }

    /// The candidates whose vectors lie within the radius, nearest first.
    fn rank(&self, candidates: &[Candidate]) -> Result<Hits> {
        let coded = self.view.state.parameters.codes != Codes::None;
        let mut hits = Vec::with_capacity(candidates.len());
        for (i, candidate) in candidates.iter().enumerate() {
            if let Some(ahead) = candidates.get(i + VECTORS_AHEAD).filter(|_| coded) {
                self.view.segments.prefetch_vector(ahead.slot, self.exact.space.kernel());
            }
            let handle = self.exact.resolve(candidate.slot)?;
            let distance = if coded { self.exact.distance(self.query, handle) } else { candidate.distance };
            if distance <= self.radius {
                hits.push(Hit { key: handle.key(), distance });
            }
        }
        hits.sort_unstable_by(nearer);
        let reranked = if coded { candidates.len() as u64 } else { 0 };
        let statistics = QueryStatistics { distances: reranked, reranked, ..QueryStatistics::default() };
        Ok(Hits { hits, statistics, ..Hits::default() })
    }

    /// No more hits than the limit allows.
    fn cut(&self, mut hits: Hits) -> Hits {
        hits.is_cut |= hits.hits.len() > self.limit;
        hits.hits.truncate(self.limit);
        hits
    }
}
