//! What a run has stressed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nestling::Stats;

use crate::READERS;

/// Counts, to be told and to be demanded.
#[derive(Debug, Default)]
pub struct Evidence {
    pub eras: u64,
    pub commits: u64,
    pub not_durable: u64,
    pub aborts: u64,
    pub refused: u64,
    pub replaced_everything: u64,
    pub dropped: u64,
    /// Slots of the lasting collection that were written again…
    pub slots_reused: u64,
    /// …in stretches of commits at each of which a reader held an older snapshot than the stretch began with.
    pub slots_reused_under_snapshots: u64,
    pub most_segments: usize,
    /// Segment files that were seen, and are gone.
    pub segments_unlinked: usize,
    pub bytes_written: u64,
    pub seen: Seen,
}

/// What the readers have done.
#[derive(Debug, Default)]
pub struct Seen {
    pub snapshots: u64,
    /// Looks at a snapshot that was not the latest any more.
    pub looks_back: u64,
    /// The most commits between a snapshot and the latest at a look.
    pub oldest: u64,
    /// Looks at a collection that has been dropped since.
    pub looks_at_dropped: u64,
    pub vectors: u64,
    pub searches: u64,
    pub pages: u64,
    /// Of searches with the default effort: hits that are among the nearest, and hits.
    pub right: u64,
    pub hits: u64,
}

impl Evidence {
    pub fn add(&mut self, seen: Seen) {
        let total = &mut self.seen;
        total.snapshots += seen.snapshots;
        total.looks_back += seen.looks_back;
        total.oldest = total.oldest.max(seen.oldest);
        total.looks_at_dropped += seen.looks_at_dropped;
        total.vectors += seen.vectors;
        total.searches += seen.searches;
        total.pages += seen.pages;
        total.right += seen.right;
        total.hits += seen.hits;
    }

    /// At the end of an era.
    pub fn count_store(&mut self, stats: &Stats, files: &BTreeSet<u32>) {
        self.eras += 1;
        let segments = stats.collections.iter().map(|collection| collection.segments);
        self.most_segments = self.most_segments.max(segments.max().unwrap_or(0));
        // Ids are given out in order.
        let given_out = files.last().map_or(0, |&last| last as usize + 1);
        self.segments_unlinked = self.segments_unlinked.max(given_out - files.len());
    }

    pub fn assert_enough(&self) {
        let Self { seen, .. } = self;
        let enough = [
            (self.commits >= 50, "commits"),
            (self.not_durable > 0, "commits that do not wait for the disk"),
            (self.aborts > 0, "aborted transactions"),
            (self.refused > 0, "refused input"),
            (self.replaced_everything > 0, "transactions that replace everything"),
            (self.dropped > 0, "dropped collections"),
            (self.slots_reused > 0, "reused slots"),
            (self.slots_reused_under_snapshots > 0, "slots reused while older snapshots were alive"),
            (self.most_segments >= 3, "collections of several segments"),
            (self.segments_unlinked > 0, "unlinked segments"),
            (seen.looks_back > 0, "looks at old snapshots"),
            (seen.oldest >= 10, "looks at snapshots of ten commits ago"),
            (seen.looks_at_dropped > 0, "looks at dropped collections"),
            (seen.pages > 0, "pages"),
        ];
        let missing: Vec<&str> = enough.iter().filter(|(enough, _)| !enough).map(|(_, what)| *what).collect();
        assert!(missing.is_empty(), "too few for a stress: {missing:?}\n{self:#?}");
        let recall = seen.right as f64 / seen.hits as f64;
        assert!(recall > 0.9, "searches with the default effort find {recall} of the nearest\n{self:#?}");
    }
}

/// For each reader the oldest commit that it holds a snapshot of. For evidence only: relaxed, so that nothing is ordered by it.
pub struct Held([AtomicU64; READERS]);

impl Default for Held {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(u64::MAX)))
    }
}

impl Held {
    pub fn note(&self, reader: usize, oldest: Option<u64>) {
        self.0[reader].store(oldest.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn oldest(&self) -> u64 {
        self.0.iter().map(|oldest| oldest.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX)
    }
}

/// The ids of the segments that have a file.
pub fn segment_files(path: &Path) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(path).expect("the store's directory can be listed");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| u32::from_str_radix(name.strip_suffix(".vectors")?, 16).ok()).collect()
}
