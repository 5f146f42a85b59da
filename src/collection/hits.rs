//! What searches find, and what they tell of themselves.

use std::ops::Deref;

use crate::trace;

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
    /// Layers of the graph that were descended through before the walk on the lowest one; 0 without a walk, and from the second page
    /// of a [`browse`](crate::Collection::browse) on, which goes on where the first has come to.
    pub layers: u8,
    /// How many candidates the walk kept; 0 without a walk, when all vectors that pass were compared.
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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

/// Nearest first, ties in key order.
pub(super) fn nearer(a: &Hit, b: &Hit) -> std::cmp::Ordering {
    a.distance.total_cmp(&b.distance).then(a.key.cmp(&b.key))
}
