//! One segment file.
//!
//! # Why the reads here are sound
//!
//! A segment's bytes are read through a shared mapping (or a private copy of it) that somebody writes to at the same time,
//! through the file. Rust allows that only if no slice is alive over bytes while they change. The store's slot life cycle
//! sees to it: a slot is written once in a transaction, before its number is published to anyone, and again only when no
//! snapshot that could name it is alive. [`Segment::slice`] therefore forms slices over single slots, never over a region.
//!
//! Another process that truncates or scribbles over a segment behind the store's lock is outside of this argument, as it is
//! for every program that maps files.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use super::code::Code;
use super::header::{HEADER_LEN, Header, Mismatch};
use super::{Geometry, SEGMENT_FORMAT, VectorAccess};
use crate::error::{Error, Result};
use crate::io::{Directory, DiskFile};
use crate::options::Element;

/// The name of the file of a segment.
pub(crate) fn file_name(segment: u32) -> String {
    format!("{segment:08x}.vectors")
}

/// The segments that have a file in the directory, and no name in the store.
pub(crate) fn orphans(directory: &Directory, is_named: impl Fn(u32) -> bool) -> Result<Vec<u32>> {
    let files = directory.list()?;
    Ok(files.iter().filter_map(|name| parse_file_name(name)).filter(|&id| !is_named(id)).collect())
}

/// The segment that a file name stands for.
pub(super) fn parse_file_name(name: &str) -> Option<u32> {
    let id = u32::from_str_radix(name.strip_suffix(".vectors")?, 16).ok()?;
    (file_name(id) == name).then_some(id)
}

/// What the node record says a slot must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotIdentity {
    pub(crate) key: u64,
    pub(crate) stamp: u64,
    pub(crate) code_crc: u32,
    pub(crate) vector_crc: u32,
}

/// A vector as it lies in a segment, at a multiple of 64 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredVector<'a> {
    bytes: &'a [u8],
    dimension: usize,
    element: Element,
}

/// Components that are decoded at once, where they have to be.
const BLOCK: usize = 256;

impl<'a> StoredVector<'a> {
    /// Its bytes, little-endian.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its components: borrowed where they are stored as the machine has them.
    #[inline]
    pub(crate) fn components(&self) -> Cow<'a, [f32]> {
        match self.floats() {
            Some(floats) => Cow::Borrowed(floats),
            None => {
                let mut components = vec![0.0; self.dimension];
                self.element.decode(self.bytes, 0, &mut components);
                Cow::Owned(components)
            }
        }
    }

    /// Hands on its components in order, with the index of the first, without allocating: all at once where they can be borrowed, in blocks
    /// where they must be decoded.
    #[inline]
    pub(crate) fn for_each_block(&self, mut run: impl FnMut(usize, &[f32])) {
        if let Some(floats) = self.floats() {
            return run(0, floats);
        }
        let mut block = [0.0; BLOCK];
        for first in (0..self.dimension).step_by(BLOCK) {
            let (block, _) = block.split_at_mut(BLOCK.min(self.dimension - first));
            self.element.decode(self.bytes, first, block);
            run(first, block);
        }
    }

    #[inline]
    fn floats(&self) -> Option<&'a [f32]> {
        let bytes = self.bytes;
        if cfg!(target_endian = "little") && self.element == Element::F32 {
            // SAFETY: (1) every bit pattern is an f32; (2) the pointer is aligned: only `Segment::vector` forms this type, the
            // map begins at a page, and each vector at a multiple of 64 bytes from there;
            // (3) bytes.len() / 4 × f32 lie inside of `bytes`, whose lifetime the result keeps.
            let floats = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<f32>(), bytes.len() / 4) };
            Some(floats)
        } else {
            None
        }
    }
}

/// A segment of one collection, shared by all snapshots that use it. The file is opened and mapped at the first use.
#[derive(Debug)]
pub(crate) struct Segment {
    header: Header,
    directory: Arc<Directory>,
    access: VectorAccess,
    writable: bool,
    opened: OnceLock<Opened>,
    codes_verified: Bitmap,
    vectors_verified: Bitmap,
    /// Written to since the last sync.
    dirty: AtomicBool,
    /// The file goes when the last user of this segment does.
    doomed: AtomicBool,
}

#[derive(Debug)]
struct Opened {
    file: DiskFile,
    memory: MmapRaw,
}

impl Segment {
    /// A segment that exists on disk. Nothing is opened yet.
    pub(crate) fn existing(
        directory: Arc<Directory>,
        header: Header,
        access: VectorAccess,
        writable: bool,
    ) -> Self {
        Self {
            codes_verified: Bitmap::new(header.capacity),
            vectors_verified: Bitmap::new(header.capacity),
            header,
            directory,
            access,
            writable,
            opened: OnceLock::new(),
            dirty: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
        }
    }

    /// Creates the file in its full length. It is durable after [`Segment::sync`] and a sync of the directory.
    pub(crate) fn create(directory: Arc<Directory>, header: Header, access: VectorAccess) -> Result<Self> {
        let name = file_name(header.segment);
        let fill = |file: DiskFile| {
            let len = header.geometry.file_len(header.capacity);
            file.set_len(len)?;
            file.write_all_at(0, &header.encode())?;
            let memory = match access {
                VectorAccess::Map => map(&file, len)?,
                VectorAccess::Copy => MmapMut::map_anon(memory_len(len)?)?.into(),
            };
            Ok(Opened { file, memory })
        };
        let fail = |e| Error::io("create segment", directory.join(&name), e);
        let file = directory.create(&name).map_err(fail)?;
        let opened = fill(file).map_err(|e| {
            // A file without a header is none that the next opening would know for ours. If this fails as well, it stays.
            let _ = directory.remove(&name);
            fail(e)
        })?;
        let segment = Self::existing(directory, header, access, true);
        segment.dirty.store(true, Ordering::Release);
        segment.opened.set(opened).expect("a segment just made is not open yet");
        Ok(segment)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// True once the file has been opened and its header checked; the reads below are possible then.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.opened.get().is_some()
    }

    /// Opens, checks and maps the file, unless that has been done.
    pub(crate) fn open(&self) -> Result<()> {
        self.ensure_open().map(|_| ())
    }

    fn ensure_open(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        // Two readers may get here at once: the second one's mapping is dropped unused.
        let opened = self.open_file()?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn open_file(&self) -> Result<Opened> {
        let name = file_name(self.header.segment);
        let path = self.directory.join(&name);
        let file = match self.directory.open(&name, self.writable) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupted(path.display().to_string(), "the segment file is missing"));
            }
            Err(e) => return Err(Error::io("open", path, e)),
        };
        let fail = |action| {
            let path = path.clone();
            move |e| Error::io(action, path, e)
        };
        let expected = self.header.geometry.file_len(self.header.capacity);
        let len = file.len().map_err(fail("measure"))?;
        if len < expected {
            let detail = format!("the segment file has {len} bytes where {expected} were expected");
            return Err(Error::corrupted(path.display().to_string(), detail));
        }
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(0, &mut bytes).map_err(fail("read"))?;
        match self.header.check(&bytes) {
            Ok(()) => {}
            Err(Mismatch::Newer { version }) => {
                return Err(Error::UnsupportedFormat { path, found: version, supported: SEGMENT_FORMAT });
            }
            Err(Mismatch::Other(detail)) => {
                return Err(Error::corrupted(path.display().to_string(), format!("found {detail}")));
            }
        }
        let memory = match self.access {
            VectorAccess::Map => map(&file, expected).map_err(fail("map"))?,
            VectorAccess::Copy => copy(&file, expected).map_err(fail("read"))?,
        };
        Ok(Opened { file, memory })
    }

    /// The code slot at `index`. The segment must be open.
    #[inline]
    pub(crate) fn code(&self, index: usize) -> Code<'_> {
        let geometry = &self.header.geometry;
        Code::new(self.slice(geometry.code_offset(index), geometry.code_len()), geometry.coded)
    }

    /// The vector at `index` as stored. The segment must be open.
    #[inline]
    fn vector_bytes(&self, index: usize) -> &[u8] {
        let geometry = &self.header.geometry;
        self.slice(geometry.vector_offset(self.header.capacity, index), geometry.vector_len())
    }

    /// The vector at `index`. The segment must be open.
    #[inline]
    pub(crate) fn vector(&self, index: usize) -> StoredVector<'_> {
        let Geometry { dimension, element, .. } = self.header.geometry;
        StoredVector { bytes: self.vector_bytes(index), dimension, element }
    }

    /// True when the code at `index` has been compared with its record, or was written, by this process.
    #[inline]
    pub(crate) fn is_code_verified(&self, index: usize) -> bool {
        self.codes_verified.contains(index)
    }

    /// The code at `index`, if it has been verified: what a search asks for each slot it comes by.
    #[inline]
    pub(crate) fn verified_code(&self, index: usize) -> Option<Code<'_>> {
        if self.is_code_verified(index) { Some(self.code(index)) } else { None }
    }

    /// The vector and the code at `index`, if both have been verified.
    #[inline]
    pub(crate) fn verified_vector(&self, index: usize) -> Option<(StoredVector<'_>, Code<'_>)> {
        if self.is_vector_verified(index) && self.is_code_verified(index) {
            Some((self.vector(index), self.code(index)))
        } else {
            None
        }
    }

    /// Opens the segment and compares the code at `index` with the record.
    pub(crate) fn verify_code(&self, index: usize, identity: &SlotIdentity) -> Result<()> {
        self.open()?;
        let code = self.code(index);
        let crc = crc32fast::hash(code.bytes());
        let tail = code.tail();
        if crc != identity.code_crc || tail.stamp != identity.stamp || tail.key != identity.key {
            return Err(self.mismatch(index, "code", crc, identity.code_crc));
        }
        self.codes_verified.insert(index);
        Ok(())
    }

    /// The same for the vector.
    #[inline]
    pub(crate) fn is_vector_verified(&self, index: usize) -> bool {
        self.vectors_verified.contains(index)
    }

    /// Opens the segment and compares the vector at `index` with the record.
    pub(crate) fn verify_vector(&self, index: usize, identity: &SlotIdentity) -> Result<()> {
        self.open()?;
        let crc = crc32fast::hash(self.vector_bytes(index));
        if crc != identity.vector_crc {
            return Err(self.mismatch(index, "vector", crc, identity.vector_crc));
        }
        self.vectors_verified.insert(index);
        Ok(())
    }

    fn mismatch(&self, index: usize, what: &str, found: u32, expected: u32) -> Error {
        let slot = self.header.geometry.base(self.header.ordinal as usize).unwrap_or(0) as usize + index;
        Error::corrupted(
            format!(
                "{}, {what} of slot {slot}",
                self.directory.join(&file_name(self.header.segment)).display()
            ),
            format!("the bytes (CRC-32 {found:08x}) are not those of the record (CRC-32 {expected:08x})"),
        )
    }

    /// Writes a code and a vector to a slot that no snapshot names, and returns once they can be read.
    pub(crate) fn write(&self, index: usize, code: &[u8], vector: &[u8]) -> Result<()> {
        let geometry = &self.header.geometry;
        assert!(
            index < self.header.capacity as usize
                && code.len() == geometry.code_len()
                && vector.len() == geometry.vector_len(),
            "a slot write stays inside of its slot"
        );
        let opened = self.ensure_open()?;
        let code_at = geometry.code_offset(index);
        let vector_at = geometry.vector_offset(self.header.capacity, index);
        self.dirty.store(true, Ordering::Release);
        for (offset, bytes) in [(code_at, code), (vector_at, vector)] {
            opened.file.write_all_at(offset, bytes).map_err(|e| Error::io("write", opened.file.path(), e))?;
            if self.access == VectorAccess::Copy {
                // SAFETY: (1) the range lies inside of the copy: its length is the file's, which `open_file` compared with
                // `file_len`, and the assertion above bounds index and lengths; (2) no slice over this slot is alive: see
                // the module's documentation; (3) the copy is private memory, writable, and outlives this call.
                unsafe {
                    let to = opened.memory.as_mut_ptr().add(offset as usize);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
                }
            }
        }
        self.codes_verified.insert(index);
        self.vectors_verified.insert(index);
        Ok(())
    }

    /// Makes what was written durable. A failure is final: the store must be poisoned.
    pub(crate) fn sync(&self) -> Result<()> {
        if !self.dirty.load(Ordering::Acquire) {
            return Ok(());
        }
        let opened = self.ensure_open()?;
        opened.file.sync().map_err(|e| Error::io("sync", opened.file.path(), e))?;
        self.dirty.store(false, Ordering::Release);
        Ok(())
    }

    /// Removes the file once nobody uses the segment any more.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// `len` bytes at `offset` of the file.
    #[inline]
    fn slice(&self, offset: u64, len: usize) -> &[u8] {
        let memory = &self.opened.get().expect("a segment is opened before its slots are read").memory;
        let offset = offset as usize;
        assert!(offset.checked_add(len).is_some_and(|end| end <= memory.len()), "a slot lies in its segment");
        // SAFETY: (1) offset + len ≤ the memory's length, just checked; (2) the memory lives as long as `self.opened`, which
        // is never replaced, so as long as `&self`; (3) the bytes do not change while the slice lives: callers ask only
        // for slots of their snapshot or, the writer, for slots whose write has returned; see the module's documentation.
        unsafe { std::slice::from_raw_parts(memory.as_ptr().add(offset), len) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if *self.doomed.get_mut() {
            // Windows refuses to remove a mapped file. A failure is no loss: the next opening sweeps.
            self.opened.take();
            let _ = self.directory.remove(&file_name(self.header.segment));
        }
    }
}

fn memory_len(len: u64) -> std::io::Result<usize> {
    usize::try_from(len).map_err(|_| std::io::ErrorKind::FileTooLarge.into())
}

/// Maps the first `len` bytes, which the file has.
fn map(file: &DiskFile, len: u64) -> std::io::Result<MmapRaw> {
    MmapOptions::new().len(memory_len(len)?).map_raw_read_only(file.as_file())
}

/// Reads the first `len` bytes, which the file has.
fn copy(file: &DiskFile, len: u64) -> std::io::Result<MmapRaw> {
    let mut memory = MmapMut::map_anon(memory_len(len)?)?;
    // In pieces, so that one read is never larger than what every system accepts.
    const PIECE: usize = 1 << 24;
    for (i, piece) in memory.chunks_mut(PIECE).enumerate() {
        file.read_exact_at((i * PIECE) as u64, piece)?;
    }
    Ok(memory.into())
}

/// A set of slot indices that threads add to.
#[derive(Debug)]
struct Bitmap(Box<[AtomicU64]>);

impl Bitmap {
    fn new(capacity: u32) -> Self {
        Self((0..capacity.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (index % 64) & 1 == 1)
    }

    fn insert(&self, index: usize) {
        if let Some(word) = self.0.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Release);
        }
    }
}
