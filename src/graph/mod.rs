//! The graph: its rows in redb, and their pages in memory.
//!
//! [`storage`] and [`reader`] are the only places where rows are written to and read from redb; [`rows`] is their encoding. In memory a run of
//! slots forms a [`Page`], loaded on first touch; a [`GraphSnapshot`] is a persistent array of pages, in which a changed
//! copy shares all untouched pages with the original. [`GraphEditor`] is such a copy that notes what it changed.

mod editor;
pub(crate) mod journal;
pub(crate) mod numbering;
mod page;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod salvage;
mod snapshot;
pub(crate) mod storage;

pub(crate) use editor::GraphEditor;
pub(crate) use page::{Node, PAGE_SLOTS, Page, RowMut};
pub(crate) use snapshot::{GraphSnapshot, PageSource};
