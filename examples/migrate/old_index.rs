//! The index that the old version of the app has saved: which library wrote it, and what may be wrong with it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::hnswlib::Hnswlib;
use super::usearch::Usearch;

/// The library that wrote the file. An app keeps the one that it used, with its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `saveIndex` or, from Python, `save_index`.
    Hnswlib,
    /// `save`, of usearch 2.
    Usearch,
}

/// Labels, which become keys, with their vectors.
pub type Entries = Box<dyn Iterator<Item = Result<(u64, Vec<f32>), ReadError>>>;

impl Format {
    /// Reads an index of vectors of `dimension` components, entry by entry. What was deleted from it is left out.
    pub fn read(self, path: &Path, dimension: usize) -> Result<Entries, ReadError> {
        Ok(match self {
            Format::Hnswlib => Box::new(Hnswlib::open(path, dimension)?),
            Format::Usearch => Box::new(Usearch::open(path, dimension)?),
        })
    }
}

/// Why the old index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the old index cannot be read: {0}")]
    Io(io::Error),
    #[error("the old index ends too early; its end is lost")]
    Truncated,
    #[error("the old index is damaged, or not what this app has written: {0}")]
    Malformed(&'static str),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}

/// A file that is read from front to back.
pub struct Bytes {
    reader: BufReader<File>,
    pub length: u64,
}

impl Bytes {
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { reader: BufReader::with_capacity(1 << 18, file), length })
    }

    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        Ok(self.reader.read_exact(buffer)?)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub fn word(&mut self) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Passes over bytes that must be there.
    pub fn skip(&mut self, bytes: u64) -> Result<(), ReadError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())?;
        if skipped == bytes { Ok(()) } else { Err(ReadError::Truncated) }
    }

    /// An error unless the file ends here.
    pub fn must_end(&mut self) -> Result<(), ReadError> {
        match self.reader.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(ReadError::Malformed("there are bytes behind its end")),
        }
    }
}

/// Little-endian f32s.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect()
}
