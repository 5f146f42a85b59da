//! Rows with their keys, a transaction's worth at a time.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::formats::{KeyFile, Place, Reader};

/// The rows of one transaction.
#[derive(Default)]
pub(super) struct Batch {
    keys: Vec<u64>,
    places: Vec<Place>,
    values: Vec<f32>,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.places.clear();
        self.values.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        let width = (self.values.len() / self.keys.len().max(1)).max(1);
        self.keys.iter().copied().zip(self.values.chunks_exact(width))
    }

    /// Where in the file a row of the batch is.
    pub(super) fn place(&self, position: usize) -> Place {
        self.places.get(position).copied().unwrap_or(Place::Row(position as u64))
    }

    pub(super) fn first_place(&self) -> Place {
        self.place(0)
    }
}

/// A file's rows, each with its key.
pub(super) struct Rows<'a> {
    file: Reader,
    keys: Keys<'a>,
    /// Rows that may still be read.
    left: u64,
}

/// Where keys come from.
enum Keys<'a> {
    /// From this one on.
    Counted { first: u64, next: Option<u64> },
    /// From the file itself or, as long as it tells none, from 0 on.
    Told { next: u64, seen: HashSet<u64> },
    /// From a file of their own.
    Listed { file: KeyFile, path: &'a Path, seen: HashSet<u64> },
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        file: Reader,
        keys: Option<&'a Path>,
        first_key: Option<u64>,
        limit: Option<u64>,
    ) -> Result<Self, Failure> {
        let keys = match (keys, first_key) {
            (Some(path), _) => Keys::Listed { file: KeyFile::open(path)?, path, seen: HashSet::new() },
            (None, None) if file.format().has_keys() => Keys::Told { next: 0, seen: HashSet::new() },
            (None, first_key) => {
                let first = first_key.unwrap_or(0);
                Keys::Counted { first, next: Some(first) }
            }
        };
        Ok(Self { file, keys, left: limit.unwrap_or(u64::MAX) })
    }

    /// The key of the first row that was imported, where keys are counted from there.
    pub(super) fn first_key(&self) -> Option<u64> {
        match self.keys {
            Keys::Counted { first, .. } => Some(first),
            Keys::Told { next, .. } if next > 0 => Some(0),
            _ => None,
        }
    }

    /// Rows of the file that were read or passed over.
    pub(super) fn position(&self) -> u64 {
        self.file.position()
    }

    pub(super) fn width(&self) -> Option<usize> {
        self.file.width()
    }

    pub(super) fn estimate(&self) -> Option<u64> {
        self.file.estimate()
    }

    /// Passes over `skipped` rows that are not wanted, which are checked like any others, and `imported` ones that are stored
    /// already; stops at the end of the file.
    pub(super) fn skip(&mut self, skipped: u64, imported: u64) -> Result<(), Failure> {
        let mut values = Vec::new();
        for row in 0..skipped + imported {
            values.clear();
            let Some(found) = self.file.read(&mut values)? else { break };
            match &mut self.keys {
                // Keys are counted from the first row on that is wanted.
                Keys::Counted { .. } | Keys::Told { .. } if row < skipped => {}
                _ => drop(self.key(found.place, found.key)?),
            }
        }
        self.left -= imported;
        Ok(())
    }

    /// Appends up to `most` rows; whether they are the last ones, or what is wrong with the row after them.
    pub(super) fn read_batch(
        &mut self,
        most: u64,
        batch: &mut Batch,
    ) -> Result<Result<bool, Failure>, Failure> {
        let most = most.min(self.left);
        for _ in 0..most {
            let Some(row) = self.file.read(&mut batch.values)? else { break };
            batch.keys.push(self.key(row.place, row.key)?);
            batch.places.push(row.place);
        }
        self.left -= batch.len() as u64;
        if self.left == 0 {
            return Ok(Ok(true));
        }
        match self.file.is_at_end() {
            Ok(true) => self.keys.must_end(self.file.path()).map(|()| Ok(true)),
            Ok(false) => Ok(Ok(false)),
            Err(e) => Ok(Err(e.into())),
        }
    }

    /// The key of the next row.
    fn key(&mut self, place: Place, told: Option<u64>) -> Result<u64, Failure> {
        let path = || self.file.path().to_owned();
        let (key, seen) = match &mut self.keys {
            Keys::Counted { next, .. } => {
                let key = next.ok_or_else(|| Failure::KeyOverflow { path: path(), place })?;
                *next = key.checked_add(1);
                return Ok(key);
            }
            Keys::Told { next, seen } => {
                let key = told.unwrap_or(*next);
                *next += u64::from(told.is_none());
                (key, seen)
            }
            Keys::Listed { file, path: keys, seen } => {
                let key = file.next()?;
                let key =
                    key.ok_or_else(|| Failure::TooFewKeys { keys: keys.to_path_buf(), path: path(), place })?;
                (key, seen)
            }
        };
        if !seen.insert(key) {
            return Err(Failure::RepeatedKey { path: path(), place, key });
        }
        Ok(key)
    }
}

impl Keys<'_> {
    /// An error if there are keys left when the rows are at their end.
    fn must_end(&mut self, rows: &Path) -> Result<(), Failure> {
        let Keys::Listed { file, path, .. } = self else { return Ok(()) };
        match file.next()? {
            Some(_) => Err(Failure::TooManyKeys { keys: PathBuf::from(&*path), path: rows.to_owned() }),
            None => Ok(()),
        }
    }
}
