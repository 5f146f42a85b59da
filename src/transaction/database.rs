//! Opening redb's file.

use std::sync::Arc;

use redb::{Database, DatabaseError, StorageError};

use super::engine::STORE_FILE;
use crate::error::{Error, Result};
use crate::graph::storage::shielded;
use crate::io::{Directory, FileBackend, ReadOnlyBackend};
use crate::trace::warning;

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
    let mut builder = Database::builder();
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
    opened.map_err(|source| match source {
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
    })
}
