//! A page: all rows of a run of slots.

#![allow(
    clippy::indexing_slicing,
    reason = "a page's arrays have a fixed shape, made in `Page::new` and `Page::create`"
)]

use std::sync::Arc;

use super::rows::{LinkRow, NodeRecord};
use crate::options::Capacity;
use crate::vectors::Slot;

/// Slots in a page.
pub(crate) const PAGE_SLOTS: usize = 16;

/// The records and links of slots `PAGE_SLOTS · number ..`. A clone shares both parts; a change copies the part that it changes.
///
/// What a search on layer 0 reads stands apart from the rest: one array with room for m0 neighbours per slot, at a fixed stride.
/// Its pointer lies in the snapshot's array of pages, so that a row is one hop away from there.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Per slot: the number of neighbours on layer 0, then the neighbours.
    base: Arc<[u32]>,
    nodes: Arc<Nodes>,
}

#[derive(Debug, Clone)]
struct Nodes {
    capacity: Capacity,
    slots: [Option<Node>; PAGE_SLOTS],
}

/// A live node, without its neighbours on layer 0.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) record: NodeRecord,
    parent: Option<Slot>,
    children: u16,
    losses: u8,
    inbound: Vec<Slot>,
    upper: Box<[UpperRow]>,
}

#[derive(Debug, Clone)]
struct UpperRow {
    /// The number of neighbours, then the neighbours.
    words: Box<[u32]>,
    losses: u8,
    inbound: Vec<Slot>,
}

impl Page {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            base: std::iter::repeat_n(0, PAGE_SLOTS * (1 + capacity.m0)).collect(),
            nodes: Arc::new(Nodes { capacity, slots: [const { None }; PAGE_SLOTS] }),
        }
    }

    #[inline]
    pub(crate) fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.slots.get(index)?.as_ref()
    }

    /// The neighbours of the node at `index`; `None` for a row that does not exist.
    #[inline]
    pub(crate) fn neighbors(&self, index: usize, layer: u8) -> Option<&[Slot]> {
        if layer == 0 {
            list(self.base_row(index)?)
        } else {
            list(&self.node(index)?.upper.get(usize::from(layer) - 1)?.words)
        }
    }

    /// The place of a row's neighbours on layer 0, used or not.
    #[inline]
    pub(crate) fn base_row(&self, index: usize) -> Option<&[u32]> {
        let stride = self.base.len() / PAGE_SLOTS;
        self.base.get(index * stride..(index + 1) * stride)
    }

    /// Puts a node with empty rows at `index`.
    pub(crate) fn create(&mut self, index: usize, record: NodeRecord) {
        let nodes = Arc::make_mut(&mut self.nodes);
        let upper = (0..record.level).map(|_| UpperRow {
            words: vec![0; 1 + nodes.capacity.m].into(),
            losses: 0,
            inbound: Vec::new(),
        });
        let upper = upper.collect();
        nodes.slots[index] =
            Some(Node { record, parent: None, children: 0, losses: 0, inbound: Vec::new(), upper });
        self.clear_base_row(index);
    }

    /// Takes the node at `index` away.
    pub(crate) fn delete(&mut self, index: usize) {
        Arc::make_mut(&mut self.nodes).slots[index] = None;
        self.clear_base_row(index);
    }

    fn clear_base_row(&mut self, index: usize) {
        let stride = self.base.len() / PAGE_SLOTS;
        Arc::make_mut(&mut self.base)[index * stride] = 0;
    }

    /// The row as it is stored; `None` for one that does not exist.
    pub(crate) fn row(&self, index: usize, layer: u8) -> Option<LinkRow> {
        let node = self.node(index)?;
        let neighbors = self.neighbors(index, layer)?.to_vec();
        if layer == 0 {
            return Some(LinkRow {
                neighbors,
                inbound: node.inbound.clone(),
                parent: node.parent,
                children: node.children,
                losses: node.losses,
            });
        }
        let upper = node.upper.get(usize::from(layer) - 1)?;
        let inbound = upper.inbound.clone();
        Some(LinkRow { neighbors, inbound, parent: None, children: 0, losses: upper.losses })
    }

    /// Puts a stored row, which fits the capacity, into its place; false when its node or layer does not exist.
    pub(crate) fn set_row(&mut self, index: usize, layer: u8, row: LinkRow) -> bool {
        let Some(mut to) = self.row_mut(index, layer) else { return false };
        to.clear();
        for &slot in &row.neighbors {
            to.push(slot);
        }
        to.set_children(usize::from(row.children));
        to.set_parent(row.parent);
        *to.losses_mut() = row.losses;
        *to.inbound_mut() = row.inbound;
        true
    }

    pub(crate) fn row_mut(&mut self, index: usize, layer: u8) -> Option<RowMut<'_>> {
        let exists = usize::from(layer) <= self.node(index)?.upper.len();
        exists.then_some(RowMut { page: self, index, layer })
    }

    /// Bytes on the heap.
    pub(crate) fn resident(&self) -> usize {
        let row = |inbound: &Vec<Slot>| inbound.capacity() * size_of::<Slot>();
        let node = |node: &Node| {
            let upper = |u: &UpperRow| size_of::<UpperRow>() + u.words.len() * 4 + row(&u.inbound);
            row(&node.inbound) + node.upper.iter().map(upper).sum::<usize>()
        };
        size_of::<Self>()
            + size_of_val(&*self.base)
            + size_of::<Nodes>()
            + self.nodes.slots.iter().flatten().map(node).sum::<usize>()
    }
}

impl Node {
    pub(crate) fn parent(&self) -> Option<Slot> {
        self.parent
    }

    pub(crate) fn children(&self) -> usize {
        usize::from(self.children)
    }

    /// One-way in-edges; `None` for a layer above the node's level.
    pub(crate) fn inbound(&self, layer: u8) -> Option<&[Slot]> {
        match layer.checked_sub(1) {
            None => Some(&self.inbound),
            Some(index) => Some(&self.upper.get(usize::from(index))?.inbound),
        }
    }
}

#[inline]
fn list(words: &[u32]) -> Option<&[Slot]> {
    let (&len, slots) = words.split_first()?;
    slots.get(..len as usize)
}

/// One row that exists, to be changed. Children, which only a row of layer 0 has, stand at the front of the neighbours.
pub(crate) struct RowMut<'a> {
    page: &'a mut Page,
    index: usize,
    layer: u8,
}

impl RowMut<'_> {
    fn neighbors(&self) -> &[Slot] {
        self.page.neighbors(self.index, self.layer).unwrap_or(&[])
    }

    fn len(&self) -> usize {
        self.neighbors().len()
    }

    fn position(&self, slot: Slot) -> Option<usize> {
        self.neighbors().iter().position(|&s| s == slot)
    }

    fn node(&self) -> &Node {
        self.page.node(self.index).expect("a row that exists has a node")
    }

    fn node_mut(&mut self) -> &mut Node {
        let slots = &mut Arc::make_mut(&mut self.page.nodes).slots;
        slots[self.index].as_mut().expect("a row that exists has a node")
    }

    /// The number of neighbours, then the neighbours.
    fn words_mut(&mut self) -> &mut [u32] {
        match usize::from(self.layer).checked_sub(1) {
            None => {
                let stride = self.page.base.len() / PAGE_SLOTS;
                let first = self.index * stride;
                &mut Arc::make_mut(&mut self.page.base)[first..first + stride]
            }
            Some(upper) => &mut self.node_mut().upper[upper].words,
        }
    }

    fn inbound_mut(&mut self) -> &mut Vec<Slot> {
        match usize::from(self.layer).checked_sub(1) {
            None => &mut self.node_mut().inbound,
            Some(upper) => &mut self.node_mut().upper[upper].inbound,
        }
    }

    fn losses_mut(&mut self) -> &mut u8 {
        match usize::from(self.layer).checked_sub(1) {
            None => &mut self.node_mut().losses,
            Some(upper) => &mut self.node_mut().upper[upper].losses,
        }
    }

    fn children(&self) -> usize {
        if self.layer == 0 { self.node().children() } else { 0 }
    }

    fn set_children(&mut self, children: usize) {
        if self.children() != children && self.layer == 0 {
            self.node_mut().children = children as u16;
        }
    }

    /// Appends a neighbour. The row must have room.
    pub(crate) fn push(&mut self, slot: Slot) {
        let len = self.len();
        let words = self.words_mut();
        assert!(len + 1 < words.len(), "a row is never given more neighbours than its capacity");
        words[len + 1] = slot;
        words[0] += 1;
    }

    /// Takes a neighbour away, child or not.
    pub(crate) fn remove(&mut self, slot: Slot) {
        if let Some(position) = self.position(slot) {
            let len = self.len();
            let words = self.words_mut();
            words.copy_within(position + 2..=len, position + 1);
            words[0] -= 1;
            if position < self.children() {
                self.set_children(self.children() - 1);
            }
        }
    }

    /// Makes a neighbour a child.
    pub(crate) fn promote(&mut self, slot: Slot) {
        let children = self.children();
        match self.position(slot) {
            Some(position) if position >= children => {
                self.words_mut()[1..].swap(position, children);
                self.set_children(children + 1);
            }
            _ => {}
        }
    }

    /// Makes a child an ordinary neighbour.
    pub(crate) fn demote(&mut self, slot: Slot) {
        let children = self.children();
        match self.position(slot) {
            Some(position) if position < children => {
                self.words_mut()[1..].swap(position, children - 1);
                self.set_children(children - 1);
            }
            _ => {}
        }
    }

    /// Notes the parent; a row above layer 0 has none.
    pub(crate) fn set_parent(&mut self, parent: Option<Slot>) {
        if self.layer == 0 {
            self.node_mut().parent = parent;
        }
    }

    pub(crate) fn push_inbound(&mut self, slot: Slot) {
        let inbound = self.inbound_mut();
        if !inbound.contains(&slot) {
            inbound.push(slot);
        }
    }

    pub(crate) fn remove_inbound(&mut self, slot: Slot) {
        self.inbound_mut().retain(|&s| s != slot);
    }

    /// Edges lost to deletions since the row was last linked afresh.
    pub(crate) fn losses(&self) -> u8 {
        match usize::from(self.layer).checked_sub(1) {
            None => self.node().losses,
            Some(upper) => self.node().upper[upper].losses,
        }
    }

    pub(crate) fn count_loss(&mut self) {
        let losses = self.losses_mut();
        *losses = losses.saturating_add(1);
    }

    pub(crate) fn reset_losses(&mut self) {
        *self.losses_mut() = 0;
    }

    /// Takes all neighbours and in-edges away. The parent stays.
    pub(crate) fn clear(&mut self) {
        self.words_mut()[0] = 0;
        self.inbound_mut().clear();
        self.set_children(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stay_at_the_front_whatever_is_added_and_removed() {
        let capacity = Capacity { m: 4, m0: 6 };
        let mut page = Page::new(capacity);
        page.create(3, NodeRecord { key: 1, stamp: 1, level: 2, code_crc: 0, vector_crc: 0 });
        let mut row = page.row_mut(3, 0).unwrap();
        for slot in [10, 11, 12, 13, 14] {
            row.push(slot);
        }
        row.promote(13);
        row.promote(11);
        assert_eq!(row.children(), 2);
        row.remove(10);
        row.demote(13);
        row.remove(12);
        row.push(15);
        let row = page.row(3, 0).unwrap();
        assert_eq!((row.neighbors[0], row.children), (11, 1));
        let mut rest = row.neighbors[1..].to_vec();
        rest.sort_unstable();
        assert_eq!(rest, [13, 14, 15]);
        assert!(page.row(3, 3).is_none() && page.row(2, 0).is_none());
        assert_eq!(page.neighbors(3, 2), Some(&[][..]));
    }
}
