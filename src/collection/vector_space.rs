//! Comparing vectors themselves: what tells the distances of all hits, and what collections without codes are searched by.

use std::borrow::Cow;

use super::index::Comparison;
use crate::distance::Kernel;
use crate::error::Result;
use crate::options::Metric;
use crate::vectors::{Code, SegmentSet, Slot, SlotIdentity, StoredVector};

/// A query in the form that stored vectors are compared with.
pub(crate) struct VectorQuery<'a> {
    vector: Cow<'a, [f32]>,
}

impl<'a> VectorQuery<'a> {
    /// Under cosine the query is normalised first: the product of two tiny vectors would underflow.
    pub(crate) fn new(vector: Cow<'a, [f32]>, norm: f64, metric: Metric) -> Self {
        let vector = match metric {
            Metric::Cosine => {
                let unit = 1.0 / norm;
                vector.iter().map(|&x| (f64::from(x) * unit) as f32).collect()
            }
            Metric::L2 | Metric::Dot => vector,
        };
        Self { vector }
    }
}

/// A slot's vector, and its code, whose tail has the norm.
#[derive(Clone, Copy)]
pub(crate) struct VectorHandle<'a> {
    vector: StoredVector<'a>,
    code: Code<'a>,
}

impl VectorHandle<'_> {
    #[inline]
    fn norm(&self) -> f64 {
        self.code.tail().norm
    }

    pub(crate) fn key(&self) -> u64 {
        self.code.tail().key
    }
}

/// Vectors as they are, compared with the kernels `K`.
#[derive(Clone, Copy)]
pub(crate) struct VectorSpace<'a, K> {
    pub(crate) segments: &'a SegmentSet,
    pub(crate) metric: Metric,
    pub(crate) kernel: K,
}

impl<'a, K: Kernel> VectorSpace<'a, K> {
    #[inline]
    fn dot(&self, query: &VectorQuery<'a>, handle: VectorHandle<'a>) -> f32 {
        self.sum(query, handle, |x, y| self.kernel.dot(x, y))
    }

    /// What `compare` adds up to over the blocks of a stored vector.
    #[inline]
    fn sum(
        &self,
        query: &VectorQuery<'a>,
        handle: VectorHandle<'a>,
        compare: impl Fn(&[f32], &[f32]) -> f32,
    ) -> f32 {
        let mut sum = 0.0;
        handle.vector.for_each_block(|first, block| {
            let of_query = query.vector.get(first..first + block.len()).unwrap_or_default();
            sum += compare(of_query, block);
        });
        sum
    }
}

impl<'a, K: Kernel> Comparison for VectorSpace<'a, K> {
    type Query = VectorQuery<'a>;
    type Handle<'h>
        = VectorHandle<'a>
    where
        Self: 'h;
    type Kernel = K;

    #[inline]
    fn kernel(&self) -> K {
        self.kernel
    }

    fn verify(&self, slot: Slot, identity: &SlotIdentity) -> Result<()> {
        self.segments.verify_code(slot, identity)?;
        self.segments.verify_vector(slot, || Ok(*identity))
    }

    #[inline]
    fn verified(&self, slot: Slot) -> Option<VectorHandle<'a>> {
        let (vector, code) = self.segments.verified_vector(slot)?;
        Some(VectorHandle { vector, code })
    }

    #[inline]
    fn expected(&self, slot: Slot) -> VectorHandle<'a> {
        debug_assert!(self.verified(slot).is_some(), "slot {slot} is compared before it is verified");
        VectorHandle { vector: self.segments.vector(slot), code: self.segments.code(slot) }
    }

    #[inline]
    fn prefetch(&self, handle: VectorHandle<'a>) {
        self.kernel.prefetch(handle.vector.bytes());
        if self.metric == Metric::Cosine {
            self.kernel.prefetch(handle.code.bytes());
        }
    }

    #[inline]
    fn distance(&self, query: &VectorQuery<'a>, handle: VectorHandle<'a>) -> f32 {
        match self.metric {
            // Between the longest vectors allowed it is f32::MAX, but for the rounding of a sum in f32.
            Metric::L2 => self.sum(query, handle, |x, y| self.kernel.squared_l2(x, y)).min(f32::MAX),
            Metric::Dot => 0.0 - self.dot(query, handle),
            Metric::Cosine => one_minus(f64::from(self.dot(query, handle)) / handle.norm()),
        }
    }

    #[inline]
    fn between(&self, a: VectorHandle<'a>, b: VectorHandle<'a>) -> f32 {
        let (x, y) = (a.vector.components(), b.vector.components());
        match self.metric {
            Metric::L2 => self.kernel.squared_l2(&x, &y).min(f32::MAX),
            Metric::Dot => 0.0 - self.kernel.dot(&x, &y),
            Metric::Cosine => one_minus(cosine(self.kernel, &x, &y, a.norm() * b.norm())),
        }
    }

    /// Equal vectors; under cosine those of equal directions as well.
    fn are_duplicates(&self, a: VectorHandle<'a>, b: VectorHandle<'a>) -> bool {
        let (x, y) = (a.vector.components(), b.vector.components());
        match self.metric {
            Metric::L2 | Metric::Dot => x == y,
            Metric::Cosine => have_one_direction(&x, a.norm(), &y, b.norm()),
        }
    }

    fn query_of(&self, handle: VectorHandle<'a>) -> VectorQuery<'a> {
        VectorQuery::new(handle.vector.components(), handle.norm(), self.metric)
    }
}

#[inline]
fn one_minus(cosine: f64) -> f32 {
    (1.0 - cosine).clamp(0.0, 2.0) as f32
}

/// The cosine of two stored vectors, given the product of their norms.
#[inline]
fn cosine(kernel: impl Kernel, x: &[f32], y: &[f32], norms: f64) -> f64 {
    // From 2⁻⁶⁴ on, the terms of the product that matter are normal numbers, which begin at 2⁻¹²⁶. Below, they would underflow in
    // f32. No two norms that are accepted have a product that overflows.
    const TINY: f64 = 1.0 / (1_u128 << 64) as f64;
    let dot = if norms > TINY {
        f64::from(kernel.dot(x, y))
    } else {
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot / norms
}

/// True when x / ‖x‖ = y / ‖y‖, as far as f64 can tell: for equal vectors, and for those that a power of two makes equal.
fn have_one_direction(x: &[f32], x_norm: f64, y: &[f32], y_norm: f64) -> bool {
    x.iter().zip(y).all(|(&x, &y)| f64::from(x) * y_norm == f64::from(y) * x_norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::Scalar;
    use crate::vectors::squared_norm;

    fn norm(x: &[f32]) -> f64 {
        squared_norm(x).sqrt()
    }

    #[test]
    fn a_cosine_does_not_depend_on_the_lengths_of_the_vectors() {
        let (x, y) = ([0.3_f32, -0.5, 0.8, 0.1], [0.2_f32, 0.4, 0.9, -0.3]);
        let expected = cosine(Scalar, &x, &y, norm(&x) * norm(&y));
        for (x_power, y_power) in [(0, 60), (-40, 0), (-40, -40), (-100, -20), (-120, -120), (62, 62)] {
            let x = x.map(|component| component * 2.0_f32.powi(x_power));
            let y = y.map(|component| component * 2.0_f32.powi(y_power));
            let found = cosine(Scalar, &x, &y, norm(&x) * norm(&y));
            assert!((found - expected).abs() < 1e-6, "2^{x_power}, 2^{y_power}: {found}, not {expected}");
        }
    }

    #[test]
    fn vectors_of_one_direction_are_duplicates_under_cosine() {
        let x = [0.3_f32, -0.5, 0.8, 0.0];
        let same = |y: [f32; 4]| have_one_direction(&x, norm(&x), &y, norm(&y));
        assert!(same(x));
        assert!(same(x.map(|component| component * 2.0_f32.powi(-100))));
        assert!(same([0.3, -0.5, 0.8, -0.0]));
        assert!(!same(x.map(|component| -component)));
        assert!(!same([0.3, -0.5, 0.8, 1e-9]));
        assert!(!same([0.3, -0.5, 0.8_f32.next_up(), 0.0]));
    }
}
