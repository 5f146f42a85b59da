//! Where in which segment a slot lives.
//!
//! Segment capacities double from `unit` to `unit · 2ᵗ` and stay there, so that small stores stay small and large ones need
//! few files. With s = slot + unit, segment i < t holds s in unit·2ⁱ .. unit·2ⁱ⁺¹; later segments hold unit·2ᵗ each:
//!
//! ```text
//! segment     0     1     2        3            …  t      t+1
//! capacity    u     u·2   u·4      u·8             u·2ᵗ   u·2ᵗ
//! ```

use super::Slot;
use super::code::CODE_TAIL;

/// Regions of a segment start at multiples of Windows' mapping granularity, which is also a multiple of all page sizes.
pub(crate) const REGION_ALIGNMENT: u64 = 64 * 1024;
/// Slots start at cache lines.
const SLOT_ALIGNMENT: usize = 64;
/// The first segment takes about this much, the last ones about the other.
const SMALLEST_SEGMENT: usize = 128 * 1024;
const LARGEST_SEGMENT: usize = 64 * 1024 * 1024;
const MOST_SLOTS_IN_FIRST: usize = 1024;

/// Strides and capacities of a collection's segments, a function of the dimension alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) dimension: usize,
    pub(crate) code_stride: usize,
    pub(crate) vector_stride: usize,
    unit_log2: u32,
    steps: u32,
}

impl Geometry {
    /// `dimension` is 1..=65,535, so nothing here overflows.
    pub(crate) fn new(dimension: usize) -> Self {
        let code_stride = (Self::tail_offset(dimension) + CODE_TAIL).next_multiple_of(SLOT_ALIGNMENT);
        let vector_stride = (dimension * 4).next_multiple_of(SLOT_ALIGNMENT);
        let bytes = code_stride + vector_stride;
        let unit = (SMALLEST_SEGMENT / bytes).clamp(1, MOST_SLOTS_IN_FIRST);
        let largest = (LARGEST_SEGMENT / bytes).max(unit);
        let unit_log2 = unit.ilog2();
        Self { dimension, code_stride, vector_stride, unit_log2, steps: largest.ilog2() - unit_log2 }
    }

    /// Where the scalars begin in a code slot: behind the codes, at a multiple of 8.
    pub(crate) fn tail_offset(dimension: usize) -> usize {
        dimension.next_multiple_of(8)
    }

    /// The bytes of a code slot that mean something.
    pub(crate) fn code_len(&self) -> usize {
        Self::tail_offset(self.dimension) + CODE_TAIL
    }

    pub(crate) fn vector_len(&self) -> usize {
        self.dimension * 4
    }

    /// The segment's ordinal and the slot's index in it.
    #[inline]
    pub(crate) fn locate(&self, slot: Slot) -> (usize, usize) {
        let shifted = u64::from(slot) + (1 << self.unit_log2);
        let step = shifted.ilog2() - self.unit_log2;
        if step < self.steps {
            (step as usize, (shifted - (1 << (self.unit_log2 + step))) as usize)
        } else {
            let full = self.unit_log2 + self.steps;
            let ordinal = u64::from(self.steps) + (shifted >> full) - 1;
            (ordinal as usize, (shifted & ((1 << full) - 1)) as usize)
        }
    }

    /// Slots in the segment of this ordinal.
    pub(crate) fn capacity(&self, ordinal: usize) -> u32 {
        1 << (self.unit_log2 + self.steps.min(u32::try_from(ordinal).unwrap_or(u32::MAX)))
    }

    /// The first slot of the segment of this ordinal; `None` past the last addressable one.
    pub(crate) fn base(&self, ordinal: usize) -> Option<Slot> {
        let steps = u64::from(self.steps);
        let ordinal = u64::try_from(ordinal).ok()?;
        let unit = 1_u64 << self.unit_log2;
        let shifted = match ordinal.checked_sub(steps) {
            None => unit << ordinal,
            Some(beyond) => (unit << steps).checked_mul(beyond + 1)?,
        };
        Slot::try_from(shifted - unit).ok()
    }

    pub(crate) fn codes_offset(&self) -> u64 {
        REGION_ALIGNMENT
    }

    pub(crate) fn vectors_offset(&self, capacity: u32) -> u64 {
        let codes = u64::from(capacity) * self.code_stride as u64;
        self.codes_offset() + codes.next_multiple_of(REGION_ALIGNMENT)
    }

    pub(crate) fn file_len(&self, capacity: u32) -> u64 {
        let vectors = u64::from(capacity) * self.vector_stride as u64;
        self.vectors_offset(capacity) + vectors.next_multiple_of(REGION_ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_place_and_segments_follow_each_other() {
        for dimension in [1, 2, 3, 64, 128, 384, 1536, 65_535] {
            let geometry = Geometry::new(dimension);
            let mut next = 0_u64;
            for ordinal in 0..40 {
                assert_eq!(geometry.base(ordinal).map(u64::from), Some(next), "d {dimension}, {ordinal}");
                let capacity = geometry.capacity(ordinal);
                for index in [0, 1, capacity / 2, capacity - 1] {
                    let index = index.min(capacity - 1);
                    let slot = Slot::try_from(next).unwrap() + index;
                    assert_eq!(geometry.locate(slot), (ordinal, index as usize), "d {dimension}");
                }
                next += u64::from(capacity);
            }
        }
    }

    #[test]
    fn the_last_slots_are_addressable_and_nothing_lies_beyond_them() {
        let geometry = Geometry::new(1);
        let (ordinal, index) = geometry.locate(Slot::MAX);
        assert!(geometry.base(ordinal).is_some());
        assert!(index < geometry.capacity(ordinal) as usize);
        assert_eq!(geometry.base(ordinal + 1), None);
    }

    #[test]
    fn sizes_are_bounded_and_regions_aligned() {
        for dimension in [1, 16, 384, 4096, 65_535] {
            let geometry = Geometry::new(dimension);
            let small = geometry.file_len(geometry.capacity(0));
            let large = geometry.file_len(geometry.capacity(1000));
            assert!(small <= 512 * 1024 || dimension > 16_384, "d {dimension}: {small}");
            assert!(large <= 66 * 1024 * 1024, "d {dimension}: {large}");
            assert_eq!(geometry.vectors_offset(geometry.capacity(3)) % REGION_ALIGNMENT, 0);
            assert_eq!(geometry.code_stride % 64, 0);
        }
    }
}
