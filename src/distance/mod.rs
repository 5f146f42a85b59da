//! Distance kernels: the inner loops of every search, one set per instruction set.
//!
//! A search spends its time in three sums over two vectors: the integer dot product of 7-bit codes (graph
//! traversal), and the f32 dot product and squared L2 distance (re-ranking, exact search). Each instruction set
//! implements these as a [`Kernel`], and [`InstructionSet`] picks the best that the CPU has, at run time, since
//! an app ships one binary to many CPUs.
//!
//! # Once per search, not once per distance
//!
//! A call takes some 5 ns, so a branch and an opaque call around it would show. [`dispatch!`] turns an
//! `InstructionSet` into the concrete kernel, for an expression that holds the whole search loop, generic over
//! `K: Kernel`:
//!
//! ```text
//! let nearest = dispatch!(InstructionSet::best(), kernel => search_layer(kernel, graph, query));
//! ```
//!
//! # What makes the unsafe code sound
//!
//! Two facts, both checked. *The instructions exist*: the token types (`Avx2`, `Neon`…) have a private field and
//! one constructor, `detect`, so that holding one proves that detection succeeded. *The memory is there*: every
//! load takes a reference to an array no shorter than the vector register, or a slice from whose length its mask
//! is computed. No load wants alignment. No kernel relies on what the bytes are: a code above 127 gives a
//! meaningless sum, not undefined behaviour, since a damaged file can hold one.
//!
//! # Why 7 bits
//!
//! x86 multiplies unsigned by *signed* bytes (`vpmaddubsw`, `vpdpbusd`), and the former adds pairs in 16 bits with
//! saturation. Codes of 0..=127 mean the same in both signs, and 127 · 127 · 2 = 32,258 < 2¹⁵. On ARM four
//! products fit 16 bits, unsigned: 127 · 127 · 4 = 64,516 < 2¹⁶. The sum is therefore exact, and the same on every
//! CPU, and so is the order in which a graph is traversed.
//!
//! f32 sums are *not* the same on every CPU: each kernel has its own number of accumulators, and some fuse the
//! multiplication with the addition. All lie within d · ε · Σ|aᵢ·bᵢ| of the true sum (Higham, *Accuracy and
//! Stability of Numerical Algorithms*, § 3.1: the bound holds for any order of summation).

#![allow(
    clippy::indexing_slicing,
    reason = "hot loops over slices cut to one length, or arrays of a fixed one"
)]

use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use self::aarch64::{Neon, NeonDot};
pub(crate) use self::scalar::Scalar;
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(crate) use self::x86::{Avx2, Avx512};

/// A set of distance kernels for one instruction set. Values are zero-sized proofs that the CPU has it.
///
/// Of two slices of unequal length, the kernels use as many elements of each as the shorter has.
pub(crate) trait Kernel: Copy + Send + Sync + 'static {
    /// The name that `NESTLING_KERNELS` knows it by.
    const NAME: &'static str;

    /// Σ a\[i\]·b\[i\] of two code vectors. With every byte in 0..=127 and at most 65,535 of them the sum is exact,
    /// and below 2³¹; otherwise it is unspecified.
    fn dot_codes(self, a: &[u8], b: &[u8]) -> u32;

    /// Σ a\[i\]·b\[i\].
    fn dot(self, a: &[f32], b: &[f32]) -> f32;

    /// Σ (a\[i\] − b\[i\])².
    fn squared_l2(self, a: &[f32], b: &[f32]) -> f32;

    /// Runs `f`: what of it is inlined is compiled for these instructions, so that the kernels can be inlined into it.
    #[inline(always)]
    fn vectorized<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    /// Hints that these items will soon be read, so that all of their cache lines come nearer. Does nothing where
    /// the target has no stable intrinsic for it.
    fn prefetch<T>(self, items: &[T]);
}

/// An instruction set that this CPU has, with the proof of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// Portable code: what every target has.
    Scalar,
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx2(Avx2),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
}

/// `dispatch!(instruction_set, kernel => expression)`: the expression, compiled once per instruction set, with
/// `kernel` bound to that set's [`Kernel`].
macro_rules! dispatch {
    ($instruction_set:expr, $kernel:ident => $expression:expr) => {
        match $instruction_set {
            $crate::distance::InstructionSet::Scalar => {
                let $kernel = $crate::distance::Scalar;
                $expression
            }
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            $crate::distance::InstructionSet::Avx2($kernel) => $expression,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            $crate::distance::InstructionSet::Avx512($kernel) => $expression,
            #[cfg(target_arch = "aarch64")]
            $crate::distance::InstructionSet::Neon($kernel) => $expression,
            #[cfg(target_arch = "aarch64")]
            $crate::distance::InstructionSet::NeonDot($kernel) => $expression,
        }
    };
}
pub(crate) use dispatch;

impl InstructionSet {
    /// The best that this CPU has, found at the first call.
    ///
    /// The environment variable `NESTLING_KERNELS` forces a lesser one, for tests and for measuring: `scalar`,
    /// `avx2`, `avx512`, `neon` or `neondot`, read at the first call. A name that is unknown, or that this CPU
    /// lacks, is ignored: a variable meant for another machine must not stop an app from starting.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| Self::choose(std::env::var("NESTLING_KERNELS").ok().as_deref()))
    }

    /// All that this CPU has, the best first.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn available() -> Vec<Self> {
        Self::detected().collect()
    }

    /// The name that `NESTLING_KERNELS` knows it by.
    pub(crate) fn name(self) -> &'static str {
        fn name_of<K: Kernel>(_: K) -> &'static str {
            K::NAME
        }
        dispatch!(self, kernel => name_of(kernel))
    }

    /// [`Kernel::dot_codes`], dispatched on this call: for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn dot_codes(self, a: &[u8], b: &[u8]) -> u32 {
        dispatch!(self, kernel => kernel.dot_codes(a, b))
    }

    /// [`Kernel::dot`], dispatched on this call: for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        dispatch!(self, kernel => kernel.dot(a, b))
    }

    /// [`Kernel::squared_l2`], dispatched on this call: for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn squared_l2(self, a: &[f32], b: &[f32]) -> f32 {
        dispatch!(self, kernel => kernel.squared_l2(a, b))
    }

    fn choose(forced: Option<&str>) -> Self {
        forced
            .and_then(|name| Self::detected().find(|set| set.name() == name))
            .or_else(|| Self::detected().next())
            .unwrap_or(Self::Scalar)
    }

    fn detected() -> impl Iterator<Item = Self> {
        [
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Avx512::detect().map(Self::Avx512),
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            NeonDot::detect().map(Self::NeonDot),
            #[cfg(target_arch = "aarch64")]
            Neon::detect().map(Self::Neon),
            Some(Self::Scalar),
        ]
        .into_iter()
        .flatten()
    }
}

/// The first elements of both slices, as many as the shorter has.
#[inline]
fn common_length<'a, 'b, T>(a: &'a [T], b: &'b [T]) -> (&'a [T], &'b [T]) {
    let length = a.len().min(b.len());
    (&a[..length], &b[..length])
}
