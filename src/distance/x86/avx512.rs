//! Kernels for AVX-512 with VNNI: Intel since Ice Lake (2019) on servers, AMD since Zen 4 (2022).
//!
//! `vpdpbusd` multiplies 64 pairs of bytes and adds them to sixteen 32-bit sums, in one instruction. It has a
//! latency of 4 or 5 cycles, like the fused multiply-add of f32, so that one chain of sums would leave it idle:
//! each kernel keeps four. What is left after the last whole register is loaded under a mask, which reads nothing
//! beyond the slice, so that a dimension that is not a multiple of anything costs no scalar loop.

use super::arch::{
    __m512, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_ps, _mm512_reduce_add_epi32,
    _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sub_ps,
};
use crate::distance::{Kernel, common_length};

/// Codes in a register.
const CODES: usize = 64;
/// f32s in a register.
const FLOATS: usize = 16;

/// The proof that the CPU has AVX-512 F, BW, VL and VNNI, and that the system saves its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let present = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        present.then_some(Self(()))
    }
}

impl Kernel for Avx512 {
    const NAME: &'static str = "avx512";

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
        // SAFETY: `self` comes from `detect`, which found AVX-512 F, and that implies SSE.
        unsafe { super::prefetch_lines(items) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot_codes(a: &[u8], b: &[u8]) -> u32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<CODES>();
    let (b_blocks, b_rest) = b.as_chunks::<CODES>();
    let (a_quads, a_odd) = a_blocks.as_chunks::<4>();
    let (b_quads, b_odd) = b_blocks.as_chunks::<4>();

    let mut sums = [_mm512_setzero_si512(); 4];
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a_quads.iter().zip(b_quads) {
        sums[0] = _mm512_dpbusd_epi32(sums[0], load_codes(a0), load_codes(b0));
        sums[1] = _mm512_dpbusd_epi32(sums[1], load_codes(a1), load_codes(b1));
        sums[2] = _mm512_dpbusd_epi32(sums[2], load_codes(a2), load_codes(b2));
        sums[3] = _mm512_dpbusd_epi32(sums[3], load_codes(a3), load_codes(b3));
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_odd.iter().zip(b_odd)) {
        *sum = _mm512_dpbusd_epi32(*sum, load_codes(a), load_codes(b));
    }
    if !a_rest.is_empty() {
        sums[3] = _mm512_dpbusd_epi32(sums[3], load_codes_rest(a_rest), load_codes_rest(b_rest));
    }
    let sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
    _mm512_reduce_add_epi32(sum).cast_unsigned()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    accumulate(a, b, |sum, x, y| _mm512_fmadd_ps(x, y, sum))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    accumulate(a, b, |sum, x, y| {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    })
}

/// Adds up `add_term(sum, x, y)` over both slices. Absent elements are zeros, for which the term must be zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn accumulate(a: &[f32], b: &[f32], add_term: impl Fn(__m512, __m512, __m512) -> __m512) -> f32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<FLOATS>();
    let (b_blocks, b_rest) = b.as_chunks::<FLOATS>();
    let (a_quads, a_odd) = a_blocks.as_chunks::<4>();
    let (b_quads, b_odd) = b_blocks.as_chunks::<4>();

    let mut sums = [_mm512_setzero_ps(); 4];
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
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_codes(block: &[u8; CODES]) -> __m512i {
    // SAFETY: the block is exactly the 64 bytes that are read. No alignment is needed.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

/// The first codes of `rest`, as many as a register holds, with zeros for those that it lacks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_codes_rest(rest: &[u8]) -> __m512i {
    let count = rest.len().min(CODES);
    let mask = u64::MAX.unbounded_shr((CODES - count) as u32);
    // SAFETY: a masked load reads only the bytes whose bit is set: the first `count`, which is at most the length
    // of the slice. No alignment is needed.
    unsafe { _mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(block: &[f32; FLOATS]) -> __m512 {
    // SAFETY: the block is exactly the 16 floats that are read. No alignment is needed.
    unsafe { _mm512_loadu_ps(block.as_ptr()) }
}

/// The first floats of `rest`, as many as a register holds, with zeros for those that it lacks.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats_rest(rest: &[f32]) -> __m512 {
    let count = rest.len().min(FLOATS);
    let mask = u16::MAX.unbounded_shr((FLOATS - count) as u32);
    // SAFETY: a masked load reads only the floats whose bit is set: the first `count`, which is at most the length
    // of the slice. No alignment is needed.
    unsafe { _mm512_maskz_loadu_ps(mask, rest.as_ptr()) }
}
