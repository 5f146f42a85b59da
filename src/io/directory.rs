//! A store's directory and its files: counted, observable, and silent once poisoned.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

#[cfg(nestling_defects)]
use super::defect::Defect;
use super::image::{Attached, Image};
use crate::error::{Error, Result};
use crate::trace::warning;

/// One operation on the store's directory, as an [`Observer`] sees it. Files are named relative to the directory.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A file is created.
    Create {
        /// The file.
        file: &'a str,
    },
    /// Bytes are read (through the map they are not seen).
    Read {
        /// The file.
        file: &'a str,
        /// Where.
        offset: u64,
        /// How many.
        len: usize,
    },
    /// Bytes are written.
    Write {
        /// The file.
        file: &'a str,
        /// Where.
        offset: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// A file's length is set.
    SetLen {
        /// The file.
        file: &'a str,
        /// The new length.
        len: u64,
    },
    /// A file's data is synced.
    Sync {
        /// The file.
        file: &'a str,
    },
    /// A file is renamed.
    Rename {
        /// The old name.
        from: &'a str,
        /// The new name.
        to: &'a str,
    },
    /// A file is removed.
    Remove {
        /// The file.
        file: &'a str,
    },
    /// The directory itself is synced.
    SyncDirectory,
    /// The directory that holds the store's directory is synced.
    SyncParent,
}

/// Sees every operation before it happens and may fail it. For tests of durability.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// Called before the operation; an error is returned to the store in its place.
    fn before(&self, operation: Operation<'_>) -> io::Result<()>;
}

/// What the store has read and written since it was opened, over all of its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Counters {
    /// Bytes read with read calls; what is read through memory maps is not counted.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// File syncs.
    pub syncs: u64,
}

#[derive(Debug, Default)]
struct AtomicCounters {
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    syncs: AtomicU64,
}

/// The store's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    observer: Option<Arc<dyn Observer>>,
    counters: AtomicCounters,
    poisoned: AtomicBool,
    /// Copies of redb's file in the making.
    images: RwLock<Vec<Arc<Image>>>,
    #[cfg(nestling_defects)]
    pub(crate) defect: Option<Defect>,
}

impl Directory {
    pub(crate) fn new(path: PathBuf, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            path,
            observer,
            counters: AtomicCounters::default(),
            poisoned: AtomicBool::new(false),
            images: RwLock::default(),
            #[cfg(nestling_defects)]
            defect: None,
        }
    }

    #[cfg(nestling_defects)]
    pub(crate) fn with_defect(self, defect: Option<Defect>) -> Self {
        Self { defect, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            bytes_read: self.counters.bytes_read.load(Ordering::Relaxed),
            bytes_written: self.counters.bytes_written.load(Ordering::Relaxed),
            syncs: self.counters.syncs.load(Ordering::Relaxed),
        }
    }

    /// From here on every write, length change and sync through this directory fails. There is no way back but reopening.
    pub(crate) fn poison(&self) {
        if !self.poisoned.swap(true, Ordering::Release) {
            warning!(path = %self.path.display(), "a write or sync has failed; the store takes no more of them");
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// From here on, until it is dropped, the image hears of what is [about to be overwritten](Directory::preserve).
    pub(crate) fn attach(self: &Arc<Self>, image: Image) -> Attached {
        let image = Arc::new(image);
        self.images.write().unwrap_or_else(PoisonError::into_inner).push(image.clone());
        Attached::new(image, self.clone())
    }

    pub(super) fn detach(&self, image: &Arc<Image>) {
        let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
        images.retain(|other| !Arc::ptr_eq(other, image));
    }

    /// To be called before these bytes of redb's file are overwritten or cut off.
    pub(super) fn preserve(&self, bytes: Range<u64>) {
        for image in self.images.read().unwrap_or_else(PoisonError::into_inner).iter() {
            image.preserve(bytes.clone());
        }
    }

    /// The names of the files in the directory.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        let fail = |e| Error::io("list", &self.path, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Bytes that the files take on disk; holes in them are not counted where the system tells.
    pub(crate) fn bytes_on_disk(&self) -> Result<u64> {
        let fail = |e| Error::io("list", &self.path, e);
        let mut bytes = 0;
        for entry in fs::read_dir(&self.path).map_err(fail)? {
            match entry.map_err(fail)?.metadata() {
                Ok(metadata) => bytes += allocated(&metadata),
                // Removed since the directory was read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Ok(bytes)
    }

    /// Creates a file that must not exist yet.
    pub(crate) fn create(self: &Arc<Self>, name: &str) -> io::Result<DiskFile> {
        self.before_change(Operation::Create { file: name })?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.join(name))?;
        Ok(DiskFile { file, name: name.to_owned(), directory: self.clone() })
    }

    /// Opens an existing file.
    pub(crate) fn open(self: &Arc<Self>, name: &str, write: bool) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(write).open(self.join(name))?;
        Ok(DiskFile { file, name: name.to_owned(), directory: self.clone() })
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.before_change(Operation::Rename { from, to })?;
        fs::rename(self.join(from), self.join(to))
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        self.before_change(Operation::Remove { file: name })?;
        fs::remove_file(self.join(name))
    }

    /// Makes created, renamed and removed names durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.before_change(Operation::SyncDirectory)?;
        sync_directory(&self.path)
    }

    /// Makes the directory's own name durable.
    pub(crate) fn sync_parent(&self) -> io::Result<()> {
        self.before_change(Operation::SyncParent)?;
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_if_allowed(parent),
            _ => sync_if_allowed(Path::new(".")),
        }
    }

    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        match &self.observer {
            Some(observer) => observer.before(operation),
            None => Ok(()),
        }
    }

    fn before_change(&self, operation: Operation<'_>) -> io::Result<()> {
        #[cfg(nestling_defects)]
        if self.defect == Some(Defect::PromoteAfterFailedSync) {
            return self.before(operation);
        }
        if self.is_poisoned() {
            return Err(io::Error::other("the store stopped writing after an earlier I/O failure"));
        }
        self.before(operation)
    }
}

/// A file of the store's directory, with positional reads and writes.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    name: String,
    directory: Arc<Directory>,
}

impl DiskFile {
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The operating system's file, for mapping and for redb's locks.
    pub(crate) fn as_file(&self) -> &File {
        &self.file
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.directory.before(Operation::Read { file: &self.name, offset, len: out.len() })?;
        self.directory.counters.bytes_read.fetch_add(out.len() as u64, Ordering::Relaxed);
        read_exact_at(&self.file, offset, out)
    }

    pub(crate) fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.directory.before_change(Operation::Write { file: &self.name, offset, bytes })?;
        self.directory.counters.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        write_all_at(&self.file, offset, bytes)
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.directory.before_change(Operation::SetLen { file: &self.name, len })?;
        self.file.set_len(len)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.directory.before_change(Operation::Sync { file: &self.name })?;
        self.directory.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }
}

#[cfg(unix)]
fn allocated(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut std::mem::take(&mut out)[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_all_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A sandboxed app may have been given a directory and not the one around it: then the name is older than the app's right to look.
fn sync_if_allowed(path: &Path) -> io::Result<()> {
    match sync_directory(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Windows has no way to sync a directory through std; NTFS journals its names.
#[cfg(windows)]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(windows))]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
