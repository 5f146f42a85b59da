//! What a path holds, and directories in which a store is being made.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::io::{Directory, LOCK_FILE, StoreLock};
use crate::transaction::STORE_FILE;

/// What a store is made under, until it is whole.
pub(crate) const TEMPORARY_FILE: &str = "store.redb.new";
/// Where this file is, somebody copies or repairs a store, or has died over it.
const UNFINISHED_FILE: &str = "unfinished";

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// No directory, or an empty one.
    Nothing,
    /// A store whose creation was interrupted: a lock, a temporary file, nothing else.
    Unfinished,
    Store,
}

impl Contents {
    pub(crate) fn of(directory: &Directory) -> Result<Self> {
        let path = directory.path();
        let not_a_store = |found: String| Err(Error::NotAStore { path: path.to_owned(), found });
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return not_a_store("it is a file, and a store is a directory".to_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Contents::Nothing),
            Err(e) => return Err(Error::io("open", path, e)),
        }
        let names = directory.list()?;
        if names.iter().any(|name| name == UNFINISHED_FILE) {
            return not_a_store(
                "a backup or repair that was interrupted; delete it, and make it again".to_owned(),
            );
        }
        if names.iter().any(|name| name == STORE_FILE) {
            return Ok(Contents::Store);
        }
        match names.iter().find(|name| *name != LOCK_FILE && *name != TEMPORARY_FILE) {
            Some(other) => not_a_store(format!("it has no {STORE_FILE}, but holds {other:?}")),
            None if names.is_empty() => Ok(Contents::Nothing),
            None => Ok(Contents::Unfinished),
        }
    }
}

/// Makes the directory of a store, unless it exists.
pub(crate) fn create_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let e = std::io::Error::new(e.kind(), "its parent directory does not exist; create that first");
            Err(Error::io("create", path, e))
        }
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("create", path, e)),
        _ => Ok(()),
    }
}

/// A new directory, or an empty one, in which a store is made from another. It is not taken for a store before [`Site::finish`], and
/// what is in it goes when that is not reached: a process that dies leaves it marked as unfinished.
#[derive(Debug)]
pub(crate) struct Site {
    directory: Arc<Directory>,
    created: bool,
    finished: bool,
    lock: Option<StoreLock>,
}

impl Site {
    /// # Errors
    ///
    /// [`Error::TargetNotEmpty`] when there is anything else at `path`.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let occupied = || Error::TargetNotEmpty { path: path.to_owned() };
        let created = match fs::create_dir(path) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(Error::io("create", path, e)),
        };
        let directory = Arc::new(Directory::new(path.to_owned(), None));
        if !path.is_dir() || !directory.list()?.is_empty() {
            return Err(occupied());
        }
        let lock = StoreLock::exclusive(path)?;
        // Under the lock: somebody else may have been faster.
        if directory.list()? != [LOCK_FILE] {
            return Err(occupied());
        }
        let site = Self { directory, created, finished: false, lock: Some(lock) };
        let mark = || {
            site.directory.create(UNFINISHED_FILE)?.sync()?;
            site.directory.sync()
        };
        mark().map_err(|e| Error::io("create", site.directory.join(UNFINISHED_FILE), e))?;
        Ok(site)
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The lock, to be held by a store that is opened in here. The mark stays: nobody else takes this for a store.
    pub(crate) fn take_lock(&mut self) -> Result<StoreLock> {
        match self.lock.take() {
            Some(lock) => Ok(lock),
            None => StoreLock::exclusive(self.directory.path()),
        }
    }

    /// The files are whole and synced: makes a store of them.
    pub(crate) fn finish(mut self) -> Result<()> {
        let directory = &self.directory;
        let finish = || {
            directory.sync()?;
            directory.remove(UNFINISHED_FILE)?;
            directory.sync()?;
            directory.sync_parent()
        };
        finish().map_err(|e| Error::io("sync", directory.path(), e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Whatever cannot be removed stays marked: the mark goes last but for the lock.
        let names = self.directory.list().unwrap_or_default();
        let last = [UNFINISHED_FILE, LOCK_FILE];
        let others = names.iter().map(String::as_str).filter(|name| !last.contains(name));
        if others.chain(last).all(|name| self.directory.remove(name).is_ok()) && self.created {
            let _ = fs::remove_dir(self.directory.path());
        }
    }
}
