//! The index files of usearch 2, as `index_dense_gt::save` writes them (include/usearch/index_dense.hpp).
//!
//! | bytes | what, little-endian |
//! |---|---|
//! | 4, 4 or 8, 8 | number of rows, and their bytes; 32 bits each, or 64 where that was asked for |
//! | rows · bytes | the vectors |
//! | 64 | `usearch`; version (3 · u16); metric, type of the components, of the keys, of the slots (a byte each); vectors, removed vectors, dimension (u64); whether keys may repeat (a byte) |
//! | 40 | number of nodes, most neighbours above layer 0 and on it, highest level, entry point (u64 each) |
//! | 2 · nodes | their levels, i16 |
//! | … | per node: key (u64), level (i16), then its links on layer 0 and on each layer above: their number (u32) and as many slots (u32) as there may be |
//!
//! Node and row of the same number belong together; a removed one has the key 2⁶⁴ − 1. The keys come after the vectors: they are read
//! first, and kept in memory.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use nestling::Metric;

use super::error::{FileError, Place};
use super::npy::from_f16;
use super::source::Source;
use super::texmex::Element;
use super::{MAX_WIDTH, Row, Rows};

const HEAD: u64 = 64;
const GRAPH_HEAD: u64 = 40;
/// The key of a removed vector.
const FREE: u64 = u64::MAX;

/// The type of the components.
#[derive(Clone, Copy, Debug)]
enum Scalar {
    F16,
    Bf16,
    F32,
    F64,
}

impl Scalar {
    fn bytes(self) -> u64 {
        match self {
            Scalar::F16 | Scalar::Bf16 => 2,
            Scalar::F32 => 4,
            Scalar::F64 => 8,
        }
    }

    fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        let halves = bytes.as_chunks::<2>().0.iter().map(|&half| u16::from_le_bytes(half));
        match self {
            Scalar::F16 => values.extend(halves.map(from_f16)),
            Scalar::Bf16 => values.extend(halves.map(|half| f32::from_bits(u32::from(half) << 16))),
            Scalar::F32 => f32::decode(bytes, values),
            Scalar::F64 => {
                let words = bytes.as_chunks::<8>().0.iter();
                values.extend(words.map(|&word| f64::from_le_bytes(word) as f32));
            }
        }
    }
}

/// An index being read vector by vector.
pub(super) struct Usearch {
    source: Source,
    scalar: Scalar,
    metric: Option<Metric>,
    keys: std::vec::IntoIter<u64>,
    /// The vector that is read next.
    next: u64,
    rows: u64,
    /// The bytes of a vector.
    buffer: Vec<u8>,
}

impl Usearch {
    pub(super) fn new(mut source: Source) -> Result<Self, FileError> {
        let Some(length) = source.bytes() else {
            return Err(source.unsupported(
                "is a pipe, and an index of usearch has its keys behind its vectors; name a file",
            ));
        };
        let mut index = Index::open(&source, length)?;
        let (matrix, head) = index.find_head(&source)?;
        let (scalar, metric) = head.check(&source, &matrix)?;
        let keys = index.keys(&source, &matrix, &head)?;
        let mut counts = vec![0; matrix.at as usize];
        source.fill_whole(&mut counts, Place::Header)?;
        let buffer = vec![0; matrix.bytes as usize];
        Ok(Self { source, scalar, metric, keys: keys.into_iter(), next: 0, rows: matrix.rows, buffer })
    }
}

impl Rows for Usearch {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        for key in self.keys.by_ref() {
            let place = Place::Row(self.next);
            self.source.fill_whole(&mut self.buffer, place)?;
            self.next += 1;
            if key != FREE {
                self.scalar.decode(&self.buffer, values);
                return Ok(Some(Row { place, key: Some(key) }));
            }
        }
        Ok(None)
    }

    fn count(&self) -> Option<u64> {
        Some(self.rows)
    }

    fn metric(&self) -> Option<Metric> {
        self.metric
    }
}

/// Where the vectors are.
struct Matrix {
    /// Offset of the first.
    at: u64,
    rows: u64,
    /// Bytes of each.
    bytes: u64,
}

impl Matrix {
    /// Offset of what comes after them.
    fn end(&self) -> Option<u64> {
        self.rows.checked_mul(self.bytes)?.checked_add(self.at)
    }
}

/// What stands between the vectors and the graph.
struct Head([u8; HEAD as usize]);

impl Head {
    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
        u64::from_le_bytes(bytes.copied().unwrap_or_default())
    }

    fn live(&self) -> u64 {
        self.word(17)
    }

    /// The type of the components, and the metric if there is one like it here.
    fn check(&self, source: &Source, matrix: &Matrix) -> Result<(Scalar, Option<Metric>), FileError> {
        let unsupported = |problem: String| Err(source.unsupported(&problem));
        let major = u16::from_le_bytes([self.byte(7), self.byte(8)]);
        if major != 2 {
            return unsupported(format!("is of usearch {major}, and files of usearch 2 can be read"));
        }
        let scalar = match self.byte(14) {
            4 => Scalar::Bf16,
            10 => Scalar::F64,
            11 => Scalar::F32,
            12 => Scalar::F16,
            other => {
                let name = match other {
                    1 => "bits",
                    23 => "i8",
                    _ => "an unknown type",
                };
                return unsupported(format!(
                    "has components of {name} (kind {other}), and f32, f16, bf16 and f64 can be read; save the index with one of these"
                ));
            }
        };
        let metric = match self.byte(13) {
            b'c' => Some(Metric::Cosine),
            b'e' => Some(Metric::L2),
            b'i' => Some(Metric::Dot),
            _ => None,
        };
        if (self.byte(15), self.byte(16)) != (14, 15) {
            return unsupported(format!(
                "has keys and slots of kinds {} and {}, and u64 and u32 (14 and 15) can be read",
                self.byte(15),
                self.byte(16)
            ));
        }
        let width = self.word(33);
        let is_sound = (1..=MAX_WIDTH).contains(&width)
            && matrix.bytes == width * scalar.bytes()
            && self.live().checked_add(self.word(25)) == Some(matrix.rows)
            && self.byte(41) <= 1;
        if !is_sound {
            return Err(source.malformed(
                Place::Header,
                "contradicts itself or the number of vectors; the file is damaged, fetch it again",
            ));
        }
        Ok((scalar, metric))
    }
}

/// The same file, where it can be read anywhere.
struct Index {
    file: BufReader<File>,
    length: u64,
}

impl Index {
    fn open(source: &Source, length: u64) -> Result<Self, FileError> {
        let opened = File::open(source.path());
        let file = opened.map_err(|e| FileError::Io { path: source.path().to_owned(), source: e })?;
        Ok(Self { file: BufReader::with_capacity(1 << 16, file), length })
    }

    fn read<const N: usize>(&mut self, source: &Source) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        self.file
            .read_exact(&mut bytes)
            .map_err(|e| FileError::Io { path: source.path().to_owned(), source: e })?;
        Ok(bytes)
    }

    fn words<const N: usize>(&mut self, source: &Source) -> Result<[u64; N], FileError> {
        let mut words = [0; N];
        for word in &mut words {
            *word = u64::from_le_bytes(self.read(source)?);
        }
        Ok(words)
    }

    fn go_to(&mut self, source: &Source, offset: u64) -> Result<(), FileError> {
        let moved = self.file.seek(SeekFrom::Start(offset));
        moved.map(|_| ()).map_err(|e| FileError::Io { path: source.path().to_owned(), source: e })
    }

    /// The head behind a matrix whose size is told in 32 bits, or in 64.
    fn find_head(&mut self, source: &Source) -> Result<(Matrix, Head), FileError> {
        for (at, mask) in [(8, u64::from(u32::MAX)), (16, u64::MAX)] {
            if self.length < at + HEAD + GRAPH_HEAD {
                continue;
            }
            self.go_to(source, 0)?;
            let [first, second] = self.words(source)?;
            let matrix = match at {
                8 => Matrix { at, rows: first & mask, bytes: first >> 32 },
                _ => Matrix { at, rows: first, bytes: second },
            };
            let most = self.length - HEAD - GRAPH_HEAD;
            let Some(end) = matrix.end().filter(|&end| end <= most) else { continue };
            self.go_to(source, end)?;
            let head = Head(self.read(source)?);
            if head.0.starts_with(b"usearch") {
                return Ok((matrix, head));
            }
        }
        Err(source.malformed(
            Place::Header,
            "does not lead to the word \"usearch\" behind the vectors; the file is damaged, or no index of usearch, or one saved without its vectors",
        ))
    }

    /// The keys of all nodes. The graph has to fill the rest of the file exactly, so that no field sizes anything beyond it.
    fn keys(&mut self, source: &Source, matrix: &Matrix, head: &Head) -> Result<Vec<u64>, FileError> {
        let malformed = |problem: &str| Err(source.malformed(Place::Tail, problem));
        let [nodes, m, m0, max_level, entry] = self.words(source)?;
        let begin = matrix.end().unwrap_or(self.length) + HEAD + GRAPH_HEAD;
        let mut left = self.length.saturating_sub(begin);
        let is_sound = nodes == matrix.rows
            && nodes.checked_mul(2 + 10 + 4).is_some_and(|least| least <= left)
            && m <= u64::from(u32::MAX)
            && m0 <= u64::from(u32::MAX)
            && max_level <= i16::MAX as u64
            && (entry < nodes || nodes == 0);
        if !is_sound {
            return malformed(
                "has a graph that does not fit the vectors; the file is damaged, fetch it again",
            );
        }
        let mut levels = Vec::with_capacity(nodes as usize);
        for _ in 0..nodes {
            levels.push(i16::from_le_bytes(self.read(source)?));
        }
        left -= 2 * nodes;
        let mut keys = Vec::with_capacity(nodes as usize);
        for level in levels {
            let height = u64::try_from(level).ok().filter(|&level| level <= max_level);
            let bytes = height.map(|height| 10 + (4 + 4 * m0) + height * (4 + 4 * m));
            let Some(bytes) = bytes.filter(|&bytes| bytes <= left) else {
                return malformed("has a node that does not fit into the file; fetch it again");
            };
            let key = u64::from_le_bytes(self.read(source)?);
            if i16::from_le_bytes(self.read(source)?) != level {
                return malformed("has a node whose level is told in two ways; the file is damaged");
            }
            // Within the file, so within an i64.
            let skipped = self.file.seek_relative((bytes - 10) as i64);
            skipped.map_err(|e| FileError::Io { path: source.path().to_owned(), source: e })?;
            keys.push(key);
            left -= bytes;
        }
        let live = keys.iter().filter(|&&key| key != FREE).count() as u64;
        if left != 0 || live != head.live() {
            return malformed("does not agree with what its head tells; the file is damaged, fetch it again");
        }
        Ok(keys)
    }
}
