//! Moves an index file and the titles beside it into a store, at the first start after an update of the app.
//!
//! - **Rows and vectors go together.** A batch of vectors, their titles and how far the migration has come are one transaction.
//! - **It may be interrupted** anywhere: the next start goes on behind the last batch. (The phone may give an app half a minute in the
//!   background; one transaction for everything would start again each time, and perhaps never end.)
//! - **It happens once.** The end of it is noted in the store. After that the old files are nothing but what is to be deleted: they
//!   are not read again, and cannot bring back what the user has changed since.
//! - **Nothing is deleted unless it is in the store**, durably, compared with the file vector by vector, and found by searches.
//! - **Only the file that was migrated is deleted.** Another one in its place (the user went back to the old version for a while,
//!   or restored a backup) is left alone, for the app to decide.
//! - **A damaged file is an error** before anything is stored; the file stays where it is.
//!
//! Until [`Migration::run`] has returned without an error the store may hold a part of the notes, for the app not to show yet.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nestling::redb::{ReadableTable, TableDefinition};
use nestling::{Collection, CollectionDefinition, Store};

use super::old_index::{Entries, Format, ReadError};

/// The app's own rows: each note's title.
pub const TITLES: TableDefinition<u64, &str> = TableDefinition::new("titles");
/// How far the migration has come, under the name of what is migrated.
const MIGRATIONS: TableDefinition<&str, (Identity, u64, bool)> = TableDefinition::new("migrations");
const NAME: &str = "notes from the old index";
/// How many searches are to find what they should, at most.
const SAMPLE: u64 = 1_000;

/// Length of a file, and nanoseconds since 1970 when it was modified: what tells it from another one.
type Identity = (u64, u64);

/// What is to be migrated, and where to.
#[derive(Debug, Clone)]
pub struct Migration<'a> {
    /// The old index.
    pub index: PathBuf,
    pub format: Format,
    /// The titles: lines of a key, a tab, and the title.
    pub titles: PathBuf,
    /// Where the vectors go: a collection of f32, which gives back what was put in.
    pub collection: CollectionDefinition<'a>,
    /// Vectors in a transaction. 10,000 take a second or two, all of which are lost at most.
    pub batch: usize,
}

/// What a start had to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There was no old index, or one that was migrated before.
    NothingToDo,
    /// The notes are in the store, and the old files are gone.
    Migrated(Report),
    /// There is an old index, and the store has notes that are not from it. Nothing was done.
    LeftAlone,
}

/// What was found in the old files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Notes that have both a title and a vector, and can be searched for.
    pub notes: u64,
    /// Titles without a vector. They are in the store, to be embedded.
    pub without_vector: u64,
    /// Vectors without a title: of notes that are gone. They are not in the store.
    pub without_title: u64,
}

/// Why there was no migration, or not to its end. The old files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    #[error(transparent)]
    Index(#[from] ReadError),
    #[error("label {0} is in the old index twice")]
    RepeatedLabel(u64),
    #[error("line {line} of {} is not a key, a tab and a title", path.display())]
    Titles { path: PathBuf, line: usize },
    #[error("cannot {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The store's own errors, and what it refuses: a vector with a NaN, say.
    #[error(transparent)]
    Store(#[from] nestling::Error),
    #[error("note {key} {problem} after the migration; the old files are kept")]
    Verification { key: u64, problem: &'static str },
    #[error("the store holds {found} notes after the migration, the old files {expected}; they are kept")]
    Count { expected: u64, found: u64 },
}

impl Migration<'_> {
    /// Does what is left to be done. `progress` is told how many vectors of how many are stored; an app shows that.
    pub fn run(&self, store: &Store, mut progress: impl FnMut(u64, u64)) -> Result<Outcome, MigrationError> {
        let Some(identity) = identity(&self.index)? else { return Ok(Outcome::NothingToDo) };
        let mut done = 0;
        match self.state(store)? {
            Some((of, _, true)) if of == identity => {
                self.remove_old_files()?;
                return Ok(Outcome::NothingToDo);
            }
            Some((_, _, true)) => return Ok(Outcome::LeftAlone),
            Some((of, stored, false)) if of == identity => done = stored,
            Some((_, _, false)) => self.clear(store)?, // the old version has changed its file in between
            None if !self.notes(store)?.is_empty() => return Ok(Outcome::LeftAlone),
            None => {}
        }
        let titles = read_titles(&self.titles)?;
        let all = self.check(store)?;

        let mut batch = Vec::new();
        for (row, entry) in (1..).zip(self.entries(store)?) {
            let entry = entry?;
            if row <= done {
                continue;
            }
            batch.push(entry);
            if batch.len() >= self.batch || row == all {
                self.store(store, &batch, &titles, (identity, row, false))?;
                progress(row, all);
                batch.clear();
            }
        }
        let report = self.verify(store, &titles)?;
        self.finish(store, &titles, (identity, all, true))?;
        self.remove_old_files()?;
        Ok(Outcome::Migrated(report))
    }

    fn state(&self, store: &Store) -> nestling::Result<Option<(Identity, u64, bool)>> {
        let tx = store.begin_read()?;
        if !tx.list_tables()?.iter().any(|name| name == "migrations") {
            return Ok(None);
        }
        Ok(tx.open_table(MIGRATIONS)?.get(NAME)?.map(|row| row.value()))
    }

    fn notes(&self, store: &Store) -> nestling::Result<Collection> {
        store.begin_read()?.open_collection(self.collection)
    }

    fn entries(&self, store: &Store) -> Result<Entries, MigrationError> {
        let dimension = self.notes(store)?.parameters().dimension;
        Ok(self.format.read(&self.index, dimension)?)
    }

    /// Reads the old index to its end, so that what is wrong with it is known before anything is stored. Tells how many vectors it has.
    fn check(&self, store: &Store) -> Result<u64, MigrationError> {
        let mut labels = HashSet::new();
        for entry in self.entries(store)? {
            let (label, _) = entry?;
            if !labels.insert(label) {
                return Err(MigrationError::RepeatedLabel(label));
            }
        }
        Ok(labels.len() as u64)
    }

    /// Gives up what was migrated from a file that is no more.
    fn clear(&self, store: &Store) -> nestling::Result<()> {
        let tx = store.begin_write()?;
        tx.drop_collection(self.collection.name())?;
        tx.open_collection(self.collection)?;
        tx.delete_table(TITLES)?;
        tx.open_table(TITLES)?;
        tx.open_table(MIGRATIONS)?.remove(NAME)?;
        tx.commit()
    }

    fn store(
        &self,
        store: &Store,
        batch: &[(u64, Vec<f32>)],
        titles: &BTreeMap<u64, String>,
        state: (Identity, u64, bool),
    ) -> nestling::Result<()> {
        let tx = store.begin_write()?;
        {
            let mut rows = tx.open_table(TITLES)?;
            let mut notes = Vec::new();
            for (key, vector) in batch {
                if let Some(title) = titles.get(key) {
                    rows.insert(key, title.as_str())?;
                    notes.push((*key, vector));
                }
            }
            tx.open_collection(self.collection)?.insert_many(notes)?;
            tx.open_table(MIGRATIONS)?.insert(NAME, state)?;
        }
        tx.commit()
    }

    /// Compares the store with the old index, vector by vector, and searches for a sample.
    fn verify(&self, store: &Store, titles: &BTreeMap<u64, String>) -> Result<Report, MigrationError> {
        let tx = store.begin_read()?;
        let (notes, rows) = (tx.open_collection(self.collection)?, tx.open_table(TITLES)?);
        let step = notes.len().div_ceil(SAMPLE).max(1);
        let mut report = Report::default();
        for entry in self.entries(store)? {
            let (key, vector) = entry?;
            let Some(title) = titles.get(&key) else {
                report.without_title += 1;
                continue;
            };
            let wrong = |problem| Err(MigrationError::Verification { key, problem });
            if notes.get(key)?.as_deref() != Some(&vector[..]) {
                return wrong("has another vector");
            }
            let stored = rows.get(key)?;
            if stored.is_none_or(|stored| stored.value() != title) {
                return wrong("has another title");
            }
            if report.notes % step == 0 && !finds_itself(&notes, key)? {
                return wrong("is not found");
            }
            report.notes += 1;
        }
        if notes.len() != report.notes {
            return Err(MigrationError::Count { expected: report.notes, found: notes.len() });
        }
        report.without_vector = titles.len() as u64 - report.notes;
        Ok(report)
    }

    /// Stores what is left, the titles without a vector, and that this was all.
    fn finish(
        &self,
        store: &Store,
        titles: &BTreeMap<u64, String>,
        state: (Identity, u64, bool),
    ) -> nestling::Result<()> {
        let tx = store.begin_write()?;
        {
            let mut rows = tx.open_table(TITLES)?;
            for (key, title) in titles {
                if rows.get(key)?.is_none() {
                    rows.insert(key, title.as_str())?;
                }
            }
            tx.open_table(MIGRATIONS)?.insert(NAME, state)?;
        }
        tx.commit()
    }

    /// The index goes last: as long as it is there, the next start comes by here again.
    fn remove_old_files(&self) -> Result<(), MigrationError> {
        for path in [&self.titles, &self.index] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(file_error("delete", path)(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a search for a note's vector finds it, or one that is as near.
fn finds_itself(notes: &Collection, key: u64) -> nestling::Result<bool> {
    let itself = notes.query_key(key).among([key]).run()?;
    let found = notes.query_key(key).k(1).run()?;
    Ok(found.iter().zip(&itself).any(|(found, itself)| found.distance <= itself.distance))
}

/// `None` where there is no file.
fn identity(path: &Path) -> Result<Option<Identity>, MigrationError> {
    match fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) {
        Ok((length, modified)) => {
            let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok(Some((length, since.as_nanos() as u64)))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error("look at", path)(e)),
    }
}

fn read_titles(path: &Path) -> Result<BTreeMap<u64, String>, MigrationError> {
    let text = fs::read(path).map_err(file_error("read", path))?;
    let title = |(line, bytes): (usize, &[u8])| {
        let parsed = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\t'));
        let parsed = parsed.and_then(|(key, title)| Some((key.parse().ok()?, title.to_owned())));
        parsed.ok_or_else(|| MigrationError::Titles { path: path.to_owned(), line })
    };
    let lines = (1..).zip(text.split(|&byte| byte == b'\n'));
    lines.filter(|(_, line)| !line.is_empty()).map(title).collect()
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MigrationError {
    let path = path.to_owned();
    move |source| MigrationError::File { action, path, source }
}
