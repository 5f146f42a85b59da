//! The TEXMEX formats: `.fvecs` (f32), `.ivecs` (i32) and `.bvecs` (bytes).
//!
//! A file is rows without a header, and each row has the same layout, all of it little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | width w of the row, i32 |
//! | 4 · w, or w | its values: f32 or i32, or bytes |
//!
//! Every row repeats the width, and nothing tells how many rows there are.

use std::io::{self, Write};
use std::marker::PhantomData;

use super::error::{FileError, Place, WriteError, to_bytes};
use super::source::Source;
use super::{MAX_WIDTH, Row, Rows};

/// A value of a row.
pub(super) trait Element: Copy {
    const SIZE: usize;
    fn decode(bytes: &[u8], values: &mut Vec<Self>);
}

impl Element for f32 {
    const SIZE: usize = 4;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)));
    }
}

impl Element for i32 {
    const SIZE: usize = 4;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend(bytes.as_chunks::<4>().0.iter().map(|&word| i32::from_le_bytes(word)));
    }
}

impl Element for u8 {
    const SIZE: usize = 1;
    fn decode(bytes: &[u8], values: &mut Vec<Self>) {
        values.extend_from_slice(bytes);
    }
}

/// A file being read row by row.
pub(super) struct Texmex<T> {
    source: Source,
    /// The width of the rows so far.
    width: Option<usize>,
    /// The row that is read next.
    row: u64,
    /// The bytes of one row.
    buffer: Vec<u8>,
    element: PhantomData<T>,
}

impl<T: Element> Texmex<T> {
    pub(super) fn new(source: Source) -> Self {
        Self { source, width: None, row: 0, buffer: Vec::new(), element: PhantomData }
    }

    /// The width of the rows, once one has been read.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Appends the values of the next row; false at the end of the file.
    pub(super) fn read(&mut self, values: &mut Vec<T>) -> Result<bool, FileError> {
        let place = Place::Row(self.row);
        let mut width = [0; 4];
        match self.source.fill(&mut width)? {
            0 => return Ok(false),
            4 => {}
            found => return Err(self.truncated(found, self.width.unwrap_or(0))),
        }
        let stated = i32::from_le_bytes(width);
        let path = || self.source.path().to_owned();
        if !(1..=MAX_WIDTH as i32).contains(&stated) {
            return Err(FileError::ImpossibleWidth { path: path(), place, found: stated.into() });
        }
        let found = stated as usize;
        let expected = *self.width.get_or_insert(found);
        if found != expected {
            return Err(FileError::MixedWidths { path: path(), place, found, expected });
        }
        self.buffer.resize(T::SIZE * found, 0);
        let read = self.source.fill(&mut self.buffer)?;
        if read < self.buffer.len() {
            return Err(self.truncated(4 + read, found));
        }
        T::decode(&self.buffer, values);
        self.row += 1;
        Ok(true)
    }

    fn truncated(&self, found: usize, width: usize) -> FileError {
        self.source.truncated(Place::Row(self.row), found, 4 + T::SIZE * width)
    }

    fn count(&self) -> Option<u64> {
        Some(self.source.bytes()? / (4 + T::SIZE * self.width?) as u64)
    }
}

impl Rows for Texmex<f32> {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        let row = Row { place: Place::Row(self.row), key: None };
        Ok(self.read(values)?.then_some(row))
    }

    fn count(&self) -> Option<u64> {
        self.count()
    }
}

impl Rows for Texmex<u8> {
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        let row = Row { place: Place::Row(self.row), key: None };
        let mut bytes = Vec::new();
        let read = self.read(&mut bytes)?;
        values.extend(bytes.into_iter().map(f32::from));
        Ok(read.then_some(row))
    }

    fn count(&self) -> Option<u64> {
        self.count()
    }
}

pub(super) fn write_floats(file: &mut impl Write, vector: &[f32]) -> io::Result<()> {
    file.write_all(&(vector.len() as u32).to_le_bytes())?;
    super::bin::write_floats(file, vector)
}

pub(super) fn write_bytes(file: &mut impl Write, vector: &[f32]) -> Result<(), WriteError> {
    let mut bytes = (vector.len() as u32).to_le_bytes().to_vec();
    to_bytes(vector, &mut bytes)?;
    Ok(file.write_all(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> Texmex<f32> {
        Texmex::new(Source::of_bytes("x.fvecs", bytes))
    }

    /// Reads to the end.
    fn read_all(file: &mut Texmex<f32>) -> Result<Vec<f32>, FileError> {
        let mut values = Vec::new();
        while file.read(&mut values)? {}
        Ok(values)
    }

    /// Two rows, (1, −2) and (0.5, 3), byte by byte.
    const TWO_ROWS: [u8; 24] = [
        2, 0, 0, 0, 0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0, //
        2, 0, 0, 0, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x40, 0x40,
    ];

    #[test]
    fn rows_are_little_endian_behind_their_width() {
        let mut rows = file(&TWO_ROWS);
        let mut values = Vec::<f32>::new();
        assert!(rows.read(&mut values).unwrap());
        assert_eq!((rows.width(), rows.row, rows.count()), (Some(2), 1, Some(2)));
        assert!(rows.read(&mut values).unwrap());
        assert!(!rows.read(&mut values).unwrap());
        assert_eq!(values, [1.0, -2.0, 0.5, 3.0]);
    }

    /// Whatever the byte at which a file is cut off: either it ends between rows, or the error names the row and counts its bytes.
    #[test]
    fn a_cut_at_any_byte_is_seen() {
        for end in 0..TWO_ROWS.len() {
            let mut rows = file(&TWO_ROWS[..end]);
            let outcome = read_all(&mut rows);
            match end % 12 {
                0 => assert_eq!((outcome.is_ok(), rows.row), (true, end as u64 / 12), "cut at {end}"),
                inside => match outcome {
                    Err(FileError::Truncated { place, found, .. }) => {
                        assert_eq!((place, found), (Place::Row(end as u64 / 12), inside), "cut at {end}")
                    }
                    other => panic!("cut at {end}: {other:?}"),
                },
            }
        }
    }

    #[test]
    fn widths_are_checked_before_they_size_anything() {
        for width in [0, -1, i32::MIN, i32::MAX, MAX_WIDTH as i32 + 1] {
            let outcome = read_all(&mut file(&width.to_le_bytes()));
            assert!(
                matches!(outcome, Err(FileError::ImpossibleWidth { found, .. }) if found == i64::from(width)),
                "{width}: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_row_of_another_width_is_refused() {
        let mut bytes = TWO_ROWS;
        bytes[12] = 1;
        let outcome = read_all(&mut file(&bytes));
        assert!(
            matches!(
                outcome,
                Err(FileError::MixedWidths { place: Place::Row(1), found: 1, expected: 2, .. })
            ),
            "{outcome:?}"
        );
    }
}
