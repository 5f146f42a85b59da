//! A copy of a file as it was at one instant, made while others go on writing to it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::directory::{Directory, DiskFile};

/// What is copied, or saved before it is overwritten, as a whole.
const BLOCK: u64 = 4096;
/// Blocks that [`Image::copy`] reads at once: a writer waits for no more than that.
const RUN: u64 = 64;

/// Copies `source` into `target`: block by block, in order, and out of order each block that is about to be overwritten.
///
/// Whoever writes to the source says so first, to [`Image::preserve`]. So each block of the copy is read before it changes. An error
/// on the way is an error of the copy, never of the writer.
#[derive(Debug)]
pub(crate) struct Image {
    source: DiskFile,
    target: DiskFile,
    len: u64,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// A bit for each block that is in the copy, or about to be written there by [`Image::copy`].
    taken: Vec<u64>,
    failed: Option<io::Error>,
}

impl Progress {
    fn is_taken(&self, block: u64) -> bool {
        self.taken.get((block / 64) as usize).is_none_or(|word| word >> (block % 64) & 1 == 1)
    }

    fn take(&mut self, blocks: &Range<u64>) {
        for block in blocks.clone() {
            if let Some(word) = self.taken.get_mut((block / 64) as usize) {
                *word |= 1 << (block % 64);
            }
        }
    }

    /// The runs of blocks in `blocks` that are still to be had from the source.
    fn open_runs(&self, blocks: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in blocks.filter(|&block| !self.is_taken(block)) {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        runs
    }
}

impl Image {
    /// The instant is now: nobody may be writing to `source` until the image is [attached](Directory::attach).
    pub(crate) fn new(source: DiskFile, target: DiskFile) -> io::Result<Self> {
        let len = source.len()?;
        target.set_len(len)?;
        let taken = vec![0; len.div_ceil(BLOCK).div_ceil(64) as usize];
        Ok(Self { source, target, len, progress: Mutex::new(Progress { taken, failed: None }) })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves what is about to be overwritten or cut off.
    pub(super) fn preserve(&self, bytes: Range<u64>) {
        let blocks = bytes.start / BLOCK..bytes.end.min(self.len).div_ceil(BLOCK);
        let mut progress = self.progress();
        if progress.failed.is_some() {
            return;
        }
        for run in progress.open_runs(blocks) {
            match self.read(&run).and_then(|bytes| self.target.write_all_at(run.start * BLOCK, &bytes)) {
                Ok(()) => progress.take(&run),
                Err(e) => {
                    progress.failed = Some(e);
                    return;
                }
            }
        }
    }

    /// Copies all that is not copied yet, and makes the copy durable.
    pub(crate) fn copy(&self) -> io::Result<()> {
        let blocks = self.len.div_ceil(BLOCK);
        for start in (0..blocks).step_by(RUN as usize) {
            self.copy_blocks(start..blocks.min(start + RUN))?;
        }
        if let Some(e) = self.progress().failed.take() {
            return Err(e);
        }
        self.target.sync()
    }

    fn copy_blocks(&self, blocks: Range<u64>) -> io::Result<()> {
        let mut progress = self.progress();
        let mut read = Vec::new();
        for run in progress.open_runs(blocks) {
            read.push((run.start * BLOCK, self.read(&run)?));
            progress.take(&run);
        }
        // What has been read may change in the source from here on.
        drop(progress);
        read.iter().try_for_each(|(offset, bytes)| self.target.write_all_at(*offset, bytes))
    }

    fn read(&self, blocks: &Range<u64>) -> io::Result<Vec<u8>> {
        let (start, end) = (blocks.start * BLOCK, (blocks.end * BLOCK).min(self.len));
        let mut bytes = vec![0; (end - start) as usize];
        self.source.read_exact_at(start, &mut bytes)?;
        Ok(bytes)
    }
}

/// An image that hears of all writes, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Attached {
    image: Arc<Image>,
    directory: Arc<Directory>,
}

impl Attached {
    pub(super) fn new(image: Arc<Image>, directory: Arc<Directory>) -> Self {
        Self { image, directory }
    }
}

impl std::ops::Deref for Attached {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.directory.detach(&self.image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// A file that is overwritten, cut and extended between any two steps of the copy, and within them as far as one thread can.
    #[test]
    fn the_copy_is_the_file_as_it_was_at_the_start() {
        for seed in 0..40 {
            let mut rng = StdRng::seed_from_u64(seed);
            let dir = tempfile::tempdir().unwrap();
            let directory = Arc::new(Directory::new(dir.path().to_owned(), None));
            let file = directory.create("file").unwrap();
            let len = rng.random_range(0..3 * RUN * BLOCK) as usize;
            let original: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            file.write_all_at(0, &original).unwrap();
            let source = directory.open("file", false).unwrap();
            let image = Image::new(source, directory.create("copy").unwrap()).unwrap();
            let image = directory.attach(image);
            let blocks = image.len().div_ceil(BLOCK);
            for start in (0..blocks).step_by(16) {
                for _ in 0..rng.random_range(0..6) {
                    let now = file.len().unwrap();
                    if rng.random_ratio(1, 5) {
                        let to = rng.random_range(0..2 * now + 2);
                        directory.preserve(to..u64::MAX);
                        file.set_len(to).unwrap();
                    } else {
                        let at = rng.random_range(0..now + 2);
                        let bytes = vec![rng.random(); rng.random_range(0..3 * BLOCK as usize)];
                        directory.preserve(at..at + bytes.len() as u64);
                        file.write_all_at(at, &bytes).unwrap();
                    }
                }
                image.copy_blocks(start..blocks.min(start + 16)).unwrap();
            }
            image.copy().unwrap();
            assert!(std::fs::read(dir.path().join("copy")).unwrap() == original, "seed {seed}");
        }
    }
}
