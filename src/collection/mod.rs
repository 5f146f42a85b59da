//! Collections: vectors under keys, searched through an HNSW graph.

mod budget;
mod code_space;
mod filter;
mod filtered;
mod index;
mod input;
mod query;
mod read;
mod state;
mod vector_space;
mod view;
mod write;
mod writer;

pub use filter::KeySet;
pub use query::{Hit, Hits, Query, QueryStatistics, Strategy};
pub use read::{Collection, Keys, Vectors};
pub(crate) use state::{CollectionSnapshot, CollectionState};
pub use write::CollectionMut;
pub(crate) use write::Home;
pub(crate) use writer::CollectionWriter;
pub use writer::RowCounts;
