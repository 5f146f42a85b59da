//! The commit protocol: what a transaction changed goes to the disk, and becomes the next snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::CommitError;

use super::engine::Engine;
use super::journal::{Fold, Journal, LinkKey};
use super::ledger::Ledger;
use super::published::Published;
use super::write::Durability;
use crate::collection::{CollectionSnapshot, CollectionWriter};
use crate::error::{Error, Result};
use crate::graph::rows::{SegmentRow, StateRow};
use crate::graph::storage::{self, STORE_FORMAT};
#[cfg(nestling_defects)]
use crate::io::Defect;
use crate::trace::span;
use crate::vectors::Segment;

/// A collection that a transaction has opened.
pub(super) enum Parked {
    /// A handle is open.
    InUse,
    Here(Box<CollectionWriter>),
    /// Dropped in this transaction.
    Dropped,
}

/// Steps 2 and 3 of the commit protocol, up to redb's commit.
pub(super) struct Commit<'a> {
    engine: &'a Engine,
    base: &'a Published,
    collections: &'a BTreeMap<Arc<str>, Parked>,
    pub(super) commit: u64,
    pub(super) fold: Option<Fold>,
}

/// How a commit writes a collection's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// There are none.
    None,
    /// As a part of the commit's entry in the journal.
    Entry,
    /// Into the tables, with all that the journal has ahead of them.
    Tables,
}

impl Way {
    fn of(writer: &CollectionWriter, base: &Published) -> Self {
        let changes = writer.changes(0);
        let stored = base.collections.get(&writer.state().name);
        let same =
            |stored: &Arc<CollectionSnapshot>| stored.state.to_row(stored.graph.slots()) == changes.row;
        if writer.is_new() {
            Way::Tables
        } else if changes.changes.links.is_empty() && stored.is_some_and(same) {
            Way::None
        } else if Journal::takes(changes.changes.links.len()) {
            Way::Entry
        } else {
            Way::Tables
        }
    }
}

impl<'a> Commit<'a> {
    pub(super) fn plan(
        engine: &'a Engine,
        base: &'a Published,
        collections: &'a BTreeMap<Arc<str>, Parked>,
        ledger: &Ledger,
    ) -> Self {
        let fold =
            ledger.journal.fold(base.commit, base.collections.values().map(|collection| &**collection));
        Self { engine, base, collections, commit: ledger.commits.last() + 1, fold }
    }

    /// Makes the segments durable, then hands all rows to redb. After a failure the store is poisoned: segments whose sync has
    /// failed, or pages that redb could not write, are not to be trusted again.
    pub(super) fn run(
        &self,
        redb: &mut redb::WriteTransaction,
        ledger: &mut Ledger,
        durability: Durability,
    ) -> Result<()> {
        for writer in writers(self.collections) {
            ledger.unsynced.extend(writer.touched().cloned());
            ledger.unsynced_names |= !writer.created().is_empty();
        }
        let durability = match durability {
            Durability::Immediate => {
                self.engine.sync(ledger)?;
                redb::Durability::Immediate
            }
            Durability::None => redb::Durability::None,
        };
        #[cfg(nestling_defects)]
        let durability = match self.engine.has(Defect::PublishBeforeCommit) {
            true => redb::Durability::None,
            false => durability,
        };
        self.write_rows(redb, ledger).inspect_err(|_| self.engine.directory.poison())?;
        redb.set_durability(durability).map_err(|e| Error::CommitAborted { reason: e.to_string() })
    }

    fn write_rows(&self, redb: &redb::WriteTransaction, ledger: &Ledger) -> Result<()> {
        if let Some(fold) = &self.fold {
            self.write_fold(redb, fold)?;
        }
        for (name, stored) in replaced(self.base, self.collections) {
            let segments = stored.segments.iter().map(|segment| segment.header().segment);
            storage::drop_collection(redb, name, stored.state.id, segments)?;
        }
        let mut entry = Vec::new();
        // Whether ids were given out, which the state row keeps.
        let mut created = false;
        for writer in writers(self.collections) {
            match Way::of(writer, self.base) {
                Way::None => {}
                Way::Entry => entry.push(writer.changes(self.commit)),
                Way::Tables => {
                    created = true;
                    self.write_tables(redb, writer, ledger)?;
                }
            }
            for segment in writer.created() {
                created = true;
                storage::write_segment(redb, segment.header().segment, &SegmentRow::of(segment))?;
            }
        }
        if !entry.is_empty() {
            storage::write_entry(redb, self.commit, ledger.journal.last_entry(), &entry)?;
        }
        // The entry's key tells the commit number; nothing else has changed then.
        if entry.is_empty() || created || self.fold.is_some() {
            storage::write_state(redb, &self.state(ledger))?;
        }
        Ok(())
    }

    fn state(&self, ledger: &Ledger) -> StateRow {
        let removed = self.fold.as_ref().and_then(|fold| fold.remove.last());
        let walk = self.fold.as_ref().map_or(ledger.journal.walk(), |fold| fold.walk);
        let (walk_collection, walk_slot, walk_layer) = walk.position;
        StateRow {
            version: STORE_FORMAT,
            store: self.engine.store,
            commit: self.commit,
            next_collection: self.engine.next_collection(),
            next_segment: self.engine.allocator.next(),
            applied: if self.fold.is_some() { self.base.commit } else { ledger.journal.applied() },
            removed: removed.copied().unwrap_or(ledger.journal.removed()),
            walk_collection,
            walk_slot,
            walk_layer,
            lap: walk.lap,
            folded: walk.folded,
        }
    }

    /// Brings the tables up to the commit before this one, but for links, of which there is a stretch.
    fn write_fold(&self, redb: &redb::WriteTransaction, fold: &Fold) -> Result<()> {
        let _span = span!(DEBUG, "fold", entries = fold.remove.len(), links = fold.links.len()).entered();
        #[cfg(nestling_defects)]
        if self.engine.has(Defect::FoldOutsideOfTransaction) {
            return storage::remove_entries(redb, fold.remove.iter().copied());
        }
        self.write_folded_rows(redb, fold)?;
        storage::remove_entries(redb, fold.remove.iter().copied())
    }

    /// Writes what [`write_fold`](Self::write_fold) has left out.
    #[cfg(nestling_defects)]
    pub(super) fn fold_late(
        &self,
        transaction: Arc<redb::ReadTransaction>,
        durability: Durability,
    ) -> Result<Arc<redb::ReadTransaction>> {
        match &self.fold {
            Some(fold) if self.engine.has(Defect::FoldOutsideOfTransaction) => {
                let mut redb = self.engine.begin_write()?;
                if durability == Durability::None {
                    redb.set_durability(redb::Durability::None)
                        .map_err(|e| Error::CommitAborted { reason: e.to_string() })?;
                }
                self.write_folded_rows(&redb, fold)?;
                finish(redb, self.engine)
            }
            _ => Ok(transaction),
        }
    }

    fn write_folded_rows(&self, redb: &redb::WriteTransaction, fold: &Fold) -> Result<()> {
        let by_id: BTreeMap<u32, &CollectionSnapshot> =
            self.base.collections.values().map(|collection| (collection.state.id, &**collection)).collect();
        for (name, stored) in &self.base.collections {
            let pending = stored.reader.pending();
            if !pending.is_empty() {
                let row = stored.state.to_row(stored.graph.slots());
                storage::write_pending(redb, name, &row, &stored.graph, pending)?;
            }
        }
        for links in fold.links.chunk_by(|a, b| a.0 == b.0) {
            if let Some((id, stored)) = links.first().and_then(|(id, _, _)| by_id.get_key_value(id)) {
                let links = links.iter().map(|&(_, slot, layer)| (slot, layer));
                storage::write_links(redb, *id, &stored.graph, links)?;
            }
        }
        Ok(())
    }

    /// Writes a collection's changes in place. What the journal has ahead of the tables goes with them, since its entries must not
    /// be applied to newer rows.
    fn write_tables(
        &self,
        redb: &redb::WriteTransaction,
        writer: &CollectionWriter,
        ledger: &Ledger,
    ) -> Result<()> {
        let name = &writer.state().name;
        let mut changes = writer.changes(self.commit);
        changes.row.folded = self.commit;
        if let Some(stored) = self.base.collections.get(name).filter(|_| !writer.is_new()) {
            let (row, pending) = (stored.state.to_row(stored.graph.slots()), stored.reader.pending());
            storage::write_pending(redb, name, &row, &stored.graph, pending)?;
            storage::write_links(redb, row.id, &stored.graph, ledger.journal.links_of(row.id))?;
        }
        storage::write_collection(redb, name, &changes)
    }
}

pub(super) fn writers(collections: &BTreeMap<Arc<str>, Parked>) -> impl Iterator<Item = &CollectionWriter> {
    collections.values().filter_map(|parked| match parked {
        Parked::Here(writer) => Some(&**writer),
        Parked::InUse | Parked::Dropped => None,
    })
}

/// The stored collections that the transaction drops, or puts others in the place of.
fn replaced<'a>(
    base: &'a Published,
    collections: &'a BTreeMap<Arc<str>, Parked>,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<CollectionSnapshot>)> {
    base.collections.iter().filter(|(name, stored)| match collections.get(*name) {
        Some(Parked::Dropped) => true,
        Some(Parked::Here(writer)) => writer.state().id != stored.state.id,
        Some(Parked::InUse) | None => false,
    })
}

/// Notes in the journal's account what a commit has done.
pub(super) fn account(
    journal: &mut Journal,
    base: &Published,
    collections: &BTreeMap<Arc<str>, Parked>,
    commit: u64,
    fold: Option<Fold>,
) {
    if let Some(fold) = fold {
        journal.folded(fold, base.commit);
    }
    for (_, stored) in replaced(base, collections) {
        journal.forget(stored.state.id);
    }
    let mut links: Option<Vec<LinkKey>> = None;
    for writer in writers(collections) {
        let id = writer.state().id;
        match Way::of(writer, base) {
            Way::None => {}
            Way::Entry => {
                let changed = writer.changes(commit).changes.links.iter();
                links.get_or_insert_default().extend(changed.map(|(slot, layer)| (id, slot, layer)));
            }
            Way::Tables => journal.forget(id),
        }
    }
    if let Some(links) = links {
        journal.add(commit, links.into_iter());
    }
}

/// redb's commit, and the redb snapshot of it.
pub(super) fn finish(redb: redb::WriteTransaction, engine: &Engine) -> Result<Arc<redb::ReadTransaction>> {
    match redb.commit() {
        Ok(()) => {}
        Err(e @ CommitError::TransactionPoisoned) => {
            return Err(Error::CommitAborted { reason: e.to_string() });
        }
        Err(e) => {
            engine.directory.poison();
            return Err(Error::CommitOutcomeUnknown { reason: e.to_string() });
        }
    }
    engine.begin_read().map_err(|e| {
        engine.directory.poison();
        Error::CommitOutcomeUnknown { reason: e.to_string() }
    })
}

/// The segments of collections that the transaction dropped or replaced.
pub(super) fn dropped_segments<'a>(
    base: &'a Published,
    collections: &'a BTreeMap<Arc<str>, Parked>,
) -> impl Iterator<Item = Arc<Segment>> + 'a {
    replaced(base, collections).flat_map(|(_, stored)| stored.segments.iter().cloned())
}

/// The snapshot of the commit. Nothing in here can fail.
pub(super) fn publish(
    base: &Published,
    mut changed: BTreeMap<Arc<str>, Parked>,
    transaction: Arc<redb::ReadTransaction>,
    commit: u64,
    tables_caught_up: bool,
    engine: &Arc<Engine>,
) -> Published {
    // What the journal had ahead of the tables before this commit, and still has.
    let pending = |stored: &CollectionSnapshot| {
        if tables_caught_up { Arc::default() } else { stored.reader.pending().clone() }
    };
    let mut collections = BTreeMap::new();
    for (name, stored) in &base.collections {
        let unchanged = match changed.get(name) {
            None => true,
            Some(Parked::Here(writer)) => Way::of(writer, base) == Way::None,
            Some(Parked::InUse | Parked::Dropped) => false,
        };
        if unchanged {
            changed.remove(name);
            collections.insert(name.clone(), Arc::new(stored.rebased(transaction.clone(), pending(stored))));
        }
    }
    while let Some((name, parked)) = changed.pop_first() {
        let Parked::Here(mut writer) = parked else { continue };
        let stored = base.collections.get(&name);
        let mut ahead = Arc::default();
        if Way::of(&writer, base) == Way::Tables {
            writer.state_mut().folded = commit;
        } else if let Some(stored) = stored {
            ahead = pending(stored);
            let changes = writer.changes(commit);
            Arc::make_mut(&mut ahead).add(
                changes.changes.nodes.iter().copied(),
                changes.keys.iter().map(|(&key, &slot)| (key, slot)),
                changes.taken,
                changes.freed.iter().map(|&slot| (commit, slot)),
            );
        }
        collections.insert(name, Arc::new(writer.into_snapshot(transaction.clone(), ahead)));
    }
    Published { collections, transaction, commit, engine: engine.clone() }
}
