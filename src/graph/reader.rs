//! Reading a collection's rows: a page's for the graph, single keys, the free list.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableError};

use super::journal::{Overlay, Pending};
use super::page::{PAGE_SLOTS, Page};
use super::rows::{Kind, LinkRow, NodeRecord, Place, decode_empty, decode_slot};
use super::snapshot::PageSource;
use super::storage::{
    FREE, FreeKey, KEY, LINK, NODE, Row, TableNames, free_key_bytes, own_table, read_collection, shielded,
};
use crate::error::{Error, Result};
use crate::options::Capacity;
use crate::vectors::Slot;

/// The rows of one collection in one snapshot: the tables, opened when first needed, under what the journal has ahead of them.
#[derive(Debug)]
pub(crate) struct CollectionReader {
    name: Arc<str>,
    collection: u32,
    capacity: Capacity,
    max_level: u8,
    slots: Slot,
    transaction: Arc<ReadTransaction>,
    /// What the journal had ahead of the tables when the store was opened. Pages changed since then are in memory.
    overlay: Arc<Overlay>,
    /// What it has ahead of them in this snapshot.
    pending: Arc<Pending>,
    tables: OnceLock<Tables>,
}

struct Tables {
    nodes: ReadOnlyTable<u32, Row<NODE>>,
    keys: ReadOnlyTable<u64, Row<KEY>>,
    links: ReadOnlyTable<u64, Row<LINK>>,
    free: ReadOnlyTable<FreeKey, Row<FREE>>,
    /// Vectors that the collection had when its tables were last written: as many nodes and keys are in them.
    live: u64,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tables")
    }
}

impl CollectionReader {
    #[expect(
        clippy::too_many_arguments,
        reason = "called in one place, with what a snapshot knows of a collection"
    )]
    pub(crate) fn new(
        name: Arc<str>,
        collection: u32,
        capacity: Capacity,
        max_level: u8,
        slots: Slot,
        transaction: Arc<ReadTransaction>,
        overlay: Arc<Overlay>,
        pending: Arc<Pending>,
    ) -> Self {
        let tables = OnceLock::new();
        Self { name, collection, capacity, max_level, slots, transaction, overlay, pending, tables }
    }

    pub(crate) fn overlay(&self) -> &Arc<Overlay> {
        &self.overlay
    }

    pub(crate) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    fn tables(&self) -> Result<&Tables> {
        if let Some(tables) = self.tables.get() {
            return Ok(tables);
        }
        let names = TableNames::new(self.collection);
        let row = read_collection(&self.transaction, &self.name)?;
        let live = row.filter(|row| row.id == self.collection).map_or(0, |row| row.live);
        let open = || -> Result<Tables, TableError> {
            Ok(Tables {
                live,
                nodes: self.transaction.open_table(names.nodes())?,
                keys: self.transaction.open_table(names.keys())?,
                links: self.transaction.open_table(names.links())?,
                free: self.transaction.open_table(names.free())?,
            })
        };
        let tables = open().map_err(own_table)?;
        Ok(self.tables.get_or_init(|| tables))
    }

    fn place<'a>(&self, kind: Kind, key: &'a [u8]) -> Place<'a> {
        Place { kind, collection: self.collection, key }
    }

    /// The slot of a key.
    pub(crate) fn slot_of(&self, key: u64) -> Result<Option<Slot>> {
        if let Some(&slot) = self.pending.keys.get(&key) {
            return Ok(slot);
        }
        shielded(|| match ReadableTable::get(&self.tables()?.keys, key)? {
            Some(row) => self.decode_key(key, row.value()).map(Some),
            None => self.confirm_absence(key).map(|()| None),
        })
    }

    /// A row that is found carries a checksum; that none is found rests on redb's tree, which redb does not verify when it reads.
    /// So the table must have as many rows as its collection row says, and the rows around the gap must verify and lie where
    /// they belong: a changed key, or a branch that leads astray, shows in one of them.
    fn confirm_absence(&self, key: u64) -> Result<()> {
        let keys = &self.tables()?.keys;
        self.expect_all(keys.len()?)?;
        let before = ReadableTable::range(keys, ..key)?.next_back().transpose()?;
        let after = ReadableTable::range(keys, key..)?.next().transpose()?;
        for (entry, expected) in [(before, Ordering::Less), (after, Ordering::Greater)] {
            if let Some((found, row)) = entry {
                let found = found.value();
                self.decode_key(found, row.value())?;
                if found.cmp(&key) != expected {
                    return Err(misplaced(&self.place(Kind::Key, &found.to_le_bytes())));
                }
            }
        }
        Ok(())
    }

    /// Fails unless there are as many keys in the table as the collection had vectors when the tables were last written.
    fn expect_all(&self, found: u64) -> Result<()> {
        let expected = self.tables()?.live;
        if found == expected {
            return Ok(());
        }
        let place = format!("store.redb, collection {}", self.collection);
        Err(Error::corrupted(place, format!("{found} keys for {expected} vectors")))
    }

    /// All keys with their slots, in order.
    pub(crate) fn keys(&self) -> Result<impl Iterator<Item = Result<(u64, Slot)>> + '_> {
        let mut entries = shielded(|| Ok(ReadableTable::iter(&self.tables()?.keys)?))?;
        let (mut last, mut found, mut complete) = (None, 0, false);
        let mut next = move || -> Result<Option<(u64, Slot)>> {
            let Some(entry) = entries.next() else {
                if !std::mem::replace(&mut complete, true) {
                    self.expect_all(found)?;
                }
                return Ok(None);
            };
            let (key, row) = entry?;
            let key = key.value();
            let slot = self.decode_key(key, row.value())?;
            if last.replace(key).is_some_and(|last| last >= key) {
                return Err(misplaced(&self.place(Kind::Key, &key.to_le_bytes())));
            }
            found += 1;
            Ok(Some((key, slot)))
        };
        Ok(merge_keys(std::iter::from_fn(move || next().transpose()), &self.pending.keys))
    }

    fn decode_key(&self, key: u64, row: &[u8]) -> Result<Slot> {
        decode_slot(&self.place(Kind::Key, &key.to_le_bytes()), row, self.slots)
    }

    /// Up to `limit` entries of the free list behind `after`, freed by commits up to `newest`.
    pub(crate) fn free(&self, after: Option<FreeKey>, newest: u64, limit: usize) -> Result<Vec<FreeKey>> {
        shielded(|| self.free_list(after, newest, limit))
    }

    fn free_list(&self, after: Option<FreeKey>, newest: u64, limit: usize) -> Result<Vec<FreeKey>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let end = (newest, Slot::MAX);
        if after.is_some_and(|after| after >= end) {
            return Ok(Vec::new());
        }
        let range = (after.map_or(Unbounded, Excluded), Included(end));
        let mut found = BTreeSet::new();
        for entry in ReadableTable::range(&self.tables()?.free, range)? {
            let (key, row) = entry?;
            let key = key.value();
            let bytes = free_key_bytes(key);
            let place = self.place(Kind::Free, &bytes);
            decode_empty(&place, row.value())?;
            if key.1 >= self.slots {
                return Err(
                    place.corrupted(format!("slot {}, where the collection has {}", key.1, self.slots))
                );
            }
            if !self.pending.taken.contains(&key) {
                found.insert(key);
            }
            if found.len() == limit {
                break;
            }
        }
        found.extend(self.pending.freed.range(range));
        Ok(found.into_iter().take(limit).collect())
    }
}

/// An iterator over redb that ends with an error when redb panics.
struct Shielded<I>(Option<I>);

impl<T, I: Iterator<Item = Result<T>>> Iterator for Shielded<I> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let mut iterator = self.0.take()?;
        match shielded(|| Ok((iterator.next(), iterator))) {
            Ok((next, iterator)) => {
                self.0 = Some(iterator);
                next
            }
            Err(e) => Some(Err(e)),
        }
    }
}

/// Stored keys in order, with changes, which may take keys away, merged in.
pub(crate) fn merge_keys<'a>(
    stored: impl Iterator<Item = Result<(u64, Slot)>> + 'a,
    changes: &'a BTreeMap<u64, Option<Slot>>,
) -> impl Iterator<Item = Result<(u64, Slot)>> + 'a {
    let mut stored = Shielded(Some(stored)).peekable();
    let mut changes = changes.iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let change_is_next = match (stored.peek(), changes.peek()) {
                (_, None) | (Some(Err(_)), _) => false,
                (None, Some(_)) => true,
                (Some(Ok((key, _))), Some((changed, _))) => *changed <= key,
            };
            if !change_is_next {
                return stored.next();
            }
            let (&key, &slot) = changes.next()?;
            if let Some(Ok((same, _))) = stored.peek()
                && *same == key
            {
                stored.next();
            }
            if let Some(slot) = slot {
                return Some(Ok((key, slot)));
            }
        }
    })
}

/// redb's tree led to a row that lies elsewhere by its key.
fn misplaced(place: &Place<'_>) -> Error {
    place.corrupted("the row is not where its key belongs")
}

impl PageSource for CollectionReader {
    fn load(&self, number: usize) -> Result<Page> {
        shielded(|| self.load_page(number))
    }
}

impl CollectionReader {
    fn load_page(&self, number: usize) -> Result<Page> {
        let tables = self.tables()?;
        let mut page = Page::new(self.capacity);
        let first = (number * PAGE_SLOTS) as u64;
        let last = (first + PAGE_SLOTS as u64).min(u64::from(self.slots));
        let mut records = BTreeMap::new();
        for entry in ReadableTable::range(&tables.nodes, first as Slot..=(last - 1) as Slot)? {
            let (slot, row) = entry?;
            let slot = slot.value();
            let key = slot.to_le_bytes();
            let place = self.place(Kind::Node, &key);
            if !(first..last).contains(&u64::from(slot)) {
                return Err(misplaced(&place));
            }
            let record = NodeRecord::decode(&place, row.value(), self.max_level)?;
            records.insert(slot, Some(record));
        }
        records.extend(self.overlay.nodes.range(first as Slot..=(last - 1) as Slot).map(|(&s, &r)| (s, r)));
        let mut rows = 0;
        for (slot, record) in records {
            if let Some(record) = record {
                rows += usize::from(record.level) + 1;
                page.create(slot as usize % PAGE_SLOTS, record);
            }
        }
        let ahead = self.overlay.links(number, self.capacity, self.slots)?;
        let mut set = |page: &mut Page, slot: Slot, layer: u8, row: LinkRow| {
            // Keys are unique, so as many rows as are expected, each of which exists, are all of them.
            let exists = page.set_row(slot as usize % PAGE_SLOTS, layer, row);
            rows -= usize::from(exists);
            exists
        };
        let mut last_key = None;
        for entry in ReadableTable::range(&tables.links, first << 8..last << 8)? {
            let (key, row) = entry?;
            let key = key.value();
            let (slot, layer) = ((key >> 8) as Slot, key as u8);
            let bytes = key.to_le_bytes();
            let place = self.place(Kind::Link, &bytes);
            if !(first << 8..last << 8).contains(&key)
                || last_key.replace(key).is_some_and(|last| last >= key)
            {
                return Err(misplaced(&place));
            }
            if ahead.contains_key(&(slot, layer)) {
                continue;
            }
            let row = LinkRow::decode(&place, row.value(), layer, self.capacity, self.slots)?;
            if !set(&mut page, slot, layer, row) {
                return Err(
                    place.corrupted(format!("links of slot {slot} on layer {layer}, where no node is"))
                );
            }
        }
        for ((slot, layer), row) in ahead {
            if let Some(row) = row
                && !set(&mut page, slot, layer, row)
            {
                let detail = format!("links of slot {slot} on layer {layer}, where no node is");
                return Err(Error::corrupted("the journal", detail));
            }
        }
        if rows != 0 {
            let place = format!("store.redb, collection {}, slots {first}..{last}", self.collection);
            return Err(Error::corrupted(place, format!("{rows} link rows are missing")));
        }
        Ok(page)
    }
}
