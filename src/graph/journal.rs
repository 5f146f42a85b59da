//! The journal: what small commits write in place of rows.
//!
//! A small transaction changes some forty rows, all over the tables; written in place they would cost as many pages. It writes one
//! *entry* instead, keyed by its commit number, which holds every row that it changed as it is afterwards, and the rows that it
//! took away. Rows in the tables are brought up to date later, in key order, many at a time: see the fold in
//! [`crate::transaction`].
//!
//! Rows are whole, not edits: an insertion's entry takes some 4 KB instead of 1, and in return an entry's rows stand for themselves.
//! Applying one twice, or to a table that a fold has brought further than the entry, changes nothing: whatever was folded since is
//! what a later entry says too. So no row needs to tell which commit it is from.
//!
//! An entry (little-endian, behind it the row's checksum):
//!
//! ```text
//! u64 the commit of the entry before this one, so that none can be lost unnoticed; 0 for the first ever
//! u32 collections, then for each
//!   272 B collection row (see rows.rs)
//!   u32 nodes:  u32 slot · u8 1 = live, 0 = gone · 25 B node record if live
//!   u32 links:  u32 slot · u8 layer · u16 length of the link row, 0 = gone · the link row
//!   u32 keys:   u64 key · u32 slot, 2³² − 1 = gone
//!   u32 taken:  u64 commit · u32 slot   (entries of the free list that were used)
//!   u32 freed:  u32 slot                (freed by this commit)
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::page::PAGE_SLOTS;
use super::rows::{CollectionRow, LinkRow, NodeRecord, Place};
use super::storage::{CollectionChanges, FreeKey, journal_place};
use crate::error::Result;
use crate::options::Capacity;
use crate::vectors::Slot;

const NO_SLOT: Slot = Slot::MAX;

/// One collection's part of an entry.
#[derive(Debug)]
pub(crate) struct CollectionEntry {
    pub(crate) row: CollectionRow,
    pub(crate) nodes: Vec<(Slot, Option<NodeRecord>)>,
    pub(crate) links: Vec<LinkChange>,
    pub(crate) keys: Vec<(u64, Option<Slot>)>,
    pub(crate) taken: Vec<FreeKey>,
    pub(crate) freed: Vec<Slot>,
}

/// A link row as a commit left it. It stays encoded, as most are never asked for: opening a store must not take long.
#[derive(Debug, Clone)]
pub(crate) struct LinkChange {
    pub(crate) slot: Slot,
    pub(crate) layer: u8,
    entry: Arc<[u8]>,
    start: usize,
    /// 0 for a row that is gone.
    len: usize,
}

impl LinkChange {
    /// The row; `None` for one that is gone.
    pub(super) fn row(&self, place: &Place<'_>, capacity: Capacity, slots: Slot) -> Result<Option<LinkRow>> {
        if self.len == 0 {
            return Ok(None);
        }
        let content = self.entry.get(self.start..self.start + self.len).unwrap_or(&[]);
        LinkRow::from_content(place, content, self.layer, capacity, slots).map(Some)
    }
}

/// The content of an entry.
pub(crate) fn encode(previous: u64, collections: &[CollectionChanges<'_>]) -> Result<Vec<u8>> {
    let mut out = previous.to_le_bytes().to_vec();
    let count = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&(n as u32).to_le_bytes());
    count(&mut out, collections.len());
    for collection in collections {
        out.extend_from_slice(&collection.row.content());
        count(&mut out, collection.changes.nodes.len());
        for &slot in &collection.changes.nodes {
            out.extend_from_slice(&slot.to_le_bytes());
            match collection.graph.page_of(slot)?.node(slot as usize % PAGE_SLOTS) {
                Some(node) => {
                    out.push(1);
                    out.extend_from_slice(&node.record.content());
                }
                None => out.push(0),
            }
        }
        count(&mut out, collection.changes.links.len());
        for (slot, layer) in collection.changes.links.iter() {
            out.extend_from_slice(&slot.to_le_bytes());
            out.push(layer);
            let row = collection.graph.page_of(slot)?.row(slot as usize % PAGE_SLOTS, layer);
            let row = row.map(|row| row.content()).unwrap_or_default();
            out.extend_from_slice(&(row.len() as u16).to_le_bytes());
            out.extend_from_slice(&row);
        }
        count(&mut out, collection.keys.len());
        for (key, slot) in collection.keys {
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(&slot.unwrap_or(NO_SLOT).to_le_bytes());
        }
        count(&mut out, collection.taken.len());
        for (commit, slot) in collection.taken {
            out.extend_from_slice(&commit.to_le_bytes());
            out.extend_from_slice(&slot.to_le_bytes());
        }
        count(&mut out, collection.freed.len());
        for slot in collection.freed {
            out.extend_from_slice(&slot.to_le_bytes());
        }
    }
    Ok(out)
}

/// The entry in these bytes, whose checksum matched. The entry before it must be the one of commit `previous`.
pub(crate) fn decode(
    place: &Place<'_>,
    content: &[u8],
    previous: u64,
    max_level: u8,
) -> Result<Vec<CollectionEntry>> {
    let before = Reader { place, rest: content }.u64()?;
    if before != previous {
        return Err(place.corrupted(format!(
            "it follows the entry of commit {before}, and {previous} is the last one there"
        )));
    }
    decode_any(place, content, max_level)
}

/// The entry in these bytes, whose checksum matched, whatever was before it.
pub(super) fn decode_any(place: &Place<'_>, content: &[u8], max_level: u8) -> Result<Vec<CollectionEntry>> {
    let shared: Arc<[u8]> = content.into();
    let mut reader = Reader { place, rest: content };
    reader.u64()?;
    let mut collections = Vec::new();
    for _ in 0..reader.u32()? {
        let row = CollectionRow::from_content(place, reader.bytes(CollectionRow::LEN)?)?;
        let mut entry = CollectionEntry {
            row,
            nodes: Vec::new(),
            links: Vec::new(),
            keys: Vec::new(),
            taken: Vec::new(),
            freed: Vec::new(),
        };
        for _ in 0..reader.u32()? {
            let slot = reader.u32()?;
            let record = match reader.u8()? {
                0 => None,
                _ => Some(NodeRecord::from_content(place, reader.bytes(NodeRecord::LEN)?, max_level)?),
            };
            entry.nodes.push((slot, record));
        }
        for _ in 0..reader.u32()? {
            let (slot, layer, len) = (reader.u32()?, reader.u8()?, reader.u16()?);
            let (start, len) = (content.len() - reader.rest.len(), usize::from(len));
            reader.bytes(len)?;
            entry.links.push(LinkChange { slot, layer, entry: shared.clone(), start, len });
        }
        for _ in 0..reader.u32()? {
            let (key, slot) = (reader.u64()?, reader.u32()?);
            entry.keys.push((key, (slot != NO_SLOT).then_some(slot)));
        }
        for _ in 0..reader.u32()? {
            entry.taken.push((reader.u64()?, reader.u32()?));
        }
        for _ in 0..reader.u32()? {
            entry.freed.push(reader.u32()?);
        }
        collections.push(entry);
    }
    if reader.rest.is_empty() { Ok(collections) } else { Err(place.corrupted("bytes behind the last field")) }
}

struct Reader<'a> {
    place: &'a Place<'a>,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self
                .place
                .corrupted(format!("{len} bytes were expected where {} are left", self.rest.len()))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

/// Rows of one collection that the journal has and the tables may not have: what a page is loaded with, besides the tables.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) nodes: BTreeMap<Slot, Option<NodeRecord>>,
    /// By page, in the order of commits.
    links: HashMap<usize, Vec<LinkChange>>,
}

impl Overlay {
    /// The link rows that the journal has for a page, `None` for those that are gone.
    pub(crate) fn links(
        &self,
        page: usize,
        capacity: Capacity,
        slots: Slot,
    ) -> Result<BTreeMap<(Slot, u8), Option<LinkRow>>> {
        let place = journal_place(&[]);
        let latest: BTreeMap<(Slot, u8), &LinkChange> = self
            .links
            .get(&page)
            .into_iter()
            .flatten()
            .map(|change| ((change.slot, change.layer), change))
            .collect();
        latest.into_iter().map(|(key, change)| Ok((key, change.row(&place, capacity, slots)?))).collect()
    }
}

/// Changes of nodes, keys and the free list that the tables do not have yet.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pending {
    /// The collection's row has changed.
    pub(crate) row: bool,
    pub(crate) nodes: BTreeSet<Slot>,
    pub(crate) keys: BTreeMap<u64, Option<Slot>>,
    /// Not in the table yet.
    pub(crate) freed: BTreeSet<FreeKey>,
    /// Still in the table.
    pub(crate) taken: BTreeSet<FreeKey>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        !self.row
    }

    /// Adds what a later commit did, which has changed the collection's row at least.
    pub(crate) fn add(
        &mut self,
        nodes: impl Iterator<Item = Slot>,
        keys: impl Iterator<Item = (u64, Option<Slot>)>,
        taken: &[FreeKey],
        freed: impl Iterator<Item = FreeKey>,
    ) {
        self.row = true;
        self.nodes.extend(nodes);
        self.keys.extend(keys);
        for key in taken {
            if !self.freed.remove(key) {
                self.taken.insert(*key);
            }
        }
        self.freed.extend(freed);
    }
}

/// A collection's row, rows and changes as the journal has them.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) row: CollectionRow,
    pub(crate) overlay: Overlay,
    pub(crate) pending: Pending,
}

/// Applies the entries to a collection's stored row. Entries up to `row.folded` are in the tables as a whole; of those up to
/// `applied` only links may be missing there.
pub(crate) fn replay<'e>(
    stored: &CollectionRow,
    applied: u64,
    entries: impl Iterator<Item = (u64, &'e CollectionEntry)>,
    place: &Place<'_>,
) -> Result<Replayed> {
    let mut replayed = Replayed { row: *stored, overlay: Overlay::default(), pending: Pending::default() };
    let entries: Vec<_> =
        entries.filter(|(commit, entry)| entry.row.id == stored.id && *commit > stored.folded).collect();
    if let Some((_, last)) = entries.iter().rfind(|(commit, _)| *commit > applied) {
        let fixed = |row: &CollectionRow| (row.dimension, row.metric, row.m, row.m0, row.seed, row.folded);
        if fixed(&last.row) != fixed(stored) {
            return Err(place.corrupted(format!("the journal says {:?}, the table {stored:?}", last.row)));
        }
        replayed.row = last.row;
    }
    let slots = replayed.row.cursor;
    let known = |slot: Slot| {
        if slot < slots {
            Ok(slot)
        } else {
            Err(place.corrupted(format!("the journal names slot {slot}, the collection has {slots}")))
        }
    };
    for (commit, entry) in entries {
        for change in &entry.links {
            let page = known(change.slot)? as usize / PAGE_SLOTS;
            replayed.overlay.links.entry(page).or_default().push(change.clone());
        }
        if commit > applied {
            for (slot, record) in &entry.nodes {
                replayed.overlay.nodes.insert(known(*slot)?, *record);
            }
            for slot in entry.keys.iter().filter_map(|(_, slot)| *slot).chain(entry.freed.iter().copied()) {
                known(slot)?;
            }
            replayed.pending.add(
                entry.nodes.iter().map(|(slot, _)| *slot),
                entry.keys.iter().copied(),
                &entry.taken,
                entry.freed.iter().map(|&slot| (commit, slot)),
            );
        }
    }
    Ok(replayed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::rows::{CalibrationCounts, Kind};

    const PLACE: Place<'static> = Place { kind: Kind::Journal, collection: 0, key: &[] };

    #[test]
    fn taking_what_was_freed_since_the_last_fold_leaves_nothing_to_write() {
        let mut pending = Pending::default();
        pending.add([1].into_iter(), [(7, Some(1))].into_iter(), &[], [(5, 3), (5, 4)].into_iter());
        pending.add([].into_iter(), [(7, None)].into_iter(), &[(5, 3), (2, 9)], [].into_iter());
        assert_eq!(pending.freed, BTreeSet::from([(5, 4)]));
        assert_eq!(pending.taken, BTreeSet::from([(2, 9)]));
        assert_eq!(pending.keys, BTreeMap::from([(7, None)]));
    }

    #[test]
    fn no_prefix_of_an_entry_decodes() {
        let row = CollectionRow {
            id: 1,
            dimension: 2,
            metric: 0,
            codes: 1,
            element: 0,
            m: 2,
            m0: 4,
            ef_construction: 10,
            seed: 0,
            live: 1,
            cursor: 1,
            next_stamp: 1,
            folded: 0,
            anchors: Some((0, 0, 0)),
            calibration: CalibrationCounts::default(),
        };
        let record = NodeRecord { key: 9, stamp: 0, level: 0, code_crc: 1, vector_crc: 2 };
        let mut bytes = 7_u64.to_le_bytes().to_vec();
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(row.content());
        for (count, item) in [
            (1_u32, [&[0, 0, 0, 0, 1], &record.content()[..]].concat()),
            (1, [&[0, 0, 0, 0, 0, 11, 0], &LinkRow::default().content()[..]].concat()),
            (1, [&9_u64.to_le_bytes()[..], &[0; 4]].concat()),
            (0, Vec::new()),
            (1, vec![0; 4]),
        ] {
            bytes.extend(count.to_le_bytes());
            bytes.extend(item);
        }
        let entries = decode(&PLACE, &bytes, 7, 31).unwrap();
        assert_eq!(entries[0].row, row);
        assert_eq!(entries[0].nodes, [(0, Some(record))]);
        assert_eq!(entries[0].keys, [(9, Some(0))]);
        for len in 0..bytes.len() {
            assert!(decode(&PLACE, &bytes[..len], 7, 31).is_err(), "{len} bytes");
        }
        assert!(decode(&PLACE, &bytes, 6, 31).is_err(), "another entry was before it");
        bytes.push(0);
        assert!(decode(&PLACE, &bytes, 7, 31).is_err());
    }
}
