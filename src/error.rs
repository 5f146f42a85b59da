//! The one error type.

use std::io;
use std::path::PathBuf;

/// Shorthand for a result with Nestling's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with what was expected, what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: "open", "sync"…
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// The path is not a Nestling store.
    #[error("{} is not a Nestling store: {found}; name a store's directory, or a path that does not exist yet", path.display())]
    NotAStore {
        /// The path that was to be opened.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },

    /// There is no store at the path, and the options forbid creating one.
    #[error("there is no store at {}; `Store::open` creates one, `create(false)` and `read_only()` do not", path.display())]
    StoreNotFound {
        /// The path that was to be opened.
        path: PathBuf,
    },

    /// A store exists at the path, and the options ask for a new one.
    #[error("a store exists at {}; open it without `create_new`, or choose another path", path.display())]
    StoreExists {
        /// The path that was to be created.
        path: PathBuf,
    },

    /// What is to become a store, or a copy of one, is there already.
    #[error("{} is neither new nor an empty directory; choose another path, or clear this one", path.display())]
    TargetNotEmpty {
        /// The path that was to be written to.
        path: PathBuf,
    },

    /// Another process, or another `Store` in this one, has the store open.
    #[error("the store at {} is open elsewhere; close it there first (read-only openings share, a writer does not)", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },

    /// The store was written by a newer Nestling.
    #[error("{} has format version {found}, this version of Nestling reads up to {supported}; upgrade Nestling", path.display())]
    UnsupportedFormat {
        /// The file with the version.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },

    /// Stored bytes do not verify. What the store holds elsewhere stays readable; `Store::check` tells how far the damage goes.
    #[error(
        "corrupted: {location}: {detail}; run `check`, restore from a backup, or save the rest with `repair`"
    )]
    Corrupted {
        /// Where: a file, or a collection's table and row.
        location: String,
        /// What was expected and what was found.
        detail: String,
    },

    /// A collection exists with other parameters than those stated.
    #[error(
        "collection {collection:?} has {parameter} {stored}, the definition says {stated}; a collection's parameters are fixed when it is created"
    )]
    DefinitionMismatch {
        /// The collection's name.
        collection: String,
        /// The parameter that differs.
        parameter: &'static str,
        /// The stored value.
        stored: String,
        /// The value stated by the caller.
        stated: String,
    },

    /// A parameter is out of its range.
    #[error("{parameter} is {found}; it must be {expected}")]
    InvalidParameter {
        /// The parameter's name.
        parameter: &'static str,
        /// The value given.
        found: String,
        /// The values that are allowed.
        expected: &'static str,
    },

    /// No collection of this name exists in the snapshot.
    #[error("there is no collection {name:?} in this snapshot; create it in a write transaction")]
    CollectionNotFound {
        /// The name asked for.
        name: String,
    },

    /// The collection is open in this write transaction already.
    #[error("collection {name:?} is open in this transaction already; drop that handle first")]
    CollectionAlreadyOpen {
        /// The collection's name.
        name: String,
    },

    /// A table name that the store keeps for itself.
    #[error("table name {name:?} begins with the reserved prefix \"nestling/\"; choose another")]
    ReservedTableName {
        /// The name given.
        name: String,
    },

    /// A vector or query of the wrong length.
    #[error("{subject} has {found} components, the collection has dimension {expected}")]
    WrongDimension {
        /// Which vector: its key and its position in the call.
        subject: VectorSubject,
        /// The collection's dimension.
        expected: usize,
        /// The number of components given.
        found: usize,
    },

    /// A vector or query that no distance can be computed with.
    #[error("{subject} {defect}")]
    InvalidVector {
        /// Which vector: its key and its position in the call.
        subject: VectorSubject,
        /// What is wrong with it.
        defect: VectorDefect,
    },

    /// The key is not in the collection.
    #[error("key {key} is not in collection {collection:?}")]
    KeyNotFound {
        /// The key asked for.
        key: u64,
        /// The collection's name.
        collection: String,
    },

    /// The collection has used up the 2³² − 1 slots that it can address.
    #[error("collection {collection:?} is full: it can address 4,294,967,295 slots")]
    CollectionFull {
        /// The collection's name.
        collection: String,
    },

    /// The store has used up the 2³² − 1 numbers that it can give to collections, or to segments, ever.
    #[error("the store has given out all numbers for {what}; export its collections into a new one")]
    OutOfNumbers {
        /// "collections" or "segments".
        what: &'static str,
    },

    /// An earlier operation of this transaction failed half-way, or a handle on a collection was leaked, so it cannot be committed.
    #[error(
        "an earlier operation of this transaction failed, or a handle was leaked; it cannot be committed: drop it, then begin another"
    )]
    TransactionFailed,

    /// The commit was rolled back; the store is as before and usable.
    #[error("the commit was rolled back: {reason}")]
    CommitAborted {
        /// Why.
        reason: String,
    },

    /// The commit failed in a way that leaves open whether it is durable. The store refuses further writes; reopening decides.
    #[error("the commit failed and may or may not be durable ({reason}); reopen the store to find out")]
    CommitOutcomeUnknown {
        /// What failed.
        reason: String,
    },

    /// An earlier failure to write or sync stopped all writing through this handle. Snapshots go on answering from what is loaded.
    #[error("the store stopped writing after an earlier I/O failure; reopen it")]
    Poisoned,

    /// The store was opened read-only.
    #[error("the store at {} was opened read-only", path.display())]
    ReadOnly {
        /// The store's directory.
        path: PathBuf,
    },

    /// redb refused an operation on a table.
    #[error("{0}{advice}", advice = way_out(.0))]
    Table(#[from] redb::TableError),

    /// redb reported a storage error.
    #[error("redb: {0}")]
    Storage(#[from] redb::StorageError),

    /// redb could not open its file.
    #[error("cannot open {}: {source}", path.display())]
    Database {
        /// The redb file.
        path: PathBuf,
        /// redb's error.
        source: redb::DatabaseError,
    },
}

impl Error {
    /// True when stored bytes did not verify.
    pub fn is_corrupted(&self) -> bool {
        match self {
            Error::Corrupted { .. } => true,
            Error::Storage(e) | Error::Table(redb::TableError::Storage(e)) => match e {
                redb::StorageError::Corrupted(_) => true,
                // A damaged page number leads past the end of the file.
                redb::StorageError::Io(e) => e.kind() == io::ErrorKind::UnexpectedEof,
                _ => false,
            },
            _ => false,
        }
    }

    /// True when the caller's input was refused: nothing was changed, and the transaction goes on.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Error::DefinitionMismatch { .. }
                | Error::InvalidParameter { .. }
                | Error::CollectionNotFound { .. }
                | Error::CollectionAlreadyOpen { .. }
                | Error::ReservedTableName { .. }
                | Error::WrongDimension { .. }
                | Error::InvalidVector { .. }
                | Error::KeyNotFound { .. }
        )
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Io { action, path: path.into(), source }
    }

    pub(crate) fn corrupted(location: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Corrupted { location: location.into(), detail: detail.into() }
    }
}

/// What redb's message leaves unsaid.
fn way_out(error: &redb::TableError) -> &'static str {
    match error {
        redb::TableError::TableDoesNotExist(_) => "; create it in a write transaction",
        _ => "",
    }
}

impl From<redb::TransactionError> for Error {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(storage) => Error::Storage(storage),
            other => Error::Storage(redb::StorageError::Corrupted(other.to_string())),
        }
    }
}

/// Which vector of a call an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorSubject {
    /// The query of a search.
    Query,
    /// One of the queries of [`Collection::search_many`](crate::Collection::search_many).
    QueryAt {
        /// Its position in the call, from 0.
        position: usize,
    },
    /// A vector to be stored.
    Vector {
        /// Its key.
        key: u64,
        /// Its position in the call, from 0.
        position: usize,
    },
}

impl std::fmt::Display for VectorSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VectorSubject::Query => write!(f, "the query"),
            VectorSubject::QueryAt { position } => write!(f, "the query at position {position} of the call"),
            VectorSubject::Vector { key, position } => {
                write!(f, "the vector of key {key} (position {position} of the call)")
            }
        }
    }
}

/// Why a vector was refused.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum VectorDefect {
    /// A component is NaN or infinite.
    NotFinite {
        /// The component's index.
        component: usize,
        /// Its value.
        value: f32,
    },
    /// A component is too large for the collection's [`Element`](crate::Element) type.
    OutOfRange {
        /// The component's index.
        component: usize,
        /// Its value.
        value: f32,
        /// The largest that it holds.
        largest: f32,
    },
    /// ‖x‖² exceeds `f32::MAX / 4`, so distances could overflow.
    TooLarge {
        /// ‖x‖².
        squared_norm: f64,
    },
    /// Under [`Metric::Cosine`](crate::Metric::Cosine): the norm is zero, or too small to be a normal `f32`.
    NoDirection {
        /// ‖x‖.
        norm: f64,
    },
}

impl std::fmt::Display for VectorDefect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VectorDefect::NotFinite { component, value } => {
                write!(f, "has {value} at component {component}; components must be finite")
            }
            VectorDefect::OutOfRange { component, value, largest } => write!(
                f,
                "has {value} at component {component}; the collection's element type holds up to {largest}, so scale the data"
            ),
            VectorDefect::TooLarge { squared_norm } => {
                write!(f, "has a squared norm of {squared_norm:e}; it must not exceed f32::MAX / 4")
            }
            VectorDefect::NoDirection { norm } => write!(
                f,
                "has a norm of {norm:e}; under the cosine metric it must be a normal f32 above zero"
            ),
        }
    }
}
