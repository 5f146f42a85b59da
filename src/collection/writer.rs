//! A collection inside of a write transaction: the changes so far, in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rayon::prelude::*;

use super::code_space::CodeSpace;
use super::index::{Edited, Index};
use super::search::with_scratch;
use super::state::{CollectionSnapshot, CollectionState};
use super::vector_space::VectorSpace;
use super::view::View;
use crate::distance::{InstructionSet, dispatch};
use crate::error::{Error, Result};
use crate::graph::journal::Pending;
use crate::graph::reader::CollectionReader;
use crate::graph::rows::NodeRecord;
use crate::graph::storage::{CollectionChanges, FreeKey};
use crate::graph::{GraphEditor, GraphSnapshot, PageSource};
use crate::hnsw::{self, Anchors, level::level};
use crate::options::{Codes, Parameters};
use crate::vectors::{Geometry, Segment, SegmentAllocator, SegmentSet, Slot, encode_into};

/// `dispatch_space!(parameters, segments, space => expression)`: the expression, compiled once per instruction set and kind of
/// codes, with `space` bound to what the collection's vectors are compared by.
macro_rules! dispatch_space {
    ($parameters:expr, $segments:expr, $space:ident => $expression:expr) => {{
        let Parameters { metric, codes, .. } = $parameters;
        let segments: &SegmentSet = $segments;
        dispatch!(InstructionSet::best(), kernel => match codes {
            Codes::SevenBit => {
                let $space = CodeSpace { segments, metric, kernel };
                $expression
            }
            Codes::None => {
                let $space = VectorSpace { segments, metric, kernel };
                $expression
            }
        })
    }};
}

/// The last slot number means "none" on disk.
const LAST_SLOT: Slot = Slot::MAX - 1;

/// A collection being changed. Vectors go to their slots at once; rows stay in memory until the commit.
#[derive(Debug)]
pub(crate) struct CollectionWriter {
    state: CollectionState,
    editor: GraphEditor,
    segments: SegmentSet,
    keys: BTreeMap<u64, Option<Slot>>,
    reader: Option<Arc<CollectionReader>>,
    slots: FreeSlots,
    /// Segments created by this transaction.
    created: Vec<Arc<Segment>>,
    /// Segments written to, by ordinal.
    touched: BTreeSet<usize>,
    allocator: Arc<SegmentAllocator>,
    rows_read: Cell<u64>,
}

/// What a transaction has done to a collection's links so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowCounts {
    /// Times that a node's neighbours on a layer were read.
    pub read: u64,
    /// Distinct link rows changed, added and removed: what a commit writes.
    pub touched: u64,
}

/// Slots that may be written to again.
#[derive(Debug)]
struct FreeSlots {
    /// Slots freed by commits up to this one are out of everybody's sight.
    newest: u64,
    ready: VecDeque<FreeKey>,
    /// The free list has been read up to here; `None` when there is nothing more.
    resume: Option<Option<FreeKey>>,
    /// Entries used by this transaction.
    taken: Vec<FreeKey>,
    /// Slots freed by this transaction; the next one at the earliest may use them.
    freed: Vec<Slot>,
}

impl FreeSlots {
    fn new(newest: u64) -> Self {
        Self { newest, ready: VecDeque::new(), resume: Some(None), taken: Vec::new(), freed: Vec::new() }
    }

    fn take(&mut self, reader: Option<&CollectionReader>) -> Result<Option<Slot>> {
        const READ_AHEAD: usize = 64;
        if let (true, Some(reader), Some(after)) = (self.ready.is_empty(), reader, self.resume) {
            self.ready.extend(reader.free(after, self.newest, READ_AHEAD)?);
            self.resume = self.ready.back().map(|&last| Some(last));
        }
        let taken = self.ready.pop_front();
        self.taken.extend(taken);
        Ok(taken.map(|(_, slot)| slot))
    }
}

impl CollectionWriter {
    /// A collection that does not exist yet.
    pub(crate) fn create(state: CollectionState, allocator: Arc<SegmentAllocator>) -> Self {
        let graph = GraphSnapshot::new(state.parameters.capacity(), 0, Arc::new(NoRows));
        let geometry = Geometry::of(&state.parameters);
        let segments = SegmentSet::new(geometry, Vec::new());
        Self::new(state, graph, segments, None, allocator, 0)
    }

    /// A collection as it is in the latest snapshot. Slots freed by commits up to `reusable` may be used again.
    pub(crate) fn open(
        snapshot: &CollectionSnapshot,
        allocator: Arc<SegmentAllocator>,
        reusable: u64,
    ) -> Self {
        let CollectionSnapshot { state, graph, segments, reader } = snapshot;
        Self::new(state.clone(), graph.clone(), segments.clone(), Some(reader.clone()), allocator, reusable)
    }

    fn new(
        state: CollectionState,
        graph: GraphSnapshot,
        segments: SegmentSet,
        reader: Option<Arc<CollectionReader>>,
        allocator: Arc<SegmentAllocator>,
        reusable: u64,
    ) -> Self {
        Self {
            state,
            editor: GraphEditor::new(graph),
            segments,
            keys: BTreeMap::new(),
            reader,
            slots: FreeSlots::new(reusable),
            created: Vec::new(),
            touched: BTreeSet::new(),
            allocator,
            rows_read: Cell::new(0),
        }
    }

    pub(crate) fn state(&self) -> &CollectionState {
        &self.state
    }

    pub(crate) fn state_mut(&mut self) -> &mut CollectionState {
        &mut self.state
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            state: &self.state,
            graph: self.editor.graph(),
            segments: &self.segments,
            reader: self.reader.as_deref(),
            pending: Some(&self.keys),
        }
    }

    /// Stores a vector that has been checked; tells whether it replaced another.
    pub(crate) fn insert(&mut self, key: u64, vector: &[f32]) -> Result<bool> {
        let replaced = self.remove(key)?;
        let stamps = self.state.next_stamp..;
        let slots = self.place(std::iter::once((key, vector)))?;
        slots.into_iter().try_for_each(|slot| self.link_one(slot))?;
        self.calibrate(stamps)?;
        Ok(replaced)
    }

    /// Stores vectors that have been checked, under keys that are all different; tells how many replaced another.
    pub(crate) fn insert_many<'v>(
        &mut self,
        vectors: impl Iterator<Item = (u64, &'v [f32])> + Clone,
    ) -> Result<u64> {
        let mut replaced = 0;
        for (key, _) in vectors.clone() {
            replaced += u64::from(self.remove(key)?);
        }
        let mut linked = self.state.live;
        let stamps = self.state.next_stamp..;
        let slots = self.place(vectors)?;
        let mut rest = slots.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(hnsw::bulk::batch_size(linked).min(rest.len()));
            match (batch, self.state.anchors) {
                (&[slot], _) => self.link_one(slot)?,
                (_, Some(anchors)) => self.link_batch(batch, anchors)?,
                // Batches of more than one are for graphs that have nodes.
                (_, None) => batch.iter().try_for_each(|&slot| self.link_one(slot))?,
            }
            linked += batch.len() as u64;
            rest = later;
        }
        self.calibrate(stamps)?;
        Ok(replaced)
    }

    /// Takes the samples that are due after the insertion of `stamps`.
    fn calibrate(&mut self, stamps: std::ops::RangeFrom<u64>) -> Result<()> {
        let mut calibration = self.state.calibration;
        calibration.refresh(self.view(), stamps.start..self.state.next_stamp)?;
        self.state.calibration = calibration;
        Ok(())
    }

    /// Puts vectors into slots of their own, with empty rows.
    fn place<'v>(&mut self, vectors: impl Iterator<Item = (u64, &'v [f32])>) -> Result<Vec<Slot>> {
        let mut placements = Vec::new();
        for (key, vector) in vectors {
            let slot = self.allocate()?;
            placements.push(Placement { slot, key, stamp: self.state.next_stamp, vector });
            self.state.next_stamp += 1;
        }
        let (segments, parameters) = (&self.segments, &self.state.parameters);
        let write = |placement: &Placement<'_>| placement.write(segments, parameters);
        let records: Vec<NodeRecord> = match placements.as_slice() {
            [one] => vec![write(one)?],
            many => many.par_iter().map(write).collect::<Result<_>>()?,
        };
        for (&Placement { slot, key, .. }, record) in placements.iter().zip(records) {
            self.touched.insert(self.segments.geometry().locate(slot).0);
            self.editor.create(slot, record)?;
            self.keys.insert(key, Some(slot));
        }
        self.state.live += placements.len() as u64;
        Ok(placements.iter().map(|placement| placement.slot).collect())
    }

    /// Makes a placed node part of the graph.
    fn link_one(&mut self, slot: Slot) -> Result<()> {
        let (anchors, parameters) = (self.state.anchors, self.state.parameters);
        let Self { editor, segments, rows_read, .. } = self;
        let anchors = with_scratch(|scratch| {
            dispatch_space!(parameters, segments, space => {
                let mut index = Index { rows: Edited { editor, rows_read }, space };
                hnsw::insert(&mut index, anchors, slot, parameters.ef_construction, scratch)
            })
        })?;
        self.state.anchors = Some(anchors);
        Ok(())
    }

    /// Makes placed nodes part of the graph, the searches in parallel.
    fn link_batch(&mut self, batch: &[Slot], anchors: Anchors) -> Result<()> {
        let parameters = self.state.parameters;
        let Self { editor, segments, rows_read, .. } = self;
        let anchors = dispatch_space!(parameters, segments, space => {
            let index = Index { rows: editor.graph(), space };
            let ef_construction = parameters.ef_construction;
            let choices = hnsw::bulk::choose(&index, &anchors, batch, ef_construction, |run| with_scratch(run))?;
            let mut index = Index { rows: Edited { editor: &mut *editor, rows_read }, space };
            let mut decisions = hnsw::bulk::connect(&mut index, &choices)?;
            let index = Index { rows: editor.graph(), space };
            hnsw::bulk::decide(&index, &mut decisions)?;
            let mut index = Index { rows: Edited { editor, rows_read }, space };
            hnsw::bulk::settle(&mut index, anchors, &choices, &decisions)?
        });
        self.state.anchors = Some(anchors);
        Ok(())
    }

    /// Removes a key's vector; false when there is none.
    pub(crate) fn remove(&mut self, key: u64) -> Result<bool> {
        let Some(slot) = self.view().slot_of(key)? else { return Ok(false) };
        let Some(anchors) = self.state.anchors else {
            let place = format!("collection {:?}, key {key}", self.state.name);
            return Err(Error::corrupted(place, "it leads to a slot, but the collection has no entry point"));
        };
        let parameters = self.state.parameters;
        let Self { editor, segments, rows_read, .. } = self;
        let anchors = with_scratch(|scratch| {
            dispatch_space!(parameters, segments, space => {
                let mut index = Index { rows: Edited { editor, rows_read }, space };
                hnsw::remove(&mut index, anchors, slot, parameters.ef_construction, scratch)
            })
        })?;
        self.editor.delete(slot)?;
        self.state.anchors = anchors;
        self.state.live = self.state.live.saturating_sub(1);
        self.keys.insert(key, None);
        self.slots.freed.push(slot);
        Ok(true)
    }

    /// A slot that nobody can see: one that was freed long enough ago, or a new one.
    fn allocate(&mut self) -> Result<Slot> {
        #[cfg(nestling_defects)]
        if self.allocator.defect() == Some(crate::io::Defect::ReuseInFreeingTransaction)
            && let Some(slot) = self.slots.freed.pop()
        {
            return Ok(slot);
        }
        if let Some(slot) = self.slots.take(self.reader.as_deref())? {
            if self.editor.live(slot)?.is_some() {
                let place = format!("collection {:?}, free list", self.state.name);
                return Err(Error::corrupted(place, format!("slot {slot} is on it and in use")));
            }
            return Ok(slot);
        }
        let slot = self.editor.graph().slots();
        if slot > LAST_SLOT {
            return Err(Error::CollectionFull { collection: self.state.name.to_string() });
        }
        let geometry = *self.segments.geometry();
        if geometry.locate(slot).0 == self.segments.len() {
            let segment = self.allocator.create(self.state.id, self.segments.len(), geometry)?;
            self.created.push(segment.clone());
            self.segments.push(segment);
        }
        self.editor.reserve(slot);
        Ok(slot)
    }

    /// True for a collection that the transaction created.
    pub(crate) fn is_new(&self) -> bool {
        self.reader.is_none()
    }

    /// What the commit with this number has to write.
    pub(crate) fn changes(&self, commit: u64) -> CollectionChanges<'_> {
        CollectionChanges {
            row: self.state.to_row(self.editor.graph().slots()),
            graph: self.editor.graph(),
            changes: self.editor.changes(),
            keys: &self.keys,
            taken: &self.slots.taken,
            freed: &self.slots.freed,
            commit,
        }
    }

    pub(crate) fn row_counts(&self) -> RowCounts {
        RowCounts { read: self.rows_read.get(), touched: self.editor.changes().links.len() as u64 }
    }

    /// Segments that this transaction created.
    pub(crate) fn created(&self) -> &[Arc<Segment>] {
        &self.created
    }

    /// Segments that this transaction wrote to, created ones included.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().enumerate().filter(|(ordinal, _)| self.touched.contains(ordinal)).map(|(_, s)| s)
    }

    /// The collection as this transaction leaves it.
    pub(crate) fn into_snapshot(
        self,
        transaction: Arc<redb::ReadTransaction>,
        pending: Arc<Pending>,
    ) -> CollectionSnapshot {
        let overlay = self.reader.map(|reader| reader.overlay().clone()).unwrap_or_default();
        let graph = self.editor.into_graph();
        CollectionSnapshot::assemble(self.state, graph, self.segments, transaction, overlay, pending)
    }
}

/// A vector, and where it goes.
struct Placement<'v> {
    slot: Slot,
    key: u64,
    stamp: u64,
    vector: &'v [f32],
}

impl Placement<'_> {
    /// Writes code and vector.
    fn write(&self, segments: &SegmentSet, parameters: &Parameters) -> Result<NodeRecord> {
        let &Self { slot, key, stamp, vector } = self;
        let mut code = vec![0; segments.geometry().code_len()];
        let rounded = parameters.element.round(vector);
        encode_into(&rounded, parameters.metric, parameters.codes, key, stamp, &mut code);
        let vector = parameters.element.encode(&rounded);
        let (segment, index) = segments.place(slot)?;
        segment.write(index, &code, &vector)?;
        Ok(NodeRecord {
            key,
            stamp,
            level: level(parameters.seed, stamp, parameters.m),
            code_crc: crc32fast::hash(&code),
            vector_crc: crc32fast::hash(&vector),
        })
    }
}

/// The rows of a collection that has none.
#[derive(Debug)]
struct NoRows;

impl PageSource for NoRows {
    fn load(&self, page: usize) -> Result<crate::graph::Page> {
        Err(Error::corrupted(format!("page {page}"), "a collection that was just created has no stored rows"))
    }
}
