//! The segments of a collection, in order.

#![allow(clippy::indexing_slicing, reason = "slots are verified, which locates them, before they are read")]

use std::sync::Arc;

use super::code::Code;
use super::segment::{Segment, SlotIdentity, StoredVector};
use super::{Geometry, Slot};
use crate::distance::Kernel;
use crate::error::{Error, Result};

/// The segments of a collection as of one snapshot. Cloning shares the segments.
#[derive(Debug, Clone)]
pub(crate) struct SegmentSet {
    geometry: Geometry,
    segments: Arc<Vec<Arc<Segment>>>,
}

impl SegmentSet {
    pub(crate) fn new(geometry: Geometry, segments: Vec<Arc<Segment>>) -> Self {
        Self { geometry, segments: Arc::new(segments) }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Appends a segment; snapshots that share the others do not see it.
    pub(crate) fn push(&mut self, segment: Arc<Segment>) {
        Arc::make_mut(&mut self.segments).push(segment);
    }

    /// True when the slot's code may be read without further ado.
    #[inline]
    pub(crate) fn is_code_verified(&self, slot: Slot) -> bool {
        let (ordinal, index) = self.geometry.locate(slot);
        self.segments.get(ordinal).is_some_and(|segment| segment.is_code_verified(index))
    }

    /// The code of a slot, if it has been verified.
    #[inline]
    pub(crate) fn verified_code(&self, slot: Slot) -> Option<Code<'_>> {
        let (ordinal, index) = self.geometry.locate(slot);
        self.segments.get(ordinal)?.verified_code(index)
    }

    /// The vector of a slot and its code, if both have been verified.
    #[inline]
    pub(crate) fn verified_vector(&self, slot: Slot) -> Option<(StoredVector<'_>, Code<'_>)> {
        let (ordinal, index) = self.geometry.locate(slot);
        self.segments.get(ordinal)?.verified_vector(index)
    }

    /// Compares a slot's code with its record: once in a process, afterwards it is one bit test.
    pub(crate) fn verify_code(&self, slot: Slot, identity: &SlotIdentity) -> Result<()> {
        let (segment, index) = self.place(slot)?;
        segment.verify_code(index, identity)
    }

    /// The same for a slot's vector; the record is only asked for when it is needed.
    #[inline]
    pub(crate) fn verify_vector(
        &self,
        slot: Slot,
        identity: impl FnOnce() -> Result<SlotIdentity>,
    ) -> Result<()> {
        let (segment, index) = self.place(slot)?;
        if segment.is_vector_verified(index) { Ok(()) } else { segment.verify_vector(index, &identity()?) }
    }

    /// Hints that a slot's vector will soon be read. Does nothing in a segment that is not open yet.
    #[inline]
    pub(crate) fn prefetch_vector(&self, slot: Slot, kernel: impl Kernel) {
        let (ordinal, index) = self.geometry.locate(slot);
        if let Some(segment) = self.segments.get(ordinal).filter(|segment| segment.is_open()) {
            kernel.prefetch(segment.vector(index).bytes());
        }
    }

    /// The code of a verified slot.
    #[inline]
    pub(crate) fn code(&self, slot: Slot) -> Code<'_> {
        let (ordinal, index) = self.geometry.locate(slot);
        self.segments[ordinal].code(index)
    }

    /// The vector of a verified slot.
    #[inline]
    pub(crate) fn vector(&self, slot: Slot) -> StoredVector<'_> {
        let (ordinal, index) = self.geometry.locate(slot);
        self.segments[ordinal].vector(index)
    }

    /// The slot's segment, and its index there.
    pub(crate) fn place(&self, slot: Slot) -> Result<(&Arc<Segment>, usize)> {
        let (ordinal, index) = self.geometry.locate(slot);
        match self.segments.get(ordinal) {
            Some(segment) => Ok((segment, index)),
            None => Err(Error::corrupted(
                format!("slot {slot}"),
                format!("it lies in segment {ordinal}, the collection has {}", self.segments.len()),
            )),
        }
    }
}
