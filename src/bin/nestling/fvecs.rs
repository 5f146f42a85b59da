//! The TEXMEX formats: `.fvecs` (f32) and `.ivecs` (i32).
//!
//! A file is rows without a header, and each row has the same layout, all of it little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | width w of the row, i32 |
//! | 4 · w | its values, f32 or i32 |
//!
//! Every row repeats the width, and nothing tells how many rows there are. A file is read as a stream, so that its size is bounded
//! by no memory; rows are counted from 0.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The widest row that is believed: a collection's largest dimension. It bounds what a damaged width makes us allocate.
const MAX_WIDTH: i32 = 65_535;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("{} is empty; rows in the TEXMEX format were expected", path.display())]
    Empty { path: PathBuf },

    #[error(
        "row {row} of {} states a width of {found}, and 1 to {MAX_WIDTH} are possible; \
         the file is damaged or not in the TEXMEX format", path.display()
    )]
    ImpossibleWidth { path: PathBuf, row: u64, found: i32 },

    #[error(
        "row {row} of {} has a width of {found}, the rows before it {expected}; \
         all rows must be of one width: split the file, or fetch it again if it is damaged", path.display()
    )]
    MixedWidths { path: PathBuf, row: u64, found: usize, expected: usize },

    #[error(
        "{} ends inside row {row}, after {found} of its {expected} bytes; \
         fetch the file again, or cut it off before that row", path.display()
    )]
    Truncated { path: PathBuf, row: u64, found: usize, expected: usize },

    #[error("{} has {rows} rows, counted from 0, so there is no row {row}; name a lower one", path.display())]
    NoSuchRow { path: PathBuf, row: u64, rows: u64 },
}

/// A value of a row.
pub(crate) trait Element: Copy {
    fn from_le_bytes(bytes: [u8; 4]) -> Self;
}

impl Element for f32 {
    fn from_le_bytes(bytes: [u8; 4]) -> Self {
        f32::from_le_bytes(bytes)
    }
}

impl Element for i32 {
    fn from_le_bytes(bytes: [u8; 4]) -> Self {
        i32::from_le_bytes(bytes)
    }
}

/// A file being read row by row.
pub(crate) struct Rows<R = BufReader<File>> {
    reader: R,
    path: PathBuf,
    /// The size of the file, where it is a plain one.
    bytes: Option<u64>,
    /// The width of the rows so far.
    width: Option<usize>,
    /// The row that is read next.
    row: u64,
    /// The bytes of one row.
    buffer: Vec<u8>,
}

impl Rows {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let fail = |source| FileError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(fail(ErrorKind::IsADirectory.into()));
        }
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Self::new(BufReader::with_capacity(1 << 18, file), path.to_owned(), bytes))
    }
}

impl<R: Read> Rows<R> {
    fn new(reader: R, path: PathBuf, bytes: Option<u64>) -> Self {
        Self { reader, path, bytes, width: None, row: 0, buffer: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The row that is read next.
    pub(crate) fn position(&self) -> u64 {
        self.row
    }

    /// The width of the rows, once one has been read.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// How many rows the file's size has room for, once one has been read.
    pub(crate) fn estimate(&self) -> Option<u64> {
        Some(self.bytes? / (4 + 4 * self.width? as u64))
    }

    /// Appends the values of the next row; false at the end of the file.
    pub(crate) fn read<T: Element>(&mut self, values: &mut Vec<T>) -> Result<bool, FileError> {
        if !self.advance()? {
            return Ok(false);
        }
        let (words, _) = self.buffer.as_chunks::<4>();
        values.extend(words.iter().map(|&word| T::from_le_bytes(word)));
        Ok(true)
    }

    /// Passes over up to `rows` rows, which are checked like any others; stops at the end of the file.
    pub(crate) fn skip(&mut self, rows: u64) -> Result<(), FileError> {
        for _ in 0..rows {
            if !self.advance()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads the next row's bytes into the buffer; false at the end of the file.
    fn advance(&mut self) -> Result<bool, FileError> {
        let mut width = [0; 4];
        match self.fill(&mut width)? {
            0 => return Ok(false),
            4 => {}
            found => return Err(self.truncated(found, self.width.unwrap_or(0))),
        }
        let stated = i32::from_le_bytes(width);
        if !(1..=MAX_WIDTH).contains(&stated) {
            return Err(FileError::ImpossibleWidth { path: self.path.clone(), row: self.row, found: stated });
        }
        let found = stated as usize;
        let expected = *self.width.get_or_insert(found);
        if found != expected {
            return Err(FileError::MixedWidths { path: self.path.clone(), row: self.row, found, expected });
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(4 * found, 0);
        let read = self.fill(&mut buffer)?;
        self.buffer = buffer;
        if read < 4 * found {
            return Err(self.truncated(4 + read, found));
        }
        self.row += 1;
        Ok(true)
    }

    /// Reads until the buffer is full or the file ends; tells how many bytes there were.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = buffer.get_mut(filled..) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(FileError::Io { path: self.path.clone(), source }),
            }
        }
        Ok(filled)
    }

    fn truncated(&self, found: usize, width: usize) -> FileError {
        FileError::Truncated { path: self.path.clone(), row: self.row, found, expected: 4 + 4 * width }
    }
}

/// A whole file in memory: queries, or their true neighbors.
#[derive(Debug, PartialEq)]
pub(crate) struct Matrix<T> {
    values: Vec<T>,
    width: usize,
}

impl<T: Element> Matrix<T> {
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let mut rows = Rows::open(path)?;
        let mut values = Vec::new();
        while rows.read(&mut values)? {}
        match rows.width() {
            Some(width) => Ok(Self { values, width }),
            None => Err(FileError::Empty { path: path.to_owned() }),
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub(crate) fn row(&self, row: usize) -> Option<&[T]> {
        self.values.chunks_exact(self.width).nth(row)
    }

    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, T> {
        self.values.chunks_exact(self.width)
    }
}

/// One row of a file.
pub(crate) fn read_row(path: &Path, row: u64) -> Result<Vec<f32>, FileError> {
    let mut rows = Rows::open(path)?;
    rows.skip(row)?;
    let mut values = Vec::new();
    if !rows.read(&mut values)? {
        return Err(FileError::NoSuchRow { path: path.to_owned(), row, rows: rows.position() });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> Rows<&[u8]> {
        Rows::new(bytes, PathBuf::from("x.fvecs"), Some(bytes.len() as u64))
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
        assert_eq!((rows.width(), rows.position(), rows.estimate()), (Some(2), 1, Some(2)));
        assert!(rows.read(&mut values).unwrap());
        assert!(!rows.read(&mut values).unwrap());
        assert_eq!(values, [1.0, -2.0, 0.5, 3.0]);
    }

    /// Whatever the byte at which a file is cut off: either it ends between rows, or the error names the row and counts its bytes.
    #[test]
    fn a_cut_at_any_byte_is_seen() {
        for end in 0..TWO_ROWS.len() {
            let mut rows = file(&TWO_ROWS[..end]);
            let outcome = rows.skip(9);
            match end % 12 {
                0 => assert_eq!((outcome.is_ok(), rows.position()), (true, end as u64 / 12), "cut at {end}"),
                inside => match outcome {
                    Err(FileError::Truncated { row, found, .. }) => {
                        assert_eq!((row, found), (end as u64 / 12, inside), "cut at {end}")
                    }
                    other => panic!("cut at {end}: {other:?}"),
                },
            }
        }
    }

    #[test]
    fn widths_are_checked_before_they_size_anything() {
        for width in [0, -1, i32::MIN, i32::MAX, MAX_WIDTH + 1] {
            let outcome = file(&width.to_le_bytes()).skip(1);
            assert!(
                matches!(outcome, Err(FileError::ImpossibleWidth { row: 0, found, .. }) if found == width),
                "{width}: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_row_of_another_width_is_refused_even_when_skipped() {
        let mut bytes = TWO_ROWS;
        bytes[12] = 1;
        let outcome = file(&bytes).skip(2);
        assert!(
            matches!(outcome, Err(FileError::MixedWidths { row: 1, found: 1, expected: 2, .. })),
            "{outcome:?}"
        );
    }
}
