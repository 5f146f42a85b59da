//! An embedded vector store for desktop and mobile apps: a persistent HNSW index with ACID transactions.
//!
//! Nestling keeps collections of vectors in a directory on the user's own machine, finds the nearest ones fast, and updates them
//! in transactions together with the app's own tables. It is for one process that owns its data: not a server, and not a
//! library of index types.
//!
//! ```
//! use nestling::redb::TableDefinition;
//! use nestling::{CollectionDefinition, Metric, Store};
//!
//! const NOTES: CollectionDefinition = CollectionDefinition::new("notes", 4, Metric::Cosine);
//! const TITLES: TableDefinition<u64, &str> = TableDefinition::new("titles");
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("app.nestling");
//! let store = Store::open(path)?; // a directory, created when absent
//! let tx = store.begin_write()?;
//! {
//!     let mut notes = tx.open_collection(NOTES)?;
//!     let mut titles = tx.open_table(TITLES)?; // redb's own tables, in the same transaction
//!     notes.insert(7, &[0.9, 0.1, 0.0, 0.2])?;
//!     titles.insert(7, "a walk along the beach")?;
//!     notes.insert(8, &[0.0, 0.8, 0.6, 0.1])?;
//!     titles.insert(8, "tax return")?;
//! }
//! tx.commit()?; // both or neither, and on disk when this returns
//!
//! let tx = store.begin_read()?; // a snapshot: never waits, never changes
//! let (notes, titles) = (tx.open_collection(NOTES)?, tx.open_table(TITLES)?);
//! let hits = notes.search(&[1.0, 0.0, 0.0, 0.0], 1)?;
//! let title = titles.get(hits[0].key)?;
//! assert_eq!(title.map(|title| title.value().to_owned()).as_deref(), Some("a walk along the beach"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! 1. **A commit is all or nothing**, across every collection and table it touches, and survives a crash or power cut once
//!    [`commit`](WriteTransaction::commit) has returned. Reopening after a crash yields exactly the last acknowledged commit, or the
//!    one in flight. (With [`Durability::None`] a crash may lose the latest commits, never a part of one.)
//! 2. **What is stored is found.** Every live vector can be reached from where a search starts, at every commit. A search for `k`
//!    returns `k` whenever `k` vectors exist that pass its [filters](Query::filter); with `ef` no less than the collection's size it
//!    is exact.
//! 3. **Reopening rebuilds nothing** and does not load the graph: milliseconds, [as a rule](Store::open). Vectors are not loaded either,
//!    but by the first search with [`VectorAccess::Copy`], the default on Windows.
//! 4. **Readers never wait.** A [`ReadTransaction`] is one commit, for as long as it is held.
//! 5. **Cost follows the change**: an insert, update or removal reads and writes O(m · log n) rows.
//! 6. **Damage is a typed error** in a collection: every row and every vector carries a checksum that is compared before its first
//!    use in a process. [`Store::check`] verifies all of them. (redb does not verify the pages that it reads: where they are damaged
//!    it may panic, which becomes an error unless the app is built to abort or redb panics again while cleaning up. Tables of the app
//!    are as safe as redb makes them.)
//! 7. **Deterministic**: the same seed and the same operations give the same graph, on every CPU, as long as no reader is alive across
//!    a commit (a reader delays the reuse of slots). Without codes ([`Codes::None`]), on CPUs with the same instruction set.
//!
//! # Limits
//!
//! - Dimensions 1..=65,535, m 2..=128, keys `u64`, 2³² − 1 slots in a collection. One writer at a time.
//! - Vectors are stored as f32, [f16 or i8](Element), with a 7-bit code beside each; searches walk the graph on codes and re-rank by the
//!   vectors. Data that codes suit badly wants them [switched off](Codes).
//! - A freed slot is used again when its commit is durable and no older snapshot is alive. So a transaction that replaces
//!   everything needs twice the slots, and a snapshot held for long keeps space from being reused. Files do not shrink,
//!   but in [`Store::compact`].
//! - A small commit writes its rows to a journal, and every sixteenth or so folds it into the tables: that one takes a few times as
//!   long. Each commit writes, on top of its own rows, redb's allocator record: about 0.12 KB per MB of `store.redb`.
//! - A process at a time may have a store open for writing; any number may read it when none does.
//! - Not on network shares: locks and syncs are what the server makes of them. On removable disks with [`VectorAccess::Copy`], since
//!   files are mapped otherwise.
//! - Tested on Linux x86-64. Written for macOS, Windows, Android, iOS, and aarch64 as well, and not yet tested there.
//!
//! # Features
//!
//! None is on by default, and each only adds.
//!
//! - `roaring`: [`Query::among`] takes the crate roaring's `RoaringTreemap`.
//! - `serde`: [`Parameters`], [`Hits`] (with their statistics), [`Stats`], [`Report`] and the like implement `Serialize`.
//! - `tracing`: spans and events of the crate [tracing](https://docs.rs/tracing), with the target `nestling`. Without a subscriber they cost
//!   a search next to nothing.
//! - `cli`: the command line tool.
//!
//! | span | level | around | fields |
//! |---|---|---|---|
//! | `open` | info | [`Store::open`], [`Builder::open`] | `path`, `read_only`, `created`, `commit` |
//! | `write` | debug | a write transaction, from when it has the writer's place to its end; not entered | `outcome`: committed, failed or aborted |
//! | `commit` | debug | [`WriteTransaction::commit`]; a child of its `write` | `durability`, `commit`, link `rows` written, `bytes` written since the transaction began |
//! | `fold` | debug | in a `commit`, the folding of the journal into the tables | journal `entries` removed, `links` written |
//! | `search` | debug | [`Query::run`], [`Collection::search`] | `collection`, `k`, `ef`, `strategy`, `distances`, `hits`, `partial` |
//! | `within`, `page` | debug | [`Within::run`]; a page of [`Collection::browse`] | as for `search`; `within` has a `radius` for `k` |
//! | `check`, `compact` | info | [`Store::check`], [`Store::compact`] | `vectors`; `links`, `problems`; `bytes_before`, `bytes_after` |
//! | `backup`, `repair` | info | [`Store::backup`], [`Store::repair`] | `to`; `commit`, `bytes`; `from` |
//!
//! Events are warnings: a crash has left something that was mended or removed at opening, a check has found damage, a commit has failed, the
//! store takes no more writes. Searches of [`Collection::search_many`] run on rayon's threads, where their spans have no parent.
//!
//! # Files
//!
//! ```text
//! app.nestling/
//!   store.redb          everything but the bulk of the vectors; the truth
//!   0000002a.vectors    vectors and codes, in files of fixed capacity
//!   lock                keeps a second writer out
//! ```
//!
//! The format is versioned; this version reads and writes version 1. The minimum supported Rust version is 1.90.

// Nothing read from disk or passed by a caller may panic; the few files where slices are proven otherwise say why.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]
#![deny(missing_debug_implementations)]

mod archive;
mod backup;
mod check;
mod collection;
mod compact;
mod distance;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
pub mod guide;
mod hnsw;
mod io;
mod opening;
mod options;
mod repair;
mod site;
mod stats;
mod store;
mod trace;
mod transaction;
mod vectors;

pub use backup::Backup;
pub use check::{Problem, Report};
pub use collection::{
    Collection, CollectionMut, Hit, Hits, KeySet, Keys, Pages, Query, QueryStatistics, RowCounts, Strategy,
    Vectors, Within,
};
pub use compact::Compaction;
pub use error::{Error, Result, VectorDefect, VectorSubject};
#[cfg(nestling_defects)]
#[doc(hidden)]
pub use io::Defect;
pub use io::{Counters, Observer, Operation};
pub use options::{Codes, CollectionDefinition, Element, Metric, Parameters};
pub use redb;
pub use repair::{Repair, RepairedCollection};
pub use stats::{CollectionStats, LayerStats, Stats};
pub use store::{Builder, CloseError, Store};
pub use transaction::{Durability, ReadMultimapTable, ReadTable, ReadTransaction, WriteTransaction};
pub use vectors::VectorAccess;

/// The README's code, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
