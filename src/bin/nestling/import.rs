//! `nestling import`: a file of vectors into a collection.

mod batch;
mod record;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum, value_parser};
use indicatif::{HumanBytes, HumanCount};
use nestling::{Codes, CollectionDefinition, Element, Error, Metric, Store, VectorSubject};
use serde_json::json;

use crate::failure::Failure;
use crate::formats::{FileError, Format, ReadOptions, Reader};
use crate::{open, output};
use batch::{Batch, Rows};
use record::Record;

/// Import the vectors of a file, creating store and collection when there are none yet
///
/// A row's key is the one that the file tells (JSON lines and CSV may, indexes of hnswlib and usearch do), or that of the file named
/// with --keys; otherwise the rows get the keys FIRST_KEY, FIRST_KEY + 1 and so on, in the order of the file: the first row after the
/// skipped ones gets FIRST_KEY itself. A key that is in the collection already has its vector replaced; one that comes twice in the
/// file is an error. Vectors are kept as they are given, but for what --element rounds, under the cosine metric as well. (hnswlib's
/// Python binding normalises them under cosine before it stores them: so they are imported from there.)
///
/// Each batch is one transaction. When one fails, or Ctrl-C ends the import, those before it stay, and the message tells how to go on
/// from there. After Ctrl-C, or if the process was killed, the same command with --resume does.
#[derive(Args)]
pub(crate) struct Import {
    /// The store's directory
    store: PathBuf,
    /// The collection's name
    collection: String,
    /// The vectors; - for standard input
    file: PathBuf,
    /// The file's format: by its suffix unless given
    #[arg(long)]
    format: Option<Format>,
    /// How distances are measured: what is stored, or cosine for a new collection (what the file states for an index of usearch)
    #[arg(long)]
    metric: Option<MetricName>,
    /// Components of the vectors: an error if the file has others
    #[arg(long)]
    dimension: Option<usize>,
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
    /// How components are stored: what is stored, or f32 for a new collection
    #[arg(long, value_enum)]
    element: Option<ElementName>,
    /// Key of the first row that is imported, counted after the skipped rows; 0 unless given. Keys in the file are passed over then
    #[arg(long)]
    first_key: Option<u64>,
    /// Keys of the file's rows: a text with one per line, or a .npy of integers
    #[arg(long, value_name = "FILE", conflicts_with = "first_key")]
    keys: Option<PathBuf>,
    /// Field (JSON lines) or column (CSV; its number from 0 where there are no names) of the key: "key" unless given
    #[arg(long, value_name = "NAME", conflicts_with_all = ["first_key", "keys"])]
    key_field: Option<String>,
    /// Field of the vector (JSON lines): "vector" unless given
    #[arg(long, value_name = "NAME")]
    vector_field: Option<String>,
    /// Rows at the start of the file to pass over
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    skip: u64,
    /// Rows to import at most; all unless given
    #[arg(long, value_name = "ROWS", value_parser = value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Rows per transaction
    #[arg(long, value_name = "ROWS", default_value_t = 10_000, value_parser = value_parser!(u64).range(1..))]
    batch: u64,
    /// Go on with the import of this file that did not come to its end; from the start if there is none
    #[arg(long)]
    resume: bool,
    /// Threads to insert with; as many as the machine has unless given
    #[arg(long, value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one line of JSON, and no progress bar
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ElementName {
    /// As given
    F32,
    /// In half the bytes, which loses nothing that matters of embeddings
    F16,
    /// In a quarter of the bytes; exact for whole numbers in -128..=127
    I8,
}

impl From<ElementName> for Element {
    fn from(name: ElementName) -> Self {
        match name {
            ElementName::F32 => Element::F32,
            ElementName::F16 => Element::F16,
            ElementName::I8 => Element::I8,
        }
    }
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
        let stopped = stop_on_ctrl_c()?;
        if let Some(threads) = self.threads.map(usize::from) {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global()
                .map_err(|source| Failure::Threads { threads, source })?;
        }
        let file = Reader::open(&self.file, &self.read_options())?;
        let mut record = Record::new(&self.collection, &self.file, file.identity(), self.plan(&file));
        let stated_metric = file.metric();
        let format = file.format();
        let mut rows = Rows::new(file, self.keys.as_deref(), self.first_key, self.limit)?;
        let opened = if self.resume { self.open_and_resume(&mut record)? } else { None };
        let resumed_at = record.rows;
        rows.skip(self.skip, resumed_at)?;
        let started = Instant::now();
        // The first batch is read before the store is made: a file that cannot be read leaves no store behind.
        let mut batch = Batch::default();
        let mut is_last = rows.read_batch(self.batch, &mut batch)?;
        let Some(width) = rows.width().filter(|_| !batch.is_empty()) else {
            return Err(self.nothing(rows.position()));
        };
        if let Some(stated) = self.dimension.filter(|&stated| stated != width) {
            return Err(Failure::StatedDimension { path: self.file.clone(), found: width, stated });
        }
        let store = match opened {
            Some(store) => store,
            None => open::for_writing(&self.store, true)?,
        };
        let definition = self.definition(&store, width, &batch, stated_metric, format)?;
        let length = rows.estimate().map(|rows| rows.saturating_sub(self.skip));
        let length = length.into_iter().chain(self.limit).min();
        let progress = output::progress("importing", resumed_at, length, self.json);
        loop {
            let rows_after = record.rows + batch.len() as u64;
            self.insert(&store, definition, &batch, &record.at(rows_after), matches!(is_last, Ok(true)))
                .map_err(|cause| self.interrupted(record.rows, rows.first_key(), cause))?;
            record.rows = rows_after;
            progress.set_position(record.rows);
            // What was wrong behind the batch comes to light once the batch is safe.
            if is_last.map_err(|cause| self.interrupted(record.rows, rows.first_key(), cause))? {
                break;
            }
            if stopped.load(Ordering::Relaxed) {
                progress.finish_and_clear();
                store.close()?;
                return Err(Failure::Stopped { committed: record.rows });
            }
            batch.clear();
            is_last = rows
                .read_batch(self.batch, &mut batch)
                .map_err(|cause| self.interrupted(record.rows, rows.first_key(), cause))?;
        }
        let bytes = store.bytes_on_disk()?;
        store.close()?;
        let seconds = started.elapsed().as_secs_f64();
        progress.finish_and_clear();
        self.print(record.rows - resumed_at, resumed_at, seconds, bytes)
    }

    fn read_options(&self) -> ReadOptions {
        ReadOptions {
            format: self.format,
            key_field: self.key_field.clone(),
            vector_field: self.vector_field.clone(),
        }
    }

    /// The options that decide which row gets which key in which transaction: a resumed import has to have the same.
    fn plan(&self, file: &Reader) -> String {
        let mut plan =
            format!("--format {} --skip {} --batch {}", file.format().name(), self.skip, self.batch);
        let stated = [
            ("--first-key", self.first_key.map(|key| key.to_string())),
            ("--keys", self.keys.as_deref().map(|path| path.display().to_string())),
            ("--key-field", self.key_field.clone()),
            ("--vector-field", self.vector_field.clone()),
            ("--limit", self.limit.map(|limit| limit.to_string())),
        ];
        for (option, value) in stated {
            if let Some(value) = value {
                plan += &format!(" {option} {value}");
            }
        }
        plan
    }

    /// The store, if there is one, and how far the import had come.
    fn open_and_resume(&self, record: &mut Record<'_>) -> Result<Option<Store>, Failure> {
        match open::for_writing(&self.store, false) {
            Ok(store) => {
                record.resume(&store)?;
                Ok(Some(store))
            }
            Err(Failure::StoreNotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn nothing(&self, rows: u64) -> Failure {
        let path = self.file.clone();
        match rows {
            0 => FileError::Empty { path }.into(),
            rows => Failure::NothingToImport { path, rows, skip: self.skip },
        }
    }

    /// What the collection must be: what the command line states, and for a collection that exists its own metric.
    fn definition(
        &self,
        store: &Store,
        width: usize,
        batch: &Batch,
        stated_metric: Option<Metric>,
        format: Format,
    ) -> Result<CollectionDefinition<'_>, Failure> {
        let stored = match store.begin_read()?.open_stored_collection(&self.collection) {
            Ok(collection) => Some(*collection.parameters()),
            Err(Error::CollectionNotFound { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let expected = stored.map(|stored| stored.dimension);
        if let Some(expected) = expected.filter(|&expected| expected != width) {
            return Err(Failure::Dimension {
                path: self.file.clone(),
                place: batch.first_place(),
                found: width,
                collection: self.collection.clone(),
                expected,
            });
        }
        let metric = self.metric.map(Metric::from).or(stored.map(|stored| stored.metric)).or(stated_metric);
        // An index was built for one metric, and nobody should have to guess which.
        if metric.is_none() && matches!(format, Format::Hnswlib | Format::Usearch) {
            return Err(Failure::MetricUnknown { path: self.file.clone() });
        }
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
        if let Some(element) = self.element {
            definition = definition.element(element.into());
        }
        Ok(definition)
    }

    /// Commits a batch, and with it how far the import has come.
    fn insert(
        &self,
        store: &Store,
        definition: CollectionDefinition<'_>,
        batch: &Batch,
        record: &Record<'_>,
        is_last: bool,
    ) -> Result<(), Failure> {
        let refused = |e| match e {
            Error::InvalidVector { subject: VectorSubject::Vector { position, .. }, defect } => {
                Failure::Vector { path: self.file.clone(), place: batch.place(position), defect }
            }
            Error::DefinitionMismatch { collection, parameter, stored, stated } => {
                Failure::Mismatch { collection, parameter, stored, stated }
            }
            e => Failure::Store(e),
        };
        let tx = store.begin_write()?;
        tx.open_collection(definition).map_err(refused)?.insert_many(batch.rows()).map_err(refused)?;
        if is_last {
            record.delete(&tx)?
        } else {
            record.write(&tx)?
        }
        Ok(tx.commit()?)
    }

    fn interrupted(&self, committed: u64, first_key: Option<u64>, cause: Failure) -> Failure {
        if committed == 0 {
            return cause;
        }
        let mut options = format!("--skip {}", self.skip + committed);
        if let Some(first) = first_key {
            options += &format!(" --first-key {}", first.saturating_add(committed));
        }
        if let Some(limit) = self.limit {
            options += &format!(" --limit {}", limit - committed);
        }
        Failure::Interrupted { cause: Box::new(cause), committed, options }
    }

    fn print(&self, inserted: u64, resumed_at: u64, seconds: f64, bytes: u64) -> Result<(), Failure> {
        let vectors_per_second = inserted as f64 / seconds;
        if self.json {
            return output::line(json!({
                "inserted": inserted,
                "resumed_at": resumed_at,
                "seconds": seconds,
                "vectors_per_second": vectors_per_second,
                "bytes_on_disk": bytes,
            }));
        }
        if resumed_at > 0 {
            output::line(format_args!("resumed after {} rows", HumanCount(resumed_at)))?;
        }
        output::line(format_args!(
            "{} vectors in {seconds:.2} s ({vectors_per_second:.0} per second); the store takes {} on disk",
            HumanCount(inserted),
            HumanBytes(bytes)
        ))
    }
}

/// A flag that Ctrl-C (and a request to terminate) sets. The second time the process ends at once: what is committed stays.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(output::STOPPED.into());
        }
        output::note("stopping after this batch; once more stops at once, and loses it");
    })
    .map_err(Failure::Handler)?;
    Ok(stopped)
}

/// How a path is told in a record: wherever the command is run from, the same file.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
