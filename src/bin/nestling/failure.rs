//! Why a command failed, in the terms of the command line.

use std::io;
use std::path::PathBuf;

use nestling::{Metric, VectorDefect};

use crate::fvecs::FileError;

/// Everything that ends a command with exit code 1.
///
/// The library's messages speak of handles and definitions; where a command can tell file, row or option, it has a variant here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    File(#[from] FileError),

    #[error("row {row} of {} {defect}; correct the row or leave it out", path.display())]
    Vector { path: PathBuf, row: u64, defect: VectorDefect },

    #[error(
        "row {row} of {} has {found} components, collection {collection:?} has dimension {expected}; \
         take a file of that width or another collection",
        path.display()
    )]
    Dimension { path: PathBuf, row: u64, found: usize, collection: String, expected: usize },

    #[error("{} has {rows} rows, so --skip {skip} leaves none to import; skip fewer", path.display())]
    NothingToImport { path: PathBuf, rows: u64, skip: u64 },

    #[error("row {row} of {} would get a key above {}; take a lower --first-key", path.display(), u64::MAX)]
    KeyOverflow { path: PathBuf, row: u64 },

    #[error(
        "collection {collection:?} has {parameter} {stored}, the command says {stated}; \
         leave that option out, or import into another collection"
    )]
    Mismatch { collection: String, parameter: &'static str, stored: String, stated: String },

    /// An import that failed after it had committed batches, and the options for the next one.
    #[error("{cause}\n{committed} rows were imported before that and stay; go on from there with {options}")]
    Interrupted { cause: Box<Failure>, committed: u64, options: String },

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
