//! A snapshot being changed by a write transaction.

use std::collections::BTreeSet;

use super::page::{Node, PAGE_SLOTS, RowMut};
use super::rows::NodeRecord;
use super::snapshot::GraphSnapshot;
use crate::error::{Error, Result};
use crate::vectors::Slot;

/// A graph that notes which rows it changed. It can be read like a snapshot, and becomes one when the transaction commits.
#[derive(Debug)]
pub(crate) struct GraphEditor {
    graph: GraphSnapshot,
    changes: Changes,
}

/// The rows to be written: those that exist with their content, the others as deletions.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) nodes: BTreeSet<Slot>,
    pub(crate) links: BTreeSet<(Slot, u8)>,
}

impl GraphEditor {
    pub(crate) fn new(graph: GraphSnapshot) -> Self {
        Self { graph, changes: Changes::default() }
    }

    pub(crate) fn graph(&self) -> &GraphSnapshot {
        &self.graph
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(crate) fn into_graph(self) -> GraphSnapshot {
        self.graph
    }

    /// The row, noted as changed.
    pub(crate) fn row_mut(&mut self, slot: Slot, layer: u8) -> Result<RowMut<'_>> {
        let page = self.graph.page_mut(slot as usize / PAGE_SLOTS)?;
        let Some(row) = page.row_mut(slot as usize % PAGE_SLOTS, layer) else {
            return Err(Error::corrupted(
                format!("slot {slot}, layer {layer}"),
                "there is no such row to change",
            ));
        };
        self.changes.links.insert((slot, layer));
        Ok(row)
    }

    /// Puts a node with empty rows into a free slot.
    pub(crate) fn create(&mut self, slot: Slot, record: NodeRecord) -> Result<()> {
        self.graph.grow(slot + 1);
        self.graph.page_mut(slot as usize / PAGE_SLOTS)?.create(slot as usize % PAGE_SLOTS, record);
        self.changes.nodes.insert(slot);
        self.changes.links.extend((0..=record.level).map(|layer| (slot, layer)));
        Ok(())
    }

    /// Takes a node away, with its rows.
    pub(crate) fn delete(&mut self, slot: Slot) -> Result<()> {
        let level = self.graph.node(slot)?.record.level;
        self.graph.page_mut(slot as usize / PAGE_SLOTS)?.delete(slot as usize % PAGE_SLOTS);
        self.changes.nodes.insert(slot);
        self.changes.links.extend((0..=level).map(|layer| (slot, layer)));
        Ok(())
    }

    /// The node in the slot, `None` when the slot is free.
    pub(crate) fn live(&self, slot: Slot) -> Result<Option<&Node>> {
        Ok(self.graph.page_of(slot)?.node(slot as usize % PAGE_SLOTS))
    }
}
