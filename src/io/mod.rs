//! The seam between the store and the operating system.
//!
//! Every byte that the store writes, in redb's file and in the segments, goes through a [`Directory`]. An [`Observer`]
//! attached to it sees each operation before it happens, in one global order, and may fail it: that is where tests record
//! traces and inject faults. The same place counts operations and bytes, and refuses writes once the store is poisoned.

mod backend;
#[cfg(nestling_defects)]
mod defect;
mod directory;
mod image;
mod lock;

pub(crate) use backend::{FileBackend, ReadOnlyBackend};
#[cfg(nestling_defects)]
pub use defect::Defect;
pub use directory::{Counters, Observer, Operation};
pub(crate) use directory::{Directory, DiskFile};
pub(crate) use image::{Attached, Image};
pub(crate) use lock::{LOCK_FILE, StoreLock};
