//! A page: all rows of a run of slots.

#![allow(
    clippy::indexing_slicing,
    reason = "a page's arrays have a fixed shape, made in `Page::new` and `Page::create`"
)]

use super::rows::{LinkRow, NodeRecord};
use crate::options::Capacity;
use crate::vectors::Slot;

/// Slots in a page.
pub(crate) const PAGE_SLOTS: usize = 16;

/// The records and links of slots `PAGE_SLOTS · number ..`. What a search on layer 0 reads stands apart from the rest: one
/// array with room for m0 neighbours per slot, at a fixed stride.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    capacity: Capacity,
    /// Per slot: the number of neighbours on layer 0, then the neighbours.
    base: Box<[u32]>,
    nodes: Box<[Option<Node>]>,
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
            capacity,
            base: vec![0; PAGE_SLOTS * (1 + capacity.m0)].into(),
            nodes: std::iter::repeat_with(|| None).take(PAGE_SLOTS).collect(),
        }
    }

    #[inline]
    pub(crate) fn node(&self, index: usize) -> Option<&Node> {
        self.nodes.get(index)?.as_ref()
    }

    /// The neighbours of the node at `index`; `None` for a row that does not exist.
    #[inline]
    pub(crate) fn neighbors(&self, index: usize, layer: u8) -> Option<&[Slot]> {
        if layer == 0 {
            let stride = 1 + self.capacity.m0;
            list(self.base.get(index * stride..(index + 1) * stride)?)
        } else {
            list(&self.node(index)?.upper.get(usize::from(layer) - 1)?.words)
        }
    }

    /// The place of a row's neighbours, used or not: for prefetching, which must not read them.
    #[inline]
    pub(crate) fn neighbors_in_full(&self, index: usize, layer: u8) -> Option<&[u32]> {
        let stride = 1 + self.capacity.m0;
        if layer == 0 { self.base.get(index * stride..(index + 1) * stride) } else { None }
    }

    /// Puts a node with empty rows at `index`.
    pub(crate) fn create(&mut self, index: usize, record: NodeRecord) {
        let upper = (0..record.level).map(|_| UpperRow {
            words: vec![0; 1 + self.capacity.m].into(),
            losses: 0,
            inbound: Vec::new(),
        });
        let upper = upper.collect();
        self.base[index * (1 + self.capacity.m0)] = 0;
        self.nodes[index] =
            Some(Node { record, parent: None, children: 0, losses: 0, inbound: Vec::new(), upper });
    }

    /// Takes the node at `index` away.
    pub(crate) fn delete(&mut self, index: usize) {
        self.base[index * (1 + self.capacity.m0)] = 0;
        self.nodes[index] = None;
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
        *to.inbound = row.inbound;
        *to.losses = row.losses;
        if let Some(tree) = to.tree {
            *tree.parent = row.parent;
            *tree.children = row.children;
        }
        true
    }

    pub(crate) fn row_mut(&mut self, index: usize, layer: u8) -> Option<RowMut<'_>> {
        let node = self.nodes.get_mut(index)?.as_mut()?;
        if layer == 0 {
            let stride = 1 + self.capacity.m0;
            return Some(RowMut {
                words: self.base.get_mut(index * stride..(index + 1) * stride)?,
                inbound: &mut node.inbound,
                losses: &mut node.losses,
                tree: Some(TreeMut { parent: &mut node.parent, children: &mut node.children }),
            });
        }
        let upper = node.upper.get_mut(usize::from(layer) - 1)?;
        Some(RowMut {
            words: &mut upper.words,
            inbound: &mut upper.inbound,
            losses: &mut upper.losses,
            tree: None,
        })
    }

    /// Bytes on the heap.
    pub(crate) fn resident(&self) -> usize {
        let row = |inbound: &Vec<Slot>| inbound.capacity() * size_of::<Slot>();
        let node = |node: &Node| {
            let upper = |u: &UpperRow| size_of::<UpperRow>() + u.words.len() * 4 + row(&u.inbound);
            row(&node.inbound) + node.upper.iter().map(upper).sum::<usize>()
        };
        size_of::<Self>()
            + self.base.len() * size_of::<u32>()
            + self.nodes.len() * size_of::<Option<Node>>()
            + self.nodes.iter().flatten().map(node).sum::<usize>()
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

/// One row, to be changed. Children stand at the front of the neighbours.
pub(crate) struct RowMut<'a> {
    words: &'a mut [u32],
    inbound: &'a mut Vec<Slot>,
    losses: &'a mut u8,
    tree: Option<TreeMut<'a>>,
}

struct TreeMut<'a> {
    parent: &'a mut Option<Slot>,
    children: &'a mut u16,
}

impl RowMut<'_> {
    fn len(&self) -> usize {
        self.words[0] as usize
    }

    fn children(&self) -> usize {
        self.tree.as_ref().map_or(0, |tree| usize::from(*tree.children))
    }

    fn set_children(&mut self, children: usize) {
        if let Some(tree) = &mut self.tree {
            *tree.children = children as u16;
        }
    }

    fn position(&self, slot: Slot) -> Option<usize> {
        self.words[1..=self.len()].iter().position(|&s| s == slot)
    }

    /// Appends a neighbour. The row must have room.
    pub(crate) fn push(&mut self, slot: Slot) {
        let len = self.len();
        assert!(len + 1 < self.words.len(), "a row is never given more neighbours than its capacity");
        self.words[len + 1] = slot;
        self.words[0] += 1;
    }

    /// Takes a neighbour away, child or not.
    pub(crate) fn remove(&mut self, slot: Slot) {
        if let Some(position) = self.position(slot) {
            let len = self.len();
            self.words.copy_within(position + 2..=len, position + 1);
            self.words[0] -= 1;
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
                self.words[1..].swap(position, children);
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
                self.words[1..].swap(position, children - 1);
                self.set_children(children - 1);
            }
            _ => {}
        }
    }

    pub(crate) fn set_parent(&mut self, parent: Option<Slot>) {
        if let Some(tree) = &mut self.tree {
            *tree.parent = parent;
        }
    }

    pub(crate) fn push_inbound(&mut self, slot: Slot) {
        if !self.inbound.contains(&slot) {
            self.inbound.push(slot);
        }
    }

    pub(crate) fn remove_inbound(&mut self, slot: Slot) {
        self.inbound.retain(|&s| s != slot);
    }

    /// Edges lost to deletions since the row was last linked afresh.
    pub(crate) fn losses(&self) -> u8 {
        *self.losses
    }

    pub(crate) fn count_loss(&mut self) {
        *self.losses = self.losses.saturating_add(1);
    }

    pub(crate) fn reset_losses(&mut self) {
        *self.losses = 0;
    }

    /// Takes all neighbours and in-edges away. The parent stays.
    pub(crate) fn clear(&mut self) {
        self.words[0] = 0;
        self.inbound.clear();
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
