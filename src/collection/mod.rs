//! Collections: vectors under keys, searched through an HNSW graph.

mod budget;
mod calibration;
mod code_space;
mod filter;
mod filtered;
mod hits;
mod index;
mod input;
mod paging;
mod query;
mod radius;
mod read;
mod search;
mod state;
mod vector_space;
mod view;
mod write;
mod writer;

pub use filter::KeySet;
pub use hits::{Hit, Hits, QueryStatistics, Strategy};
pub(crate) use input::check_stored;
pub use paging::Pages;
pub use query::Query;
pub use radius::Within;
pub use read::{Collection, Keys, Vectors};
pub(crate) use state::{CollectionSnapshot, CollectionState};
pub use write::CollectionMut;
pub(crate) use write::Home;
pub(crate) use writer::CollectionWriter;
pub use writer::RowCounts;
