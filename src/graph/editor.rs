//! A snapshot being changed by a write transaction.

use std::collections::{BTreeMap, BTreeSet};

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
    pub(crate) links: LinkSet,
}

/// A set of link rows in the order of their keys. Bulk insertion changes each row dozens of times, so that noting it must be
/// cheap: a run of slots has one entry, with a mask of its slots per layer.
#[derive(Debug, Default)]
pub(crate) struct LinkSet {
    runs: BTreeMap<u32, Vec<u64>>,
    len: usize,
}

impl LinkSet {
    const RUN: u32 = u64::BITS;

    pub(super) fn insert(&mut self, slot: Slot, layer: u8) {
        let masks = self.runs.entry(slot / Self::RUN).or_default();
        let layer = usize::from(layer);
        if masks.len() <= layer {
            masks.resize(layer + 1, 0);
        }
        if let Some(mask) = masks.get_mut(layer) {
            let bit = 1 << (slot % Self::RUN);
            self.len += usize::from(*mask & bit == 0);
            *mask |= bit;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// By slot, then by layer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, u8)> {
        self.runs.iter().flat_map(|(run, masks)| {
            (0..Self::RUN).flat_map(move |index| {
                let layers = (0..).zip(masks).filter(move |(_, mask)| **mask & 1 << index != 0);
                layers.map(move |(layer, _)| (run * Self::RUN + index, layer))
            })
        })
    }
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
        self.changes.links.insert(slot, layer);
        Ok(row)
    }

    /// Counts a slot in, to be given a node.
    pub(crate) fn reserve(&mut self, slot: Slot) {
        self.graph.grow(slot + 1);
    }

    /// Puts a node with empty rows into a free slot that was reserved.
    pub(crate) fn create(&mut self, slot: Slot, record: NodeRecord) -> Result<()> {
        self.graph.page_mut(slot as usize / PAGE_SLOTS)?.create(slot as usize % PAGE_SLOTS, record);
        self.changes.nodes.insert(slot);
        (0..=record.level).for_each(|layer| self.changes.links.insert(slot, layer));
        Ok(())
    }

    /// Takes a node away, with its rows.
    pub(crate) fn delete(&mut self, slot: Slot) -> Result<()> {
        let level = self.graph.node(slot)?.record.level;
        self.graph.page_mut(slot as usize / PAGE_SLOTS)?.delete(slot as usize % PAGE_SLOTS);
        self.changes.nodes.insert(slot);
        (0..=level).for_each(|layer| self.changes.links.insert(slot, layer));
        Ok(())
    }

    /// The node in the slot, `None` when the slot is free.
    pub(crate) fn live(&self, slot: Slot) -> Result<Option<&Node>> {
        Ok(self.graph.page_of(slot)?.node(slot as usize % PAGE_SLOTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn a_link_set_is_an_ordered_set() {
        let mut rng = StdRng::seed_from_u64(3);
        let (mut set, mut model) = (LinkSet::default(), BTreeSet::new());
        for _ in 0..2000 {
            let row = (rng.random_range(0..500) + Slot::MAX / 2, rng.random_range(0..3));
            set.insert(row.0, row.1);
            model.insert(row);
            assert_eq!(set.len(), model.len());
        }
        set.insert(Slot::MAX, 31);
        model.insert((Slot::MAX, 31));
        assert!(set.iter().eq(model));
    }
}
