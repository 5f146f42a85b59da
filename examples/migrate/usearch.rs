//! The files of usearch 2, with f32, f16 or bf16 components, u64 keys that do not repeat and the default sizes.
//!
//! ```text
//! 8 bytes            rows, bytes of a row (u32 each)
//! rows               the vectors
//! 64 bytes           "usearch", version (3 · u16), metric, types of components, keys and slots (a byte each), vectors, removed
//!                    vectors, dimension (u64 each), whether keys may repeat (a byte), zeros
//! 40 bytes           nodes, most neighbors above layer 0, most on it, highest level, entry point (u64 each)
//! 2 · nodes          their levels (i16)
//! then, per node     key (u64), level (i16), then links on layer 0 and on each above: their number, and room for the most (u32)
//! ```
//!
//! A removed vector has the key 2⁶⁴ − 1. Keys come behind the vectors, so they are read first.

use std::path::Path;

use super::old_index::{Bytes, ReadError, floats};

/// The key of a removed vector.
const REMOVED: u64 = u64::MAX;

/// An index being read.
pub struct Usearch {
    bytes: Bytes,
    scalar: Scalar,
    keys: std::vec::IntoIter<u64>,
    row: Vec<u8>,
}

impl Usearch {
    pub fn open(path: &Path, dimension: usize) -> Result<Self, ReadError> {
        let (scalar, keys) = tail(Bytes::open(path)?, dimension)?;
        let mut bytes = Bytes::open(path)?;
        bytes.skip(8)?;
        Ok(Self { bytes, scalar, keys: keys.into_iter(), row: vec![0; dimension * scalar.bytes()] })
    }

    fn entry(&mut self) -> Result<Option<(u64, Vec<f32>)>, ReadError> {
        for key in self.keys.by_ref() {
            self.bytes.fill(&mut self.row)?;
            if key != REMOVED {
                return Ok(Some((key, self.scalar.decode(&self.row))));
            }
        }
        Ok(None)
    }
}

impl Iterator for Usearch {
    type Item = Result<(u64, Vec<f32>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entry().transpose()
    }
}

/// What stands behind the vectors: the type of their components, and their keys.
fn tail(mut bytes: Bytes, dimension: usize) -> Result<(Scalar, Vec<u64>), ReadError> {
    let malformed = |what| Err(ReadError::Malformed(what));
    let [rows, row_bytes] = [bytes.array()?, bytes.array()?].map(|word| u64::from(u32::from_le_bytes(word)));
    bytes.skip(rows * row_bytes)?;
    let head: [u8; 64] = bytes.array()?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    if &head[..7] != b"usearch" || u16::from_le_bytes([head[7], head[8]]) != 2 {
        return malformed("there is no word of usearch 2 behind its vectors");
    }
    let Some(scalar) = Scalar::of_kind(head[14]) else {
        return malformed("its components are neither f32 nor f16 nor bf16");
    };
    if [head[15], head[16], head[41]] != [14, 15, 0] {
        return malformed("its keys are not single u64s, or its slots no u32s");
    }
    let (live, removed) = (word(17), word(25));
    if word(33) != dimension as u64
        || row_bytes != (dimension * scalar.bytes()) as u64
        || live.checked_add(removed) != Some(rows)
    {
        return malformed("its head says other things than that of an index of this app");
    }
    let [nodes, m, m0, max_level, _] =
        [bytes.word()?, bytes.word()?, bytes.word()?, bytes.word()?, bytes.word()?];
    let limit = u64::from(u16::MAX);
    // Every node takes its key and its level twice, so that its file is long enough for the room that is made here.
    if nodes != rows || m > limit || m0 > limit || max_level > limit || 12 * nodes > bytes.length {
        return malformed("its graph does not fit its vectors");
    }
    let mut levels = vec![0; 2 * nodes as usize];
    bytes.fill(&mut levels)?;
    let mut keys = Vec::with_capacity(nodes as usize);
    for level in levels.chunks_exact(2) {
        keys.push(bytes.word()?);
        if bytes.array::<2>()? != level {
            return malformed("a level is told in two ways");
        }
        let level = u64::from(u16::from_le_bytes([level[0], level[1]]));
        if level > max_level {
            return malformed("a level is above the highest");
        }
        bytes.skip(4 + 4 * m0 + level * (4 + 4 * m))?;
    }
    bytes.must_end()?;
    if keys.iter().filter(|&&key| key != REMOVED).count() as u64 != live {
        return malformed("its keys are not as many as its vectors");
    }
    Ok((scalar, keys))
}

/// The type of the components.
#[derive(Debug, Clone, Copy)]
enum Scalar {
    Bf16,
    F32,
    F16,
}

impl Scalar {
    fn of_kind(kind: u8) -> Option<Self> {
        match kind {
            4 => Some(Scalar::Bf16),
            11 => Some(Scalar::F32),
            12 => Some(Scalar::F16),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        if matches!(self, Scalar::F32) { 4 } else { 2 }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let halves = bytes.chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]]));
        match self {
            Scalar::Bf16 => halves.map(|half| f32::from_bits(u32::from(half) << 16)).collect(),
            Scalar::F32 => floats(bytes),
            Scalar::F16 => halves.map(from_f16).collect(),
        }
    }
}

/// The crate `half` does the same.
fn from_f16(half: u16) -> f32 {
    let (exponent, mantissa) = (i32::from(half >> 10 & 31), f32::from(half & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2_f32.powi(-24),
        31 if mantissa == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + mantissa) * 2_f32.powi(exponent - 25),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}
