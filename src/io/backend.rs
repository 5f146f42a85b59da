//! redb's storage: its own file backend behind our seam.

use std::collections::BTreeMap;
use std::io;
#[cfg(not(windows))]
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(not(windows))]
use redb::BackendError;
use redb::StorageBackend;

use super::directory::DiskFile;

/// `store.redb` as redb sees it: reads and writes go through our [`DiskFile`], so that they are counted, observed and refused
/// once the store is poisoned; locks go to redb's own backend over the same file, so that redb itself, in another program, keeps out.
///
/// On Windows nothing is locked: redb 4.5 locks all bytes of the file for the one handle that it has, and there a lock keeps every other
/// handle from reading, as checks and backups do. redb takes a backend that supports no locks, which is what the trait's default methods
/// say, as one whose owner sees to that: the store's own lock file does, among stores. None of this was tried on Windows.
///
/// The poison flag is what keeps a promise: redb makes pending non-durable commits durable when its database is dropped,
/// and after a failed segment sync their vectors may not be on disk.
#[derive(Debug)]
pub(crate) struct FileBackend {
    file: DiskFile,
    #[cfg(not(windows))]
    locks: redb::backends::FileBackend,
}

impl FileBackend {
    #[cfg(windows)]
    pub(crate) fn new(file: DiskFile) -> io::Result<Self> {
        Ok(Self { file })
    }

    #[cfg(not(windows))]
    pub(crate) fn new(file: DiskFile) -> io::Result<Self> {
        let locks = redb::backends::FileBackend::new(file.as_file().try_clone()?)
            .map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Self { file, locks })
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.directory().preserve(len..u64::MAX);
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.directory().preserve(offset..offset.saturating_add(data.len() as u64));
        self.file.write_all_at(offset, data)
    }

    #[cfg(not(windows))]
    fn close(&self) -> io::Result<()> {
        self.locks.close()
    }

    #[cfg(not(windows))]
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.try_lock_range(start, end)
    }

    #[cfg(not(windows))]
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.try_lock_shared_range(start, end)
    }

    #[cfg(not(windows))]
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_range(start, end)
    }

    #[cfg(not(windows))]
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_shared_range(start, end)
    }

    #[cfg(not(windows))]
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.unlock_range(start, end)
    }

    #[cfg(not(windows))]
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.query_lock_range(start, end)
    }
}

const BLOCK: u64 = 4096;

/// `store.redb` for a read-only opening: what redb writes stays in memory.
///
/// redb's own read-only database refuses a file that was not closed cleanly. Recovery after `kill -9` needs writes, but few
/// (quick repair: the header); here they go to an overlay that nobody else sees, and the file is never touched. The store's
/// own lock keeps writers out meanwhile.
#[derive(Debug)]
pub(crate) struct ReadOnlyBackend {
    file: DiskFile,
    overlay: Mutex<Overlay>,
}

#[derive(Debug)]
struct Overlay {
    len: u64,
    /// How much of the file still shows through: less than its length once redb has shrunk it.
    visible: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl ReadOnlyBackend {
    pub(crate) fn new(file: DiskFile) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, overlay: Mutex::new(Overlay { len, visible: len, blocks: BTreeMap::new() }) })
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from the part of the file that shows through, with zeros past it.
    fn read_file(&self, visible: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let available = visible.saturating_sub(offset).min(out.len() as u64) as usize;
        let (inside, outside) = out.split_at_mut(available);
        outside.fill(0);
        if inside.is_empty() { Ok(()) } else { self.file.read_exact_at(offset, inside) }
    }
}

/// The pieces of `offset..offset + len` by block: (block number, offset in the block, range in the buffer).
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK) as usize;
        let n = (BLOCK as usize - within).min(len - done);
        let piece = (at / BLOCK, within, done..done + n);
        done += n;
        Some(piece)
    })
}

/// Copies as much as both have room for.
fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

impl StorageBackend for ReadOnlyBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.overlay().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let overlay = self.overlay();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > overlay.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(overlay.visible, offset, out)?;
        if !overlay.blocks.is_empty() {
            for (block, within, range) in pieces(offset, out.len()) {
                if let Some(bytes) = overlay.blocks.get(&block) {
                    copy(bytes.get(within..).unwrap_or(&[]), out.get_mut(range).unwrap_or(&mut []));
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut overlay = self.overlay();
        if len < overlay.len {
            overlay.visible = overlay.visible.min(len);
            overlay.blocks.split_off(&(len / BLOCK + 1));
            if let Some(bytes) = overlay.blocks.get_mut(&(len / BLOCK)) {
                bytes.iter_mut().skip((len % BLOCK) as usize).for_each(|byte| *byte = 0);
            }
        }
        overlay.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut overlay = self.overlay();
        for (block, within, range) in pieces(offset, data.len()) {
            if !overlay.blocks.contains_key(&block) {
                let mut bytes = vec![0; BLOCK as usize].into_boxed_slice();
                self.read_file(overlay.visible, block * BLOCK, &mut bytes)?;
                overlay.blocks.insert(block, bytes);
            }
            if let Some(bytes) = overlay.blocks.get_mut(&block) {
                copy(data.get(range).unwrap_or(&[]), bytes.get_mut(within..).unwrap_or(&mut []));
            }
        }
        Ok(())
    }
}
