//! A library of texts that any thread searches, and one thread writes.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nestling::redb::TableDefinition;
use nestling::{CollectionDefinition, Hits, Metric, ReadTable, Store};

const VECTORS: CollectionDefinition = CollectionDefinition::new("vectors", 384, Metric::Cosine);
const TEXTS: TableDefinition<u64, &str> = TableDefinition::new("texts");

/// Rows of an import that are committed together: so many take a fraction of a second, for which a change of the user's waits at most,
/// and are worth a sync of the disk.
pub const CHUNK: usize = 500;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Whether a change is on disk; if not, why.
pub type Outcome = std::result::Result<(), String>;

/// A text with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: u64,
    pub vector: Vec<f32>,
    pub text: String,
}

/// How far an import has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// So many more rows are on disk.
    Stored(usize),
    Finished,
    /// What was stored before stays.
    Failed(String),
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Keys, distances and texts, nearest first.
    pub texts: Vec<(u64, f32, String)>,
    /// There was no time to look everywhere.
    pub is_partial: bool,
}

/// An open library, to be shared by reference or in an `Arc`.
pub struct Library {
    store: Arc<Store>,
    jobs: Sender<Job>,
    writer: JoinHandle<()>,
}

impl Library {
    /// Opens the library in a directory, and starts its writer.
    pub fn open(path: &Path) -> Result<Self> {
        let store = Arc::new(Store::open(path)?);
        create(&store)?;
        let (jobs, receiver) = mpsc::channel();
        let writer = Writer { store: store.clone(), jobs: receiver, imports: VecDeque::new() };
        let writer = thread::Builder::new().name("writer".to_owned()).spawn(|| writer.run())?;
        Ok(Self { store, jobs, writer })
    }

    /// How many texts there are.
    pub fn count(&self) -> Result<u64> {
        Ok(self.store.begin_read()?.open_collection(VECTORS)?.len())
    }

    /// The nearest texts that can be found in a time: for a thread that has a screen to draw.
    pub fn search(&self, vector: &[f32], k: usize, time: Duration) -> Result<Found> {
        let tx = self.store.begin_read()?;
        let vectors = tx.open_collection(VECTORS)?;
        found(vectors.query(vector).k(k).time_limit(time).run()?, &tx.open_table(TEXTS)?)
    }

    /// The nearest texts, unless the flag is set before they are found: for a thread that does nothing else.
    pub fn search_until(&self, vector: &[f32], k: usize, cancelled: &AtomicBool) -> Result<Found> {
        let tx = self.store.begin_read()?;
        let vectors = tx.open_collection(VECTORS)?;
        found(vectors.query(vector).k(k).cancel(cancelled).run()?, &tx.open_table(TEXTS)?)
    }

    /// Stores a row in place of the one with its key, and returns at once. `done` is called by the writer when it is on disk, or will
    /// not be.
    pub fn put(&self, row: Row, done: impl FnOnce(Outcome) + Send + 'static) -> Result<()> {
        let change = Change { row, done: Box::new(done) };
        self.jobs.send(Job::Change(change)).map_err(|_| "the writer has ended".into())
    }

    /// Stores rows chunk by chunk, and returns at once. The writer asks for them, so that they may be computed as they are needed.
    pub fn import(
        &self,
        rows: impl Iterator<Item = Row> + Send + 'static,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<()> {
        let import = Import { rows: Box::new(rows), progress: Box::new(progress) };
        self.jobs.send(Job::Import(import)).map_err(|_| "the writer has ended".into())
    }

    /// Ends when the changes so far are on disk. Imports end where they are.
    pub fn close(self) -> Result<()> {
        drop(self.jobs);
        self.writer.join().map_err(|_| "the writer has panicked")?;
        let store = Arc::into_inner(self.store).ok_or("the store is in use")?;
        Ok(store.close()?)
    }
}

/// Makes table and collection where there are none, so that snapshots find them, empty as they may be. At every start, since an
/// update of the app may have brought new ones to a store that exists.
fn create(store: &Store) -> nestling::Result<()> {
    let tx = store.begin_write()?;
    tx.open_collection(VECTORS)?;
    tx.open_table(TEXTS)?;
    tx.commit()
}

fn found(hits: Hits, texts: &ReadTable<u64, &'static str>) -> Result<Found> {
    let is_partial = hits.is_partial();
    let text =
        |key| -> Result<String> { Ok(texts.get(key)?.ok_or("a vector without a text")?.value().to_owned()) };
    let texts = hits.iter().map(|hit| Ok((hit.key, hit.distance, text(hit.key)?))).collect::<Result<_>>()?;
    Ok(Found { texts, is_partial })
}

enum Job {
    Change(Change),
    Import(Import),
}

struct Change {
    row: Row,
    done: Box<dyn FnOnce(Outcome) + Send>,
}

struct Import {
    rows: Box<dyn Iterator<Item = Row> + Send>,
    progress: Box<dyn FnMut(Progress) + Send>,
}

/// The one thread that waits for the disk.
struct Writer {
    store: Arc<Store>,
    jobs: Receiver<Job>,
    imports: VecDeque<Import>,
}

impl Writer {
    /// What the user changes goes first, and an import goes on while there is no such thing.
    fn run(mut self) {
        loop {
            let job = match self.imports.front() {
                Some(_) => self.jobs.try_recv(),
                None => self.jobs.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match job {
                Ok(Job::Change(change)) => self.change(change),
                Ok(Job::Import(import)) => self.imports.push_back(import),
                Err(TryRecvError::Empty) => self.import_a_chunk(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Commits a change together with those that have come in meanwhile: they share one sync.
    fn change(&mut self, first: Change) {
        let mut changes = vec![first];
        for job in self.jobs.try_iter() {
            match job {
                Job::Change(change) => changes.push(change),
                Job::Import(import) => self.imports.push_back(import),
            }
        }
        match self.store_each(&changes) {
            Ok(outcomes) => {
                changes.into_iter().zip(outcomes).for_each(|(change, outcome)| (change.done)(outcome))
            }
            Err(e) => changes.into_iter().for_each(|change| (change.done)(Err(e.to_string()))),
        }
    }

    fn store_each(&self, changes: &[Change]) -> nestling::Result<Vec<Outcome>> {
        let tx = self.store.begin_write()?;
        let mut outcomes = Vec::new();
        {
            let (mut vectors, mut texts) = (tx.open_collection(VECTORS)?, tx.open_table(TEXTS)?);
            for Change { row, .. } in changes {
                outcomes.push(match vectors.insert(row.key, &row.vector) {
                    // Refused: it changed nothing, and is no reason to lose the others.
                    Err(e) if e.is_input() => Err(e.to_string()),
                    inserted => {
                        inserted?;
                        texts.insert(row.key, row.text.as_str())?;
                        Ok(())
                    }
                });
            }
        }
        tx.commit()?;
        Ok(outcomes)
    }

    fn import_a_chunk(&mut self) {
        let Some(mut import) = self.imports.pop_front() else { return };
        // Outside of the transaction: rows may take their time.
        let rows: Vec<Row> = import.rows.by_ref().take(CHUNK).collect();
        if rows.is_empty() {
            return (import.progress)(Progress::Finished);
        }
        match self.store_all(&rows) {
            Ok(()) => {
                (import.progress)(Progress::Stored(rows.len()));
                self.imports.push_front(import);
            }
            Err(e) => (import.progress)(Progress::Failed(e.to_string())),
        }
    }

    fn store_all(&self, rows: &[Row]) -> nestling::Result<()> {
        let tx = self.store.begin_write()?;
        {
            let (mut vectors, mut texts) = (tx.open_collection(VECTORS)?, tx.open_table(TEXTS)?);
            vectors.insert_many(rows.iter().map(|row| (row.key, &row.vector)))?;
            for row in rows {
                texts.insert(row.key, row.text.as_str())?;
            }
        }
        tx.commit()
    }
}
