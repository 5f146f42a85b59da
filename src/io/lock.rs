//! The store's own lock file, taken before anything else is touched.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Result};

/// The name of the lock file in the store's directory.
pub(crate) const LOCK_FILE: &str = "lock";

/// An advisory lock on `DIR/lock`, released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
}

impl StoreLock {
    /// Locks out every other opener.
    pub(crate) fn exclusive(directory: &Path) -> Result<Self> {
        let file = create(directory)?;
        let locked = file.try_lock();
        Self::held(file, locked, directory)
    }

    /// Locks out writers only. The lock file need not be writable, as the directory need not be.
    pub(crate) fn shared(directory: &Path) -> Result<Self> {
        let path = directory.join(LOCK_FILE);
        let file = match File::open(&path) {
            // A copy of a store may have been made without it.
            Err(e) if e.kind() == ErrorKind::NotFound => create(directory)?,
            opened => opened.map_err(|e| Error::io("open", &path, e))?,
        };
        let locked = file.try_lock_shared();
        Self::held(file, locked, directory)
    }

    fn held(file: File, locked: Result<(), TryLockError>, directory: &Path) -> Result<Self> {
        match locked {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path: directory.to_owned() }),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", directory.join(LOCK_FILE), e)),
        }
    }
}

fn create(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(&path).map_err(|e| Error::io("open", &path, e))
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file releases the lock as well; a failure here leaves nothing to do.
        let _ = self.file.unlock();
    }
}
