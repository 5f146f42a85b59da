//! Why a file could not be read or written.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::MAX_WIDTH;

/// Where in a file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Header,
    /// Counted from 0, as keys are.
    Row(u64),
    /// Of a text; counted from 1, as editors do.
    Line(u64),
    /// What follows the rows.
    Tail,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("the header"),
            Place::Row(row) => write!(f, "row {row}"),
            Place::Line(line) => write!(f, "line {line}"),
            Place::Tail => f.write_str("the end"),
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error(
        "nothing tells the format of {}; state it with --format, \
         or give the file one of the suffixes .fvecs, .bvecs, .fbin, .u8bin, .npy, .jsonl, .csv, .usearch", path.display()
    )]
    UnknownFormat { path: PathBuf },

    #[error("{} is empty; rows of vectors were expected", path.display())]
    Empty { path: PathBuf },

    #[error(
        "{place} of {} states a width of {found}, and 1 to {MAX_WIDTH} are possible; \
         the file is damaged or not in the {format} format", path.display(), format = format_of(path)
    )]
    ImpossibleWidth { path: PathBuf, place: Place, found: i64 },

    #[error(
        "{place} of {} has a width of {found}, the rows before it {expected}; \
         all rows must be of one width: split the file, or fetch it again if it is damaged", path.display()
    )]
    MixedWidths { path: PathBuf, place: Place, found: usize, expected: usize },

    #[error(
        "{} ends inside {place}, after {found} of its {expected} bytes; \
         fetch the file again, or cut it off before that row", path.display()
    )]
    Truncated { path: PathBuf, place: Place, found: usize, expected: usize },

    #[error(
        "the header of {} announces {announced} bytes in all, the file has {found}; fetch the file again",
        path.display()
    )]
    WrongLength { path: PathBuf, announced: u128, found: u64 },

    #[error("{place} of {} {problem}", path.display())]
    Malformed { path: PathBuf, place: Place, problem: String },

    #[error("{} {problem}", path.display())]
    Unsupported { path: PathBuf, problem: String },

    #[error("{} has {rows} rows, counted from 0, so there is no row {row}; name a lower one", path.display())]
    NoSuchRow { path: PathBuf, row: u64, rows: u64 },
}

/// What to call the format in which a width was expected.
fn format_of(path: &std::path::Path) -> &'static str {
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("fvecs" | "bvecs" | "ivecs") => "TEXMEX",
        _ => "expected",
    }
}

/// Why a row could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("has {value} at component {component}, and the format holds whole numbers from 0 to 255 only")]
    NotAByte { component: usize, value: f32 },
    #[error("are too many for the format, which counts to 4,294,967,295")]
    TooManyRows,
    #[error("{format} indexes are read only")]
    ReadOnly { format: &'static str },
}

/// The components as bytes, where they are whole numbers from 0 to 255.
pub(super) fn to_bytes(vector: &[f32], bytes: &mut Vec<u8>) -> Result<(), WriteError> {
    for (component, &value) in vector.iter().enumerate() {
        let byte = value as u8;
        // By bits, so that −0 is refused: it would come back as 0.
        if f32::from(byte).to_bits() != value.to_bits() {
            return Err(WriteError::NotAByte { component, value });
        }
        bytes.push(byte);
    }
    Ok(())
}
