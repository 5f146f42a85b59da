//! Putting a search together.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::budget::Limits;
use super::code_space::{CodeSpace, CodedQuery};
use super::filter::{Filter, KeySet};
use super::filtered::Conditions;
use super::hits::Hits;
use super::index::Index;
use super::input::check_vector;
use super::search::{Search, is_small};
use super::vector_space::{VectorQuery, VectorSpace};
use super::view::View;
use crate::distance::{InstructionSet, dispatch};
use crate::error::{Error, Result, VectorSubject};
use crate::options::Codes;
use crate::trace::span;
use crate::vectors::Slot;

/// The `ef` of a search that does not state one.
pub(super) const DEFAULT_EF: usize = 64;

/// A search being put together; [`run`](Query::run) runs it. Of `ef`, `recall` and `exact` the last one stated counts.
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

impl std::fmt::Debug for Query<'_> {
    /// Filters are closures: only whether there are any can be told.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { view, k, effort, filter, limits, .. } = self;
        f.debug_struct("Query")
            .field("collection", &view.state.name)
            .field("k", k)
            .field("effort", effort)
            .field("filtered", &!filter.is_empty())
            .field("limits", limits)
            .finish_non_exhaustive()
    }
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
    /// no less than the collection's size the result is exact, which [`exact`](Self::exact) does for less: beyond some thousands
    /// the time of a search grows faster than `ef`, and so with `k`.
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
    /// and wherever it cannot be promised otherwise, all vectors are compared; [`QueryStatistics::ef`](crate::QueryStatistics::ef) tells.
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
    /// [`QueryStatistics::strategy`](crate::QueryStatistics::strategy) tells which it was. To know what passes, the filter is asked
    /// about the keys of vectors that the search comes by, in no particular order and maybe twice; it must give the same answer each
    /// time. Where the keys that pass are known, [`among`](Query::among) is faster. A query may have several filters: hits pass all of
    /// them.
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
