//! Collections: vectors under keys, searched through an HNSW graph.

mod code_space;
mod index;
mod input;
mod query;
mod read;
mod state;
mod vector_space;
mod view;
mod write;
mod writer;

pub use query::{Hit, Hits, Query, QueryStatistics};
pub use read::{Collection, Keys, Vectors};
pub(crate) use state::{CollectionSnapshot, CollectionState};
pub use write::CollectionMut;
pub(crate) use write::Home;
pub(crate) use writer::CollectionWriter;
pub use writer::RowCounts;
