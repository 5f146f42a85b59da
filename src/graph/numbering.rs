//! New numbers for the slots of a collection, and its rows under them.
//!
//! Slots are given out in the order of insertion, so that what lies together in files and pages was put in together. A search goes from
//! a node to its neighbours. Numbered breadth-first along layer 0, neighbours come to lie near each other, and free slots are gone.
//!
//! Nothing but the numbers changes: stamps, which rank the nodes of the tree of parents, checksums of codes and vectors, which do not
//! know of slots, and the order of the neighbours in each row, children first, stay as they are.

use redb::WriteTransaction;

use super::page::PAGE_SLOTS;
use super::rows::{CollectionRow, Kind, LinkRow, Place, encode_slot};
use super::snapshot::GraphSnapshot;
use super::storage::{TableNames, link_key, write_collection_row};
use crate::error::{Error, Result};
use crate::vectors::Slot;

/// New numbers from 0 up, without a gap.
#[derive(Debug)]
pub(crate) struct Numbering {
    /// The old slot of each new one.
    order: Vec<Slot>,
    /// The new slot of each old one; that of a free slot means nothing.
    numbers: Vec<Slot>,
}

impl Numbering {
    /// Numbers the nodes in the order in which a walk from the root on layer 0 comes by, which it does by all of them.
    pub(crate) fn breadth_first(graph: &GraphSnapshot, root: Option<Slot>) -> Result<Self> {
        const UNSEEN: Slot = Slot::MAX;
        let mut numbers = vec![UNSEEN; graph.slots() as usize];
        let mut order = Vec::new();
        let mut see = |order: &mut Vec<Slot>, slot: Slot| {
            if let Some(number @ &mut UNSEEN) = numbers.get_mut(slot as usize) {
                *number = order.len() as Slot;
                order.push(slot);
            }
        };
        root.into_iter().for_each(|root| see(&mut order, root));
        let mut next = 0;
        while let Some(&slot) = order.get(next) {
            graph.neighbors(slot, 0)?.iter().for_each(|&neighbor| see(&mut order, neighbor));
            next += 1;
        }
        Ok(Self { order, numbers })
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// New and old slots, by new ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, Slot)> {
        (0..).zip(self.order.iter().copied())
    }

    /// The new number of a node.
    pub(crate) fn number(&self, slot: Slot) -> Result<Slot> {
        match self.numbers.get(slot as usize) {
            Some(&number) if (number as usize) < self.order.len() => Ok(number),
            _ => Err(Error::corrupted(
                format!("slot {slot}"),
                "a link leads to it, the walk over the graph did not",
            )),
        }
    }

    fn renumber(&self, row: LinkRow) -> Result<LinkRow> {
        let all =
            |slots: Vec<Slot>| slots.into_iter().map(|slot| self.number(slot)).collect::<Result<Vec<_>>>();
        Ok(LinkRow {
            neighbors: all(row.neighbors)?,
            inbound: all(row.inbound)?,
            parent: row.parent.map(|parent| self.number(parent)).transpose()?,
            ..row
        })
    }

    /// Writes a collection's rows under their new numbers into tables that do not exist, with `row`, which has new numbers already. Rows
    /// come in the order of their keys, which redb packs tightly.
    pub(crate) fn write(
        &self,
        tx: &WriteTransaction,
        name: &str,
        row: &CollectionRow,
        graph: &GraphSnapshot,
    ) -> Result<()> {
        fn place(kind: Kind, collection: u32, key: &[u8]) -> Place<'_> {
            Place { kind, collection, key }
        }
        let names = TableNames::new(row.id);
        let mut keys = Vec::with_capacity(self.order.len());
        let mut nodes = tx.open_table(names.nodes())?;
        let mut links = tx.open_table(names.links())?;
        for (new, old) in self.iter() {
            let record = graph.node(old)?.record;
            keys.push((record.key, new));
            nodes.insert(new, record.encode(&place(Kind::Node, row.id, &new.to_le_bytes())).as_slice())?;
            for layer in 0..=record.level {
                let Some(link) = graph.page_of(old)?.row(old as usize % PAGE_SLOTS, layer) else { continue };
                let key = link_key(new, layer);
                let link = self.renumber(link)?.encode(&place(Kind::Link, row.id, &key.to_le_bytes()));
                links.insert(key, link.as_slice())?;
            }
        }
        keys.sort_unstable();
        let mut table = tx.open_table(names.keys())?;
        for (key, slot) in keys {
            let row = encode_slot(slot, &place(Kind::Key, row.id, &key.to_le_bytes()));
            table.insert(key, row.as_slice())?;
        }
        tx.open_table(names.free())?;
        write_collection_row(tx, name, row)
    }
}
