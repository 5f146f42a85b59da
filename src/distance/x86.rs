//! Kernels for x86 and x86_64, and what they share.

#[cfg(target_arch = "x86")]
use core::arch::x86 as arch;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64 as arch;

mod avx2;
mod avx512;

pub(crate) use self::avx2::Avx2;
pub(crate) use self::avx512::Avx512;

/// The size of a cache line on every x86 CPU with AVX2.
const CACHE_LINE: usize = 64;

/// Prefetches the cache lines that `items` touch into all levels of the cache.
///
/// # Safety
///
/// The CPU must have SSE.
#[inline]
unsafe fn prefetch_lines<T>(items: &[T]) {
    let start = items.as_ptr().cast::<i8>();
    let into_line = start.addr() % CACHE_LINE;
    let first_line = start.wrapping_sub(into_line);
    for offset in (0..into_line + size_of_val(items)).step_by(CACHE_LINE) {
        // SAFETY: the caller vouches for SSE. The pointer is only a hint: prefetching never faults, and it reads
        // nothing that the program could see.
        unsafe { arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(first_line.wrapping_add(offset)) };
    }
}
