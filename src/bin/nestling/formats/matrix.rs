//! Whole files in memory: queries, or their true neighbors; and single rows.

use std::path::Path;

use super::error::FileError;
use super::source::Source;
use super::texmex::Texmex;
use super::{ReadOptions, Reader};

/// A whole file in memory.
#[derive(Debug, PartialEq)]
pub(crate) struct Matrix<T> {
    values: Vec<T>,
    width: usize,
}

impl Matrix<f32> {
    /// A file of vectors, in the format that its suffix names.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let mut rows = Reader::open(path, &ReadOptions::default())?;
        let mut values = Vec::new();
        while rows.read(&mut values)?.is_some() {}
        Self::new(values, rows.width(), path)
    }
}

impl Matrix<i32> {
    /// An `.ivecs` file.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let mut rows = Texmex::<i32>::new(Source::open(path)?);
        let mut values = Vec::new();
        while rows.read(&mut values)? {}
        let width = rows.width();
        Self::new(values, width, path)
    }
}

impl<T> Matrix<T> {
    fn new(values: Vec<T>, width: Option<usize>, path: &Path) -> Result<Self, FileError> {
        match width {
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

/// One row of a file of vectors.
pub(crate) fn read_row(path: &Path, row: u64) -> Result<Vec<f32>, FileError> {
    let mut rows = Reader::open(path, &ReadOptions::default())?;
    let mut values = Vec::new();
    for _ in 0..=row {
        values.clear();
        if rows.read(&mut values)?.is_none() {
            return Err(FileError::NoSuchRow { path: path.to_owned(), row, rows: rows.position() });
        }
    }
    Ok(values)
}
