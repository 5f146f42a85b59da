//! Transactions: snapshots for readers, one writer at a time, and the commit protocol.
//!
//! ```text
//! Store ── Arc ──> Shared ─┬─ ArcSwap<Published> ──> Published ─┬─ redb snapshot
//!                          │                                    ├─ collections: graph pages, segments
//!                          └────────> Arc<Engine> <─────────────┘
//! ```
//!
//! The [`Engine`](engine::Engine) owns what is open: redb's database, the lock, the writer's place. It never points at a
//! [`Published`](published::Published), so whoever lets go of the last one closes the store.

mod commit;
mod database;
mod engine;
mod journal;
mod ledger;
mod protocol;
mod published;
mod read;
mod sync;
mod tables;
mod write;

pub(crate) use database::{Database, open_database};
pub(crate) use engine::{Engine, STORE_FILE};
pub(crate) use ledger::{Borrowed, Ledger};
pub(crate) use protocol::WriterSlot;
pub(crate) use published::{Published, Shared, Stored};
pub use read::ReadTransaction;
pub use tables::{ReadMultimapTable, ReadTable};
pub use write::{Durability, WriteTransaction};
