//! The store's own lock file, taken before anything else is touched.

use std::fs::{File, OpenOptions, TryLockError};
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
        let path = directory.join(LOCK_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io("open", &path, e))?;
        let locked = file.try_lock();
        Self::held(file, locked, directory)
    }

    /// Locks out writers only.
    pub(crate) fn shared(directory: &Path) -> Result<Self> {
        let path = directory.join(LOCK_FILE);
        let file = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
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

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file releases the lock as well; a failure here leaves nothing to do.
        let _ = self.file.unlock();
    }
}
