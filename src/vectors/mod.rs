//! Vectors and, where a collection has them, their codes, in fixed-capacity segment files that are mapped read-only.
//!
//! A segment is written with positional writes and read through its map; it never shrinks and never moves. A [slot](Slot)
//! names a place: the [`Geometry`] of a collection turns it into a segment and an offset. Whether the bytes at that place are
//! the ones the store committed is decided by the node record in redb, which holds their checksums: see [`SegmentSet::verify_code`].

mod allocator;
mod code;
mod copy;
mod element;
mod geometry;
mod header;
mod salvage;
mod segment;
mod set;

pub(crate) use allocator::SegmentAllocator;
#[cfg(fuzzing)]
pub(crate) use code::CODE_TAIL;
pub(crate) use code::{Code, CodeTail, encode_into, squared_norm};
pub(crate) use copy::copy_segment;
pub(crate) use geometry::Geometry;
#[cfg(fuzzing)]
pub(crate) use header::sniff;
pub(crate) use header::{HEADER_LEN, SEGMENT_FORMAT, sniff_uuid};
pub(crate) use salvage::{Described, Remains, Slotful, described};
pub(crate) use segment::{Segment, SlotIdentity, StoredVector, file_name, orphans};
pub(crate) use set::SegmentSet;

/// A place for one node of a collection: its vector, code, record and links. The caller's keys map to slots; slots are reused.
pub(crate) type Slot = u32;

/// How segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VectorAccess {
    /// Through read-only memory maps: clean pages that the system may drop and fetch again. What to use where it works.
    Map,
    /// Through a copy in anonymous memory: segments are read whole at their first use. A search comes by nearly all of them, so the
    /// first one reads the whole collection, and n · (vector + code) [stays in memory](crate::guide::sizing). For disks that may be
    /// removed while the store is open, where what is mapped would end the process.
    Copy,
}

impl Default for VectorAccess {
    /// [`Map`](VectorAccess::Map), but on Windows [`Copy`](VectorAccess::Copy): whether a map sees a write made through a
    /// file handle at once is not promised there.
    fn default() -> Self {
        if cfg!(windows) { VectorAccess::Copy } else { VectorAccess::Map }
    }
}
