//! Reading what is left of a damaged store's rows.
//!
//! Everywhere else a row that does not verify is an error. Here it is one row less: whatever else verifies is of use. redb is asked for
//! short ranges of keys, so that a page that it fails on, or panics at, takes no more along than it holds.

use std::collections::BTreeMap;

use redb::{
    AccessGuard, Range, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, TableDefinition,
    TableHandle, WriteTransaction,
};

use super::journal::{self, CollectionEntry};
use super::rows::{CollectionRow, Kind, NodeRecord, Place, SegmentRow, StateRow, decode_slot};
use super::storage::{
    COLLECTION_TABLE, Found, JOURNAL_TABLE, Row, SEGMENT_TABLE, TableNames, is_reserved, journal_place,
    read_state, shielded, write_new_store,
};
use crate::error::{Error, Result};
use crate::vectors::Slot;

/// Keys that redb is asked for at once.
const STRETCH: u32 = 64;

/// What the global tables still tell.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) state: Option<StateRow>,
    /// Collections whose rows verify, by id, as the last readable entry of the journal has them.
    pub(crate) collections: BTreeMap<u32, (String, CollectionRow)>,
    pub(crate) segments: BTreeMap<u32, SegmentRow>,
    entries: Vec<(u64, Vec<CollectionEntry>)>,
    /// Some of these rows cannot be read.
    pub(crate) incomplete: bool,
}

impl Salvaged {
    pub(crate) fn read(tx: &ReadTransaction, max_level: u8) -> Self {
        let mut salvaged = Self::default();
        match shielded(|| read_state(tx)) {
            Ok(Found::State(state)) => salvaged.state = Some(state),
            _ => salvaged.incomplete = true,
        }
        let mut entries = Vec::new();
        let mut complete = each(tx, JOURNAL_TABLE, |commit: u64, row| {
            let key = commit.to_le_bytes();
            let place = journal_place(&key);
            entries.push((commit, journal::decode_any(&place, place.unseal(row)?, max_level)?));
            Ok(())
        });
        complete &= each(tx, SEGMENT_TABLE, |id: u32, row| {
            let place = Place { kind: Kind::Segment, collection: 0, key: &id.to_le_bytes() };
            salvaged.segments.insert(id, SegmentRow::decode(&place, row)?);
            Ok(())
        });
        let collections = shielded(|| {
            let (mut complete, mut last) = (true, None);
            for entry in ReadableTable::iter(&tx.open_table(COLLECTION_TABLE)?)? {
                let (name, row) = entry?;
                let name = name.value().to_owned();
                if last.replace(name.clone()).is_some_and(|last| last >= name) {
                    return Ok(false);
                }
                let place = Place { kind: Kind::Collection, collection: 0, key: name.as_bytes() };
                match CollectionRow::decode(&place, row.value()) {
                    Ok(row) => drop(salvaged.collections.insert(row.id, (name, row))),
                    Err(_) => complete = false,
                }
            }
            Ok(complete)
        });
        salvaged.incomplete |= !complete || !collections.unwrap_or(false);
        salvaged.entries = entries;
        // Counters, as of the last commit that can be read.
        for (commit, part) in
            salvaged.entries.iter().flat_map(|(commit, parts)| parts.iter().map(move |p| (commit, p)))
        {
            if let Some((_, row)) = salvaged.collections.get_mut(&part.row.id)
                && *commit > row.folded
            {
                *row = part.row;
            }
        }
        salvaged
    }

    /// The records and keys of a collection that verify, those of the journal on top of the tables'.
    pub(crate) fn nodes(&self, tx: &ReadTransaction, collection: u32, slots: Slot, max_level: u8) -> Nodes {
        let names = TableNames::new(collection);
        let mut nodes = Nodes { complete: true, ..Nodes::default() };
        let table = shielded(|| Ok(tx.open_table(names.nodes())?));
        nodes.complete &= table.is_ok();
        if let Ok(table) = table {
            nodes.complete &= each_slot(&table, slots, |slot, row| {
                let place = Place { kind: Kind::Node, collection, key: &slot.to_le_bytes() };
                nodes.records.insert(slot, NodeRecord::decode(&place, row, max_level)?);
                Ok(())
            });
        }
        nodes.complete &= each(tx, names.keys(), |key: u64, row| {
            let place = Place { kind: Kind::Key, collection, key: &key.to_le_bytes() };
            nodes.keys.insert(key, decode_slot(&place, row, slots)?);
            Ok(())
        });
        let folded = self.collections.get(&collection).map_or(0, |(_, row)| row.folded);
        let parts = self.entries.iter().filter(|(commit, _)| *commit > folded).flat_map(|(_, parts)| parts);
        for part in parts.filter(|part| part.row.id == collection) {
            for &(slot, record) in &part.nodes {
                match record {
                    Some(record) => drop(nodes.records.insert(slot, record)),
                    None => drop(nodes.records.remove(&slot)),
                }
            }
            for &(key, slot) in &part.keys {
                match slot {
                    Some(slot) => drop(nodes.keys.insert(key, slot)),
                    None => drop(nodes.keys.remove(&key)),
                }
            }
        }
        nodes
    }
}

/// What the rows of a collection say of its slots.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) records: BTreeMap<Slot, NodeRecord>,
    pub(crate) keys: BTreeMap<u64, Slot>,
    /// Nothing of the tables was unreadable.
    pub(crate) complete: bool,
}

/// Goes through a table from both ends, up to what cannot be read: nobody could step over that, as keys have gaps. Tells whether there
/// was nothing of that kind.
fn each<K: StretchKey, const KIND: u8>(
    tx: &ReadTransaction,
    definition: TableDefinition<'_, K, Row<KIND>>,
    mut visit: impl FnMut(K, &[u8]) -> Result<()>,
) -> bool {
    let Ok(table) = shielded(|| Ok(tx.open_table(definition)?)) else { return false };
    let (mut complete, mut last) = (true, None);
    let end = walk(
        &table,
        |entries| entries.next(),
        |key, row| {
            // A tree that is damaged may lead round in circles.
            let onward = last.replace(key).is_none_or(|last| key > last);
            complete &= onward && visit(key, row).is_ok();
            onward
        },
    );
    if end {
        return complete;
    }
    let mut first = None;
    walk(
        &table,
        |entries| entries.next_back(),
        |key, row| {
            let onward =
                first.replace(key).is_none_or(|first| key < first) && last.is_none_or(|last| key > last);
            // What does not verify makes no difference any more.
            let _ = onward && visit(key, row).is_ok();
            onward
        },
    );
    false
}

/// Steps over a table's entries for as long as they can be read and `visit` wants more. Tells whether it came to the end.
fn walk<K: StretchKey, const KIND: u8>(
    table: &ReadOnlyTable<K, Row<KIND>>,
    step: impl for<'t> Fn(&mut Range<'t, K, Row<KIND>>) -> Option<Entry<'t, K, Row<KIND>>>,
    mut visit: impl FnMut(K, &[u8]) -> bool,
) -> bool {
    let mut rest = shielded(|| Ok(ReadableTable::iter(table)?)).ok();
    while let Some(mut entries) = rest.take() {
        let read = shielded(|| {
            let entry = step(&mut entries).transpose()?;
            // What an entry lends is cut out of a page that may be damaged.
            Ok((entry.map(|(key, row)| (K::of(&key), row.value().to_vec())), entries))
        });
        match read {
            Ok((Some((key, row)), entries)) => rest = visit(key, &row).then_some(entries),
            Ok((None, _)) => return true,
            Err(_) => {}
        }
    }
    false
}

type Entry<'t, K, V> = Result<(AccessGuard<'t, K>, AccessGuard<'t, V>), StorageError>;

/// Keys that can be compared and kept.
trait StretchKey: redb::Key + Copy + Ord + 'static {
    fn of(guard: &AccessGuard<'_, Self>) -> Self;
}

impl StretchKey for u32 {
    fn of(guard: &AccessGuard<'_, Self>) -> Self {
        guard.value()
    }
}

impl StretchKey for u64 {
    fn of(guard: &AccessGuard<'_, Self>) -> Self {
        guard.value()
    }
}

/// Goes through the rows of all slots, a stretch at a time, and slot by slot where that fails.
fn each_slot<const KIND: u8>(
    table: &ReadOnlyTable<u32, Row<KIND>>,
    slots: Slot,
    mut visit: impl FnMut(Slot, &[u8]) -> Result<()>,
) -> bool {
    let mut complete = true;
    for start in (0..slots).step_by(STRETCH as usize) {
        let stretch = start..slots.min(start.saturating_add(STRETCH));
        let rows = shielded(|| {
            let mut rows = Vec::new();
            for entry in ReadableTable::range(table, stretch.clone())? {
                let (slot, row) = entry?;
                if !stretch.contains(&slot.value()) || rows.len() >= stretch.len() {
                    return Err(Error::corrupted("store.redb", "a tree that leads round in circles"));
                }
                rows.push((slot.value(), row.value().to_vec()));
            }
            Ok(rows)
        });
        let rows = rows.unwrap_or_else(|_| {
            complete = false;
            let one = |slot| {
                let row = shielded(|| Ok(ReadableTable::get(table, slot)?.map(|row| row.value().to_vec())));
                Some((slot, row.ok()??))
            };
            stretch.filter_map(one).collect()
        });
        for (slot, row) in rows {
            complete &= visit(slot, &row).is_ok();
        }
    }
    complete
}

/// Takes the store's own tables away and puts those of a new store in their place: the app's stay.
pub(crate) fn strip(tx: &WriteTransaction, state: &StateRow) -> Result<()> {
    let own: Vec<_> = tx.list_tables()?.filter(|table| is_reserved(table.name())).collect();
    for table in own {
        tx.delete_table(table)?;
    }
    write_new_store(tx, state)
}
