//! A guide: what to know beyond the items' own documentation.
//!
//! - [`concepts`]: stores, collections, keys, transactions, snapshots.
//! - [`parameters`]: metric, `m`, `ef_construction`, `ef` or a recall, codes.
//! - [`vectors`]: ndarray, half precision and bytes, in and out.
//! - [`sizing`]: what n vectors take, on disk and in memory.
//! - [`concurrency`]: a UI thread and a background writer, async code, cancelling.
//! - [`durability`]: what is promised, what is assumed, what was tested.
//! - [`mobile`]: iOS and Android, file protection, suspension, mapping, backups of the device.
//! - [`mod@format`]: files, versions, what may be moved and copied.

#[doc = include_str!("concepts.md")]
pub mod concepts {}

#[doc = include_str!("parameters.md")]
pub mod parameters {}

#[doc = include_str!("vectors.md")]
pub mod vectors {}

#[doc = include_str!("sizing.md")]
pub mod sizing {}

#[doc = include_str!("concurrency.md")]
pub mod concurrency {}

#[doc = include_str!("durability.md")]
pub mod durability {}

#[doc = include_str!("mobile.md")]
pub mod mobile {}

#[doc = include_str!("format.md")]
pub mod format {}
