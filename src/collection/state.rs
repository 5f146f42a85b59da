//! What a snapshot knows of a collection.

use std::sync::Arc;

use redb::ReadTransaction;

use super::calibration::Calibration;
use super::view::View;
use crate::error::Result;
use crate::graph::journal::{Overlay, Pending, Replayed};
use crate::graph::reader::CollectionReader;
use crate::graph::rows::{CollectionRow, Kind, Place};
use crate::graph::{GraphSnapshot, PageSource};
use crate::hnsw::{Anchors, level::MAX_LEVEL};
use crate::options::{Codes, Element, Metric, Parameters};
use crate::vectors::{SegmentSet, Slot};

/// A collection's identity, parameters, counters and anchors.
#[derive(Debug, Clone)]
pub(crate) struct CollectionState {
    pub(crate) name: Arc<str>,
    pub(crate) id: u32,
    pub(crate) parameters: Parameters,
    pub(crate) live: u64,
    pub(crate) next_stamp: u64,
    pub(crate) anchors: Option<Anchors>,
    /// The tables have all rows as of this commit.
    pub(crate) folded: u64,
    pub(crate) calibration: Calibration,
}

impl CollectionState {
    pub(crate) fn new(name: &str, id: u32, parameters: Parameters) -> Self {
        Self {
            name: name.into(),
            id,
            parameters,
            live: 0,
            next_stamp: 0,
            anchors: None,
            folded: 0,
            calibration: Calibration::default(),
        }
    }

    /// What a row says, and the number of slots in use.
    pub(crate) fn from_row(name: &str, row: &CollectionRow) -> Result<(Self, Slot)> {
        let corrupted = |detail: String| {
            Place { kind: Kind::Collection, collection: 0, key: name.as_bytes() }.corrupted(detail)
        };
        let metric = Metric::from_byte(row.metric)
            .ok_or_else(|| corrupted(format!("unknown metric {}", row.metric)))?;
        let codes = Codes::from_byte(row.codes)
            .ok_or_else(|| corrupted(format!("unknown code kind {}", row.codes)))?;
        let element = Element::from_byte(row.element)
            .ok_or_else(|| corrupted(format!("unknown element type {}", row.element)))?;
        let parameters = Parameters {
            dimension: row.dimension as usize,
            metric,
            m: row.m.into(),
            m0: row.m0.into(),
            ef_construction: row.ef_construction as usize,
            seed: row.seed,
            codes,
            element,
        };
        parameters.validate().map_err(|e| corrupted(e.to_string()))?;
        let anchors = row.anchors.map(|(entry, level, root)| Anchors { entry, level, root });
        if anchors.is_some_and(|anchors| anchors.level > MAX_LEVEL) {
            return Err(corrupted("an entry point above the highest level".to_owned()));
        }
        let CollectionRow { id, live, next_stamp, folded, calibration, .. } = *row;
        let name = name.into();
        let calibration = Calibration(calibration);
        Ok((Self { name, id, parameters, live, next_stamp, anchors, folded, calibration }, row.cursor))
    }

    pub(crate) fn to_row(&self, cursor: Slot) -> CollectionRow {
        let p = &self.parameters;
        CollectionRow {
            id: self.id,
            dimension: p.dimension as u32,
            metric: p.metric.to_byte(),
            codes: p.codes.to_byte(),
            element: p.element.to_byte(),
            m: p.m as u16,
            m0: p.m0 as u16,
            ef_construction: p.ef_construction as u32,
            seed: p.seed,
            live: self.live,
            cursor,
            next_stamp: self.next_stamp,
            folded: self.folded,
            anchors: self.anchors.map(|anchors| (anchors.entry, anchors.level, anchors.root)),
            calibration: self.calibration.0,
        }
    }

    /// A reader of the collection's rows as of `transaction`.
    fn reader(
        &self,
        cursor: Slot,
        transaction: Arc<ReadTransaction>,
        overlay: Arc<Overlay>,
        pending: Arc<Pending>,
    ) -> Arc<CollectionReader> {
        let capacity = self.parameters.capacity();
        Arc::new(CollectionReader::new(
            self.name.clone(),
            self.id,
            capacity,
            MAX_LEVEL,
            cursor,
            transaction,
            overlay,
            pending,
        ))
    }
}

/// A collection as of one commit.
#[derive(Debug)]
pub(crate) struct CollectionSnapshot {
    pub(crate) state: CollectionState,
    pub(crate) graph: GraphSnapshot,
    pub(crate) segments: SegmentSet,
    pub(crate) reader: Arc<CollectionReader>,
}

impl CollectionSnapshot {
    /// A collection as the tables and the journal have it, with nothing loaded yet.
    pub(crate) fn stored(
        name: &str,
        replayed: Replayed,
        segments: SegmentSet,
        transaction: Arc<ReadTransaction>,
    ) -> Result<Self> {
        let (state, cursor) = CollectionState::from_row(name, &replayed.row)?;
        let reader =
            state.reader(cursor, transaction, Arc::new(replayed.overlay), Arc::new(replayed.pending));
        let source: Arc<dyn PageSource> = reader.clone();
        let graph = GraphSnapshot::new(state.parameters.capacity(), cursor, source);
        Ok(Self { state, graph, segments, reader })
    }

    /// The same collection, with what is not loaded yet to be read from `transaction`.
    pub(crate) fn rebased(&self, transaction: Arc<ReadTransaction>, pending: Arc<Pending>) -> Self {
        let (graph, segments) = (self.graph.clone(), self.segments.clone());
        let overlay = self.reader.overlay().clone();
        Self::assemble(self.state.clone(), graph, segments, transaction, overlay, pending)
    }

    /// A collection whose graph may have pages in memory already.
    pub(crate) fn assemble(
        state: CollectionState,
        graph: GraphSnapshot,
        segments: SegmentSet,
        transaction: Arc<ReadTransaction>,
        overlay: Arc<Overlay>,
        pending: Arc<Pending>,
    ) -> Self {
        let reader = state.reader(graph.slots(), transaction, overlay, pending);
        let graph = graph.with_source(reader.clone());
        Self { state, graph, segments, reader }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            state: &self.state,
            graph: &self.graph,
            segments: &self.segments,
            reader: Some(&self.reader),
            pending: None,
        }
    }
}
