//! 7-bit MinMax codes: one byte per component and four scalars, so that any metric needs one integer dot product.
//!
//! A vector x is coded by itself, with no training: xᵢ ≈ offset + scale · cᵢ with cᵢ in 0..=127. Seven bits, because the
//! byte products of AVX2, AVX-512 VNNI and NEON then neither saturate nor need a sign. Under cosine it is x / ‖x‖ that is
//! coded, so that half the squared distance of two codes is 1 − cos.
//!
//! Distances are those *between the coded vectors* x̂, not between x̂ and the stored norms: the error of ‖x̂ − ŷ‖² shrinks with
//! ‖x − y‖, that of ‖x‖² + ‖y‖² − 2⟨x̂, ŷ⟩ does not, and exact duplicates are at distance exactly 0. The scalars are f64: a slot is a
//! multiple of 64 bytes, so they cost nothing there, and no intermediate overflows at any norm that is accepted.
//!
//! A code slot (little-endian; t = the dimension rounded up to a multiple of 8):
//!
//! ```text
//! 0      d × u8   codes
//! t      f64      scale
//! t+8    f64      offset
//! t+16   f64      sum      scale · Σ cᵢ
//! t+24   f64      square   scale² · Σ cᵢ²
//! t+32   f64      norm     ‖x‖ of the vector as given
//! t+40   u64      the caller's key
//! t+48   u64      stamp
//! ```
//!
//! In a collection without codes ([`Codes::None`]) d and t are 0 here, and the first four scalars are 0: only the tail is left. It
//! is verified as codes are, so that a slot without a code has the same identity.

#![allow(clippy::indexing_slicing, reason = "a code slot's length is checked where it is formed")]

use super::Geometry;
use crate::options::{Codes, Metric};

/// The bytes behind the codes.
pub(crate) const CODE_TAIL: usize = 56;

/// The scalars of a code slot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct CodeTail {
    pub(crate) scale: f64,
    pub(crate) offset: f64,
    pub(crate) sum: f64,
    pub(crate) square: f64,
    pub(crate) norm: f64,
    pub(crate) key: u64,
    pub(crate) stamp: u64,
}

impl CodeTail {
    #[inline]
    fn read(bytes: &[u8; CODE_TAIL]) -> Self {
        let word = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            scale: f64::from_bits(word(0)),
            offset: f64::from_bits(word(1)),
            sum: f64::from_bits(word(2)),
            square: f64::from_bits(word(3)),
            norm: f64::from_bits(word(4)),
            key: word(5),
            stamp: word(6),
        }
    }

    fn write(&self, out: &mut [u8]) {
        let words = [
            self.scale.to_bits(),
            self.offset.to_bits(),
            self.sum.to_bits(),
            self.square.to_bits(),
            self.norm.to_bits(),
            self.key,
            self.stamp,
        ];
        for (out, word) in out.chunks_exact_mut(8).zip(words) {
            out.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// The distance of two coded vectors under `metric`, given Σ cᵢ·c′ᵢ.
    #[inline]
    pub(crate) fn distance(&self, other: &Self, metric: Metric, dimension: f64, dot: u32) -> f32 {
        let products = self.scale * other.scale * f64::from(dot);
        let distance = match metric {
            Metric::Dot => {
                -(dimension * self.offset * other.offset
                    + self.offset * other.sum
                    + other.offset * self.sum
                    + products)
            }
            Metric::L2 | Metric::Cosine => {
                let shift = self.offset - other.offset;
                let squared = shift * (dimension * shift + 2.0 * (self.sum - other.sum))
                    + (self.square + other.square - 2.0 * products);
                let squared = squared.max(0.0);
                if metric == Metric::Cosine { 0.5 * squared } else { squared }
            }
        };
        distance as f32
    }
}

/// How many standard deviations a coded distance may lie off.
const DEVIATIONS: f64 = 6.0;
/// How far, of the sum of its terms, a sum in f32 may lie off: "exact" distances are such sums.
const F32_SUM: f64 = 1e-6;

impl CodeTail {
    /// What the exact distance of two vectors is hardly ever below, given the distance of their codes.
    ///
    /// Rounding moves each component by up to scale / 2. Taken as independent and uniform, these errors e have a variance of
    /// scale² / 12, and move a scalar product with w by ‖w‖ · scale / √12 in the mean square, whatever the dimension. What does
    /// not average out, ‖e‖², is taken at its largest: for data that the codes suit badly the bound is low, never wrong.
    #[inline]
    pub(crate) fn lower_bound(&self, other: &Self, metric: Metric, dimension: f64, distance: f32) -> f32 {
        let distance = f64::from(distance);
        let variance = |scale: f64| scale * scale / 12.0;
        let bound = match metric {
            Metric::Dot => {
                let spread = variance(self.scale) * other.norm * other.norm
                    + variance(other.scale) * self.norm * self.norm;
                let rounding = F32_SUM * self.norm * other.norm;
                distance - DEVIATIONS * spread.sqrt() - dimension * self.scale * other.scale / 4.0 - rounding
            }
            Metric::L2 | Metric::Cosine => {
                let half = if metric == Metric::Cosine { 0.5 } else { 1.0 };
                let squared = distance / half;
                let spread = 4.0 * squared * (variance(self.scale) + variance(other.scale));
                let largest = (self.scale + other.scale) / 2.0;
                let rounding = F32_SUM * if metric == Metric::Cosine { 1.0 } else { squared };
                half * (squared - DEVIATIONS * spread.sqrt() - dimension * largest * largest) - rounding
            }
        };
        bound as f32
    }
}

/// A code slot, borrowed from a map or a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code<'a> {
    bytes: &'a [u8],
    coded: usize,
}

impl<'a> Code<'a> {
    /// `bytes` are at least [`Geometry::code_len`] long, `coded` of them components.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], coded: usize) -> Self {
        Self { bytes, coded }
    }

    /// Codes and scalars.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// True when the two stand for the same vector, as far as codes can tell.
    pub(crate) fn is_duplicate_of(&self, other: &Code<'_>) -> bool {
        let (a, b) = (self.tail(), other.tail());
        (a.scale, a.offset) == (b.scale, b.offset) && self.components() == other.components()
    }

    #[inline]
    pub(crate) fn components(&self) -> &'a [u8] {
        &self.bytes[..self.coded]
    }

    /// The caller's key.
    #[inline]
    pub(crate) fn key(&self) -> u64 {
        self.tail().key
    }

    #[inline]
    pub(crate) fn tail(&self) -> CodeTail {
        let tail = &self.bytes[Geometry::tail_offset(self.coded)..];
        CodeTail::read(tail.first_chunk().expect("a code slot holds its tail"))
    }
}

/// Components that are looked at together: one after the other, each would wait for the one before.
const LANES: usize = 8;

/// ‖x‖² in f64, the same on every machine.
pub(crate) fn squared_norm(vector: &[f32]) -> f64 {
    let (blocks, rest) = vector.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}

/// The least and the greatest component.
fn range(vector: &[f32]) -> (f32, f32) {
    let (blocks, rest) = vector.as_chunks::<LANES>();
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut widen = |block: &[f32]| {
        for ((low, high), &x) in low.iter_mut().zip(&mut high).zip(block) {
            *low = if x < *low { x } else { *low };
            *high = if x > *high { x } else { *high };
        }
    };
    blocks.iter().for_each(|block| widen(block));
    widen(rest);
    (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// Codes `vector`, whose components are finite, into `out`, which is [`Geometry::code_len`] long.
///
/// Two equal vectors get equal bytes but for key and stamp, on every machine: only IEEE operations with exact rounding are used.
pub(crate) fn encode_into(
    vector: &[f32],
    metric: Metric,
    codes: Codes,
    key: u64,
    stamp: u64,
    out: &mut [u8],
) {
    let tail = CodeTail { norm: squared_norm(vector).sqrt(), key, stamp, ..CodeTail::default() };
    match codes {
        Codes::SevenBit => encode_seven_bit(vector, metric, tail, out),
        Codes::None => tail.write(out),
    }
}

/// Fills in the components and the scalars that decode them.
fn encode_seven_bit(vector: &[f32], metric: Metric, tail: CodeTail, out: &mut [u8]) {
    let norm = tail.norm;
    let unit = if metric == Metric::Cosine && norm > 0.0 { 1.0 / norm } else { 1.0 };
    // Multiplication by a positive number keeps the order, rounded or not. The least of zeros of both signs may be either;
    // with +0.0 added it is +0.0 on every machine.
    let (low, high) = range(vector);
    let (low, high) = (f64::from(low) * unit + 0.0, f64::from(high) * unit);
    let scale = (high - low) / 127.0;
    let steps = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let (codes, rest) = out.split_at_mut(vector.len());
    let (mut sum, mut square) = (0_u64, 0_u64);
    for (code, &x) in codes.iter_mut().zip(vector) {
        let c = ((f64::from(x) * unit - low) * steps + 0.5).min(127.0) as u8;
        *code = c;
        sum += u64::from(c);
        square += u64::from(c) * u64::from(c);
    }
    let padding = Geometry::tail_offset(vector.len()) - vector.len();
    rest[..padding].fill(0);
    let tail = CodeTail {
        scale,
        offset: low,
        sum: scale * sum as f64,
        square: scale * scale * square as f64,
        ..tail
    };
    tail.write(&mut rest[padding..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::InstructionSet;
    use crate::options::Element;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn code(vector: &[f32], metric: Metric) -> Vec<u8> {
        let mut bytes = vec![0; Geometry::new(vector.len(), Codes::SevenBit, Element::F32).code_len()];
        encode_into(vector, metric, Codes::SevenBit, 7, 9, &mut bytes);
        bytes
    }

    fn coded_distance(x: &[f32], y: &[f32], metric: Metric) -> f32 {
        let (x_code, y_code) = (code(x, metric), code(y, metric));
        let (a, b) = (Code::new(&x_code, x.len()), Code::new(&y_code, y.len()));
        let dot = InstructionSet::best().dot_codes(a.components(), b.components());
        a.tail().distance(&b.tail(), metric, x.len() as f64, dot)
    }

    fn exact_distance(x: &[f32], y: &[f32], metric: Metric) -> f64 {
        let pairs = || x.iter().zip(y).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        let dot: f64 = pairs().map(|(x, y)| x * y).sum();
        match metric {
            Metric::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
            Metric::Cosine => 1.0 - dot / (squared_norm(x) * squared_norm(y)).sqrt(),
            Metric::Dot => -dot,
        }
    }

    /// On the data that codes are made for, and on data that they suit badly: one component that dwarfs the others, heavy tails,
    /// components on the edge between two codes.
    #[test]
    fn the_exact_distance_is_not_below_the_lower_bound() {
        let mut rng = StdRng::seed_from_u64(2);
        for (kind, dimension) in [0, 1, 2, 3].into_iter().flat_map(|kind| [8, 64, 384].map(|d| (kind, d))) {
            let vector = |rng: &mut StdRng| -> Vec<f32> {
                let mut vector: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
                match kind {
                    1 => vector[0] = 1000.0,
                    2 => vector.iter_mut().for_each(|x| *x = 0.1 / *x),
                    3 => (vector[0], vector[1]) = (-100.0, 100.0),
                    _ => {}
                }
                vector
            };
            for _ in 0..2000 {
                let (x, mut y) = (vector(&mut rng), vector(&mut rng));
                // Half of the pairs are close to each other, as those are that a search compares.
                if rng.random_bool(0.5) {
                    y.iter_mut().zip(&x).for_each(|(y, &x)| *y = 0.9 * x + 0.1 * *y);
                }
                for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
                    let (x_code, y_code) = (code(&x, metric), code(&y, metric));
                    let tails = [&x_code, &y_code].map(|c| Code::new(c, dimension).tail());
                    let coded = coded_distance(&x, &y, metric);
                    let bound = tails[0].lower_bound(&tails[1], metric, dimension as f64, coded);
                    let exact = exact_distance(&x, &y, metric);
                    assert!(
                        f64::from(bound) <= exact + 1e-6 * exact.abs(),
                        "{metric}, kind {kind}: {bound}, {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn code_distances_are_close_to_exact_ones() {
        let mut rng = StdRng::seed_from_u64(1);
        for dimension in [1, 2, 7, 8, 63, 128, 384, 1000] {
            for _ in 0..50 {
                let x: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
                let y: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
                for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
                    // A component is off by at most half a step, 2 / 254; the error of the sum is of the order
                    // of that times the difference's length.
                    let unit = if metric == Metric::Cosine { 2.0 } else { (dimension as f64).sqrt() };
                    let bound = 0.02 * unit * unit.max(1.0) + 0.01;
                    let error = f64::from(coded_distance(&x, &y, metric)) - exact_distance(&x, &y, metric);
                    assert!(error.abs() <= bound, "{metric} d {dimension}: {error} > {bound}");
                }
            }
        }
    }

    #[test]
    fn duplicates_are_at_distance_zero_and_near_ones_stay_near_at_a_large_offset() {
        let mut rng = StdRng::seed_from_u64(2);
        let x: Vec<f32> = (0..384).map(|_| 1000.0 + rng.random_range(-1.0..1.0_f32)).collect();
        let near: Vec<f32> = x.iter().map(|x| x + rng.random_range(-0.1..0.1_f32)).collect();
        let far: Vec<f32> = (0..384).map(|_| 1000.0 + rng.random_range(-1.0..1.0_f32)).collect();
        for metric in [Metric::L2, Metric::Cosine] {
            let coded = |y: &[f32]| coded_distance(&x, y, metric);
            assert_eq!(coded(&x), 0.0);
            assert!(coded(&near) < 0.1 * coded(&far), "{metric}: {} {}", coded(&near), coded(&far));
        }
    }

    #[test]
    fn the_largest_vectors_allowed_give_finite_ordered_distances() {
        let largest = (f64::from(f32::MAX) / 4.0).sqrt() as f32 * 0.999;
        let mut x = vec![0.0_f32; 65_535];
        let mut y = x.clone();
        let mut z = x.clone();
        x[0] = -largest;
        y[1] = largest;
        z[0] = -largest * 0.9;
        for metric in [Metric::L2, Metric::Dot] {
            assert!(coded_distance(&x, &y, metric).is_finite());
            assert!(coded_distance(&x, &z, metric) < coded_distance(&x, &y, metric), "{metric}");
        }
    }

    #[test]
    fn a_code_slot_keeps_its_layout() {
        let bytes = code(&[0.0, 1.0, -1.0], Metric::L2);
        let mut golden = vec![64, 127, 0, 0, 0, 0, 0, 0];
        golden.extend((2.0_f64 / 127.0).to_le_bytes());
        golden.extend((-1.0_f64).to_le_bytes());
        golden.extend((2.0_f64 / 127.0 * 191.0).to_le_bytes());
        golden.extend((2.0_f64 / 127.0 * (2.0 / 127.0) * 20_225.0).to_le_bytes());
        golden.extend(2.0_f64.sqrt().to_le_bytes());
        golden.extend(7_u64.to_le_bytes());
        golden.extend(9_u64.to_le_bytes());
        assert_eq!(bytes, golden);
    }

    #[test]
    fn without_codes_only_the_tail_is_left() {
        let mut bytes = vec![0xff; Geometry::new(3, Codes::None, Element::F32).code_len()];
        encode_into(&[0.0, 1.0, -1.0], Metric::Cosine, Codes::None, 7, 9, &mut bytes);
        let mut golden = vec![0; 32];
        golden.extend(2.0_f64.sqrt().to_le_bytes());
        golden.extend(7_u64.to_le_bytes());
        golden.extend(9_u64.to_le_bytes());
        assert_eq!(bytes, golden);
    }
}
