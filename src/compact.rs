//! Giving disk space back, and laying out what stays for searches.
//!
//! One collection after the other is written anew: its vectors into new segment files without gaps, its rows under [new
//! numbers](Numbering). When the new files are durable, one transaction of redb replaces all rows, and then the old files are removed.
//! Whenever the process dies, what is there is the collection as it was or as it will be, and files that no row names, which the next
//! opening sweeps. In the end redb moves its pages to the front of `store.redb` and cuts the rest off.
//!
//! In memory are the graph of the collection, as if all of it had been searched, and 20 bytes per vector; on disk, a second copy of the
//! collection.

use std::sync::Arc;

use crate::collection::CollectionSnapshot;
use crate::error::{Error, Result};
use crate::graph::numbering::Numbering;
use crate::graph::rows::{SegmentRow, StateRow};
use crate::graph::storage;
use crate::opening::load_collections;
use crate::trace::span;
use crate::transaction::{Engine, Ledger, Stored, WriterSlot};
use crate::vectors::{Segment, SegmentSet};

/// What [`Store::compact`](crate::Store::compact) has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Compaction {
    /// Bytes that the store's files took on disk.
    pub bytes_before: u64,
    /// Bytes that they take now.
    pub bytes_after: u64,
    /// Vectors that were written anew.
    pub vectors: u64,
}

/// Nobody else uses the engine.
pub(crate) fn compact(engine: &mut Engine) -> Result<Compaction> {
    let span = span!(INFO, "compact" [bytes_before, bytes_after, vectors]).entered();
    engine.check_usable()?;
    let bytes_before = engine.directory.bytes_on_disk()?;
    if let Some(mut ledger) = engine.writer.take() {
        engine.make_durable(&mut ledger)?;
    }
    let mut vectors = 0;
    for n in 0.. {
        // Read again for each, so that redb has to keep no more than one collection twice.
        let transaction = engine.begin_read()?;
        let stored = Stored::read(&transaction)?;
        let collections = load_collections(engine, &transaction, &stored)?;
        let Some(collection) = collections.values().nth(n) else { break };
        rewrite(engine, &stored, collection)?;
        vectors += collection.state.live;
    }
    empty_journal(engine)?;
    engine.compact_database()?;
    let stored = Stored::read(&*engine.begin_read()?)?;
    engine.writer = WriterSlot::new(Ledger::new(stored.commit(), stored.journal()));
    let bytes_after = engine.directory.bytes_on_disk()?;
    span.record("bytes_before", bytes_before).record("bytes_after", bytes_after).record("vectors", vectors);
    Ok(Compaction { bytes_before, bytes_after, vectors })
}

fn rewrite(engine: &Engine, stored: &Stored, collection: &CollectionSnapshot) -> Result<()> {
    let CollectionSnapshot { state, graph, segments, .. } = collection;
    let numbering = Numbering::breadth_first(graph, state.anchors.map(|anchors| anchors.root))?;
    if numbering.len() as u64 != state.live {
        return Err(Error::corrupted(
            format!("collection {:?}", state.name),
            format!("{} of {} vectors can be reached", numbering.len(), state.live),
        ));
    }
    let moved = move_vectors(engine, collection, &numbering)?;
    let commit = stored.commit() + 1;
    let mut row = state.to_row(numbering.len() as u32);
    row.folded = commit;
    if let Some((entry, level, root)) = row.anchors {
        row.anchors = Some((numbering.number(entry)?, level, numbering.number(root)?));
    }
    engine.commit_rows(|tx| {
        let old = segments.iter().map(|segment| segment.header().segment);
        storage::drop_collection(tx, &state.name, state.id, old)?;
        numbering.write(tx, &state.name, &row, graph)?;
        for segment in moved.iter() {
            storage::write_segment(tx, segment.header().segment, &SegmentRow::of(segment))?;
        }
        storage::write_state(tx, &StateRow { next_segment: engine.allocator.next(), commit, ..stored.state })
    })?;
    segments.iter().for_each(|segment| segment.doom());
    Ok(())
}

/// Copies what verifies, which has to be everything, into new segments, and makes them durable.
fn move_vectors(
    engine: &Engine,
    collection: &CollectionSnapshot,
    numbering: &Numbering,
) -> Result<SegmentSet> {
    let CollectionSnapshot { state, graph, segments, .. } = collection;
    let geometry = *segments.geometry();
    let mut moved = SegmentSet::new(geometry, Vec::new());
    for (new, old) in numbering.iter() {
        if geometry.locate(new).0 == moved.len() {
            moved.push(engine.allocator.create(state.id, moved.len(), geometry)?);
        }
        let identity = graph.node(old)?.record.identity();
        segments.verify_code(old, &identity)?;
        segments.verify_vector(old, || Ok(identity))?;
        let (segment, index) = moved.place(new)?;
        segment.write(index, segments.code(old).bytes(), segments.vector(old).bytes())?;
    }
    moved.iter().try_for_each(|segment: &Arc<Segment>| segment.sync())?;
    engine.directory.sync().map_err(|e| Error::io("sync", engine.directory.path(), e))?;
    Ok(moved)
}

/// The tables have everything: no entry of the journal is needed any more.
fn empty_journal(engine: &Engine) -> Result<()> {
    let stored = Stored::read(&*engine.begin_read()?)?;
    let commit = stored.commit() + 1;
    let removed = stored.entries.last().map_or(stored.state.removed, |(commit, _)| *commit);
    engine.commit_rows(|tx| {
        storage::remove_entries(tx, stored.entries.iter().map(|(commit, _)| *commit))?;
        storage::write_state(tx, &StateRow { commit, applied: commit, removed, ..stored.state })
    })
}
