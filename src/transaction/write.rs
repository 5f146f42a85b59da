//! Write transactions and the commit protocol.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{
    CommitError, Key, MultimapTableDefinition, MultimapTableHandle, TableDefinition, TableHandle, Value,
};

use super::engine::Engine;
use super::journal::{Fold, Journal, LinkKey};
use super::published::{Published, Shared};
use super::read::refuse_reserved;
use super::writer_slot::{Borrowed, Ledger};
use crate::collection::{CollectionMut, CollectionSnapshot, CollectionState, CollectionWriter, Home};
use crate::error::{Error, Result};
use crate::graph::rows::{SegmentRow, StateRow};
use crate::graph::storage::{self, STORE_FORMAT, is_reserved};
#[cfg(nestling_defects)]
use crate::io::Defect;
use crate::options::CollectionDefinition;
use crate::vectors::Segment;

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// When `commit` returns, the transaction survives a crash and a power cut.
    #[default]
    Immediate,
    /// `commit` does not wait: the transaction becomes durable with the next `Immediate` one, or when the store is closed. A crash
    /// before that loses it, and everything committed after it, as a whole. For bulk work.
    None,
}

/// The one writer's transaction: collections and the app's tables, committed or aborted together.
///
/// Dropped without [`commit`](WriteTransaction::commit), it aborts. It may move to another thread.
pub struct WriteTransaction {
    /// Collections that were opened, by name.
    collections: Mutex<BTreeMap<Arc<str>, Parked>>,
    durability: Durability,
    /// An operation failed half-way: the transaction must not be committed.
    failed: AtomicBool,
    /// The snapshot that this transaction starts from.
    base: Arc<Published>,
    /// Slots freed by commits up to this one may be written to.
    reusable: u64,
    /// `None` once the transaction has ended.
    open: Option<Open>,
    shared: Arc<Shared>,
}

/// What is given up when the transaction ends.
struct Open {
    redb: redb::WriteTransaction,
    ledger: Ledger,
}

enum Parked {
    /// A handle is open.
    InUse,
    Here(Box<CollectionWriter>),
    /// Dropped in this transaction.
    Dropped,
}

impl std::fmt::Debug for WriteTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteTransaction").field("base", &self.base.commit).finish_non_exhaustive()
    }
}

impl WriteTransaction {
    /// Waits for the writer's place.
    pub(crate) fn begin(shared: Arc<Shared>) -> Result<Self> {
        shared.engine.check_usable()?;
        let ledger = shared.engine.writer.acquire();
        Self::begin_with(shared, ledger)
    }

    /// `None` when another write transaction is open.
    pub(crate) fn try_begin(shared: Arc<Shared>) -> Result<Option<Self>> {
        shared.engine.check_usable()?;
        match shared.engine.writer.try_acquire() {
            Some(ledger) => Self::begin_with(shared, ledger).map(Some),
            None => Ok(None),
        }
    }

    fn begin_with(shared: Arc<Shared>, mut ledger: Ledger) -> Result<Self> {
        // Once more: the writer before us may have poisoned the store.
        let begun = shared.engine.check_usable().and_then(|()| shared.engine.begin_write());
        let reusable = ledger.reusable();
        #[cfg(nestling_defects)]
        let reusable = if shared.engine.has(Defect::ReuseUnderSnapshot) { ledger.durable } else { reusable };
        match begun {
            Ok(redb) => Ok(Self {
                collections: Mutex::default(),
                durability: Durability::Immediate,
                failed: AtomicBool::new(false),
                base: shared.current.load_full(),
                reusable,
                open: Some(Open { redb, ledger }),
                shared,
            }),
            Err(e) => {
                shared.engine.writer.release(ledger);
                Err(e)
            }
        }
    }

    /// Sets whether the commit waits for the disk; [`Durability::Immediate`] unless set.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    fn redb(&self) -> &redb::WriteTransaction {
        &self.open.as_ref().expect("the transaction is open until it is consumed").redb
    }

    fn collections(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Parked>> {
        self.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a collection, and creates it when there is none of the name.
    ///
    /// # Errors
    ///
    /// [`Error::DefinitionMismatch`] when it is another than the definition states, [`Error::InvalidParameter`] for a definition
    /// out of range, [`Error::CollectionAlreadyOpen`] when a handle on it is open.
    pub fn open_collection(&self, definition: CollectionDefinition<'_>) -> Result<CollectionMut<'_>> {
        self.check_usable()?;
        let name = definition.name();
        let mut collections = self.collections();
        let mut writer = match collections.get_mut(name) {
            Some(Parked::InUse) => return Err(Error::CollectionAlreadyOpen { name: name.to_owned() }),
            Some(Parked::Here(writer)) => {
                // Before the writer is taken, so that a refusal leaves it where it is.
                definition.agree(&writer.state().parameters)?;
                match collections.insert(name.into(), Parked::InUse) {
                    Some(Parked::Here(writer)) => writer,
                    _ => return Err(Error::CollectionAlreadyOpen { name: name.to_owned() }),
                }
            }
            Some(Parked::Dropped) => self.create(&definition)?,
            None => match self.base.collections.get(name) {
                Some(snapshot) => {
                    definition.agree(&snapshot.state.parameters)?;
                    let allocator = self.shared.engine.allocator.clone();
                    Box::new(CollectionWriter::open(snapshot, allocator, self.reusable))
                }
                None => self.create(&definition)?,
            },
        };
        writer.state_mut().parameters = definition.agree(&writer.state().parameters)?;
        collections.insert(name.into(), Parked::InUse);
        Ok(CollectionMut::new(writer, self))
    }

    fn create(&self, definition: &CollectionDefinition<'_>) -> Result<Box<CollectionWriter>> {
        let parameters = definition.parameters()?;
        let engine = &self.shared.engine;
        let id = engine.new_collection()?;
        let state = CollectionState::new(definition.name(), id, parameters);
        Ok(Box::new(CollectionWriter::create(state, engine.allocator.clone())))
    }

    /// Drops a collection with all that it holds; false when there is none. Its files go once the commit is durable and
    /// nobody reads an older snapshot.
    pub fn drop_collection(&self, name: &str) -> Result<bool> {
        self.check_usable()?;
        let mut collections = self.collections();
        match collections.get(name) {
            Some(Parked::InUse) => return Err(Error::CollectionAlreadyOpen { name: name.to_owned() }),
            Some(Parked::Dropped) => return Ok(false),
            Some(Parked::Here(_)) => {}
            None if !self.base.collections.contains_key(name) => return Ok(false),
            None => {}
        }
        if let Some(Parked::Here(writer)) = collections.insert(name.into(), Parked::Dropped) {
            doom_created(&writer);
        }
        Ok(true)
    }

    /// The names of all collections, as this transaction leaves them.
    pub fn list_collections(&self) -> Vec<String> {
        let collections = self.collections();
        let stored = self.base.collections.keys().filter(|name| !collections.contains_key(*name));
        let changed = collections.iter().filter(|(_, c)| !matches!(c, Parked::Dropped)).map(|(name, _)| name);
        let mut names: Vec<String> = stored.chain(changed).map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Opens a table of the app's own, and creates it when there is none of the name.
    pub fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<redb::Table<'_, K, V>> {
        refuse_reserved(definition.name())?;
        Ok(self.redb().open_table(definition)?)
    }

    /// Opens a multimap table of the app's own, and creates it when there is none of the name.
    pub fn open_multimap_table<K: Key + 'static, V: Key + 'static>(
        &self,
        definition: MultimapTableDefinition<'_, K, V>,
    ) -> Result<redb::MultimapTable<'_, K, V>> {
        refuse_reserved(definition.name())?;
        Ok(self.redb().open_multimap_table(definition)?)
    }

    /// Deletes a table of the app's own; false when there is none.
    pub fn delete_table(&self, table: impl TableHandle) -> Result<bool> {
        refuse_reserved(table.name())?;
        Ok(self.redb().delete_table(table)?)
    }

    /// Deletes a multimap table of the app's own; false when there is none.
    pub fn delete_multimap_table(&self, table: impl MultimapTableHandle) -> Result<bool> {
        refuse_reserved(table.name())?;
        Ok(self.redb().delete_multimap_table(table)?)
    }

    /// Renames a table of the app's own.
    pub fn rename_table(&self, table: impl TableHandle, to: impl TableHandle) -> Result<()> {
        refuse_reserved(table.name())?;
        refuse_reserved(to.name())?;
        Ok(self.redb().rename_table(table, to)?)
    }

    /// The names of the app's own tables.
    pub fn list_tables(&self) -> Result<Vec<String>> {
        let tables = self.redb().list_tables()?;
        Ok(tables.map(|table| table.name().to_owned()).filter(|name| !is_reserved(name)).collect())
    }

    /// Ends the transaction and leaves everything as it was.
    pub fn abort(mut self) -> Result<()> {
        self.roll_back()
    }

    /// Makes all changes visible to snapshots taken from now on and, unless set otherwise, durable.
    ///
    /// # Errors
    ///
    /// [`Error::TransactionFailed`] and [`Error::CommitAborted`]: nothing was changed, the store is usable.
    /// [`Error::CommitOutcomeUnknown`], and errors of the disk: the store takes no more writes; reopening it shows whether the
    /// commit, which is all or nothing, has happened.
    pub fn commit(mut self) -> Result<()> {
        // A handle that was leaked has taken its changes along, so that the transaction is not whole any more.
        let leaked = self.collections().values().any(|parked| matches!(parked, Parked::InUse));
        if leaked || self.failed.load(Ordering::Acquire) {
            self.roll_back()?;
            return Err(Error::TransactionFailed);
        }
        let engine = self.shared.engine.clone();
        let collections = std::mem::take(&mut *self.collections());
        let Some(Open { mut redb, ledger }) = self.open.take() else {
            return Err(Error::TransactionFailed);
        };
        let mut ledger = Borrowed::new(&engine, ledger);
        let steps = Commit::plan(&engine, &self.base, &collections, &ledger);
        let result = steps.run(&mut redb, &mut ledger, self.durability).and_then(|()| finish(redb, &engine));
        #[cfg(nestling_defects)]
        let result = result.and_then(|transaction| steps.fold_late(transaction, self.durability));
        let result = match result {
            Ok(transaction) => {
                let Commit { commit, fold, .. } = steps;
                ledger.commit = commit;
                ledger.dropped.extend(dropped_segments(&self.base, &collections));
                let tables_caught_up = fold.is_some();
                account(&mut ledger.journal, &self.base, &collections, commit, fold);
                let published =
                    publish(&self.base, collections, transaction, commit, tables_caught_up, &engine);
                let published = Arc::new(published);
                ledger.snapshots.push((commit, Arc::downgrade(&published)));
                self.shared.current.store(published);
                #[cfg(nestling_defects)]
                if engine.has(Defect::PublishBeforeCommit) && self.durability == Durability::Immediate {
                    finish(engine.begin_write()?, &engine)?;
                }
                if self.durability == Durability::Immediate {
                    engine.made_durable(&mut ledger);
                }
                Ok(())
            }
            Err(e) => {
                discard(&collections);
                Err(e)
            }
        };
        // The next writer must not take our own hold on the old snapshot for a reader's.
        self.base = self.shared.current.load_full();
        drop(ledger);
        result
    }

    fn roll_back(&mut self) -> Result<()> {
        let Some(Open { redb, ledger }) = self.open.take() else { return Ok(()) };
        discard(&std::mem::take(&mut *self.collections()));
        let result = redb.abort();
        self.shared.engine.writer.release(ledger);
        Ok(result?)
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        // An error would be one of the disk; the next transaction meets it again.
        let _ = self.roll_back();
    }
}

impl Home for WriteTransaction {
    fn park(&self, writer: Box<CollectionWriter>) {
        let name = writer.state().name.clone();
        self.collections().insert(name, Parked::Here(writer));
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn check_usable(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) { Err(Error::TransactionFailed) } else { Ok(()) }
    }
}

/// Gives up the files created by a transaction that ends without them.
fn discard(collections: &BTreeMap<Arc<str>, Parked>) {
    for parked in collections.values() {
        if let Parked::Here(writer) = parked {
            doom_created(writer);
        }
    }
}

fn doom_created(writer: &CollectionWriter) {
    for segment in writer.created() {
        segment.doom();
    }
}

/// Steps 2 and 3 of the commit protocol, up to redb's commit.
struct Commit<'a> {
    engine: &'a Engine,
    base: &'a Published,
    collections: &'a BTreeMap<Arc<str>, Parked>,
    commit: u64,
    fold: Option<Fold>,
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
    fn plan(
        engine: &'a Engine,
        base: &'a Published,
        collections: &'a BTreeMap<Arc<str>, Parked>,
        ledger: &Ledger,
    ) -> Self {
        let fold = ledger.journal.fold(base.collections.values().map(|collection| &**collection));
        Self { engine, base, collections, commit: ledger.commit + 1, fold }
    }

    /// Makes the segments durable, then hands all rows to redb. After a failure the store is poisoned: segments whose sync has
    /// failed, or pages that redb could not write, are not to be trusted again.
    fn run(
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
        StateRow {
            version: STORE_FORMAT,
            store: self.engine.store,
            commit: self.commit,
            next_collection: self.engine.next_collection(),
            next_segment: self.engine.allocator.next(),
            applied: if self.fold.is_some() { self.base.commit } else { ledger.journal.applied() },
            removed: removed.copied().unwrap_or(ledger.journal.removed()),
        }
    }

    /// Brings the tables up to the commit before this one, but for links, of which there is a stretch.
    fn write_fold(&self, redb: &redb::WriteTransaction, fold: &Fold) -> Result<()> {
        #[cfg(nestling_defects)]
        if self.engine.has(Defect::FoldOutsideOfTransaction) {
            return storage::remove_entries(redb, fold.remove.iter().copied());
        }
        self.write_folded_rows(redb, fold)?;
        storage::remove_entries(redb, fold.remove.iter().copied())
    }

    /// Writes what [`write_fold`](Self::write_fold) has left out.
    #[cfg(nestling_defects)]
    fn fold_late(
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

fn writers(collections: &BTreeMap<Arc<str>, Parked>) -> impl Iterator<Item = &CollectionWriter> {
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
fn account(
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
fn finish(redb: redb::WriteTransaction, engine: &Engine) -> Result<Arc<redb::ReadTransaction>> {
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
fn dropped_segments<'a>(
    base: &'a Published,
    collections: &'a BTreeMap<Arc<str>, Parked>,
) -> impl Iterator<Item = Arc<Segment>> + 'a {
    replaced(base, collections).flat_map(|(_, stored)| stored.segments.iter().cloned())
}

/// The snapshot of the commit. Nothing in here can fail.
fn publish(
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
