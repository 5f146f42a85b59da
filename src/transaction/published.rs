//! The latest commit, as readers find it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::engine::Engine;
use super::journal::{Journal, Walk};
use crate::collection::CollectionSnapshot;
use crate::error::{Error, Result};
use crate::graph::journal::{self, CollectionEntry, Replayed};
use crate::graph::rows::{CollectionRow, SegmentRow, StateRow};
use crate::graph::storage::{self, Found};
use crate::hnsw::level::MAX_LEVEL;

/// Everything a reader needs, as of one commit: redb's snapshot, the graphs and the segments always agree.
/// Fields are in drop order: the engine, which owns the database, goes last.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) collections: BTreeMap<Arc<str>, Arc<CollectionSnapshot>>,
    pub(crate) transaction: Arc<redb::ReadTransaction>,
    pub(crate) commit: u64,
    pub(crate) engine: Arc<Engine>,
}

impl Published {
    /// The same commit, with every collection as the tables and the journal have it, and nothing in memory: for those who look at
    /// what is stored.
    pub(crate) fn reread(&self) -> Result<(Stored, Vec<CollectionSnapshot>)> {
        let stored = Stored::read(&self.transaction)?;
        let mut collections = Vec::with_capacity(stored.collections.len());
        for (name, row) in &stored.collections {
            let Some(published) = self.collections.get(name.as_str()) else {
                return Err(Error::corrupted(
                    format!("collection {name:?}"),
                    "it was not there when the store was opened",
                ));
            };
            let segments = published.segments.clone();
            collections.push(CollectionSnapshot::stored(
                name,
                stored.replay(row)?,
                segments,
                self.transaction.clone(),
            )?);
        }
        Ok((stored, collections))
    }
}

/// The global tables and the journal.
pub(crate) struct Stored {
    pub(crate) state: StateRow,
    pub(crate) collections: BTreeMap<String, CollectionRow>,
    pub(crate) segments: BTreeMap<u32, SegmentRow>,
    pub(crate) entries: Vec<(u64, Vec<CollectionEntry>)>,
}

impl Stored {
    /// Reads them from a store of this format.
    pub(crate) fn read(transaction: &redb::ReadTransaction) -> Result<Self> {
        storage::shielded(|| Self::read_tables(transaction))
    }

    fn read_tables(transaction: &redb::ReadTransaction) -> Result<Self> {
        let Found::State(state) = storage::read_state(transaction)? else {
            return Err(Error::corrupted("store.redb", "the store's own row is not of this version"));
        };
        Ok(Self {
            state,
            collections: storage::read_collections(transaction)?,
            segments: storage::read_segments(transaction)?,
            entries: storage::read_entries(transaction, state.removed, MAX_LEVEL)?,
        })
    }

    /// The number of the last commit.
    pub(crate) fn commit(&self) -> u64 {
        self.entries.last().map_or(0, |(commit, _)| *commit).max(self.state.commit)
    }

    /// A collection with what the journal has ahead of its tables.
    pub(crate) fn replay(&self, row: &CollectionRow) -> Result<Replayed> {
        let entries =
            self.entries.iter().flat_map(|(commit, entry)| entry.iter().map(|part| (*commit, part)));
        journal::replay(row, self.state.applied, entries, &storage::journal_place(&[]))
    }

    /// The writer's account of the journal.
    pub(crate) fn journal(&self) -> Journal {
        let mut links = Vec::new();
        let mut entries = VecDeque::with_capacity(self.entries.len());
        let folded: BTreeMap<u32, u64> = self.collections.values().map(|row| (row.id, row.folded)).collect();
        for (commit, entry) in &self.entries {
            let rows = entry.iter().map(|part| part.links.len()).sum::<usize>();
            entries.push_back((*commit, rows.max(1)));
            for part in
                entry.iter().filter(|part| folded.get(&part.row.id).is_some_and(|folded| commit > folded))
            {
                links.extend(part.links.iter().map(|change| (part.row.id, change.slot, change.layer)));
            }
        }
        let StateRow { walk_collection, walk_slot, walk_layer, lap, folded, .. } = self.state;
        Journal::new(
            Walk { position: (walk_collection, walk_slot, walk_layer), lap, folded },
            self.state.applied,
            self.state.removed,
            entries,
            links.into_iter().collect(),
        )
    }
}

/// What the store and its transactions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) current: ArcSwap<Published>,
    pub(crate) engine: Arc<Engine>,
}
