//! Where in which segment a slot lives.
//!
//! A slot's vector and its code each lie at a fixed stride. With codes, a segment has two regions, so that a search that walks on
//! codes touches them alone; without, it has one, in which what is left of the code, its tail (norm, key, stamp), has the cache
//! line before the vector:
//!
//! ```text
//! with codes      header | code 0 | code 1 | …      | vector 0 | vector 1 | …
//! without         header | tail 0, vector 0 | tail 1, vector 1 | …
//! ```
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
use crate::options::{Codes, Element, Parameters};

/// Regions of a segment start at multiples of Windows' mapping granularity, which is also a multiple of all page sizes.
pub(crate) const REGION_ALIGNMENT: u64 = 64 * 1024;
/// Slots start at cache lines.
const SLOT_ALIGNMENT: usize = 64;
/// The first segment takes about this much, the last ones about the other.
const SMALLEST_SEGMENT: usize = 128 * 1024;
const LARGEST_SEGMENT: usize = 64 * 1024 * 1024;
const MOST_SLOTS_IN_FIRST: usize = 1024;

/// Strides and capacities of a collection's segments, a function of the dimension, the kind of codes and the element type alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) dimension: usize,
    pub(crate) codes: Codes,
    pub(crate) element: Element,
    /// Bytes of a code before its tail: one per component, or none.
    pub(crate) coded: usize,
    pub(crate) code_stride: usize,
    pub(crate) vector_stride: usize,
    unit_log2: u32,
    steps: u32,
}

impl Geometry {
    /// `dimension` is 1..=65,535, so nothing here overflows.
    pub(crate) fn new(dimension: usize, codes: Codes, element: Element) -> Self {
        let coded = match codes {
            Codes::SevenBit => dimension,
            Codes::None => 0,
        };
        let code = (Self::tail_offset(coded) + CODE_TAIL).next_multiple_of(SLOT_ALIGNMENT);
        let vector = element.vector_len(dimension).next_multiple_of(SLOT_ALIGNMENT);
        let bytes = code + vector;
        let (code_stride, vector_stride) = match codes {
            Codes::SevenBit => (code, vector),
            Codes::None => (bytes, bytes),
        };
        let unit = (SMALLEST_SEGMENT / bytes).clamp(1, MOST_SLOTS_IN_FIRST);
        let largest = (LARGEST_SEGMENT / bytes).max(unit);
        let unit_log2 = unit.ilog2();
        let steps = largest.ilog2() - unit_log2;
        Self { dimension, codes, element, coded, code_stride, vector_stride, unit_log2, steps }
    }

    pub(crate) fn of(parameters: &Parameters) -> Self {
        Self::new(parameters.dimension, parameters.codes, parameters.element)
    }

    /// Where the scalars begin in a code of so many components: behind them, at a multiple of 8.
    pub(crate) fn tail_offset(coded: usize) -> usize {
        coded.next_multiple_of(8)
    }

    /// The bytes of a code slot that mean something.
    pub(crate) fn code_len(&self) -> usize {
        Self::tail_offset(self.coded) + CODE_TAIL
    }

    pub(crate) fn vector_len(&self) -> usize {
        self.element.vector_len(self.dimension)
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

    /// Where the code at `index` begins in a segment's file.
    #[inline]
    pub(crate) fn code_offset(&self, index: usize) -> u64 {
        REGION_ALIGNMENT + index as u64 * self.code_stride as u64
    }

    /// Where the first vector of a segment begins.
    #[inline]
    pub(crate) fn vectors_offset(&self, capacity: u32) -> u64 {
        let before = match self.codes {
            Codes::SevenBit => {
                (u64::from(capacity) * self.code_stride as u64).next_multiple_of(REGION_ALIGNMENT)
            }
            Codes::None => CODE_TAIL.next_multiple_of(SLOT_ALIGNMENT) as u64,
        };
        REGION_ALIGNMENT + before
    }

    /// Where the vector at `index` begins in the file of a segment.
    #[inline]
    pub(crate) fn vector_offset(&self, capacity: u32, index: usize) -> u64 {
        self.vectors_offset(capacity) + index as u64 * self.vector_stride as u64
    }

    pub(crate) fn file_len(&self, capacity: u32) -> u64 {
        let vectors = u64::from(capacity) * self.vector_stride as u64;
        (self.vectors_offset(capacity) + vectors).next_multiple_of(REGION_ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometries(dimensions: &[usize]) -> impl Iterator<Item = Geometry> {
        let elements = [Element::F32, Element::F16, Element::I8];
        let kinds = elements.map(|element| [(Codes::SevenBit, element), (Codes::None, element)]);
        let all = move |&dimension| {
            kinds
                .as_flattened()
                .to_vec()
                .into_iter()
                .map(move |(codes, element)| Geometry::new(dimension, codes, element))
        };
        dimensions.iter().flat_map(all)
    }

    #[test]
    fn every_slot_has_one_place_and_segments_follow_each_other() {
        for geometry in geometries(&[1, 2, 3, 64, 128, 384, 1536, 65_535]) {
            let mut next = 0_u64;
            for ordinal in 0..40 {
                assert_eq!(geometry.base(ordinal).map(u64::from), Some(next), "{geometry:?}, {ordinal}");
                let capacity = geometry.capacity(ordinal);
                for index in [0, 1, capacity / 2, capacity - 1] {
                    let index = index.min(capacity - 1);
                    let slot = Slot::try_from(next).unwrap() + index;
                    assert_eq!(geometry.locate(slot), (ordinal, index as usize), "{geometry:?}");
                }
                next += u64::from(capacity);
            }
        }
    }

    #[test]
    fn the_last_slots_are_addressable_and_nothing_lies_beyond_them() {
        for geometry in geometries(&[1]) {
            let (ordinal, index) = geometry.locate(Slot::MAX);
            assert!(geometry.base(ordinal).is_some());
            assert!(index < geometry.capacity(ordinal) as usize);
            assert_eq!(geometry.base(ordinal + 1), None);
        }
    }

    #[test]
    fn sizes_are_bounded_and_regions_aligned() {
        for geometry in geometries(&[1, 16, 384, 4096, 65_535]) {
            let small = geometry.file_len(geometry.capacity(0));
            let large = geometry.file_len(geometry.capacity(1000));
            assert!(small <= 512 * 1024 || geometry.dimension > 16_384, "{geometry:?}: {small}");
            assert!(large <= 66 * 1024 * 1024, "{geometry:?}: {large}");
            if geometry.codes == Codes::SevenBit {
                assert_eq!(geometry.vectors_offset(geometry.capacity(3)) % REGION_ALIGNMENT, 0);
            }
            assert_eq!(geometry.code_stride % 64, 0);
            assert_eq!(geometry.vector_stride % 64, 0);
        }
    }

    /// Two slots of a segment side by side: nothing overlaps, nothing lies beyond the end.
    #[test]
    fn codes_and_vectors_have_their_bytes_to_themselves() {
        for geometry in geometries(&[1, 2, 3, 7, 14, 15, 16, 17, 100, 384, 65_535]) {
            let capacity = geometry.capacity(1);
            let mut places: Vec<(u64, u64)> = Vec::new();
            for index in [0, 1, capacity as usize - 1] {
                let (code, vector) = (geometry.code_offset(index), geometry.vector_offset(capacity, index));
                places.push((code, code + geometry.code_len() as u64));
                places.push((vector, vector + geometry.vector_len() as u64));
                assert_eq!((code % 8, vector % 64), (0, 0), "{geometry:?}");
            }
            places.sort_unstable();
            places.dedup();
            assert!(places.is_sorted_by(|a, b| a.1 <= b.0), "{geometry:?}: {places:?}");
            assert!(places[0].0 >= REGION_ALIGNMENT);
            assert!(places.last().unwrap().1 <= geometry.file_len(capacity), "{geometry:?}: {places:?}");
        }
    }

    #[test]
    fn without_codes_the_tail_has_the_cache_line_before_the_vector() {
        let geometry = Geometry::new(3, Codes::None, Element::F32);
        assert_eq!((geometry.code_offset(2), geometry.code_len()), (65_536 + 256, 56));
        assert_eq!((geometry.vector_offset(8, 2), geometry.vector_stride), (65_536 + 256 + 64, 128));
        assert_eq!(Geometry::new(384, Codes::None, Element::F32).vector_stride, 64 + 1536);
    }

    #[test]
    fn smaller_elements_take_less() {
        let bytes = |element| {
            let geometry = Geometry::new(384, Codes::SevenBit, element);
            (geometry.code_stride, geometry.vector_len(), geometry.vector_stride)
        };
        assert_eq!(bytes(Element::F32), (448, 1536, 1536));
        assert_eq!(bytes(Element::F16), (448, 768, 768));
        assert_eq!(bytes(Element::I8), (448, 385, 448));
    }
}
