//! What is open while a store is: redb's database, the lock, the writer's place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::database::Database;
use super::ledger::Ledger;
use super::protocol::WriterSlot;
use super::published::Published;
use crate::error::{Error, Result};
use crate::graph::storage::shielded;
use crate::io::{Directory, StoreLock};
use crate::vectors::SegmentAllocator;

/// redb's file in the store's directory.
pub(crate) const STORE_FILE: &str = "store.redb";

/// Dropped by whoever holds the last transaction, snapshot or store. Fields are in drop order: the lock goes last.
#[derive(Debug)]
pub(crate) struct Engine {
    database: Database,
    pub(crate) allocator: Arc<SegmentAllocator>,
    pub(crate) writer: WriterSlot<Ledger>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: [u8; 16],
    pub(crate) read_only: bool,
    next_collection: AtomicU32,
    _lock: StoreLock,
}

impl Engine {
    #[expect(
        clippy::too_many_arguments,
        reason = "called in one place, with everything that opening a store has found"
    )]
    pub(crate) fn new(
        database: Database,
        directory: Arc<Directory>,
        lock: StoreLock,
        store: [u8; 16],
        read_only: bool,
        allocator: Arc<SegmentAllocator>,
        ledger: Ledger,
        next_collection: u32,
    ) -> Self {
        let writer = WriterSlot::new(ledger);
        let next_collection = AtomicU32::new(next_collection);
        Self { database, allocator, writer, directory, store, read_only, next_collection, _lock: lock }
    }

    /// An id for a new collection. Ids are never used twice.
    pub(crate) fn new_collection(&self) -> Result<u32> {
        let next = |id: u32| id.checked_add(1);
        let id = self.next_collection.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        id.map_err(|_| Error::OutOfNumbers { what: "collections" })
    }

    /// The id that the next new collection gets at least.
    pub(crate) fn next_collection(&self) -> u32 {
        self.next_collection.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_read(&self) -> Result<Arc<redb::ReadTransaction>> {
        Ok(Arc::new(self.database.begin_read()?))
    }

    pub(crate) fn begin_write(&self) -> Result<redb::WriteTransaction> {
        self.database.begin_write()
    }

    /// Whether the store was opened with a defect.
    #[cfg(nestling_defects)]
    pub(crate) fn has(&self, defect: crate::io::Defect) -> bool {
        self.directory.defect == Some(defect)
    }

    pub(crate) fn check_usable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly { path: self.directory.path().to_owned() });
        }
        if self.directory.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Makes segments and names durable that earlier commits wrote without waiting. A failure poisons the store: what has
    /// not reached the disk cannot be synced a second time.
    pub(crate) fn sync(&self, ledger: &mut Ledger) -> Result<()> {
        let sync = || -> Result<()> {
            for segment in &ledger.unsynced {
                segment.sync()?;
            }
            if ledger.unsynced_names {
                self.directory.sync().map_err(|e| Error::io("sync", self.directory.path(), e))?;
            }
            if ledger.unsynced_parent {
                let parent = self.directory.sync_parent();
                parent.map_err(|e| Error::io("sync the parent of", self.directory.path(), e))?;
            }
            Ok(())
        };
        sync().inspect_err(|_| self.directory.poison())?;
        ledger.unsynced.clear();
        ledger.unsynced_names = false;
        ledger.unsynced_parent = false;
        Ok(())
    }

    /// Notes the snapshot that a store begins with.
    pub(crate) fn note(&self, snapshot: &Arc<Published>) {
        if let Some(mut ledger) = self.writer.try_acquire() {
            ledger.commits.note(snapshot);
            self.writer.release(ledger);
        }
    }

    /// To be called when everything up to the last commit is durable: files of dropped collections may go.
    pub(crate) fn made_durable(&self, ledger: &mut Ledger) {
        ledger.commits.made_durable().for_each(|segment| segment.doom());
    }

    /// Makes the last commits durable, if they are not.
    pub(crate) fn make_durable(&self, ledger: &mut Ledger) -> Result<()> {
        if self.directory.is_poisoned() {
            return Err(Error::Poisoned);
        }
        if ledger.commits.durable() == ledger.commits.last() {
            return Ok(());
        }
        self.sync(ledger)?;
        self.commit_rows(|_| Ok(()))?;
        self.made_durable(ledger);
        Ok(())
    }

    /// Commits rows outside of a [`WriteTransaction`](super::WriteTransaction): to be called when nobody else uses the engine, and
    /// nothing but reopening or the end of it follows a failure.
    pub(crate) fn commit_rows(
        &self,
        write: impl FnOnce(&redb::WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let commit = || {
            let tx = self.begin_write()?;
            write(&tx)?;
            tx.commit().map_err(|e| Error::CommitOutcomeUnknown { reason: e.to_string() })
        };
        shielded(commit).inspect_err(|_| self.directory.poison())
    }

    /// Gives redb's free pages back to the system. No snapshot may be alive.
    pub(crate) fn compact_database(&mut self) -> Result<()> {
        self.database.compact().inspect_err(|_| self.directory.poison())?;
        // redb's commits in there were not ones for a quick repair.
        self.commit_rows(|_| Ok(()))
    }

    /// To be called at the end. redb would make the last commits durable by itself when it is dropped, but swallow errors, and not
    /// know of the segments that have to come first.
    pub(crate) fn shut_down(&mut self) -> Result<()> {
        match self.writer.take() {
            Some(mut ledger) if ledger.commits.durable() != ledger.commits.last() => {
                self.make_durable(&mut ledger)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Whoever wants to know of a failure calls `Store::close`. Here the poison flag keeps redb from making commits durable
        // whose vectors are not.
        let _ = self.shut_down();
    }
}
