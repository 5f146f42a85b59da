//! Files of vectors: which formats there are, and reading and writing their rows one at a time.
//!
//! Nothing here holds a whole file in memory, and nothing is allocated because a header says so: a row is bounded by the widest
//! vector that a collection can have, and what a header announces is compared with the file's size where that is known.

mod bin;
mod csv;
mod error;
mod hnswlib;
#[cfg(test)]
mod hostile;
mod jsonl;
mod keys;
mod matrix;
mod npy;
mod source;
mod texmex;
mod text;
mod usearch;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use nestling::Metric;

pub(crate) use error::{FileError, Place, WriteError};
pub(crate) use keys::{KeyFile, KeyFormat};
pub(crate) use matrix::{Matrix, read_row};
use source::Source;
pub(crate) use source::{Identity, is_standard_stream};

/// The widest row that is believed: a collection's largest dimension. It bounds what a damaged width makes us allocate.
const MAX_WIDTH: u64 = 65_535;

/// How a file holds its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// TEXMEX: per row its width as an i32, then as many f32, all little-endian
    Fvecs,
    /// TEXMEX: per row its width as an i32, then as many bytes
    Bvecs,
    /// big-ann-benchmarks: number of rows and width as u32, then f32s, all little-endian
    Fbin,
    /// big-ann-benchmarks: number of rows and width as u32, then bytes
    U8bin,
    /// NumPy: an array of two dimensions, in C order; f16, f32 and f64 are read, f32 is written
    Npy,
    /// JSON lines: {"key":7,"vector":[0.25,-1.5]}
    #[value(alias = "ndjson")]
    Jsonl,
    /// Comma-separated values, with or without a line of column names
    Csv,
    /// A saved hnswlib index of f32 vectors; read only
    Hnswlib,
    /// A saved usearch index; read only
    Usearch,
}

impl Format {
    /// What is stated, or what the file's suffix says.
    pub(crate) fn of(path: &Path, stated: Option<Format>) -> Result<Self, FileError> {
        let by_suffix = || match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "fvecs" => Some(Format::Fvecs),
            "bvecs" => Some(Format::Bvecs),
            "fbin" => Some(Format::Fbin),
            "u8bin" => Some(Format::U8bin),
            "npy" => Some(Format::Npy),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "csv" => Some(Format::Csv),
            "usearch" => Some(Format::Usearch),
            _ => None,
        };
        stated.or_else(by_suffix).ok_or_else(|| FileError::UnknownFormat { path: path.to_owned() })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Fvecs => "fvecs",
            Format::Bvecs => "bvecs",
            Format::Fbin => "fbin",
            Format::U8bin => "u8bin",
            Format::Npy => "npy",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Hnswlib => "hnswlib",
            Format::Usearch => "usearch",
        }
    }

    /// Whether a file of the format tells the keys of its rows.
    pub(crate) fn has_keys(self) -> bool {
        matches!(self, Format::Jsonl | Format::Csv | Format::Hnswlib | Format::Usearch)
    }

    /// Writes what comes before the rows.
    pub(crate) fn write_header(
        self,
        file: &mut impl Write,
        rows: u64,
        width: usize,
    ) -> Result<(), WriteError> {
        match self {
            Format::Fbin | Format::U8bin => bin::write_header(file, rows, width),
            Format::Npy => Ok(file.write_all(npy::header("<f4", &[rows, width as u64]).as_slice())?),
            Format::Csv => Ok(csv::write_header(file, width)?),
            Format::Fvecs | Format::Bvecs | Format::Jsonl => Ok(()),
            Format::Hnswlib | Format::Usearch => Err(WriteError::ReadOnly { format: self.name() }),
        }
    }

    /// Writes a row.
    pub(crate) fn write_row(self, file: &mut impl Write, key: u64, vector: &[f32]) -> Result<(), WriteError> {
        match self {
            Format::Fvecs => Ok(texmex::write_floats(file, vector)?),
            Format::Bvecs => texmex::write_bytes(file, vector),
            Format::Fbin | Format::Npy => Ok(bin::write_floats(file, vector)?),
            Format::U8bin => bin::write_bytes(file, vector),
            Format::Jsonl => Ok(jsonl::write_row(file, key, vector)?),
            Format::Csv => Ok(csv::write_row(file, key, vector)?),
            Format::Hnswlib | Format::Usearch => Err(WriteError::ReadOnly { format: self.name() }),
        }
    }
}

/// What a reader has to be told besides the path.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadOptions {
    /// By the file's suffix unless stated.
    pub(crate) format: Option<Format>,
    /// The field or column of the key, "key" unless stated.
    pub(crate) key_field: Option<String>,
    /// The field of the vector, "vector" unless stated.
    pub(crate) vector_field: Option<String>,
}

/// A row of a file, without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it is, for messages.
    pub(crate) place: Place,
    /// Its key, where the file tells one.
    pub(crate) key: Option<u64>,
}

/// A file being read row by row.
trait Rows {
    /// Appends the values of the next row; `None` at the end.
    fn next(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError>;

    /// How many rows there are, as far as the header or the file's size tells.
    fn count(&self) -> Option<u64>;

    /// The metric that the file states.
    fn metric(&self) -> Option<Metric> {
        None
    }
}

/// A file of any format, being read row by row.
pub(crate) struct Reader {
    rows: Box<dyn Rows>,
    path: PathBuf,
    format: Format,
    identity: Identity,
    /// The width of the rows so far.
    width: Option<usize>,
    /// Rows that were handed out or passed over.
    position: u64,
    /// The next row, where it was looked at already.
    next: Option<(Row, Vec<f32>)>,
}

impl Reader {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<Self, FileError> {
        let source = Source::open(path)?;
        let format = Format::of(path, options.format)?;
        let identity = source.identity().clone();
        let rows: Box<dyn Rows> = match format {
            Format::Fvecs => Box::new(texmex::Texmex::<f32>::new(source)),
            Format::Bvecs => Box::new(texmex::Texmex::<u8>::new(source)),
            Format::Fbin => Box::new(bin::Bin::new(source, 4)?),
            Format::U8bin => Box::new(bin::Bin::new(source, 1)?),
            Format::Npy => Box::new(npy::Npy::new(source)?),
            Format::Jsonl => Box::new(jsonl::Jsonl::new(source, options)),
            Format::Csv => Box::new(csv::Csv::new(source, options)?),
            Format::Hnswlib => Box::new(hnswlib::Hnswlib::new(source)?),
            Format::Usearch => Box::new(usearch::Usearch::new(source)?),
        };
        Ok(Self { rows, path: path.to_owned(), format, identity, width: None, position: 0, next: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The metric that the file states.
    pub(crate) fn metric(&self) -> Option<Metric> {
        self.rows.metric()
    }

    /// Rows that were read or passed over.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The width of the rows, once one has been read.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// How many rows there are, as far as the header or the file's size tells, once one has been read.
    pub(crate) fn estimate(&self) -> Option<u64> {
        self.rows.count()
    }

    /// Appends the values of the next row; `None` at the end of the file.
    pub(crate) fn read(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        let row = match self.next.take() {
            Some((row, next)) => {
                values.extend_from_slice(&next);
                row
            }
            None => match self.advance(values)? {
                Some(row) => row,
                None => return Ok(None),
            },
        };
        self.position += 1;
        Ok(Some(row))
    }

    /// True when no row is left.
    pub(crate) fn is_at_end(&mut self) -> Result<bool, FileError> {
        if self.next.is_none() {
            let mut values = Vec::new();
            self.next = self.advance(&mut values)?.map(|row| (row, values));
        }
        Ok(self.next.is_none())
    }

    fn advance(&mut self, values: &mut Vec<f32>) -> Result<Option<Row>, FileError> {
        let before = values.len();
        let Some(row) = self.rows.next(values)? else { return Ok(None) };
        let found = values.len() - before;
        if found == 0 || found as u64 > MAX_WIDTH {
            return Err(FileError::ImpossibleWidth {
                path: self.path.clone(),
                place: row.place,
                found: found as i64,
            });
        }
        let expected = *self.width.get_or_insert(found);
        if found != expected {
            return Err(FileError::MixedWidths {
                path: self.path.clone(),
                place: row.place,
                found,
                expected,
            });
        }
        Ok(Some(row))
    }
}
