//! A collection's graph together with the space that its nodes lie in, as [`crate::hnsw`] sees them.

use std::cell::Cell;

use crate::distance::Kernel;
use crate::error::Result;
use crate::graph::{GraphEditor, GraphSnapshot, RowMut};
use crate::hnsw::{Graph, GraphMut, Space};
use crate::options::Capacity;
use crate::vectors::{Slot, SlotIdentity};

/// Rows of one kind, `R`, and vectors compared in one way, `S`.
///
/// The two are separate in everything but this: what a slot must hold before it is compared, the node's record tells.
#[derive(Clone, Copy)]
pub(crate) struct Index<R, S> {
    pub(crate) rows: R,
    pub(crate) space: S,
}

/// Where links are read from.
pub(crate) trait Rows {
    fn graph(&self) -> &GraphSnapshot;
    /// Notes that a row's neighbours are read.
    fn count_read(&self);
}

impl Rows for &GraphSnapshot {
    #[inline]
    fn graph(&self) -> &GraphSnapshot {
        self
    }

    #[inline]
    fn count_read(&self) {}
}

/// The rows of a write transaction.
pub(crate) struct Edited<'a> {
    pub(crate) editor: &'a mut GraphEditor,
    /// Counts the link rows read.
    pub(crate) rows_read: &'a Cell<u64>,
}

impl Rows for Edited<'_> {
    #[inline]
    fn graph(&self) -> &GraphSnapshot {
        self.editor.graph()
    }

    #[inline]
    fn count_read(&self) {
        self.rows_read.set(self.rows_read.get() + 1);
    }
}

/// One way to compare what slots hold.
pub(crate) trait Comparison {
    /// A vector prepared for distances to many slots.
    type Query;
    /// A verified slot's place in memory.
    type Handle<'h>: Copy
    where
        Self: 'h;
    type Kernel: Kernel;
    fn kernel(&self) -> Self::Kernel;
    /// Compares what the slot holds with its record.
    fn verify(&self, slot: Slot, identity: &SlotIdentity) -> Result<()>;
    /// Finds a slot that has been verified. Unverified bytes must not decide anything.
    fn verified(&self, slot: Slot) -> Option<Self::Handle<'_>>;
    /// The same for a slot that must have been verified: whoever compares by number has called [`Space::verify`] before.
    fn expected(&self, slot: Slot) -> Self::Handle<'_>;
    fn prefetch(&self, handle: Self::Handle<'_>);
    fn distance(&self, query: &Self::Query, handle: Self::Handle<'_>) -> f32;
    fn between(&self, a: Self::Handle<'_>, b: Self::Handle<'_>) -> f32;
    /// True when no query can tell the two apart.
    fn are_duplicates(&self, a: Self::Handle<'_>, b: Self::Handle<'_>) -> bool;
    fn query_of(&self, handle: Self::Handle<'_>) -> Self::Query;
}

impl<R: Rows, S: Comparison> Index<R, S> {
    /// Finds a slot at its first use.
    #[cold]
    fn verify_first(&self, slot: Slot) -> Result<S::Handle<'_>> {
        self.space.verify(slot, &self.rows.graph().node(slot)?.record.identity())?;
        Ok(self.space.expected(slot))
    }
}

impl<R: Rows, S: Comparison> Graph for Index<R, S> {
    fn capacity(&self) -> Capacity {
        self.rows.graph().capacity()
    }

    fn slots(&self) -> usize {
        self.rows.graph().slots() as usize
    }

    #[inline]
    fn neighbors(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        self.rows.count_read();
        self.rows.graph().neighbors(slot, layer)
    }

    fn inbound(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        Ok(self.rows.graph().node(slot)?.inbound(layer).unwrap_or(&[]))
    }

    fn level(&self, slot: Slot) -> Result<u8> {
        Ok(self.rows.graph().node(slot)?.record.level)
    }

    fn rank(&self, slot: Slot) -> Result<u64> {
        Ok(self.rows.graph().node(slot)?.record.stamp)
    }

    fn parent(&self, slot: Slot) -> Result<Option<Slot>> {
        Ok(self.rows.graph().node(slot)?.parent())
    }

    fn children(&self, slot: Slot) -> Result<usize> {
        Ok(self.rows.graph().node(slot)?.children())
    }

    #[inline]
    fn prefetch_neighbors(&self, slot: Slot, layer: u8) {
        self.rows.graph().prefetch_neighbors(slot, layer, self.space.kernel());
    }
}

impl<S: Comparison> GraphMut for Index<Edited<'_>, S> {
    fn row_mut(&mut self, slot: Slot, layer: u8) -> Result<RowMut<'_>> {
        self.rows.editor.row_mut(slot, layer)
    }
}

impl<R: Rows, S: Comparison> Space for Index<R, S> {
    type Query = S::Query;
    type Handle<'h>
        = S::Handle<'h>
    where
        Self: 'h;

    #[inline]
    fn resolve(&self, slot: Slot) -> Result<S::Handle<'_>> {
        match self.space.verified(slot) {
            Some(handle) => Ok(handle),
            None => self.verify_first(slot),
        }
    }

    #[inline]
    fn resolved(&self, slot: Slot) -> Option<S::Handle<'_>> {
        self.space.verified(slot)
    }

    #[inline]
    fn prefetch(&self, handle: S::Handle<'_>) {
        self.space.prefetch(handle);
    }

    #[inline]
    fn distance(&self, query: &S::Query, handle: S::Handle<'_>) -> f32 {
        self.space.distance(query, handle)
    }

    #[inline]
    fn between(&self, a: Slot, b: Slot) -> f32 {
        self.space.between(self.space.expected(a), self.space.expected(b))
    }

    fn are_duplicates(&self, a: Slot, b: Slot) -> bool {
        self.space.are_duplicates(self.space.expected(a), self.space.expected(b))
    }

    #[inline(always)]
    fn vectorized<T>(&self, f: impl FnOnce() -> T) -> T {
        self.space.kernel().vectorized(f)
    }

    fn query_of(&self, slot: Slot) -> Result<S::Query> {
        Ok(self.space.query_of(self.resolve(slot)?))
    }
}
