//! `nestling import`: a file of vectors into a collection.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum, value_parser};
use indicatif::{HumanBytes, HumanCount};
use nestling::{Codes, CollectionDefinition, Error, Metric, Store, VectorSubject};
use serde_json::json;

use crate::failure::Failure;
use crate::fvecs::{FileError, Rows};
use crate::{open, output};

/// Import the vectors of an .fvecs file, creating store and collection when there are none yet
///
/// The imported rows get the keys FIRST_KEY, FIRST_KEY + 1 and so on, in the order of the file: the first row after the skipped ones
/// gets FIRST_KEY itself. A key that is in the collection already has its vector replaced.
///
/// Each batch is one transaction. When one fails, those before it stay, and the error tells how to go on from there.
#[derive(Args)]
pub(crate) struct Import {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// The vectors, in the TEXMEX format: per row the width as a little-endian i32, then as many f32
    file: PathBuf,
    /// How distances are measured: what is stored, or cosine for a new collection
    #[arg(long)]
    metric: Option<MetricName>,
    /// Neighbors per node: what is stored, or 16 for a new collection
    #[arg(long, value_parser = value_parser!(u16).range(2..=128))]
    m: Option<u16>,
    /// Candidates considered by an insertion: what is stored, or 200 for a new collection
    #[arg(long, value_parser = value_parser!(u16).range(2..))]
    ef_construction: Option<u16>,
    /// Seed of the nodes' levels: what is stored, or 0 for a new collection
    #[arg(long)]
    seed: Option<u64>,
    /// Keep no 7-bit codes and search on the vectors themselves: for a new collection of data that codes suit badly
    #[arg(long)]
    no_codes: bool,
    /// Key of the first row that is imported, counted after the skipped rows
    #[arg(long, default_value_t = 0)]
    first_key: u64,
    /// Rows at the start of the file to pass over
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    skip: u64,
    /// Rows to import at most; all unless given
    #[arg(long, value_name = "ROWS", value_parser = value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Rows per transaction
    #[arg(long, value_name = "ROWS", default_value_t = 10_000, value_parser = value_parser!(u64).range(1..))]
    batch: u64,
    /// Threads to insert with; as many as the machine has unless given
    #[arg(long, value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one line of JSON, and no progress bar
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum MetricName {
    /// 1 - cos(x, y)
    Cosine,
    /// Squared Euclidean distance
    L2,
    /// -<x, y>, for maximum inner product
    Dot,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Cosine => Metric::Cosine,
            MetricName::L2 => Metric::L2,
            MetricName::Dot => Metric::Dot,
        }
    }
}

impl Import {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        if let Some(threads) = self.threads.map(usize::from) {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global()
                .map_err(|source| Failure::Threads { threads, source })?;
        }
        let mut file = Rows::open(&self.file)?;
        file.skip(self.skip)?;
        let started = Instant::now();
        // The first batch is read before the store is made: a file that cannot be read leaves no store behind.
        let mut batch = Vec::new();
        self.read_batch(&mut file, 0, &mut batch)?;
        let Some(width) = file.width().filter(|_| !batch.is_empty()) else {
            return Err(self.nothing(&file));
        };
        let store = open::for_writing(&self.store, true)?;
        let definition = self.definition(&store, width)?;
        let rows = file.estimate().map(|rows| rows.saturating_sub(self.skip));
        let progress = output::progress("importing", rows.into_iter().chain(self.limit).min(), self.json);
        let mut inserted = 0;
        while !batch.is_empty() {
            self.insert(&store, definition, inserted, batch.chunks_exact(width))
                .map_err(|cause| self.interrupted(inserted, cause))?;
            inserted += (batch.len() / width) as u64;
            progress.set_position(inserted);
            batch.clear();
            self.read_batch(&mut file, inserted, &mut batch)
                .map_err(|cause| self.interrupted(inserted, cause.into()))?;
        }
        let bytes = store.bytes_on_disk()?;
        store.close()?;
        let seconds = started.elapsed().as_secs_f64();
        progress.finish_and_clear();
        self.print(inserted, seconds, bytes)
    }

    /// Reads the rows of a batch, of which there are none at the end.
    fn read_batch(&self, file: &mut Rows, inserted: u64, batch: &mut Vec<f32>) -> Result<(), FileError> {
        let most = self.limit.map_or(u64::MAX, |limit| limit - inserted).min(self.batch);
        for _ in 0..most {
            if !file.read(batch)? {
                break;
            }
        }
        Ok(())
    }

    fn nothing(&self, file: &Rows) -> Failure {
        let path = file.path().to_owned();
        match file.position() {
            0 => FileError::Empty { path }.into(),
            rows => Failure::NothingToImport { path, rows, skip: self.skip },
        }
    }

    /// What the collection must be: what the command line states, and for a collection that exists its own metric.
    fn definition(&self, store: &Store, width: usize) -> Result<CollectionDefinition<'_>, Failure> {
        let stored = match store.begin_read()?.open_stored_collection(&self.collection) {
            Ok(collection) => Some(*collection.parameters()),
            Err(Error::CollectionNotFound { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        if let Some(expected) = stored.map(|stored| stored.dimension).filter(|&expected| expected != width) {
            return Err(Failure::Dimension {
                path: self.file.clone(),
                row: self.skip,
                found: width,
                collection: self.collection.clone(),
                expected,
            });
        }
        let metric = self.metric.map(Metric::from).or(stored.map(|stored| stored.metric));
        let mut definition =
            CollectionDefinition::new(&self.collection, width, metric.unwrap_or(Metric::Cosine));
        if let Some(m) = self.m {
            definition = definition.m(m.into());
        }
        if let Some(ef_construction) = self.ef_construction {
            definition = definition.ef_construction(ef_construction.into());
        }
        if let Some(seed) = self.seed {
            definition = definition.seed(seed);
        }
        if self.no_codes {
            definition = definition.codes(Codes::None);
        }
        Ok(definition)
    }

    /// Commits a batch, of which the first row is the one after `inserted` others.
    fn insert<'a>(
        &self,
        store: &Store,
        definition: CollectionDefinition<'_>,
        inserted: u64,
        rows: impl ExactSizeIterator<Item = &'a [f32]>,
    ) -> Result<(), Failure> {
        let row = |position: u64| self.skip + inserted + position;
        // The keys that are left from the first one on, itself not counted: as many rows may follow the first.
        let room = u64::MAX - self.first_key;
        if inserted + rows.len() as u64 - 1 > room {
            return Err(Failure::KeyOverflow { path: self.file.clone(), row: self.skip + room + 1 });
        }
        let first = self.first_key + inserted;
        let rows = (0..).zip(rows).map(|(position, row)| (first + position, row));
        let refused = |e| match e {
            Error::InvalidVector { subject: VectorSubject::Vector { position, .. }, defect } => {
                Failure::Vector { path: self.file.clone(), row: row(position as u64), defect }
            }
            Error::DefinitionMismatch { collection, parameter, stored, stated } => {
                Failure::Mismatch { collection, parameter, stored, stated }
            }
            e => Failure::Store(e),
        };
        let tx = store.begin_write()?;
        tx.open_collection(definition).map_err(refused)?.insert_many(rows).map_err(refused)?;
        Ok(tx.commit()?)
    }

    fn interrupted(&self, committed: u64, cause: Failure) -> Failure {
        if committed == 0 {
            return cause;
        }
        let mut options = format!(
            "--skip {} --first-key {}",
            self.skip + committed,
            self.first_key.saturating_add(committed)
        );
        if let Some(limit) = self.limit {
            options += &format!(" --limit {}", limit - committed);
        }
        Failure::Interrupted { cause: Box::new(cause), committed, options }
    }

    fn print(&self, inserted: u64, seconds: f64, bytes: u64) -> Result<(), Failure> {
        let vectors_per_second = inserted as f64 / seconds;
        if self.json {
            return output::line(json!({
                "inserted": inserted,
                "seconds": seconds,
                "vectors_per_second": vectors_per_second,
                "bytes_on_disk": bytes,
            }));
        }
        output::line(format_args!(
            "{} vectors in {seconds:.2} s ({vectors_per_second:.0} per second); the store takes {} on disk",
            HumanCount(inserted),
            HumanBytes(bytes)
        ))
    }
}
