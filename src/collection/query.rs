//! Searching.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Deref;

use super::codes::{CodedQuery, Codes};
use super::input::check_vector;
use super::view::View;
use crate::distance::{InstructionSet, Kernel, dispatch};
use crate::error::{Error, Result, VectorSubject};
use crate::graph::PAGE_SLOTS;
use crate::hnsw::{Candidate, Scratch, Space, descend, search_layer};
use crate::options::Metric;
use crate::vectors::Slot;

/// The `ef` of a search that does not state one.
const DEFAULT_EF: usize = 64;
/// How many vectors are fetched ahead of the one that is compared.
const VECTORS_AHEAD: usize = 3;
/// Collections of up to this many vectors are scanned: no walk through a graph is cheaper.
const SCAN_UP_TO: u64 = 64;

/// A vector found.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Hit {
    /// The vector's key.
    pub key: u64,
    /// Its exact distance to the query under the collection's [`Metric`].
    pub distance: f32,
}

/// What a search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryStatistics {
    /// Distances computed, on codes and on vectors.
    pub distances: u64,
    /// Nodes whose neighbours were looked at.
    pub expanded: u64,
    /// Candidates whose exact distance was computed.
    pub reranked: u64,
}

/// The result of a [`Query`]: hits, nearest first, ties in key order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hits {
    hits: Vec<Hit>,
    statistics: QueryStatistics,
}

impl Hits {
    /// What the search did.
    pub fn statistics(&self) -> QueryStatistics {
        self.statistics
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
    ef: usize,
    exact: bool,
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
        Self { view, target, k: 10, ef: DEFAULT_EF, exact: false }
    }

    /// How many hits to return, 10 by default. With fewer vectors in the collection all of them are returned.
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// How many candidates to keep while searching, 64 by default and at least `k`. More costs time and finds more: with `ef`
    /// no less than the collection's size the result is exact.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = ef;
        self
    }

    /// Compares with every vector instead of walking the graph.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Runs the search.
    ///
    /// # Errors
    ///
    /// [`Error::WrongDimension`] and [`Error::InvalidVector`] for a query that no distance can be computed with,
    /// [`Error::KeyNotFound`] for a search by a key that is not there, [`Error::Corrupted`] when stored bytes do not verify.
    pub fn run(self) -> Result<Hits> {
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
        let k = self.k.min(live);
        if k == 0 {
            return Ok(Hits::default());
        }
        let ef = self.ef.max(k).min(live);
        let exact = ExactQuery::new(&vector, norm, parameters.metric);
        dispatch!(InstructionSet::best(), kernel => {
            let codes = view.codes(kernel);
            // After removals there may be far more slots than vectors: then walking is cheaper.
            let dense = u64::from(view.graph.slots()) <= 4 * SCAN_UP_TO;
            if self.exact || (dense && view.state.live <= SCAN_UP_TO) {
                scan(&codes, view, &exact, k)
            } else {
                walk(&codes, view, &vector, &exact, k, ef)
            }
        })
    }
}

/// A query in the form that stored vectors are compared with.
struct ExactQuery<'a> {
    vector: Cow<'a, [f32]>,
    metric: Metric,
}

impl<'a> ExactQuery<'a> {
    /// Under cosine the query is normalised first: the product of two tiny vectors would underflow.
    fn new(vector: &'a [f32], norm: f64, metric: Metric) -> Self {
        let vector = match metric {
            Metric::Cosine => {
                let unit = 1.0 / norm;
                vector.iter().map(|&x| (f64::from(x) * unit) as f32).collect()
            }
            Metric::L2 | Metric::Dot => Cow::Borrowed(vector),
        };
        Self { vector, metric }
    }

    /// The distance to the vector of a slot whose code is verified. Verifies the vector at its first use.
    fn distance<K: Kernel>(&self, codes: &Codes<'_, K>, slot: Slot) -> Result<f32> {
        codes.segments.verify_vector(slot, || Ok(codes.graph.node(slot)?.record.identity()))?;
        let vector = codes.segments.vector(slot);
        Ok(match self.metric {
            // Between the longest vectors allowed it is f32::MAX, but for the rounding of a sum in f32.
            Metric::L2 => codes.kernel.squared_l2(&self.vector, &vector).min(f32::MAX),
            Metric::Dot => 0.0 - codes.kernel.dot(&self.vector, &vector),
            Metric::Cosine => {
                let cosine = f64::from(codes.kernel.dot(&self.vector, &vector))
                    / codes.segments.code(slot).tail().norm;
                (1.0 - cosine).clamp(0.0, 2.0) as f32
            }
        })
    }
}

/// Walks the graph on codes and re-ranks the best by their vectors.
fn walk<K: Kernel>(
    codes: &Codes<'_, K>,
    view: View<'_>,
    vector: &[f32],
    exact: &ExactQuery<'_>,
    k: usize,
    ef: usize,
) -> Result<Hits> {
    let Some(anchors) = view.state.anchors else { return Ok(Hits::default()) };
    let coded = CodedQuery::new(vector, view.state.parameters.metric);
    with_scratch(|scratch| {
        scratch.reset_counters();
        let entry = descend(codes, codes, &coded, &anchors, 0, scratch)?;
        search_layer(codes, codes, &coded, &[entry, anchors.root], ef, 0, scratch)?;
        // Whoever asks for as many candidates as there are vectors asks for the exact answer.
        let all = ef as u64 >= view.state.live;
        let (hits, reranked) = rerank(codes, &coded, exact, scratch.found(), k, all)?;
        let statistics =
            QueryStatistics { distances: scratch.distances + reranked, expanded: scratch.expanded, reranked };
        Ok(Hits { hits, statistics })
    })
}

/// The `k` best of the candidates, which are sorted by the distance of their codes, by the distance of their vectors; and how many
/// vectors that took: candidates whose codes say that they are too far are left out, unless `all` are to be compared.
fn rerank<K: Kernel>(
    codes: &Codes<'_, K>,
    coded: &CodedQuery,
    exact: &ExactQuery<'_>,
    found: impl Iterator<Item = Candidate> + Clone,
    k: usize,
    all: bool,
) -> Result<(Vec<Hit>, u64)> {
    let prefetch = |candidate: Candidate| codes.segments.prefetch_vector(candidate.slot, codes.kernel);
    let mut ahead = found.clone();
    ahead.by_ref().take(VECTORS_AHEAD).for_each(prefetch);
    let mut hits: Vec<Hit> = Vec::with_capacity(k + 1);
    let mut reranked = 0;
    for candidate in found {
        let is_full = hits.len() == k;
        if let (false, true, Some(worst)) = (all, is_full, hits.last())
            && codes.lower_bound(coded, candidate) > worst.distance
        {
            continue;
        }
        if let (false, Some(candidate)) = (is_full, ahead.next()) {
            prefetch(candidate);
        }
        let distance = exact.distance(codes, candidate.slot)?;
        reranked += 1;
        let hit = Hit { key: codes.segments.code(candidate.slot).tail().key, distance };
        let at = hits.partition_point(|other| nearer(other, &hit).is_le());
        hits.insert(at, hit);
        hits.truncate(k);
    }
    Ok((hits, reranked))
}

/// Compares with every vector.
fn scan<K: Kernel>(codes: &Codes<'_, K>, view: View<'_>, exact: &ExactQuery<'_>, k: usize) -> Result<Hits> {
    let mut statistics = QueryStatistics::default();
    let mut hits = Vec::new();
    for number in 0..codes.graph.pages() {
        let page = codes.graph.page(number)?;
        for index in 0..PAGE_SLOTS {
            let Some(node) = page.node(index) else { continue };
            let slot = (number * PAGE_SLOTS + index) as Slot;
            codes.verify(slot)?;
            hits.push(Hit { key: node.record.key, distance: exact.distance(codes, slot)? });
            statistics.distances += 1;
        }
        // Now and then only the best so far are kept: memory stays a small multiple of k.
        if hits.len() >= 4 * k + 1024 {
            hits.select_nth_unstable_by(k - 1, nearer);
            hits.truncate(k);
        }
    }
    // A node whose rows are all lost leaves no other trace than the count.
    if statistics.distances != view.state.live {
        return Err(Error::corrupted(
            format!("collection {:?}", view.state.name),
            format!("{} nodes where {} were expected", statistics.distances, view.state.live),
        ));
    }
    hits.sort_unstable_by(nearer);
    hits.truncate(k);
    statistics.reranked = statistics.distances;
    Ok(Hits { hits, statistics })
}

fn nearer(a: &Hit, b: &Hit) -> std::cmp::Ordering {
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
