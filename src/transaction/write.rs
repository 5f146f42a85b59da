//! Write transactions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Key, MultimapTableDefinition, MultimapTableHandle, TableDefinition, TableHandle, Value};

use super::commit::{Commit, Parked, account, dropped_segments, finish, publish, writers};
use super::ledger::{Borrowed, Ledger};
use super::published::{Published, Shared};
use super::read::refuse_reserved;
use crate::collection::{CollectionMut, CollectionState, CollectionWriter, Home};
use crate::error::{Error, Result};
use crate::graph::storage::{is_reserved, shielded};
#[cfg(nestling_defects)]
use crate::io::Defect;
use crate::options::CollectionDefinition;
use crate::trace::{self, span, warning};

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
    span: trace::Span,
    /// Bytes that the store had written when the transaction began.
    written_before: u64,
}

/// What is given up when the transaction ends.
struct Open {
    redb: redb::WriteTransaction,
    ledger: Ledger,
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
        let reusable = ledger.commits.reusable();
        #[cfg(nestling_defects)]
        let reusable =
            if shared.engine.has(Defect::ReuseUnderSnapshot) { ledger.commits.durable() } else { reusable };
        match begun {
            Ok(redb) => Ok(Self {
                collections: Mutex::default(),
                durability: Durability::Immediate,
                failed: AtomicBool::new(false),
                base: shared.current.load_full(),
                reusable,
                open: Some(Open { redb, ledger }),
                written_before: shared.engine.directory.counters().bytes_written,
                shared,
                span: span!(DEBUG, "write"[outcome]),
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
    ///
    /// # Errors
    ///
    /// [`Error::CollectionAlreadyOpen`] when a handle on it is open.
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

    /// The names of all collections, in order, as this transaction leaves them.
    pub fn list_collections(&self) -> Vec<String> {
        let collections = self.collections();
        let stored = self.base.collections.keys().filter(|name| !collections.contains_key(*name));
        let changed = collections.iter().filter(|(_, c)| !matches!(c, Parked::Dropped)).map(|(name, _)| name);
        let mut names: Vec<String> = stored.chain(changed).map(|name| name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Opens a table of the app's own, and creates it when there is none of the name.
    #[track_caller] // redb tells where a table was opened before.
    pub fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<redb::Table<'_, K, V>> {
        refuse_reserved(definition.name())?;
        Ok(self.redb().open_table(definition)?)
    }

    /// Opens a multimap table of the app's own, and creates it when there is none of the name.
    #[track_caller]
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

    /// Renames a multimap table of the app's own.
    pub fn rename_multimap_table(
        &self,
        table: impl MultimapTableHandle,
        to: impl MultimapTableHandle,
    ) -> Result<()> {
        refuse_reserved(table.name())?;
        refuse_reserved(to.name())?;
        Ok(self.redb().rename_multimap_table(table, to)?)
    }

    /// The names of the app's own tables.
    pub fn list_tables(&self) -> Result<Vec<String>> {
        let tables = self.redb().list_tables()?;
        Ok(tables.map(|table| table.name().to_owned()).filter(|name| !is_reserved(name)).collect())
    }

    /// The names of the app's own multimap tables.
    pub fn list_multimap_tables(&self) -> Result<Vec<String>> {
        let tables = self.redb().list_multimap_tables()?;
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
    /// [`Error::CommitOutcomeUnknown`], and errors of the disk or about damage: the store takes no more writes; reopening it shows whether the
    /// commit, which is all or nothing, has happened.
    pub fn commit(mut self) -> Result<()> {
        // A handle that was leaked has taken its changes along, so that the transaction is not whole any more.
        let leaked = self.collections().values().any(|parked| matches!(parked, Parked::InUse));
        if leaked || self.failed.load(Ordering::Acquire) {
            self.roll_back()?;
            return Err(Error::TransactionFailed);
        }
        let span =
            span!(child of &self.span, DEBUG, "commit" [commit, rows, bytes], durability = ?self.durability);
        let span = span.entered();
        let engine = self.shared.engine.clone();
        let collections = std::mem::take(&mut *self.collections());
        if trace::is_enabled(&span) {
            span.record("rows", writers(&collections).map(|writer| writer.row_counts().touched).sum::<u64>());
        }
        let Some(Open { mut redb, ledger }) = self.open.take() else {
            return Err(Error::TransactionFailed);
        };
        let mut ledger = Borrowed::new(&engine, ledger);
        let steps = Commit::plan(&engine, &self.base, &collections, &ledger);
        let in_redb =
            || steps.run(&mut redb, &mut ledger, self.durability).and_then(|()| finish(redb, &engine));
        let result = shielded(in_redb).inspect_err(|e| {
            // Pages that redb could not make sense of are not to be built upon.
            if e.is_corrupted() {
                engine.directory.poison();
            }
        });
        #[cfg(nestling_defects)]
        let result = result.and_then(|transaction| steps.fold_late(transaction, self.durability));
        let result = match result {
            Ok(transaction) => {
                let Commit { commit, fold, .. } = steps;
                let dropped: Vec<_> = dropped_segments(&self.base, &collections).collect();
                let tables_caught_up = fold.is_some();
                account(&mut ledger.journal, &self.base, &collections, commit, fold);
                let published =
                    publish(&self.base, collections, transaction, commit, tables_caught_up, &engine);
                ledger.commits.publish(commit, Arc::new(published), dropped, &self.shared.current);
                #[cfg(nestling_defects)]
                if engine.has(Defect::PublishBeforeCommit) && self.durability == Durability::Immediate {
                    finish(engine.begin_write()?, &engine)?;
                }
                if self.durability == Durability::Immediate {
                    engine.made_durable(&mut ledger);
                }
                let bytes = engine.directory.counters().bytes_written - self.written_before;
                span.record("commit", commit).record("bytes", bytes);
                self.span.record("outcome", "committed");
                Ok(())
            }
            Err(e) => {
                discard(&collections);
                warning!(error = %e, "a commit has failed");
                self.span.record("outcome", "failed");
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
        self.span.record("outcome", "aborted");
        discard(&std::mem::take(&mut *self.collections()));
        let result = shielded(|| Ok(redb.abort()?));
        self.shared.engine.writer.release(ledger);
        result
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
