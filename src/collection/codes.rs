//! The graph and the codes of a collection, as [`crate::hnsw`] sees them.

use std::cell::Cell;

use crate::distance::Kernel;
use crate::error::Result;
use crate::graph::{GraphEditor, GraphSnapshot, RowMut};
use crate::hnsw::{Candidate, Graph, GraphMut, Space};
use crate::options::{Capacity, Metric};
use crate::vectors::{Code, CodeTail, Geometry, SegmentSet, Slot, encode_into};

/// A vector in the form that codes are compared with.
#[derive(Debug)]
pub(crate) struct CodedQuery {
    components: Vec<u8>,
    tail: CodeTail,
}

impl CodedQuery {
    pub(crate) fn new(vector: &[f32], metric: Metric) -> Self {
        let mut bytes = vec![0; Geometry::new(vector.len()).code_len()];
        encode_into(vector, metric, 0, 0, &mut bytes);
        Self::from_code(Code::new(&bytes, vector.len()))
    }

    fn from_code(code: Code<'_>) -> Self {
        Self { components: code.components().to_vec(), tail: code.tail() }
    }
}

/// A snapshot's graph and codes, compared with the kernels `K`.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a, K> {
    pub(crate) graph: &'a GraphSnapshot,
    pub(crate) segments: &'a SegmentSet,
    pub(crate) metric: Metric,
    pub(crate) kernel: K,
}

impl<'a, K: Kernel> Codes<'a, K> {
    /// Unverified bytes must not decide anything: whoever compares has called `verify` before.
    #[inline]
    fn code(&self, slot: Slot) -> Code<'_> {
        debug_assert!(self.segments.is_code_verified(slot), "slot {slot} is compared before it is verified");
        self.segments.code(slot)
    }

    #[inline]
    fn compare(&self, components: &[u8], tail: &CodeTail, code: Code<'_>) -> f32 {
        let dot = self.kernel.dot_codes(components, code.components());
        tail.distance(&code.tail(), self.metric, self.segments.geometry().dimension as f64, dot)
    }

    /// Finds a slot's code, which is compared with its record the first time.
    #[cold]
    fn find(&self, slot: Slot) -> Result<&'a [u8]> {
        if !self.segments.is_code_verified(slot) {
            self.segments.verify_code(slot, &self.graph.node(slot)?.record.identity())?;
        }
        Ok(self.segments.code(slot).bytes())
    }

    /// What the exact distance of a candidate is hardly ever below.
    pub(crate) fn lower_bound(&self, query: &CodedQuery, candidate: Candidate) -> f32 {
        let tail = self.code(candidate.slot).tail();
        let dimension = self.segments.geometry().dimension as f64;
        query.tail.lower_bound(&tail, self.metric, dimension, candidate.distance)
    }

    /// As [`CodedQuery`] wants it.
    #[inline]
    fn code_in<'b>(&self, bytes: &'b [u8]) -> Code<'b> {
        Code::new(bytes, self.segments.geometry().dimension)
    }
}

impl<K: Kernel> Graph for Codes<'_, K> {
    fn capacity(&self) -> Capacity {
        self.graph.capacity()
    }

    fn slots(&self) -> usize {
        self.graph.slots() as usize
    }

    #[inline]
    fn neighbors(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        self.graph.neighbors(slot, layer)
    }

    fn inbound(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        Ok(self.graph.node(slot)?.inbound(layer).unwrap_or(&[]))
    }

    fn level(&self, slot: Slot) -> Result<u8> {
        Ok(self.graph.node(slot)?.record.level)
    }

    fn rank(&self, slot: Slot) -> Result<u64> {
        Ok(self.graph.node(slot)?.record.stamp)
    }

    fn parent(&self, slot: Slot) -> Result<Option<Slot>> {
        Ok(self.graph.node(slot)?.parent())
    }

    fn children(&self, slot: Slot) -> Result<usize> {
        Ok(self.graph.node(slot)?.children())
    }

    #[inline]
    fn prefetch_neighbors(&self, slot: Slot, layer: u8) {
        self.graph.prefetch_neighbors(slot, layer, self.kernel);
    }
}

impl<K: Kernel> Space for Codes<'_, K> {
    type Query = CodedQuery;
    type Handle<'h>
        = &'h [u8]
    where
        Self: 'h;

    fn resolve(&self, slot: Slot) -> Result<&[u8]> {
        self.find(slot)
    }

    #[inline]
    fn resolved(&self, slot: Slot) -> Option<&[u8]> {
        self.segments.verified_code(slot).map(|code| code.bytes())
    }

    #[inline]
    fn prefetch(&self, code: &[u8]) {
        self.kernel.prefetch(code);
    }

    #[inline]
    fn distance(&self, query: &CodedQuery, code: &[u8]) -> f32 {
        self.compare(&query.components, &query.tail, self.code_in(code))
    }

    #[inline]
    fn between(&self, a: Slot, b: Slot) -> f32 {
        let a = self.code(a);
        self.compare(a.components(), &a.tail(), self.code(b))
    }

    fn are_duplicates(&self, a: Slot, b: Slot) -> bool {
        self.code(a).is_duplicate_of(&self.code(b))
    }

    #[inline(always)]
    fn vectorized<R>(&self, f: impl FnOnce() -> R) -> R {
        self.kernel.vectorized(f)
    }

    fn query_of(&self, slot: Slot) -> Result<CodedQuery> {
        Ok(CodedQuery::from_code(self.code_in(self.find(slot)?)))
    }
}

/// A write transaction's graph and codes.
pub(crate) struct CodesMut<'a, K> {
    pub(crate) editor: &'a mut GraphEditor,
    /// Counts the link rows read.
    pub(crate) rows_read: &'a Cell<u64>,
    pub(crate) segments: &'a SegmentSet,
    pub(crate) metric: Metric,
    pub(crate) kernel: K,
}

impl<K: Kernel> CodesMut<'_, K> {
    #[inline]
    fn codes(&self) -> Codes<'_, K> {
        Codes {
            graph: self.editor.graph(),
            segments: self.segments,
            metric: self.metric,
            kernel: self.kernel,
        }
    }
}

impl<K: Kernel> Graph for CodesMut<'_, K> {
    fn capacity(&self) -> Capacity {
        self.codes().capacity()
    }

    fn slots(&self) -> usize {
        self.codes().slots()
    }

    #[inline]
    fn neighbors(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        self.rows_read.set(self.rows_read.get() + 1);
        self.editor.graph().neighbors(slot, layer)
    }

    fn inbound(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        Ok(self.editor.graph().node(slot)?.inbound(layer).unwrap_or(&[]))
    }

    fn level(&self, slot: Slot) -> Result<u8> {
        self.codes().level(slot)
    }

    fn rank(&self, slot: Slot) -> Result<u64> {
        self.codes().rank(slot)
    }

    fn parent(&self, slot: Slot) -> Result<Option<Slot>> {
        self.codes().parent(slot)
    }

    fn children(&self, slot: Slot) -> Result<usize> {
        self.codes().children(slot)
    }

    #[inline]
    fn prefetch_neighbors(&self, slot: Slot, layer: u8) {
        self.editor.graph().prefetch_neighbors(slot, layer, self.kernel);
    }
}

impl<K: Kernel> GraphMut for CodesMut<'_, K> {
    fn row_mut(&mut self, slot: Slot, layer: u8) -> Result<RowMut<'_>> {
        self.editor.row_mut(slot, layer)
    }
}

impl<K: Kernel> Space for CodesMut<'_, K> {
    type Query = CodedQuery;
    type Handle<'h>
        = &'h [u8]
    where
        Self: 'h;

    fn resolve(&self, slot: Slot) -> Result<&[u8]> {
        self.codes().find(slot)
    }

    #[inline]
    fn resolved(&self, slot: Slot) -> Option<&[u8]> {
        self.segments.verified_code(slot).map(|code| code.bytes())
    }

    #[inline]
    fn prefetch(&self, code: &[u8]) {
        self.kernel.prefetch(code);
    }

    #[inline]
    fn distance(&self, query: &CodedQuery, code: &[u8]) -> f32 {
        self.codes().distance(query, code)
    }

    #[inline]
    fn between(&self, a: Slot, b: Slot) -> f32 {
        self.codes().between(a, b)
    }

    fn are_duplicates(&self, a: Slot, b: Slot) -> bool {
        self.codes().are_duplicates(a, b)
    }

    #[inline(always)]
    fn vectorized<R>(&self, f: impl FnOnce() -> R) -> R {
        self.kernel.vectorized(f)
    }

    fn query_of(&self, slot: Slot) -> Result<CodedQuery> {
        self.codes().query_of(slot)
    }
}
