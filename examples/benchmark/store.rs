//! The stores that are measured.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nestling::{Collection, CollectionDefinition, Store};

use crate::Result;
use crate::matrix::Matrix;

/// The name of the one collection.
pub(crate) const NAME: &str = "vectors";

/// Inserts base rows from `first` on, under their numbers as keys, in durable transactions of `batch` rows each, into a new store
/// or one that was left by an earlier import. Tells how many seconds it took from opening to closing, both included.
pub(crate) fn import(
    path: &Path,
    definition: CollectionDefinition<'_>,
    base: &Matrix,
    first: usize,
    batch: usize,
) -> Result<f64> {
    let started = Instant::now();
    let store = Store::open(path)?;
    let rows: Vec<(u64, &[f32])> = (0..).zip(base.rows()).skip(first).collect();
    for rows in rows.chunks(batch) {
        let tx = store.begin_write()?;
        tx.open_collection(definition)?.insert_many(rows.iter().copied())?;
        tx.commit()?;
    }
    store.close()?;
    Ok(started.elapsed().as_secs_f64())
}

/// The collection in the latest snapshot.
pub(crate) fn collection(store: &Store) -> Result<Collection> {
    Ok(store.begin_read()?.open_stored_collection(NAME)?)
}

/// What a collection in a store must be for more to be written to it.
pub(crate) fn definition(collection: &Collection) -> CollectionDefinition<'static> {
    let parameters = collection.parameters();
    CollectionDefinition::new(NAME, parameters.dimension, parameters.metric)
}

/// A store that is filled with the base, and closed. What is to be written to goes into a copy, so that every section starts from
/// the same store.
pub(crate) struct Filled {
    pub(crate) path: PathBuf,
    /// A file with the queries, and one with the first of them alone, for other processes.
    pub(crate) queries: PathBuf,
    pub(crate) query: PathBuf,
}

impl Filled {
    /// Where the store is to be.
    pub(crate) fn new(directory: &Path, queries: &Matrix) -> Result<Self> {
        let filled = Self {
            path: directory.join("filled.nestling"),
            queries: directory.join("queries.fvecs"),
            query: directory.join("query.fvecs"),
        };
        queries.write(&filled.queries)?;
        Matrix::new(queries.row(0).to_vec(), queries.width()).write(&filled.query)?;
        Ok(filled)
    }

    /// A copy, gone when dropped.
    pub(crate) fn copy(&self) -> Result<tempfile::TempDir> {
        let copy = tempfile::tempdir_in(self.path.parent().ok_or("the store is in a directory")?)?;
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            copy_by_pages(&entry.path(), &copy.path().join(entry.file_name()))?;
        }
        Ok(copy)
    }
}

/// Copies a file in writes of 4 KB. Linux keeps what is written at once in the cache at once: in folios of up to megabytes, each of
/// which counts as written whole when a byte of it is changed, though only the changed pages go to the disk. After this, every
/// page counts for itself.
fn copy_by_pages(from: &Path, to: &Path) -> Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut page = [0; 4096];
    loop {
        match from.read(&mut page)? {
            0 => break,
            length => to.write_all(&page[..length])?,
        }
    }
    // So that nobody measured later pays for it.
    Ok(to.sync_all()?)
}
