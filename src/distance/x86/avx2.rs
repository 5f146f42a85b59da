//! Kernels for AVX2 with FMA: Intel since Haswell (2013), AMD since Excavator (2015) and Zen.
//!
//! Codes: `vpmaddubsw` multiplies 32 pairs of bytes and adds neighbouring products in 16 bits, `vpmaddwd` by ones
//! adds those in 32 bits. The former saturates at 32,767, which two products of 7-bit codes cannot reach. f32:
//! four chains of fused multiply-adds, since one has a latency of 4 or 5 cycles; the rest is loaded under a mask.
//! AVX2 has no masked load of bytes: the last few codes are summed one by one.

use super::arch::{
    __m256, __m256i, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtsi128_si32, _mm_cvtss_f32,
    _mm_movehdup_ps, _mm_movehl_ps, _mm_shuffle_epi32, _mm256_add_epi32, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cmpgt_epi32, _mm256_extractf128_ps,
    _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_maskload_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sub_ps,
};
use crate::distance::scalar::dot_codes_rest;
use crate::distance::{Kernel, common_length};

/// Codes in a register.
const CODES: usize = 32;
/// f32s in a register.
const FLOATS: usize = 8;

/// The proof that the CPU has AVX2 and FMA, and that the system saves their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        present.then_some(Self(()))
    }
}

impl Kernel for Avx2 {
    const NAME: &'static str = "avx2";

    #[inline]
    fn dot_codes(self, a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: `self` comes from `detect`, which found all the features that `dot_codes` enables.
        unsafe { dot_codes(a, b) }
    }

    #[inline]
    fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        // SAFETY: `self` comes from `detect`, which found all the features that `dot` enables.
        unsafe { dot(a, b) }
    }

    #[inline]
    fn squared_l2(self, a: &[f32], b: &[f32]) -> f32 {
        // SAFETY: `self` comes from `detect`, which found all the features that `squared_l2` enables.
        unsafe { squared_l2(a, b) }
    }

    #[inline(always)]
    fn vectorized<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` comes from `detect`, which found all the features that `vectorized` enables.
        unsafe { vectorized(f) }
    }

    #[inline]
    fn prefetch<T>(self, items: &[T]) {
        // SAFETY: `self` comes from `detect`, which found AVX2, and that implies SSE.
        unsafe { super::prefetch_lines(items) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn dot_codes(a: &[u8], b: &[u8]) -> u32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<CODES>();
    let (b_blocks, b_rest) = b.as_chunks::<CODES>();
    let (a_pairs, a_odd) = a_blocks.as_chunks::<2>();
    let (b_pairs, b_odd) = b_blocks.as_chunks::<2>();

    let mut sums = [_mm256_setzero_si256(); 2];
    for ([a0, a1], [b0, b1]) in a_pairs.iter().zip(b_pairs) {
        sums[0] = add_products(sums[0], load_codes(a0), load_codes(b0));
        sums[1] = add_products(sums[1], load_codes(a1), load_codes(b1));
    }
    if let ([a], [b]) = (a_odd, b_odd) {
        sums[0] = add_products(sums[0], load_codes(a), load_codes(b));
    }
    let sum = reduce_codes(_mm256_add_epi32(sums[0], sums[1]));
    sum.wrapping_add(dot_codes_rest(a_rest, b_rest))
}

#[target_feature(enable = "avx2,fma")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    accumulate(a, b, |sum, x, y| _mm256_fmadd_ps(x, y, sum))
}

#[target_feature(enable = "avx2,fma")]
fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    accumulate(a, b, |sum, x, y| {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, sum)
    })
}

/// Adds up `add_term(sum, x, y)` over both slices. Absent elements are zeros, for which the term must be zero.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn accumulate(a: &[f32], b: &[f32], add_term: impl Fn(__m256, __m256, __m256) -> __m256) -> f32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<FLOATS>();
    let (b_blocks, b_rest) = b.as_chunks::<FLOATS>();
    let (a_quads, a_odd) = a_blocks.as_chunks::<4>();
    let (b_quads, b_odd) = b_blocks.as_chunks::<4>();

    let mut sums = [_mm256_setzero_ps(); 4];
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a_quads.iter().zip(b_quads) {
        sums[0] = add_term(sums[0], load_floats(a0), load_floats(b0));
        sums[1] = add_term(sums[1], load_floats(a1), load_floats(b1));
        sums[2] = add_term(sums[2], load_floats(a2), load_floats(b2));
        sums[3] = add_term(sums[3], load_floats(a3), load_floats(b3));
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_odd.iter().zip(b_odd)) {
        *sum = add_term(*sum, load_floats(a), load_floats(b));
    }
    if !a_rest.is_empty() {
        sums[3] = add_term(sums[3], load_floats_rest(a_rest), load_floats_rest(b_rest));
    }
    reduce_floats(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3])))
}

/// Adds the products of 32 pairs of codes to eight sums, four products to each.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(sums: __m256i, x: __m256i, y: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(x, y);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce_codes(sums: __m256i) -> u32 {
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b_11_10_11_10>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b_01_01_01_01>(sums));
    _mm_cvtsi128_si32(sums).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce_floats(sums: __m256) -> f32 {
    let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
    let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_codes(block: &[u8; CODES]) -> __m256i {
    // SAFETY: the block is exactly the 32 bytes that are read. No alignment is needed.
    unsafe { _mm256_loadu_si256(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_floats(block: &[f32; FLOATS]) -> __m256 {
    // SAFETY: the block is exactly the 8 floats that are read. No alignment is needed.
    unsafe { _mm256_loadu_ps(block.as_ptr()) }
}

/// The first floats of `rest`, as many as a register holds, with zeros for those that it lacks.
#[inline]
#[target_feature(enable = "avx2")]
fn load_floats_rest(rest: &[f32]) -> __m256 {
    let count = _mm256_set1_epi32(rest.len().min(FLOATS) as i32);
    let mask = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    // SAFETY: a masked load reads only the lanes whose mask is set: those before `count`, which is at most the
    // length of the slice. A float's own alignment suffices.
    unsafe { _mm256_maskload_ps(rest.as_ptr(), mask) }
}
