//! Going through a collection page by page, from near to far.

use std::borrow::Cow;
use std::iter::FusedIterator;

use super::code_space::{CodeSpace, CodedQuery};
use super::hits::{Hit, Hits, QueryStatistics, Strategy, nearer};
use super::index::{Comparison, Index};
use super::input::check_vector;
use super::query::DEFAULT_EF;
use super::read::Collection;
use super::vector_space::{VectorQuery, VectorSpace};
use super::view::View;
use crate::distance::{InstructionSet, Kernel, dispatch};
use crate::error::{Error, Result, VectorSubject};
use crate::graph::GraphSnapshot;
use crate::hnsw::{Browse, Reach, Scratch, Space};
use crate::options::Codes;
use crate::trace::span;

/// Pages of hits, from near to far; see [`Collection::browse`].
///
/// Each page goes on from where the one before stopped: the walk through the graph is kept, not repeated. Together the pages hold
/// every vector of the snapshot, each once, and then end. Every page but the last has `page_size` hits, nearest first, ties in key
/// order. From page to page distances rise too, as far as the walk can tell: it may come late by a vector that is nearer than one
/// on an earlier page, as a search may miss one of the `k` nearest. A higher [`ef`](Pages::ef) makes that rarer; with `ef` no less than
/// the collection's size the order is exact throughout.
///
/// A page costs about as much as a search for `page_size` more, the first one about as much as any search. The walk remembers what it
/// came by: up to some 30 bytes for each vector that it has seen, and a bit for every vector in the collection.
///
/// It is a value of its own, `Send` and `'static`, to be kept for as long as a user scrolls; it keeps its snapshot alive, and later
/// commits do not change it. An error ends it.
#[must_use = "pages are computed when they are asked for"]
pub struct Pages {
    collection: Collection,
    query: VectorQuery<'static>,
    /// The query as codes are compared with it, in a collection that has codes.
    coded: Option<CodedQuery>,
    page_size: usize,
    ef: usize,
    /// `None` before the first page.
    browse: Option<Browse>,
    /// Hits that wait for their page, nearest first.
    ranked: Vec<Hit>,
    told: u64,
    ended: bool,
}

impl Pages {
    pub(super) fn new(collection: Collection, vector: &[f32], page_size: usize) -> Result<Self> {
        if page_size == 0 {
            let (found, expected) = ("0".to_owned(), "at least 1");
            return Err(Error::InvalidParameter { parameter: "page_size", found, expected });
        }
        let parameters = &collection.view().state.parameters;
        let norm = check_vector(VectorSubject::Query, vector, parameters)?;
        let query = VectorQuery::new(Cow::Owned(vector.to_owned()), norm, parameters.metric);
        let coded = match parameters.codes {
            Codes::None => None,
            Codes::SevenBit => Some(CodedQuery::new(vector, parameters.metric)),
        };
        Ok(Self {
            collection,
            query,
            coded,
            page_size,
            ef: DEFAULT_EF,
            browse: None,
            ranked: Vec::new(),
            told: 0,
            ended: false,
        })
    }

    /// How many candidates the walk is ahead of the pages, 64 by default. More costs time, mostly that of the first page, and
    /// puts more vectors on the page where they belong.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = ef;
        self
    }

    /// How many hits the pages so far have held.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// The next page; without hits when all were told.
    fn page(&mut self, kernel: impl Kernel) -> Result<Hits> {
        let view = self.collection.view();
        let View { graph: rows, segments, state, .. } = view;
        let metric = state.parameters.metric;
        let exact = Index { rows, space: VectorSpace { segments, metric, kernel } };
        let mut statistics = QueryStatistics::default();
        if state.live > 0 {
            let ahead = self.page_size.saturating_add(self.ef).saturating_sub(self.ranked.len());
            let browse = self.browse.take();
            if browse.is_none() {
                statistics.layers = view.anchors()?.level;
            }
            let mut browse = match &self.coded {
                Some(coded) => {
                    let index = Index { rows, space: CodeSpace { segments, metric, kernel } };
                    go_on(browse, view, &index, coded, ahead)?
                }
                None => go_on(browse, view, &exact, &self.query, ahead)?,
            };
            statistics.strategy = Strategy::Walk;
            statistics.ef = self.ef;
            let settled = browse.take(ahead);
            if self.coded.is_some() {
                statistics.reranked = settled.len() as u64;
            }
            for candidate in settled {
                let handle = exact.resolve(candidate.slot)?;
                let distance = match self.coded {
                    Some(_) => exact.distance(&self.query, handle),
                    None => candidate.distance,
                };
                self.ranked.push(Hit { key: handle.key(), distance });
            }
            self.ranked.sort_unstable_by(nearer);
            statistics.distances = browse.distances() + statistics.reranked;
            statistics.expanded = browse.expanded();
            self.browse = Some(browse);
        }
        let hits: Vec<Hit> = self.ranked.drain(..self.page_size.min(self.ranked.len())).collect();
        self.told += hits.len() as u64;
        // A node whose rows are all lost leaves no other trace than the count.
        if hits.is_empty() && self.told != state.live {
            return Err(Error::corrupted(
                format!("collection {:?}", state.name),
                format!("{} nodes can be reached where {} were expected", self.told, state.live),
            ));
        }
        Ok(Hits { hits, statistics, ..Hits::default() })
    }
}

/// Walks until the `ahead` nearest that wait for a page are settled.
fn go_on<S: Comparison>(
    browse: Option<Browse>,
    view: View<'_>,
    index: &Index<&GraphSnapshot, S>,
    query: &S::Query,
    ahead: usize,
) -> Result<Browse> {
    let mut browse = match browse {
        Some(mut browse) => {
            browse.reset_counters();
            browse
        }
        None => Browse::start(index, index, query, &view.anchors()?, Scratch::default())?,
    };
    browse.walk(index, index, query, Reach::nearest(ahead))?;
    Ok(browse)
}

impl Iterator for Pages {
    type Item = Result<Hits, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // A page that unwinds ends the pages as well: the walk is lost half-way.
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let span = span!(DEBUG, "page" [ef, strategy, distances, hits, partial], collection = %self.collection.name(), k = self.page_size);
        let span = span.entered();
        let page = dispatch!(InstructionSet::best(), kernel => self.page(kernel));
        if let Ok(page) = &page {
            page.record_in(&span);
        }
        self.ended = page.as_ref().map_or(true, |hits| hits.is_empty());
        page.map(|hits| (!hits.is_empty()).then_some(hits)).transpose()
    }
}

impl FusedIterator for Pages {}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { collection, page_size, ef, told, .. } = self;
        f.debug_struct("Pages")
            .field("collection", collection)
            .field("page_size", page_size)
            .field("ef", ef)
            .field("told", told)
            .finish()
    }
}
