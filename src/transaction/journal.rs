//! The writer's account of the journal, and the fold that brings the tables up to date.
//!
//! Every sixteenth commit or so writes, besides its own entry, what the journal has ahead of the tables: all nodes, keys and free
//! slots, and a stretch of the link rows. Links are what there is most of, and they lie all over: the fold walks them in key
//! order, a stretch at a time, so that the rows of many commits share a page. When it comes round to the start, all entries from
//! before it set out may be removed. How far it has come is kept in the store: an app that is used for minutes at a time would
//! never see the end of a lap. It only walks when the journal holds more rows than the graph has nodes, or so: the denser the rows
//! lie, the less each costs.

use std::collections::{BTreeSet, VecDeque};

use crate::collection::CollectionSnapshot;
use crate::vectors::Slot;

/// Commits from one fold to the next.
const FOLD_EVERY: usize = 16;
/// A transaction that changes more link rows than this writes them in place.
const LARGEST_ENTRY: usize = 2048;
/// The journal may hold at least, and is to hold at most, about so many link rows.
const FEWEST_ROWS: usize = 1024;
const MOST_ROWS: usize = 128 * 1024;

/// A link row of some collection.
pub(crate) type LinkKey = (u32, Slot, u8);
const START: LinkKey = (0, 0, 0);

/// What the writers know of the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The entries: commit, and number of link rows.
    entries: VecDeque<(u64, usize)>,
    /// Link rows in all entries.
    rows: usize,
    /// Link rows that the tables do not have yet.
    links: BTreeSet<LinkKey>,
    walk: Walk,
    /// Nodes, keys and free lists in the tables have all entries up to this commit.
    applied: u64,
    /// The commit of the last entry that was removed.
    removed: u64,
    /// Entries, and link rows in them, since the last fold.
    since_fold: (usize, usize),
}

/// How far the fold has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// Where it goes on.
    pub(crate) position: LinkKey,
    /// Entries up to this commit are folded when the walk comes to its end.
    pub(crate) lap: u64,
    /// Entries up to this commit are folded.
    pub(crate) folded: u64,
}

/// What a commit folds.
#[derive(Debug)]
pub(crate) struct Fold {
    /// Link rows to be written, in order.
    pub(crate) links: Vec<LinkKey>,
    /// Entries to be removed.
    pub(crate) remove: Vec<u64>,
    /// How far the walk has come with it.
    pub(crate) walk: Walk,
}

impl Journal {
    /// The journal as it was found.
    pub(crate) fn new(
        walk: Walk,
        applied: u64,
        removed: u64,
        entries: VecDeque<(u64, usize)>,
        links: BTreeSet<LinkKey>,
    ) -> Self {
        let rows = entries.iter().map(|(_, rows)| rows).sum();
        let mut since_fold = (0, 0);
        for (_, rows) in entries.iter().filter(|(commit, _)| *commit > applied) {
            since_fold = (since_fold.0 + 1, since_fold.1 + rows);
        }
        Self { entries, rows, links, walk, applied, removed, since_fold }
    }

    /// How far the fold has come.
    pub(crate) fn walk(&self) -> Walk {
        self.walk
    }

    /// Nodes, keys and free lists in the tables have all entries up to this commit.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// The commit of the last entry that was removed.
    pub(crate) fn removed(&self) -> u64 {
        self.removed
    }

    /// The commit of the last entry, there or removed.
    pub(crate) fn last_entry(&self) -> u64 {
        self.entries.back().map_or(self.removed, |(commit, _)| *commit)
    }

    /// True for changes that an entry is to hold.
    pub(crate) fn takes(changed_links: usize) -> bool {
        changed_links <= LARGEST_ENTRY
    }

    /// What a commit on top of `base` should fold; `None` most of the time.
    pub(crate) fn fold<'a>(
        &self,
        base: u64,
        collections: impl Iterator<Item = &'a CollectionSnapshot>,
    ) -> Option<Fold> {
        let (entries, rows) = self.since_fold;
        if entries < FOLD_EVERY && rows < LARGEST_ENTRY {
            return None;
        }
        let nodes: u64 = collections.map(|collection| collection.state.live).sum();
        let bound = usize::try_from(nodes).unwrap_or(MOST_ROWS).clamp(FEWEST_ROWS, MOST_ROWS);
        // Half as many again as have come, so that the walk comes round before the journal doubles.
        let quota = if self.rows > bound { rows + rows / 2 + 64 } else { 0 };
        let links: Vec<LinkKey> = self.links.range(self.walk.position..).take(quota).copied().collect();
        let walk = match links.last() {
            _ if links.len() < quota => Walk { position: START, lap: base, folded: self.walk.lap },
            Some(&(collection, slot, layer)) => {
                Walk { position: (collection, slot, layer.saturating_add(1)), ..self.walk }
            }
            None => self.walk,
        };
        let removable = self.entries.iter().take_while(|(commit, _)| *commit <= self.walk.folded);
        let remove = removable.take(3 * entries).map(|(commit, _)| *commit).collect();
        Some(Fold { links, remove, walk })
    }

    /// Notes that `fold` has been committed on top of `base`.
    pub(crate) fn folded(&mut self, fold: Fold, base: u64) {
        for link in &fold.links {
            self.links.remove(link);
        }
        for commit in fold.remove {
            if let Some(&(first, rows)) = self.entries.front()
                && first == commit
            {
                self.entries.pop_front();
                self.removed = first;
                self.rows -= rows;
            }
        }
        self.walk = fold.walk;
        self.applied = base;
        self.since_fold = (0, 0);
    }

    /// Notes an entry.
    pub(crate) fn add(&mut self, commit: u64, links: impl Iterator<Item = LinkKey>) {
        let before = self.rows;
        for link in links {
            self.links.insert(link);
            self.rows += 1;
        }
        // An entry without links takes its place as well.
        let rows = (self.rows - before).max(1);
        self.rows = before + rows;
        self.entries.push_back((commit, rows));
        self.since_fold.0 += 1;
        self.since_fold.1 += rows;
    }

    /// The link rows of a collection that the tables do not have yet.
    pub(crate) fn links_of(&self, collection: u32) -> impl Iterator<Item = (Slot, u8)> + '_ {
        let range = (collection, 0, 0)..=(collection, Slot::MAX, u8::MAX);
        self.links.range(range).map(|&(_, slot, layer)| (slot, layer))
    }

    /// Notes that a collection's tables are up to date, or gone.
    pub(crate) fn forget(&mut self, collection: u32) {
        let mut rest = self.links.split_off(&(collection, 0, 0));
        if let Some(next) = collection.checked_add(1) {
            self.links.append(&mut rest.split_off(&(next, 0, 0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTSET: Walk = Walk { position: START, lap: 0, folded: 0 };

    /// As the collections of an empty store: the bound is the lowest.
    fn fold(journal: &Journal, base: u64) -> Option<Fold> {
        journal.fold(base, std::iter::empty())
    }

    #[test]
    fn the_journal_stays_bounded_and_loses_no_row() {
        let mut journal = Journal::new(OUTSET, 0, 0, VecDeque::new(), BTreeSet::new());
        let mut tables = BTreeSet::new();
        let mut largest = 0;
        let mut kept: VecDeque<(u64, Vec<LinkKey>)> = VecDeque::new();
        for commit in 1..20_000_u64 {
            if let Some(fold) = fold(&journal, commit - 1) {
                tables.extend(fold.links.iter().copied());
                for removed in &fold.remove {
                    let (first, links) = kept.pop_front().unwrap();
                    assert_eq!(first, *removed, "entries go in order");
                    // Whatever an entry held is in the tables, as of that entry or later, or in a later entry.
                    for link in links {
                        assert!(tables.contains(&link), "{link:?} of commit {first} was never folded");
                    }
                }
                journal.folded(fold, commit - 1);
            }
            let links = (0..30).map(|i| (1, (commit as u32 * 7919 + i * 104_729) % 4000, 0));
            let links: BTreeSet<LinkKey> = links.collect();
            for link in &links {
                // Changed again: the table is behind until the next fold.
                tables.remove(link);
            }
            journal.add(commit, links.iter().copied());
            kept.push_back((commit, links.into_iter().collect()));
            largest = largest.max(journal.rows);
            // What was removed stays right although rows change: the newest entry of each row is kept or folded.
            if commit % 97 == 0 {
                let covered: BTreeSet<LinkKey> =
                    kept.iter().flat_map(|(_, links)| links.iter().copied()).collect();
                assert!(journal.links.is_subset(&covered), "a row is pending that no entry holds");
            }
        }
        assert!(largest < 12 * FEWEST_ROWS, "{largest} rows in the journal");
        assert!(kept.len() < 500, "{} entries", kept.len());
    }
}
