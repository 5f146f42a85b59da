//! Comparing 7-bit codes.

use super::index::Comparison;
use crate::distance::Kernel;
use crate::error::Result;
use crate::hnsw::Candidate;
use crate::options::{Codes, Element, Metric};
use crate::vectors::{Code, CodeTail, Geometry, SegmentSet, Slot, SlotIdentity, encode_into};

/// A vector in the form that codes are compared with.
#[derive(Debug)]
pub(crate) struct CodedQuery {
    components: Vec<u8>,
    tail: CodeTail,
}

impl CodedQuery {
    pub(crate) fn new(vector: &[f32], metric: Metric) -> Self {
        let geometry = Geometry::new(vector.len(), Codes::SevenBit, Element::F32);
        let mut bytes = vec![0; geometry.code_len()];
        encode_into(vector, metric, Codes::SevenBit, 0, 0, &mut bytes);
        Self::from_code(Code::new(&bytes, geometry.coded))
    }

    fn from_code(code: Code<'_>) -> Self {
        Self { components: code.components().to_vec(), tail: code.tail() }
    }
}

/// Vectors as their codes tell, compared with the kernels `K`.
#[derive(Clone, Copy)]
pub(crate) struct CodeSpace<'a, K> {
    pub(crate) segments: &'a SegmentSet,
    pub(crate) metric: Metric,
    pub(crate) kernel: K,
}

impl<K: Kernel> CodeSpace<'_, K> {
    #[inline]
    fn compare(&self, components: &[u8], tail: &CodeTail, code: Code<'_>) -> f32 {
        let dot = self.kernel.dot_codes(components, code.components());
        tail.distance(&code.tail(), self.metric, self.segments.geometry().dimension as f64, dot)
    }

    /// What the exact distance of a candidate is hardly ever below.
    pub(crate) fn lower_bound(&self, query: &CodedQuery, candidate: Candidate) -> f32 {
        let tail = self.segments.code(candidate.slot).tail();
        let dimension = self.segments.geometry().dimension as f64;
        query.tail.lower_bound(&tail, self.metric, dimension, candidate.distance)
    }

    #[inline]
    fn code<'h>(&self, bytes: &'h [u8]) -> Code<'h> {
        Code::new(bytes, self.segments.geometry().coded)
    }
}

impl<K: Kernel> Comparison for CodeSpace<'_, K> {
    type Query = CodedQuery;
    /// The code's bytes.
    type Handle<'h>
        = &'h [u8]
    where
        Self: 'h;
    type Kernel = K;

    #[inline]
    fn kernel(&self) -> K {
        self.kernel
    }

    fn verify(&self, slot: Slot, identity: &SlotIdentity) -> Result<()> {
        self.segments.verify_code(slot, identity)
    }

    #[inline]
    fn verified(&self, slot: Slot) -> Option<&[u8]> {
        self.segments.verified_code(slot).map(|code| code.bytes())
    }

    #[inline]
    fn expected(&self, slot: Slot) -> &[u8] {
        debug_assert!(self.segments.is_code_verified(slot), "slot {slot} is compared before it is verified");
        self.segments.code(slot).bytes()
    }

    #[inline]
    fn prefetch(&self, code: &[u8]) {
        self.kernel.prefetch(code);
    }

    #[inline]
    fn distance(&self, query: &CodedQuery, code: &[u8]) -> f32 {
        self.compare(&query.components, &query.tail, self.code(code))
    }

    #[inline]
    fn between(&self, a: &[u8], b: &[u8]) -> f32 {
        let a = self.code(a);
        self.compare(a.components(), &a.tail(), self.code(b))
    }

    fn are_duplicates(&self, a: &[u8], b: &[u8]) -> bool {
        self.code(a).is_duplicate_of(&self.code(b))
    }

    fn query_of(&self, code: &[u8]) -> CodedQuery {
        CodedQuery::from_code(self.code(code))
    }
}
