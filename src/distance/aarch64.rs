//! Kernels for 64-bit ARM: phones, tablets, Apple's and Qualcomm's laptops.
//!
//! **Untested here:** this file is compiled for aarch64, but has not been run on such a CPU. Its logic passed the
//! tests of this module with the intrinsics emulated; the tests cover it wherever they run on a real one.
//!
//! Codes: [`Neon`] multiplies bytes to 16-bit products and adds four of them before it widens, which 7-bit codes
//! allow. [`NeonDot`] has `udot` (the `dotprod` extension: optional in ARMv8.2, mandatory in ARMv8.4, so Apple's A11
//! and Cortex-A55/A75 onwards): 16 products, added to four 32-bit sums. Its intrinsic, `vdotq_u32`, is not stable
//! in the Rust that this crate supports, hence the inline assembly. f32 is the same for both: four chains of
//! fused multiply-adds.
//!
//! The standard library's prefetch intrinsic for ARM is not stable either: [`Kernel::prefetch`] does nothing here.

use core::arch::aarch64::{
    float32x4_t, uint8x16_t, uint32x4_t, vaddq_f32, vaddq_u32, vaddvq_f32, vaddvq_u32, vdupq_n_f32,
    vdupq_n_u32, vfmaq_f32, vget_low_u8, vld1q_f32, vld1q_u8, vmlal_high_u8, vmlal_u8, vmull_u8, vpadalq_u16,
    vsubq_f32,
};
use core::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::scalar::dot_codes_rest;
use super::{Kernel, Scalar, common_length};

/// Codes in a register.
const CODES: usize = 16;
/// f32s in a register.
const FLOATS: usize = 4;

/// The proof that the CPU has Advanced SIMD ("Neon").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

impl Kernel for Neon {
    const NAME: &'static str = "neon";

    #[inline]
    fn dot_codes(self, a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: `self` comes from `detect`, which found the feature that `dot_codes` enables.
        unsafe { dot_codes(a, b) }
    }

    #[inline]
    fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        // SAFETY: `self` comes from `detect`, which found the feature that `dot` enables.
        unsafe { dot(a, b) }
    }

    #[inline]
    fn squared_l2(self, a: &[f32], b: &[f32]) -> f32 {
        // SAFETY: `self` comes from `detect`, which found the feature that `squared_l2` enables.
        unsafe { squared_l2(a, b) }
    }

    #[inline]
    fn prefetch<T>(self, _items: &[T]) {}
}

/// The proof that the CPU has Advanced SIMD and its `dotprod` extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeonDot {
    neon: Neon,
}

impl NeonDot {
    pub(crate) fn detect() -> Option<Self> {
        let neon = Neon::detect()?;
        is_aarch64_feature_detected!("dotprod").then_some(Self { neon })
    }
}

impl Kernel for NeonDot {
    const NAME: &'static str = "neondot";

    #[inline]
    fn dot_codes(self, a: &[u8], b: &[u8]) -> u32 {
        // SAFETY: `self` comes from `detect`, which found both features that `dot_codes_udot` enables.
        unsafe { dot_codes_udot(a, b) }
    }

    #[inline]
    fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        self.neon.dot(a, b)
    }

    #[inline]
    fn squared_l2(self, a: &[f32], b: &[f32]) -> f32 {
        self.neon.squared_l2(a, b)
    }

    #[inline(always)]
    fn vectorized<R>(self, f: impl FnOnce() -> R) -> R {
        // SAFETY: `self` comes from `detect`, which found both features that `vectorized` enables.
        unsafe { vectorized(f) }
    }

    #[inline]
    fn prefetch<T>(self, items: &[T]) {
        self.neon.prefetch(items);
    }
}

#[target_feature(enable = "neon,dotprod")]
fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[target_feature(enable = "neon")]
fn dot_codes(a: &[u8], b: &[u8]) -> u32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<CODES>();
    let (b_blocks, b_rest) = b.as_chunks::<CODES>();
    let (a_quads, a_odd) = a_blocks.as_chunks::<4>();
    let (b_quads, b_odd) = b_blocks.as_chunks::<4>();

    let zero = [0; CODES];
    let mut sums = [vdupq_n_u32(0); 2];
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a_quads.iter().zip(b_quads) {
        sums[0] = add_products(sums[0], [a0, a1], [b0, b1]);
        sums[1] = add_products(sums[1], [a2, a3], [b2, b3]);
    }
    for (a, b) in a_odd.iter().zip(b_odd) {
        sums[0] = add_products(sums[0], [a, &zero], [b, &zero]);
    }
    let sum = vaddvq_u32(vaddq_u32(sums[0], sums[1]));
    sum.wrapping_add(dot_codes_rest(a_rest, b_rest))
}

/// Adds the products of 32 pairs of codes to four sums, eight products to each.
#[inline]
#[target_feature(enable = "neon")]
fn add_products(sums: uint32x4_t, a: [&[u8; CODES]; 2], b: [&[u8; CODES]; 2]) -> uint32x4_t {
    let (a0, a1) = (load_codes(a[0]), load_codes(a[1]));
    let (b0, b1) = (load_codes(b[0]), load_codes(b[1]));
    // Four products of 7 bits by 7 fit 16 bits.
    let products = vmull_u8(vget_low_u8(a0), vget_low_u8(b0));
    let products = vmlal_high_u8(products, a0, b0);
    let products = vmlal_u8(products, vget_low_u8(a1), vget_low_u8(b1));
    let products = vmlal_high_u8(products, a1, b1);
    vpadalq_u16(sums, products)
}

#[target_feature(enable = "neon,dotprod")]
fn dot_codes_udot(a: &[u8], b: &[u8]) -> u32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<CODES>();
    let (b_blocks, b_rest) = b.as_chunks::<CODES>();
    let (a_quads, a_odd) = a_blocks.as_chunks::<4>();
    let (b_quads, b_odd) = b_blocks.as_chunks::<4>();

    let mut sums = [vdupq_n_u32(0); 4];
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a_quads.iter().zip(b_quads) {
        sums[0] = udot(sums[0], load_codes(a0), load_codes(b0));
        sums[1] = udot(sums[1], load_codes(a1), load_codes(b1));
        sums[2] = udot(sums[2], load_codes(a2), load_codes(b2));
        sums[3] = udot(sums[3], load_codes(a3), load_codes(b3));
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_odd.iter().zip(b_odd)) {
        *sum = udot(*sum, load_codes(a), load_codes(b));
    }
    let sum = vaddvq_u32(vaddq_u32(vaddq_u32(sums[0], sums[1]), vaddq_u32(sums[2], sums[3])));
    sum.wrapping_add(dot_codes_rest(a_rest, b_rest))
}

/// Adds the products of 16 pairs of codes to four sums, four products to each: what `vdotq_u32` does.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn udot(mut sums: uint32x4_t, x: uint8x16_t, y: uint8x16_t) -> uint32x4_t {
    // SAFETY: `udot` exists, since this function enables `dotprod`. It changes nothing but its destination
    // register: no memory, no flags, no stack, as the options say.
    unsafe {
        asm!(
            "udot {sums:v}.4s, {x:v}.16b, {y:v}.16b",
            sums = inout(vreg) sums,
            x = in(vreg) x,
            y = in(vreg) y,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[target_feature(enable = "neon")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<FLOATS>();
    let (b_blocks, b_rest) = b.as_chunks::<FLOATS>();
    accumulate(a_blocks, b_blocks, |sum, x, y| vfmaq_f32(sum, x, y)) + Scalar.dot(a_rest, b_rest)
}

#[target_feature(enable = "neon")]
fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<FLOATS>();
    let (b_blocks, b_rest) = b.as_chunks::<FLOATS>();
    let sum = accumulate(a_blocks, b_blocks, |sum, x, y| {
        let difference = vsubq_f32(x, y);
        vfmaq_f32(sum, difference, difference)
    });
    sum + Scalar.squared_l2(a_rest, b_rest)
}

/// Adds up `add_term(sum, x, y)` over both slices of registers.
#[inline]
#[target_feature(enable = "neon")]
fn accumulate(
    a: &[[f32; FLOATS]],
    b: &[[f32; FLOATS]],
    add_term: impl Fn(float32x4_t, float32x4_t, float32x4_t) -> float32x4_t,
) -> f32 {
    let (a_quads, a_odd) = a.as_chunks::<4>();
    let (b_quads, b_odd) = b.as_chunks::<4>();

    let mut sums = [vdupq_n_f32(0.0); 4];
    for ([a0, a1, a2, a3], [b0, b1, b2, b3]) in a_quads.iter().zip(b_quads) {
        sums[0] = add_term(sums[0], load_floats(a0), load_floats(b0));
        sums[1] = add_term(sums[1], load_floats(a1), load_floats(b1));
        sums[2] = add_term(sums[2], load_floats(a2), load_floats(b2));
        sums[3] = add_term(sums[3], load_floats(a3), load_floats(b3));
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_odd.iter().zip(b_odd)) {
        *sum = add_term(*sum, load_floats(a), load_floats(b));
    }
    vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])))
}

#[inline]
#[target_feature(enable = "neon")]
fn load_codes(block: &[u8; CODES]) -> uint8x16_t {
    // SAFETY: the block is exactly the 16 bytes that are read. No alignment is needed.
    unsafe { vld1q_u8(block.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_floats(block: &[f32; FLOATS]) -> float32x4_t {
    // SAFETY: the block is exactly the 4 floats that are read. A float's own alignment suffices.
    unsafe { vld1q_f32(block.as_ptr()) }
}
