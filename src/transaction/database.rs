//! redb's database, shielded from what damaged pages do to it.

use std::sync::Arc;

use redb::{CompactionError, DatabaseError, ReadableDatabase, StorageError};

use super::engine::STORE_FILE;
use crate::error::{Error, Result};
use crate::graph::storage::shielded;
use crate::io::{Directory, FileBackend, ReadOnlyBackend};
use crate::trace::warning;

/// redb's database. Whatever panics in it at damaged pages gives an error here.
#[derive(Debug)]
pub(crate) struct Database {
    /// `None` when it is being dropped.
    opened: Option<redb::Database>,
}

impl Database {
    fn opened(&self) -> Result<&redb::Database> {
        self.opened.as_ref().ok_or(Error::Poisoned)
    }

    fn opened_mut(&mut self) -> Result<&mut redb::Database> {
        self.opened.as_mut().ok_or(Error::Poisoned)
    }

    pub(crate) fn begin_read(&self) -> Result<redb::ReadTransaction> {
        shielded(|| Ok(self.opened()?.begin_read()?))
    }

    /// A transaction that will not need a repair if the process dies after its commit.
    pub(crate) fn begin_write(&self) -> Result<redb::WriteTransaction> {
        shielded(|| {
            let mut tx = self.opened()?.begin_write()?;
            tx.set_quick_repair(true);
            Ok(tx)
        })
    }

    /// redb's own check, which repairs what it can: false when there was something to repair.
    pub(crate) fn check_integrity(&mut self) -> Result<bool> {
        shielded(|| {
            self.opened_mut()?.check_integrity().map_err(|e| match e {
                DatabaseError::Storage(e) => Error::Storage(e),
                e => Error::corrupted(STORE_FILE, e.to_string()),
            })
        })
    }

    /// Gives free pages back to the system. No snapshot may be alive.
    pub(super) fn compact(&mut self) -> Result<()> {
        let compacted = shielded(|| {
            self.opened_mut()?.compact().map_err(|e| match e {
                CompactionError::Storage(e) => Error::Storage(e),
                e => Error::CommitAborted { reason: e.to_string() },
            })
        });
        compacted.map(|_| ())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // redb writes its bookkeeping back, and panics where that is damaged.
        let database = self.opened.take();
        let _ = shielded(|| {
            drop(database);
            Ok(())
        });
    }
}

/// Opens `store.redb`, which must exist; read-only, what redb writes stays in memory.
pub(crate) fn open_database(
    directory: &Arc<Directory>,
    read_only: bool,
    cache_size: usize,
) -> Result<Database> {
    let path = directory.join(STORE_FILE);
    let fail = |e| Error::io("open", &path, e);
    let file = directory.open(STORE_FILE, !read_only).map_err(fail)?;
    // redb takes an empty file for a new database.
    if file.len().map_err(fail)? == 0 {
        return Err(Error::corrupted(path.display().to_string(), "the file is empty"));
    }
    let mut builder = redb::Database::builder();
    builder.set_cache_size(cache_size);
    builder.set_repair_callback(|_session| {
        warning!(
            progress = _session.progress(),
            "redb recovers its file after a crash, which takes reading all of it"
        );
    });
    let opened = shielded(|| {
        Ok(if read_only {
            builder.create_with_backend(ReadOnlyBackend::new(file).map_err(fail)?)
        } else {
            builder.create_with_backend(FileBackend::new(file).map_err(fail)?)
        })
    })?;
    let opened = opened.map_err(|source| match source {
        DatabaseError::DatabaseAlreadyOpen => Error::Locked { path: directory.path().to_owned() },
        DatabaseError::Storage(StorageError::Corrupted(detail)) => {
            Error::corrupted(path.display().to_string(), detail)
        }
        // The file ends before what its header promises.
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::corrupted(path.display().to_string(), "the file is truncated")
        }
        // How redb says that the magic bytes are not its own.
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
            Error::corrupted(path.display().to_string(), format!("not a redb file: {e}"))
        }
        source => Error::Database { path: path.clone(), source },
    })?;
    Ok(Database { opened: Some(opened) })
}
