//! What opening a store takes: making it when there is none, finding its collections, sweeping what a crash left.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::Database;

use crate::collection::{CollectionSnapshot, CollectionState};
use crate::error::{Error, Result};
use crate::graph::rows::{CollectionRow, SegmentRow, StateRow};
use crate::graph::storage::{self, STORE_FORMAT};
use crate::io::{Directory, FileBackend};
use crate::site::TEMPORARY_FILE;
use crate::trace::warning;
use crate::transaction::{Engine, STORE_FILE, Stored};
use crate::vectors::{Geometry, HEADER_LEN, SegmentSet, file_name, orphans, sniff_uuid};

/// Makes `store.redb` whole under another name first, so that a crash leaves either no store or one.
pub(crate) fn create(directory: &Arc<Directory>) -> Result<()> {
    let fail = |action, name: &str| {
        let path = directory.join(name);
        move |e| Error::io(action, path, e)
    };
    if directory.join(TEMPORARY_FILE).exists() {
        directory.remove(TEMPORARY_FILE).map_err(fail("remove", TEMPORARY_FILE))?;
        warning!("a crash has left the store half created; it is created anew");
    }
    let file = directory.create(TEMPORARY_FILE).map_err(fail("create", TEMPORARY_FILE))?;
    let backend = FileBackend::new(file).map_err(fail("open", TEMPORARY_FILE))?;
    let database = Database::builder()
        .create_with_backend(backend)
        .map_err(|source| Error::Database { path: directory.join(TEMPORARY_FILE), source })?;
    let mut tx = database.begin_write()?;
    tx.set_quick_repair(true);
    storage::write_new_store(&tx, &new_state())?;
    tx.commit().map_err(|e| Error::CommitAborted { reason: e.to_string() })?;
    drop(database);
    let file = directory.open(TEMPORARY_FILE, true).map_err(fail("open", TEMPORARY_FILE))?;
    file.sync().map_err(fail("sync", TEMPORARY_FILE))?;
    drop(file);
    directory.rename(TEMPORARY_FILE, STORE_FILE).map_err(fail("rename", TEMPORARY_FILE))?;
    directory.sync().map_err(fail("sync", ""))?;
    directory.sync_parent().map_err(fail("sync the parent of", ""))
}

/// All collections, with nothing of them loaded.
pub(crate) fn load_collections(
    engine: &Engine,
    transaction: &Arc<redb::ReadTransaction>,
    stored: &Stored,
) -> Result<BTreeMap<Arc<str>, Arc<CollectionSnapshot>>> {
    let mut by_collection: BTreeMap<u32, Vec<(u32, &SegmentRow)>> = BTreeMap::new();
    for (&segment, row) in &stored.segments {
        by_collection.entry(row.collection).or_default().push((segment, row));
    }
    let mut replayed = Vec::with_capacity(stored.collections.len());
    for (name, row) in &stored.collections {
        replayed.push((name, stored.replay(row)?));
    }
    check_plausible(&engine.directory, replayed.iter().map(|(_, replayed)| &replayed.row))?;
    let mut collections = BTreeMap::new();
    for (name, replayed) in replayed {
        let CollectionRow { id, cursor, .. } = replayed.row;
        let (state, _) = CollectionState::from_row(name, &replayed.row)?;
        let geometry = Geometry::of(&state.parameters);
        let mut segments = by_collection.remove(&id).unwrap_or_default();
        segments.sort_by_key(|(_, row)| row.ordinal);
        // A segment and the first slot in it are committed together.
        let needed = cursor.checked_sub(1).map_or(0, |last| geometry.locate(last).0 + 1);
        if segments.len() != needed {
            return Err(Error::corrupted(
                format!("{STORE_FILE}, collection {name:?}"),
                format!("{} segments where its {cursor} slots need {needed}", segments.len()),
            ));
        }
        let mut handles = Vec::with_capacity(segments.len());
        for (ordinal, (segment, row)) in segments.into_iter().enumerate() {
            let fits = row.ordinal as usize == ordinal
                && geometry.base(ordinal) == Some(row.base)
                && geometry.capacity(ordinal) == row.capacity;
            if !fits {
                return Err(Error::corrupted(
                    format!("{STORE_FILE}, segment {segment:08x} of collection {name:?}"),
                    format!(
                        "ordinal {}, base {}, capacity {} do not fit",
                        row.ordinal, row.base, row.capacity
                    ),
                ));
            }
            handles.push(engine.allocator.existing(id, segment, ordinal, geometry));
        }
        let segments = SegmentSet::new(geometry, handles);
        let snapshot = CollectionSnapshot::stored(name, replayed, segments, transaction.clone())?;
        collections.insert(name.as_str().into(), Arc::new(snapshot));
    }
    // A collection whose row is lost would otherwise seem never to have existed, and be created anew.
    match by_collection.into_iter().next() {
        None => Ok(collections),
        Some((collection, segments)) => Err(Error::corrupted(
            format!("{STORE_FILE}, collection {collection}"),
            format!("its row is missing, but it has {} segments", segments.len()),
        )),
    }
}

/// Refuses slot numbers that the file is too small for, before anything is allocated in proportion to them: every slot has a
/// node or an entry on the free list, and neither fits into fewer bytes.
fn check_plausible<'a>(
    directory: &Arc<Directory>,
    collections: impl Iterator<Item = &'a CollectionRow>,
) -> Result<()> {
    const LEAST_BYTES_PER_SLOT: u64 = 16;
    let fail = |e| Error::io("measure", directory.join(STORE_FILE), e);
    let len = directory.open(STORE_FILE, false).and_then(|file| file.len()).map_err(fail)?;
    let slots: u64 = collections.map(|row| u64::from(row.cursor)).sum();
    if slots > len / LEAST_BYTES_PER_SLOT {
        return Err(Error::corrupted(
            STORE_FILE,
            format!("{slots} slots do not fit into a file of {len} bytes"),
        ));
    }
    Ok(())
}

/// Removes files of transactions that never committed and of collections that were dropped: segments with our UUID that the
/// table does not name, and files that a crash left before their header was written.
pub(crate) fn sweep(
    directory: &Arc<Directory>,
    state: &StateRow,
    named: &BTreeMap<u32, SegmentRow>,
) -> Result<()> {
    for segment in orphans(directory, |id| named.contains_key(&id))? {
        let name = file_name(segment);
        let fail = |action| {
            let path = directory.join(&name);
            move |e| Error::io(action, path, e)
        };
        let file = directory.open(&name, false).map_err(fail("open"))?;
        let mut header = [0; HEADER_LEN];
        let len = file.len().map_err(fail("measure"))?;
        let there = usize::try_from(len).unwrap_or(HEADER_LEN).min(HEADER_LEN);
        if let Some(there) = header.get_mut(..there).filter(|there| !there.is_empty()) {
            file.read_exact_at(0, there).map_err(fail("read"))?;
        }
        drop(file);
        // A crash may keep the name of a file and lose its header, also of one that was removed long before the last commit.
        let never_written = header == [0; HEADER_LEN];
        if sniff_uuid(&header) == Some(state.store) || never_written {
            // A failure costs space, and no more: the next opening tries again.
            let _ = directory.remove(&name);
            warning!(file = %name, "a crash has left a segment that no commit names, to be removed");
        }
    }
    Ok(())
}

/// What a store says of itself that holds nothing yet.
pub(crate) fn new_state() -> StateRow {
    StateRow {
        version: STORE_FORMAT,
        store: rand::random(),
        commit: 0,
        next_collection: 0,
        next_segment: 0,
        applied: 0,
        removed: 0,
        walk_collection: 0,
        walk_slot: 0,
        walk_layer: 0,
        lap: 0,
        folded: 0,
    }
}
