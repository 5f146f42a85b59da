//! Makes segments: new files, and handles on those that the store names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::header::Header;
use super::segment::{Segment, file_name};
use super::{Geometry, VectorAccess};
use crate::error::{Error, Result};
use crate::io::Directory;

/// One per open store.
#[derive(Debug)]
pub(crate) struct SegmentAllocator {
    directory: Arc<Directory>,
    store: [u8; 16],
    access: VectorAccess,
    writable: bool,
    next: AtomicU32,
    /// The names that were found at opening, that of `store.redb` above all, are durable.
    names_durable: AtomicBool,
}

impl SegmentAllocator {
    pub(crate) fn new(
        directory: Arc<Directory>,
        store: [u8; 16],
        access: VectorAccess,
        writable: bool,
        next: u32,
    ) -> Self {
        Self {
            directory,
            store,
            access,
            writable,
            next: AtomicU32::new(next),
            names_durable: AtomicBool::new(false),
        }
    }

    /// The id that the next segment gets at least. Ids are never used twice.
    pub(crate) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// The defect that the store was opened with.
    #[cfg(nestling_defects)]
    pub(crate) fn defect(&self) -> Option<crate::io::Defect> {
        self.directory.defect
    }

    fn header(&self, collection: u32, segment: u32, ordinal: usize, geometry: Geometry) -> Header {
        Header {
            store: self.store,
            collection,
            segment,
            ordinal: ordinal as u32,
            capacity: geometry.capacity(ordinal),
            geometry,
        }
    }

    /// A handle on a segment that the store names.
    pub(crate) fn existing(
        &self,
        collection: u32,
        segment: u32,
        ordinal: usize,
        geometry: Geometry,
    ) -> Arc<Segment> {
        let header = self.header(collection, segment, ordinal, geometry);
        Arc::new(Segment::existing(self.directory.clone(), header, self.access, self.writable))
    }

    /// Creates a segment file.
    pub(crate) fn create(&self, collection: u32, ordinal: usize, geometry: Geometry) -> Result<Arc<Segment>> {
        self.make_names_durable()?;
        loop {
            let segment = self.next.fetch_add(1, Ordering::Relaxed);
            if segment == u32::MAX {
                // Never wrap around: ids are names.
                self.next.store(u32::MAX, Ordering::Relaxed);
                return Err(Error::OutOfNumbers { what: "segments" });
            }
            // A crash may have left a file of this name that was never named by a commit.
            if self.directory.join(&file_name(segment)).exists() {
                continue;
            }
            let header = self.header(collection, segment, ordinal, geometry);
            return Segment::create(self.directory.clone(), header, self.access).map(Arc::new);
        }
    }

    /// A process that is killed while it creates the store may leave `store.redb` with a name that is not durable. If the power
    /// went after a segment was created beside it, the segment's name might be kept and that one lost, and what is left would be
    /// no store.
    fn make_names_durable(&self) -> Result<()> {
        if !self.names_durable.load(Ordering::Relaxed) {
            self.directory.sync().map_err(|e| Error::io("sync", self.directory.path(), e))?;
            self.names_durable.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
