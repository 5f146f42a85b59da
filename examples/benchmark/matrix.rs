//! Rows of equal width, and the TEXMEX files that hold them: per row its width as a little-endian i32, then its values.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::{Result, failure};

/// Vectors, one after the other in memory.
pub(crate) struct Matrix {
    values: Vec<f32>,
    width: usize,
}

impl Matrix {
    pub(crate) fn new(values: Vec<f32>, width: usize) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "whole rows");
        Self { values, width }
    }

    /// Reads an .fvecs file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut rows = Rows::open(path)?;
        let mut values = Vec::new();
        let mut width = None;
        while let Some(row) = rows.next_row()? {
            let first = *width.get_or_insert(row.len());
            if row.len() != first {
                return failure(format!("{}: rows of {first} and of {} values", path.display(), row.len()));
            }
            values.extend(row.into_iter().map(f32::from_le_bytes));
        }
        match width {
            Some(width) => Ok(Self::new(values, width)),
            None => failure(format!("{} has no rows", path.display())),
        }
    }

    /// Writes an .fvecs file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for row in self.rows() {
            file.write_all(&i32::try_from(self.width)?.to_le_bytes())?;
            for value in row {
                file.write_all(&value.to_le_bytes())?;
            }
        }
        Ok(file.flush()?)
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        assert_eq!(self.width, other.width, "rows of one width");
        self.values.append(&mut other.values);
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub(crate) fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.width..][..self.width]
    }

    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width)
    }
}

/// Reads the row numbers of an .ivecs file.
pub(crate) fn read_ivecs(path: &Path) -> Result<Vec<Vec<usize>>> {
    let mut rows = Rows::open(path)?;
    let mut numbers = Vec::new();
    while let Some(row) = rows.next_row()? {
        let row = row.into_iter().map(|bytes| usize::try_from(i32::from_le_bytes(bytes)));
        numbers.push(
            row.collect::<Result<_, _>>()
                .map_err(|_| format!("{}: a negative row number", path.display()))?,
        );
    }
    Ok(numbers)
}

/// A file being read row by row, in as much memory as a row takes.
pub(crate) struct Rows {
    file: BufReader<File>,
    path: String,
}

impl Rows {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path_text = path.display().to_string();
        let file = File::open(path).map_err(|e| format!("cannot read {path_text}: {e}"))?;
        Ok(Self { file: BufReader::new(file), path: path_text })
    }

    /// The next row, four bytes a value.
    pub(crate) fn next_row(&mut self) -> Result<Option<Vec<[u8; 4]>>> {
        let path = &self.path;
        let damaged = |e| format!("{path} is no file of rows in the TEXMEX format: {e}");
        if self.file.fill_buf().map_err(damaged)?.is_empty() {
            return Ok(None);
        }
        let mut width = [0; 4];
        self.file.read_exact(&mut width).map_err(damaged)?;
        let width = i32::from_le_bytes(width);
        if !(1..=65_535).contains(&width) {
            return failure(format!(
                "{path} is no file of rows in the TEXMEX format: a row of {width} values"
            ));
        }
        let mut row = vec![[0; 4]; width as usize];
        self.file.read_exact(row.as_flattened_mut()).map_err(damaged)?;
        Ok(Some(row))
    }

    /// The next row of an .fvecs file.
    pub(crate) fn next_vector(&mut self) -> Result<Option<Vec<f32>>> {
        Ok(self.next_row()?.map(|row| row.into_iter().map(f32::from_le_bytes).collect()))
    }
}
