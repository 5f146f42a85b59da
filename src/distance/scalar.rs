//! Portable kernels, without `unsafe`: for every other CPU, and for the last few elements of the vector kernels.
//!
//! These loops keep one sum per lane of an array, which the compiler turns into whatever vector instructions the
//! target guarantees. For f32 it could not split a single sum, since addition is not associative; for codes it
//! could, but does it less well (2.4 times slower on baseline x86_64).

use super::{Kernel, common_length};

/// Lanes that are summed separately: two 256-bit or four 128-bit registers of f32.
const LANES: usize = 16;

/// The kernels that need no particular instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scalar;

impl Kernel for Scalar {
    const NAME: &'static str = "scalar";

    #[inline]
    fn dot_codes(self, a: &[u8], b: &[u8]) -> u32 {
        let (a, b) = common_length(a, b);
        let (a_blocks, a_rest) = a.as_chunks::<LANES>();
        let (b_blocks, b_rest) = b.as_chunks::<LANES>();

        // Sums wrap rather than overflow, for slices beyond the length that the trait allows.
        let mut sums = [0_u32; LANES];
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for lane in 0..LANES {
                sums[lane] = sums[lane].wrapping_add(u32::from(a[lane]) * u32::from(b[lane]));
            }
        }
        sums.iter().fold(dot_codes_rest(a_rest, b_rest), |total, &sum| total.wrapping_add(sum))
    }

    #[inline]
    fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        sum_by_lanes(a, b, |x, y| x * y)
    }

    #[inline]
    fn squared_l2(self, a: &[f32], b: &[f32]) -> f32 {
        sum_by_lanes(a, b, |x, y| (x - y) * (x - y))
    }

    #[inline]
    fn prefetch<T>(self, _items: &[T]) {}
}

/// Σ a\[i\]·b\[i\] of the few codes that fill no block.
#[inline]
pub(super) fn dot_codes_rest(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).fold(0, |sum: u32, (&x, &y)| sum.wrapping_add(u32::from(x) * u32::from(y)))
}

/// Σ term(a\[i\], b\[i\]).
#[inline]
fn sum_by_lanes(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a, b) = common_length(a, b);
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();

    let mut sums = [0.0; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(x, y)).sum();
    sums.iter().sum::<f32>() + rest
}
