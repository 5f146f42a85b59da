//! Why a command failed, in the terms of the command line.

use std::io;
use std::path::PathBuf;

use nestling::{Metric, VectorDefect};

use crate::formats::{FileError, Place, WriteError};

/// Everything that ends a command with exit code 1.
///
/// The library's messages speak of handles and definitions; where a command can tell file, row or option, it has a variant here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    File(#[from] FileError),

    #[error("{place} of {} {defect}; correct it or leave it out", path.display())]
    Vector { path: PathBuf, place: Place, defect: VectorDefect },

    #[error(
        "{place} of {} has {found} components, collection {collection:?} has dimension {expected}; \
         take a file of that width or another collection",
        path.display()
    )]
    Dimension { path: PathBuf, place: Place, found: usize, collection: String, expected: usize },

    #[error("{} has vectors of {found} components, the command says {stated}; is this the right file?", path.display())]
    StatedDimension { path: PathBuf, found: usize, stated: usize },

    #[error("{} does not tell its metric, or one that there is none of here; state it with --metric", path.display())]
    MetricUnknown { path: PathBuf },

    #[error("{} has {rows} rows, so --skip {skip} leaves none to import; skip fewer", path.display())]
    NothingToImport { path: PathBuf, rows: u64, skip: u64 },

    #[error("{place} of {} would get a key above {}; take a lower --first-key", path.display(), u64::MAX)]
    KeyOverflow { path: PathBuf, place: Place },

    #[error(
        "{place} of {} has key {key}, which an earlier one has as well; \
         leave one of them out, or number the rows with --first-key", path.display()
    )]
    RepeatedKey { path: PathBuf, place: Place, key: u64 },

    #[error("{} has no key for {place} of {}; it needs one for every row", keys.display(), path.display())]
    TooFewKeys { keys: PathBuf, path: PathBuf, place: Place },

    #[error(
        "{} has more keys than {} has rows; it needs one for every row (with --limit, those beyond are not looked at)",
        keys.display(), path.display()
    )]
    TooManyKeys { keys: PathBuf, path: PathBuf },

    #[error(
        "collection {collection:?} has {parameter} {stored}, the command says {stated}; \
         leave that option out, or import into another collection"
    )]
    Mismatch { collection: String, parameter: &'static str, stored: String, stated: String },

    /// An import that failed after it had committed batches, and the options for the next one.
    #[error("{cause}\n{committed} rows were imported before that and stay; go on from there with {options}")]
    Interrupted { cause: Box<Failure>, committed: u64, options: String },

    /// Ctrl-C.
    #[error(
        "stopped; {committed} rows were imported and stay; the same command with --resume goes on from there"
    )]
    Stopped { committed: u64 },

    #[error(
        "the unfinished import is of {recorded}, of which {rows} rows are stored, and {} is another file, or has changed; \
         leave --resume out to import it from its start, or from --skip {rows}", path.display()
    )]
    ResumesAnotherFile { path: PathBuf, recorded: String, rows: u64 },

    #[error(
        "the unfinished import was begun with {recorded}, this command says {stated}; state the same, or leave --resume out"
    )]
    ResumesOtherwise { recorded: String, stated: String },

    #[error(
        "what is noted of the unfinished import into {collection:?} cannot be read; leave --resume out, and use --skip"
    )]
    RecordUnreadable { collection: String },

    #[error("cannot watch for Ctrl-C: {0}")]
    Handler(ctrlc::Error),

    #[error("cannot write {}: {source}; check the path, its permissions and the space left", path.display())]
    Export { path: PathBuf, source: io::Error },

    #[error("key {key} {problem}; export in another format, .fvecs or .npy", problem = cause)]
    NotExportable { key: u64, cause: WriteError },

    #[error("{cause}; export in another format")]
    NotWritable { cause: WriteError },

    #[error(
        "row {row} has key {key}, and the format {format} has no place for keys; \
         have them written as well with --keys FILE, or export as .jsonl or .csv"
    )]
    KeysLost { row: u64, key: u64, format: &'static str },

    #[error("there is no store at {}; check the path (`nestling import` creates stores)", path.display())]
    StoreNotFound { path: PathBuf },

    #[error(
        "the store at {} is open for writing in another process; \
         wait until that one has closed it, then run this again", path.display()
    )]
    WriterPresent { path: PathBuf },

    #[error(
        "the store at {} is open in another process, and a writer has to be alone; \
         wait until that one has closed it, then run this again", path.display()
    )]
    InUse { path: PathBuf },

    #[error("there is no collection {name:?} in {}; {}", path.display(), which_exist(existing))]
    CollectionNotFound { path: PathBuf, name: String, existing: Vec<String> },

    #[error("collection {name:?} of {} is empty; import vectors first", path.display())]
    EmptyCollection { path: PathBuf, name: String },

    #[error(
        "{} has {found} rows, {} has {expected}; the truth needs one row for each query",
        path.display(), queries.display()
    )]
    TruthRows { path: PathBuf, found: usize, queries: PathBuf, expected: usize },

    #[error(
        "row {row} of {} names {found} neighbors, -k asks for {k}; take a lower -k or a wider truth",
        path.display()
    )]
    TruthWidth { path: PathBuf, row: usize, found: usize, k: usize },

    #[error(
        "row {row} of {} names {neighbor} as a neighbor, but collection {collection:?} has no such key; \
         truth rows are keys, as `import` assigns them with --first-key 0: import the whole base file so, \
         or leave --truth out to have the truth computed",
        path.display()
    )]
    TruthKey { path: PathBuf, row: usize, neighbor: i32, collection: String },

    #[error("this tool cannot compute {0} distances; use a newer one")]
    UnknownMetric(Metric),

    #[error("cannot start {threads} threads: {source}; take fewer with --threads")]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },

    #[error("cannot write to standard output: {0}")]
    Output(io::Error),

    #[error("closing or compacting the store failed: {0}")]
    Close(#[from] nestling::CloseError),

    #[error(transparent)]
    Store(#[from] nestling::Error),
}

impl Failure {
    /// True when the user has asked for the end.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self, Failure::Stopped { .. })
    }

    /// True when the reader of standard output has gone away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn which_exist(names: &[String]) -> String {
    if names.is_empty() {
        return "it has no collections at all".to_owned();
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("it has {}", names.join(", "))
}
