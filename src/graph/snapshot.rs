//! A persistent array of pages.

use std::sync::{Arc, OnceLock};

use super::page::{Node, PAGE_SLOTS, Page};
use crate::distance::Kernel;
use crate::error::{Error, Result};
use crate::options::Capacity;
use crate::vectors::Slot;

/// Pages that share a chunk: the unit of copying.
const CHUNK_PAGES: usize = 64;

/// Where a snapshot's pages come from.
pub(crate) trait PageSource: std::fmt::Debug + Send + Sync {
    /// Reads and checks all rows of a page.
    fn load(&self, page: usize) -> Result<Page>;
}

/// The graph as of one commit. A page is loaded when it is first touched, and then shared with all snapshots in which its
/// rows are the same.
#[derive(Debug, Clone)]
pub(crate) struct GraphSnapshot {
    capacity: Capacity,
    slots: Slot,
    chunks: Arc<Vec<Arc<Chunk>>>,
    source: Arc<dyn PageSource>,
}

#[derive(Debug, Clone)]
struct Chunk {
    cells: [OnceLock<Page>; CHUNK_PAGES],
}

impl Chunk {
    fn new() -> Self {
        Self { cells: [const { OnceLock::new() }; CHUNK_PAGES] }
    }
}

impl GraphSnapshot {
    /// A graph of slots below `slots`, with no page loaded.
    pub(crate) fn new(capacity: Capacity, slots: Slot, source: Arc<dyn PageSource>) -> Self {
        let chunks = (slots as usize).div_ceil(PAGE_SLOTS * CHUNK_PAGES);
        let chunks = std::iter::repeat_with(|| Arc::new(Chunk::new())).take(chunks).collect();
        Self { capacity, slots, chunks: Arc::new(chunks), source }
    }

    /// The same pages, further ones to be loaded from another source that has the same rows.
    pub(crate) fn with_source(mut self, source: Arc<dyn PageSource>) -> Self {
        self.source = source;
        self
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Slots are below this number.
    pub(crate) fn slots(&self) -> Slot {
        self.slots
    }

    #[inline]
    pub(crate) fn neighbors(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        match self.page_of(slot)?.neighbors(slot as usize % PAGE_SLOTS, layer) {
            Some(neighbors) => Ok(neighbors),
            None => Err(missing(slot, layer)),
        }
    }

    /// Hints that a node's neighbours will soon be read; does nothing for a page that is not loaded.
    #[inline]
    pub(crate) fn prefetch_neighbors(&self, slot: Slot, layer: u8, kernel: impl Kernel) {
        let number = slot as usize / PAGE_SLOTS;
        let chunk = self.chunks.get(number / CHUNK_PAGES);
        let page = chunk.and_then(|chunk| chunk.cells.get(number % CHUNK_PAGES)?.get());
        if layer == 0
            && let Some(row) = page.and_then(|page| page.base_row(slot as usize % PAGE_SLOTS))
        {
            kernel.prefetch(row);
        }
    }

    /// The live node in this slot; an error when there is none.
    #[inline]
    pub(crate) fn node(&self, slot: Slot) -> Result<&Node> {
        self.page_of(slot)?.node(slot as usize % PAGE_SLOTS).ok_or_else(|| missing(slot, 0))
    }

    /// The page of a slot below [`GraphSnapshot::slots`], loaded if need be.
    #[inline]
    pub(crate) fn page_of(&self, slot: Slot) -> Result<&Page> {
        self.page(slot as usize / PAGE_SLOTS)
    }

    #[inline]
    pub(crate) fn page(&self, number: usize) -> Result<&Page> {
        let chunk = self.chunks.get(number / CHUNK_PAGES);
        match chunk.and_then(|chunk| chunk.cells.get(number % CHUNK_PAGES)) {
            Some(cell) => match cell.get() {
                Some(page) => Ok(page),
                None => self.load(cell, number),
            },
            None => Err(missing((number * PAGE_SLOTS) as Slot, 0)),
        }
    }

    #[cold]
    fn load<'a>(&self, cell: &'a OnceLock<Page>, number: usize) -> Result<&'a Page> {
        // Two readers may load the same page at once; the second one's is dropped.
        let page = self.source.load(number)?;
        Ok(cell.get_or_init(|| page))
    }

    /// Pages in all.
    pub(crate) fn pages(&self) -> usize {
        (self.slots as usize).div_ceil(PAGE_SLOTS)
    }

    /// The pages in memory.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &Page> {
        self.chunks.iter().flat_map(|chunk| chunk.cells.iter()).filter_map(|cell| cell.get())
    }

    /// The page, to be changed. Other snapshots keep theirs.
    pub(super) fn page_mut(&mut self, number: usize) -> Result<&mut Page> {
        self.page(number)?;
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(number / CHUNK_PAGES);
        let cell =
            chunk.and_then(|chunk| Arc::make_mut(chunk).cells.get_mut(number % CHUNK_PAGES)?.get_mut());
        match cell {
            Some(page) => Ok(page),
            None => Err(missing((number * PAGE_SLOTS) as Slot, 0)),
        }
    }

    /// Makes room for slots below `slots`; pages that are wholly new start out empty instead of being read.
    pub(super) fn grow(&mut self, slots: Slot) {
        let old = self.pages();
        self.slots = self.slots.max(slots);
        let new = old..self.pages();
        let chunks = Arc::make_mut(&mut self.chunks);
        for number in new {
            if number / CHUNK_PAGES == chunks.len() {
                chunks.push(Arc::new(Chunk::new()));
            }
            let chunk = chunks.get_mut(number / CHUNK_PAGES).map(Arc::make_mut);
            if let Some(cell) = chunk.and_then(|chunk| chunk.cells.get_mut(number % CHUNK_PAGES)) {
                *cell = Page::new(self.capacity).into();
            }
        }
    }
}

#[cold]
fn missing(slot: Slot, layer: u8) -> Error {
    Error::corrupted(
        format!("slot {slot}, layer {layer}"),
        "an edge or key leads here, but there is no such row",
    )
}
