//! Where things are in a segment.

use std::fs::File;
use std::os::unix::fs::FileExt;

pub const HEADER: u64 = 70;
pub const CODES: u64 = 65_536;
/// Five scalars, the key, the stamp.
pub const TAIL: u64 = 56;
/// What it takes without codes.
pub const TAIL_LINE: u64 = 64;

/// As the segment's header says.
pub struct Layout {
    /// Bytes of a code before its tail.
    pub coded: u64,
    pub code_stride: u64,
    pub vector_stride: u64,
    pub vectors: u64,
}

/// What stands behind a code.
pub struct Tail {
    /// 0 in a slot that was never used.
    pub norm: u64,
    pub key: u64,
    pub stamp: u64,
}

impl Layout {
    pub fn read(file: &File, dimension: usize) -> Self {
        let word = |offset| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, offset).unwrap();
            u64::from(u32::from_le_bytes(bytes))
        };
        let mut kind = [0];
        file.read_exact_at(&mut kind, 49).unwrap();
        let (code_stride, vector_stride, vectors) = (word(50), word(54), word(58));
        let coded = if kind[0] == 0 { 0 } else { dimension as u64 };
        assert!(code_stride >= coded + TAIL && vector_stride >= 4 * dimension as u64 && vectors > CODES);
        Self { coded, code_stride, vector_stride, vectors }
    }

    pub fn code(&self, slot: u32) -> u64 {
        CODES + u64::from(slot) * self.code_stride
    }

    pub fn vector(&self, slot: u32) -> u64 {
        self.vectors + u64::from(slot) * self.vector_stride
    }

    /// The slot whose code or vector this byte belongs to.
    pub fn slot_at(&self, offset: u64) -> Option<u32> {
        let (region, stride) = match offset {
            0..CODES => return None,
            offset if offset < self.vectors => (CODES, self.code_stride),
            _ => (self.vectors, self.vector_stride),
        };
        u32::try_from((offset - region) / stride).ok()
    }

    pub fn tail(&self, file: &File, slot: u32) -> Tail {
        let word = |offset| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, offset).unwrap();
            u64::from_le_bytes(bytes)
        };
        let tail = self.code(slot) + self.coded;
        Tail { norm: word(tail + 32), key: word(tail + 40), stamp: word(tail + 48) }
    }
}
