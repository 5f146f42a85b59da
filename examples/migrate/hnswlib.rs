//! The files of hnswlib, of f32 vectors and from a 64-bit machine that is little-endian.
//!
//! ```text
//! 96 bytes           0, room, entries, bytes of an entry, offset of its label, offset of its vector (u64 each); highest level,
//!                    entry point (u32 each); M, 2 · M, M, scale of the levels, ef of the construction (8 bytes each)
//! then, per entry    a u16, a byte whose lowest bit says that it was deleted, a byte; 2 · M neighbors (u32 each); vector; label (u64)
//! then, per entry    bytes of its links above layer 0 (u32), and those links
//! ```
//!
//! The file tells neither metric nor type of the components. Python's binding normalises vectors under `cosine` before it stores them.

use std::path::Path;

use super::old_index::{Bytes, ReadError, floats};

/// An index being read.
pub struct Hnswlib {
    bytes: Bytes,
    entries: u64,
    next: u64,
    m: u64,
    vector_at: usize,
    entry: Vec<u8>,
}

impl Hnswlib {
    pub fn open(path: &Path, dimension: usize) -> Result<Self, ReadError> {
        let mut bytes = Bytes::open(path)?;
        let mut header = [0; 12];
        for word in &mut header {
            *word = bytes.word()?;
        }
        let [zero, room, entries, size, label_at, vector_at, _, m_above, m0, m, _, _] = header;
        // An app knows its dimension: from that and M follow all sizes. So nothing in the header makes us allocate much.
        let is_sound = zero == 0
            && entries <= room.min(u64::from(u32::MAX))
            && (1..=u64::from(u16::MAX)).contains(&m)
            && (m_above, m0) == (m, 2 * m)
            && vector_at == 4 * m0 + 4
            && label_at == vector_at + 4 * dimension as u64
            && size == label_at + 8;
        if !is_sound {
            return Err(ReadError::Malformed(
                "its header says other things than that of an index of this app",
            ));
        }
        if bytes.length < 96 + entries * (size + 4) {
            return Err(ReadError::Truncated);
        }
        Ok(Self { bytes, entries, next: 0, m, vector_at: vector_at as usize, entry: vec![0; size as usize] })
    }

    fn entry(&mut self) -> Result<Option<(u64, Vec<f32>)>, ReadError> {
        while self.next < self.entries {
            self.bytes.fill(&mut self.entry)?;
            self.next += 1;
            let (vector, label) = self.entry[self.vector_at..].split_last_chunk().expect("as in `open`");
            if self.entry[2] & 1 == 0 {
                return Ok(Some((u64::from_le_bytes(*label), floats(vector))));
            }
        }
        if self.next == self.entries {
            self.next += 1; // once
            self.pass_links()?;
        }
        Ok(None)
    }

    /// Makes sure that the file is whole to its end.
    fn pass_links(&mut self) -> Result<(), ReadError> {
        for _ in 0..self.entries {
            let length = u64::from(u32::from_le_bytes(self.bytes.array()?));
            if !length.is_multiple_of(4 * self.m + 4) {
                return Err(ReadError::Malformed("its links have impossible lengths"));
            }
            self.bytes.skip(length)?;
        }
        self.bytes.must_end()
    }
}

impl Iterator for Hnswlib {
    type Item = Result<(u64, Vec<f32>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entry().transpose()
    }
}
