//! The formats of big-ann-benchmarks: `.fbin` (f32) and `.u8bin` (bytes).
//!
//! | bytes | what, little-endian |
//! |---|---|
//! | 4 | number n of rows, u32 |
//! | 4 | their width w, u32 |
//! | 4 · n · w, or n · w | the rows |

use std::io::{self, Write};

use super::error::{FileError, Place, WriteError, to_bytes};
use super::source::Source;
use super::texmex::Element;
use super::{MAX_WIDTH, Row, Rows};

/// A file being read row by row.
pub(super) struct Bin {
    source: Source,
    rows: u64,
    /// The row that is read next.
    row: u64,
    /// Bytes of a component: 4 for f32, or 1.
    size: usize,
    /// The bytes of one row.
    buffer: Vec<u8>,
}

impl Bin {
    pub(super) fn new(mut source: Source, size: usize) -> Result<Self, FileError> {
        let mut header = [0; 8];
        source.fill_whole(&mut header, Place::Header)?;
        let [rows, width] = [0, 4].map(|at| {
            let bytes = header.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
            u64::from(bytes.map_or(0, |&bytes| u32::from_le_bytes(bytes)))
        });
        if !(1..=MAX_WIDTH).contains(&width) {
            let path = source.path().to_owned();
            return Err(FileError::ImpossibleWidth { path, place: Place::Header, found: width as i64 });
        }
        let row_bytes = size * width as usize;
        source.must_have(8 + u128::from(rows) * row_bytes as u128)?;
        Ok(Self { source, rows, row: 0, size, buffer: vec![0; row_bytes] })
    }
}

impl Rows for Bin {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        if self.row == self.rows {
            self.source.must_end()?;
            return Ok(None);
        }
        let place = Place::Row(self.row);
        self.source.fill_whole(&mut self.buffer, place)?;
        match self.size {
            1 => values.extend(self.buffer.iter().map(|&byte| f32::from(byte))),
            _ => f32::decode(&self.buffer, values),
        }
        self.row += 1;
        Ok(Some(Row { place, key: None }))
    }

    fn count(&self) -> Option<u64> {
        Some(self.rows)
    }
}

pub(super) fn write_header(file: &mut impl Write, rows: u64, width: usize) -> Result<(), WriteError> {
    let rows = u32::try_from(rows).map_err(|_| WriteError::TooManyRows)?;
    file.write_all(&rows.to_le_bytes())?;
    Ok(file.write_all(&(width as u32).to_le_bytes())?)
}

pub(super) fn write_floats(file: &mut impl Write, vector: &[f32]) -> io::Result<()> {
    vector.iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))
}

pub(super) fn write_bytes(file: &mut impl Write, vector: &[f32]) -> Result<(), WriteError> {
    let mut bytes = Vec::with_capacity(vector.len());
    to_bytes(vector, &mut bytes)?;
    Ok(file.write_all(&bytes)?)
}
