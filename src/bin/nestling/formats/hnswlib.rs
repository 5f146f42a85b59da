//! The index files of hnswlib, as `saveIndex` writes them (hnswlib/hnswalg.h), here of 64-bit machines that are little-endian.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 8 | offset of layer 0: 0 |
//! | 8 | 8 | elements that there is room for |
//! | 16 | 8 | elements |
//! | 24 | 8 | bytes of an element on layer 0 |
//! | 32 | 8 | offset of the label in an element |
//! | 40 | 8 | offset of the vector in an element |
//! | 48 | 4 | highest level, i32 |
//! | 52 | 4 | entry point, u32 |
//! | 56 | 8 | most neighbours above layer 0 |
//! | 64 | 8 | most neighbours on layer 0 |
//! | 72 | 8 | M |
//! | 80 | 8 | scale of the levels, f64 |
//! | 88 | 8 | ef of the construction |
//! | 96 | … | per element: number of neighbours (u16), a byte whose lowest bit marks it as deleted, a byte, as many neighbours (u32) as there may be, the vector, the label (u64) |
//! | | … | per element: bytes of its links above layer 0 (u32), and those links |
//!
//! The metric is not told, and neither is the type of the components, which are taken for f32. Python's binding normalises vectors under
//! `cosine` before it stores them, so that normalised ones are imported.

use super::error::{FileError, Place};
use super::source::Source;
use super::texmex::Element;
use super::{MAX_WIDTH, Row, Rows};

const HEADER: usize = 96;

/// An index being read element by element.
pub(super) struct Hnswlib {
    source: Source,
    elements: u64,
    /// The element that is read next.
    next: u64,
    /// Where in an element the vector and the label begin.
    vector_at: usize,
    label_at: usize,
    /// Most neighbours on layer 0, and above.
    m0: u64,
    m: u64,
    max_level: u64,
    /// The bytes of an element on layer 0.
    buffer: Vec<u8>,
}

impl Hnswlib {
    pub(super) fn new(mut source: Source) -> Result<Self, FileError> {
        let mut header = [0; HEADER];
        source.fill_whole(&mut header, Place::Header)?;
        let word = |at: usize| {
            let bytes = header.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
            u64::from_le_bytes(bytes.copied().unwrap_or_default())
        };
        let [layer_0, room, elements, size] = [word(0), word(8), word(16), word(24)];
        let [label_at, vector_at, m, m0, also_m] = [word(32), word(40), word(56), word(64), word(72)];
        let (max_level, entry) = (word(48) as u32 as i32, word(48) >> 32);
        let malformed = |problem: &str| source.malformed(Place::Header, problem);
        let is_sound = layer_0 == 0
            && elements <= room
            && elements <= u64::from(u32::MAX)
            && m == also_m
            && (1..=u64::from(u16::MAX)).contains(&m)
            && m0 == 2 * m
            && vector_at == 4 * m0 + 4
            && (vector_at..vector_at + 4 * (MAX_WIDTH + 1)).contains(&label_at)
            && size == label_at + 8
            && (0..64).contains(&max_level) | (elements == 0)
            && (entry < elements || elements == 0)
            && f64::from_bits(word(80)) > 0.0;
        if !is_sound {
            return Err(malformed(
                "contradicts itself; this is no index of hnswlib, or one of a machine of another kind, or damaged",
            ));
        }
        let width_bytes = label_at - vector_at;
        if width_bytes == 0 || !width_bytes.is_multiple_of(4) {
            return Err(malformed("states components that are no f32; only indexes of f32 can be read"));
        }
        // Besides its bytes on layer 0 every element has at least the length of its other links.
        let least = HEADER as u128 + u128::from(elements) * (u128::from(size) + 4);
        match source.bytes() {
            Some(found) if u128::from(found) < least => {
                return Err(FileError::WrongLength {
                    path: source.path().to_owned(),
                    announced: least,
                    found,
                });
            }
            _ => {}
        }
        Ok(Self {
            source,
            elements,
            next: 0,
            vector_at: vector_at as usize,
            label_at: label_at as usize,
            m0,
            m,
            max_level: max_level.max(0) as u64,
            buffer: vec![0; size as usize],
        })
    }

    /// Passes over the links above layer 0, and makes sure that they fill the file.
    fn read_links(&mut self) -> Result<(), FileError> {
        let row = 4 * self.m + 4;
        let mut links = vec![0; row as usize];
        for element in 0..self.elements {
            let place = Place::Row(element);
            let mut length = [0; 4];
            self.source.fill_whole(&mut length, place)?;
            let length = u64::from(u32::from_le_bytes(length));
            if !length.is_multiple_of(row) || length / row > self.max_level {
                let problem = "states links of an impossible length; the file is damaged";
                return Err(self.source.malformed(place, problem));
            }
            for _ in 0..length / row {
                self.source.fill_whole(&mut links, place)?;
            }
        }
        self.source.must_end()
    }
}

impl Rows for Hnswlib {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        while self.next < self.elements {
            let place = Place::Row(self.next);
            self.source.fill_whole(&mut self.buffer, place)?;
            self.next += 1;
            let [low, high, mark, _] = *self.buffer.first_chunk::<4>().unwrap_or(&[0; 4]);
            if u64::from(u16::from_le_bytes([low, high])) > self.m0 {
                let problem = format!("states more than {} neighbors; the file is damaged", self.m0);
                return Err(self.source.malformed(place, &problem));
            }
            if mark & 1 == 1 {
                continue;
            }
            f32::decode(self.buffer.get(self.vector_at..self.label_at).unwrap_or_default(), values);
            let label = self.buffer.last_chunk().copied().unwrap_or_default();
            return Ok(Some(Row { place, key: Some(u64::from_le_bytes(label)) }));
        }
        // Once: at the end of the file there is nothing more to read.
        if self.next == self.elements {
            self.read_links()?;
            self.next += 1;
        }
        Ok(None)
    }

    fn count(&self) -> Option<u64> {
        Some(self.elements)
    }
}
