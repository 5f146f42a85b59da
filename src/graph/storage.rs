//! The tables in redb, the global rows, and writing. A collection's rows are read by [`super::reader`].

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, TableHandle, WriteTransaction};

use super::editor::Changes;
use super::journal::{self, CollectionEntry, Pending};
use super::page::PAGE_SLOTS;
use super::rows::{CollectionRow, Kind, Place, SegmentRow, StateRow, encode_empty, encode_slot};
use super::snapshot::GraphSnapshot;
use crate::error::{Error, Result};
use crate::vectors::Slot;

/// Tables with this prefix are the store's own.
pub(crate) const RESERVED_PREFIX: &str = "nestling/";
/// The version of `store.redb` that this build writes, and the newest that it reads.
pub(crate) const STORE_FORMAT: u32 = 1;

/// Runs what reads through redb, and turns a panic of redb's into an error.
///
/// redb does not verify the pages that it reads, and stops with a failed assertion or index at many that are damaged. (With
/// `panic = "abort"` there is nothing to be done about it.)
pub(crate) fn shielded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Error::corrupted("store.redb", "redb panicked at what it read there")))
}

/// The bytes of a row. The type's name carries the row's version, so that redb refuses to open a table of another one.
#[derive(Debug)]
pub(crate) struct Row<const KIND: u8>;

impl<const KIND: u8> redb::Value for Row<KIND> {
    type SelfType<'a> = &'a [u8];
    type AsBytes<'a> = &'a [u8];

    fn fixed_width() -> Option<usize> {
        None
    }

    fn from_bytes<'a>(data: &'a [u8]) -> &'a [u8]
    where
        Self: 'a,
    {
        data
    }

    fn as_bytes<'a, 'b: 'a>(value: &'a &'b [u8]) -> &'a [u8]
    where
        Self: 'b,
    {
        value
    }

    fn type_name() -> redb::TypeName {
        redb::TypeName::new(match KIND {
            NODE => "nestling::Node.1",
            LINK => "nestling::Link.1",
            KEY => "nestling::Key.1",
            FREE => "nestling::Free.1",
            STATE => "nestling::State.1",
            COLLECTION => "nestling::Collection.1",
            JOURNAL => "nestling::Journal.1",
            _ => "nestling::Segment.1",
        })
    }
}

pub(super) const NODE: u8 = Kind::Node as u8;
pub(super) const LINK: u8 = Kind::Link as u8;
pub(super) const KEY: u8 = Kind::Key as u8;
pub(super) const FREE: u8 = Kind::Free as u8;
const STATE: u8 = Kind::State as u8;
pub(super) const COLLECTION: u8 = Kind::Collection as u8;
pub(super) const SEGMENT: u8 = Kind::Segment as u8;
pub(super) const JOURNAL: u8 = Kind::Journal as u8;

/// The state row's version is checked before any other row is read, so this table's name and type never change.
const STATE_TABLE: TableDefinition<u32, &[u8]> = TableDefinition::new("nestling/state");
pub(super) const COLLECTION_TABLE: TableDefinition<&str, Row<COLLECTION>> =
    TableDefinition::new("nestling/collections");
pub(super) const SEGMENT_TABLE: TableDefinition<u32, Row<SEGMENT>> =
    TableDefinition::new("nestling/segments");
pub(super) const JOURNAL_TABLE: TableDefinition<u64, Row<JOURNAL>> = TableDefinition::new("nestling/journal");

const STATE_PLACE: Place<'static> = Place { kind: Kind::State, collection: 0, key: &[] };

/// The names of one collection's tables.
pub(super) struct TableNames {
    nodes: String,
    keys: String,
    links: String,
    free: String,
}

impl TableNames {
    pub(super) fn new(collection: u32) -> Self {
        let name = |table| format!("{RESERVED_PREFIX}{collection:08x}/{table}");
        Self { nodes: name("nodes"), keys: name("keys"), links: name("links"), free: name("free") }
    }

    pub(super) fn nodes(&self) -> TableDefinition<'_, u32, Row<NODE>> {
        TableDefinition::new(&self.nodes)
    }

    pub(super) fn keys(&self) -> TableDefinition<'_, u64, Row<KEY>> {
        TableDefinition::new(&self.keys)
    }

    pub(super) fn links(&self) -> TableDefinition<'_, u64, Row<LINK>> {
        TableDefinition::new(&self.links)
    }

    pub(super) fn free(&self) -> TableDefinition<'_, FreeKey, Row<FREE>> {
        TableDefinition::new(&self.free)
    }
}

/// The commit that freed a slot, and the slot: the oldest come first.
pub(crate) type FreeKey = (u64, Slot);

pub(super) fn link_key(slot: Slot, layer: u8) -> u64 {
    u64::from(slot) << 8 | u64::from(layer)
}

/// What a transaction did to a collection's rows.
#[derive(Debug)]
pub(crate) struct CollectionChanges<'a> {
    pub(crate) row: CollectionRow,
    /// The graph as it is after the changes…
    pub(crate) graph: &'a GraphSnapshot,
    /// …and which of its rows they are.
    pub(crate) changes: &'a Changes,
    /// Keys that were given a slot, and those that lost theirs.
    pub(crate) keys: &'a BTreeMap<u64, Option<Slot>>,
    /// Entries of the free list whose slots were used.
    pub(crate) taken: &'a [FreeKey],
    /// Slots freed, and by which commit.
    pub(crate) freed: &'a [Slot],
    pub(crate) commit: u64,
}

/// Writes a collection's changed rows into the tables, in key order.
pub(crate) fn write_collection(
    tx: &WriteTransaction,
    name: &str,
    changes: &CollectionChanges<'_>,
) -> Result<()> {
    let tables = Writer { tx, collection: changes.row.id, names: TableNames::new(changes.row.id) };
    tables.nodes(changes.graph, changes.changes.nodes.iter().copied())?;
    tables.links(changes.graph, changes.changes.links.iter())?;
    tables.keys(changes.keys)?;
    let freed = changes.freed.iter().map(|&slot| (changes.commit, slot));
    tables.free(changes.taken.iter().copied(), freed)?;
    write_collection_row(tx, name, &changes.row)
}

/// Writes what the journal has ahead of a collection's tables, but for links, and the collection's row.
pub(crate) fn write_pending(
    tx: &WriteTransaction,
    name: &str,
    row: &CollectionRow,
    graph: &GraphSnapshot,
    pending: &Pending,
) -> Result<()> {
    let tables = Writer { tx, collection: row.id, names: TableNames::new(row.id) };
    tables.nodes(graph, pending.nodes.iter().copied())?;
    tables.keys(&pending.keys)?;
    tables.free(pending.taken.iter().copied(), pending.freed.iter().copied())?;
    write_collection_row(tx, name, row)
}

/// Writes some of a collection's link rows as they are in `graph`.
pub(crate) fn write_links(
    tx: &WriteTransaction,
    collection: u32,
    graph: &GraphSnapshot,
    links: impl Iterator<Item = (Slot, u8)>,
) -> Result<()> {
    Writer { tx, collection, names: TableNames::new(collection) }.links(graph, links)
}

pub(super) fn write_collection_row(tx: &WriteTransaction, name: &str, row: &CollectionRow) -> Result<()> {
    let row = row.encode(&Place { kind: Kind::Collection, collection: 0, key: name.as_bytes() });
    tx.open_table(COLLECTION_TABLE)?.insert(name, row.as_slice())?;
    Ok(())
}

/// One collection's tables in a write transaction. Rows are written in the order given, which is key order.
struct Writer<'a> {
    tx: &'a WriteTransaction,
    collection: u32,
    names: TableNames,
}

impl Writer<'_> {
    fn place<'k>(&self, kind: Kind, key: &'k [u8]) -> Place<'k> {
        Place { kind, collection: self.collection, key }
    }

    fn nodes(&self, graph: &GraphSnapshot, slots: impl Iterator<Item = Slot>) -> Result<()> {
        let mut table = self.tx.open_table(self.names.nodes())?;
        for slot in slots {
            match graph.page_of(slot)?.node(slot as usize % PAGE_SLOTS) {
                Some(node) => {
                    let row = node.record.encode(&self.place(Kind::Node, &slot.to_le_bytes()));
                    table.insert(slot, row.as_slice())?;
                }
                None => drop(table.remove(slot)?),
            }
        }
        Ok(())
    }

    fn links(&self, graph: &GraphSnapshot, links: impl Iterator<Item = (Slot, u8)>) -> Result<()> {
        let mut table = self.tx.open_table(self.names.links())?;
        for (slot, layer) in links {
            let key = link_key(slot, layer);
            match graph.page_of(slot)?.row(slot as usize % PAGE_SLOTS, layer) {
                Some(row) => {
                    let row = row.encode(&self.place(Kind::Link, &key.to_le_bytes()));
                    table.insert(key, row.as_slice())?;
                }
                None => drop(table.remove(key)?),
            }
        }
        Ok(())
    }

    fn keys(&self, keys: &BTreeMap<u64, Option<Slot>>) -> Result<()> {
        let mut table = self.tx.open_table(self.names.keys())?;
        for (&key, slot) in keys {
            match slot {
                Some(slot) => {
                    let row = encode_slot(*slot, &self.place(Kind::Key, &key.to_le_bytes()));
                    table.insert(key, row.as_slice())?;
                }
                None => drop(table.remove(key)?),
            }
        }
        Ok(())
    }

    fn free(&self, taken: impl Iterator<Item = FreeKey>, freed: impl Iterator<Item = FreeKey>) -> Result<()> {
        let mut table = self.tx.open_table(self.names.free())?;
        for key in taken {
            table.remove(key)?;
        }
        for key in freed {
            let row = encode_empty(&self.place(Kind::Free, &free_key_bytes(key)));
            table.insert(key, row.as_slice())?;
        }
        Ok(())
    }
}

/// Writes what a commit did to collections as one entry of the journal.
pub(crate) fn write_entry(
    tx: &WriteTransaction,
    commit: u64,
    previous: u64,
    changes: &[CollectionChanges<'_>],
) -> Result<()> {
    let row = journal_place(&commit.to_le_bytes()).seal(journal::encode(previous, changes)?);
    tx.open_table(JOURNAL_TABLE)?.insert(commit, row.as_slice())?;
    Ok(())
}

/// Removes entries that the tables have caught up with.
pub(crate) fn remove_entries(tx: &WriteTransaction, commits: impl Iterator<Item = u64>) -> Result<()> {
    let mut table = tx.open_table(JOURNAL_TABLE)?;
    for commit in commits {
        table.remove(commit)?;
    }
    Ok(())
}

/// The journal, in the order of commits; `removed` is the commit of the last entry that was taken out of it.
pub(crate) fn read_entries(
    tx: &ReadTransaction,
    removed: u64,
    max_level: u8,
) -> Result<Vec<(u64, Vec<CollectionEntry>)>> {
    let table = tx.open_table(JOURNAL_TABLE).map_err(own_table)?;
    let mut entries = Vec::new();
    let mut previous = removed;
    for entry in ReadableTable::iter(&table)? {
        let (commit, row) = entry?;
        let key = commit.value().to_le_bytes();
        let place = journal_place(&key);
        let content = place.unseal(row.value())?;
        entries.push((commit.value(), journal::decode(&place, content, previous, max_level)?));
        previous = commit.value();
    }
    Ok(entries)
}

pub(crate) fn journal_place(key: &[u8]) -> Place<'_> {
    Place { kind: Kind::Journal, collection: 0, key }
}

/// Removes a collection: its row, its segments' rows and its tables.
pub(crate) fn drop_collection(
    tx: &WriteTransaction,
    name: &str,
    collection: u32,
    segments: impl Iterator<Item = u32>,
) -> Result<()> {
    tx.open_table(COLLECTION_TABLE)?.remove(name)?;
    {
        // Closed before tables are deleted: where redb panics at that, closing another one would be a second panic, and abort.
        let mut table = tx.open_table(SEGMENT_TABLE)?;
        for segment in segments {
            table.remove(segment)?;
        }
    }
    let names = TableNames::new(collection);
    tx.delete_table(names.nodes())?;
    tx.delete_table(names.links())?;
    tx.delete_table(names.keys())?;
    tx.delete_table(names.free())?;
    Ok(())
}

pub(crate) fn write_segment(tx: &WriteTransaction, segment: u32, row: &SegmentRow) -> Result<()> {
    let row = row.encode(&Place { kind: Kind::Segment, collection: 0, key: &segment.to_le_bytes() });
    tx.open_table(SEGMENT_TABLE)?.insert(segment, row.as_slice())?;
    Ok(())
}

pub(crate) fn write_state(tx: &WriteTransaction, state: &StateRow) -> Result<()> {
    let row = state.encode(&STATE_PLACE);
    tx.open_table(STATE_TABLE)?.insert(0, row.as_slice())?;
    Ok(())
}

/// Creates the global tables of a new store.
pub(crate) fn write_new_store(tx: &WriteTransaction, state: &StateRow) -> Result<()> {
    tx.open_table(COLLECTION_TABLE)?;
    tx.open_table(SEGMENT_TABLE)?;
    tx.open_table(JOURNAL_TABLE)?;
    write_state(tx, state)
}

/// What a `store.redb` says of itself.
#[derive(Debug)]
pub(crate) enum Found {
    State(StateRow),
    /// A redb file that is not ours.
    Foreign,
    Newer(u32),
}

pub(crate) fn read_state(tx: &ReadTransaction) -> Result<Found> {
    let table = match tx.open_table(STATE_TABLE) {
        Ok(table) => table,
        Err(
            TableError::TableDoesNotExist(_)
            | TableError::TableTypeMismatch { .. }
            | TableError::TableIsMultimap(_),
        ) => {
            return Ok(Found::Foreign);
        }
        Err(e) => return Err(own_table(e)),
    };
    let Some(row) = ReadableTable::get(&table, 0)? else {
        return Err(STATE_PLACE.corrupted("the row is missing"));
    };
    match StateRow::sniff_version(row.value()) {
        Some(version) if version > STORE_FORMAT => Ok(Found::Newer(version)),
        _ => StateRow::decode(&STATE_PLACE, row.value()).map(Found::State),
    }
}

/// A table of our own that is missing, or of another type than the state row's version promises, is damage.
pub(super) fn own_table(error: TableError) -> Error {
    match error {
        TableError::Storage(e) => Error::Storage(e),
        e => Error::corrupted("store.redb", e.to_string()),
    }
}

/// All collections, by name.
pub(crate) fn read_collections(tx: &ReadTransaction) -> Result<BTreeMap<String, CollectionRow>> {
    let table = tx.open_table(COLLECTION_TABLE).map_err(own_table)?;
    let mut collections = BTreeMap::new();
    for entry in ReadableTable::iter(&table)? {
        let (name, row) = entry?;
        let place = Place { kind: Kind::Collection, collection: 0, key: name.value().as_bytes() };
        collections.insert(name.value().to_owned(), CollectionRow::decode(&place, row.value())?);
    }
    Ok(collections)
}

/// One collection, if there is one of the name.
pub(super) fn read_collection(tx: &ReadTransaction, name: &str) -> Result<Option<CollectionRow>> {
    let table = tx.open_table(COLLECTION_TABLE).map_err(own_table)?;
    let Some(row) = ReadableTable::get(&table, name)? else { return Ok(None) };
    let place = Place { kind: Kind::Collection, collection: 0, key: name.as_bytes() };
    CollectionRow::decode(&place, row.value()).map(Some)
}

/// All segments, by id.
pub(crate) fn read_segments(tx: &ReadTransaction) -> Result<BTreeMap<u32, SegmentRow>> {
    let table = tx.open_table(SEGMENT_TABLE).map_err(own_table)?;
    let mut segments = BTreeMap::new();
    for entry in ReadableTable::iter(&table)? {
        let (id, row) = entry?;
        let key = id.value().to_le_bytes();
        let place = Place { kind: Kind::Segment, collection: 0, key: &key };
        segments.insert(id.value(), SegmentRow::decode(&place, row.value())?);
    }
    Ok(segments)
}

/// True for the names of the store's own tables.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

pub(super) fn free_key_bytes(key: FreeKey) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&key.0.to_le_bytes());
    bytes[8..].copy_from_slice(&key.1.to_le_bytes());
    bytes
}

/// The names of the store's own tables.
pub(crate) fn own_tables(tx: &ReadTransaction) -> Result<Vec<String>> {
    let tables = tx.list_tables()?;
    Ok(tables.map(|table| table.name().to_owned()).filter(|name| is_reserved(name)).collect())
}

/// The collection that a table belongs to, if it is one of a collection's.
pub(crate) fn table_owner(name: &str) -> Option<u32> {
    let (id, _) = name.strip_prefix(RESERVED_PREFIX)?.split_once('/')?;
    u32::from_str_radix(id, 16).ok()
}
