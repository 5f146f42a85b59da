//! Nestling is an embedded vector store: a persistent HNSW index with ACID transactions, for desktop and mobile apps.

mod archive;
mod check;
mod collection;
mod distance;
mod error;
mod graph;
mod hnsw;
mod io;
mod options;
mod stats;
mod store;
mod transaction;
mod vectors;

pub use check::{Problem, Report};
pub use collection::{Collection, CollectionMut, Hit, Hits, Keys, Query, RowCounts, Statistics, Vectors};
pub use error::{Error, Result, VectorDefect, VectorSubject};
pub use io::{Counters, Observer, Operation};
pub use options::{CollectionDefinition, Metric, Parameters};
pub use redb;
pub use stats::{CollectionStats, LayerStats, Stats};
pub use store::{Builder, CloseError, Store};
pub use transaction::{Durability, ReadMultimapTable, ReadTable, ReadTransaction, WriteTransaction};
pub use vectors::VectorAccess;
