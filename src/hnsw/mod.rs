//! The HNSW algorithm (Malkov and Yashunin, 2016), generic over where the graph and the vectors live.
//!
//! What differs from the paper:
//!
//! - **Deletion is true** ([`remove`]): every row lists its one-way in-edges, so a deletion knows exactly who points at the
//!   node, and gives those nodes replacements, as IP-DiskANN does (Xu et al., 2025).
//! - **Reachability is guaranteed** ([`tree`]): every node but the root has a parent edge on layer 0 that pruning may not
//!   evict, and parents have lower ranks than their children. The root is one of the two places where a search starts.
//! - **Bulk insertion** ([`bulk`]) is parallel, and its outcome does not depend on the number of threads.
//! - **Exact duplicates** do not fill neighbour lists ([`select`]).
//! - **A walk can go on** from where it stopped ([`browse`]), for radius searches and pages.

mod browse;
pub(crate) mod bulk;
mod edges;
mod filtered;
mod insert;
pub(crate) mod level;
mod pool;
mod remove;
mod search;
mod select;
#[cfg(test)]
mod tests;
mod tree;
mod visited;

pub(crate) use browse::{Browse, Reach, inside};
pub(crate) use filtered::{Guide, Progress, compare, search_filtered};
pub(crate) use insert::insert;
pub(crate) use pool::{Candidate, Width};
pub(crate) use remove::remove;
pub(crate) use search::{Scratch, descend, search_layer};

use crate::error::Result;
use crate::graph::RowMut;
use crate::options::Capacity;
use crate::vectors::Slot;

/// Where searches start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anchors {
    /// The entry point: the descent starts here…
    pub(crate) entry: Slot,
    /// …on this layer, the entry point's level.
    pub(crate) level: u8,
    /// The root of the tree on layer 0: a search on layer 0 starts here as well as where the descent ended.
    pub(crate) root: Slot,
}

/// The links of a graph. Asking for a row that does not exist is an error, never a panic.
pub(crate) trait Graph {
    fn capacity(&self) -> Capacity;
    /// Slots are below this number.
    fn slots(&self) -> usize;
    /// Out-neighbours; on layer 0 the first [`Graph::children`] of them are the node's children in the tree.
    fn neighbors(&self, slot: Slot, layer: u8) -> Result<&[Slot]>;
    /// One-way in-edges: nodes that point here without being pointed at.
    fn inbound(&self, slot: Slot, layer: u8) -> Result<&[Slot]>;
    fn level(&self, slot: Slot) -> Result<u8>;
    /// A number that is unique and larger for nodes that were inserted later.
    fn rank(&self, slot: Slot) -> Result<u64>;
    fn parent(&self, slot: Slot) -> Result<Option<Slot>>;
    fn children(&self, slot: Slot) -> Result<usize>;
    /// Hints that the neighbours of a node will soon be asked for.
    fn prefetch_neighbors(&self, slot: Slot, layer: u8);
}

/// A graph that can be changed.
pub(crate) trait GraphMut: Graph {
    /// The row, marked as changed.
    fn row_mut(&mut self, slot: Slot, layer: u8) -> Result<RowMut<'_>>;
}

/// The distances of a graph's nodes.
pub(crate) trait Space {
    /// A vector prepared for distances to many slots.
    type Query;
    /// A slot's place in memory, found once and used several times.
    type Handle<'a>: Copy
    where
        Self: 'a;
    /// Finds a slot, and makes sure that its bytes are what they should be.
    fn resolve(&self, slot: Slot) -> Result<Self::Handle<'_>>;
    /// Finds a slot that has been resolved before: the common case, with no error to carry around.
    fn resolved(&self, slot: Slot) -> Option<Self::Handle<'_>>;
    /// The same for slots that are to be compared by number.
    #[inline]
    fn verify(&self, slot: Slot) -> Result<()> {
        match self.resolved(slot) {
            Some(_) => Ok(()),
            None => self.resolve(slot).map(|_| ()),
        }
    }
    fn prefetch(&self, handle: Self::Handle<'_>);
    fn distance(&self, query: &Self::Query, handle: Self::Handle<'_>) -> f32;
    /// The distance between two verified slots.
    fn between(&self, a: Slot, b: Slot) -> f32;
    /// True when the two slots are indistinguishable to this space.
    fn are_duplicates(&self, a: Slot, b: Slot) -> bool;
    /// Runs `f`, compiled for the instructions that distances are computed with if it is inlined here.
    #[inline]
    fn vectorized<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }
    /// The slot itself as a query.
    fn query_of(&self, slot: Slot) -> Result<Self::Query>;
}
