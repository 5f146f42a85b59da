//! What a run came by, so that it cannot pass without having seen the interesting cases.

use std::collections::BTreeMap;

macro_rules! cases {
    ($($(#[doc = $doc:literal])* $case:ident,)*) => {
        /// A case that a full run must have seen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Case { $($(#[doc = $doc])* $case,)* }
        const ALL: &[Case] = &[$(Case::$case,)*];
    };
}

cases! {
    Commit,
    NonDurableCommit,
    ExplicitAbort,
    AbortByDrop,
    CommitAfterTheStoreIsDropped,
    CloseAndReopen,
    DropAndReopen,
    ReopenAfterNonDurableCommit,
    ReadOnlyOpening,
    OpeningWithCopiedVectors,
    CloseRefusedForReaders,
    OpeningRefusedForReaders,

    Update,
    UnknownKeyRemoved,
    RepeatedKeyInBatch,
    InputRefused,
    CollectionEmptied,
    EmptiedCollectionRefilled,
    CollectionDropped,
    CollectionReplaced,
    CreatedCollectionAborted,

    /// `stats` tells of fewer dead slots in a collection than before.
    SlotsReused,
    /// The graph lost its top layer, hence its entry point.
    EntryPointRemoved,
    /// A node on layer 0 has as many neighbours as it may.
    RowFull,
    ThreeLayers,
    /// 200 and more copies of one vector in a collection on the graph path.
    CrowdOfDuplicates,
    ThreeHundredVectors,

    ScannedSearch,
    GraphSearch,
    /// A graph search with `ef` no less than the number of vectors.
    ExhaustiveGraphSearch,
    GraphSearchWithoutCodes,
    /// A graph search over vectors that are not stored as f32.
    GraphSearchOnSmallElements,
    /// A graph search over a transaction's own changes.
    GraphSearchInTransaction,
    FilteredWalk,
    FilteredWalkInTransaction,
    /// A filtered search that ended as a scan.
    FilteredSearchGivenUp,
    RadiusWalk,
    /// A radius search that found so much that it scanned.
    RadiusWalkGivenUp,
    SeveralPages,

    SnapshotAfterThreeCommits,
    SnapshotOnAnotherThread,
    SnapshotOfDroppedCollection,
    Check,
}

/// How often each case was seen.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    counts: BTreeMap<Case, u64>,
    pub operations: u64,
    /// Hits of searches at the default `ef`, and how many of them a search by brute force would have given.
    pub approximate_hits: u64,
    pub approximate_hits_right: u64,
}

impl Evidence {
    pub fn saw(&mut self, case: Case) {
        *self.counts.entry(case).or_default() += 1;
    }

    pub fn saw_if(&mut self, condition: bool, case: Case) {
        if condition {
            self.saw(case);
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (&case, count) in &other.counts {
            *self.counts.entry(case).or_default() += count;
        }
        self.operations += other.operations;
        self.approximate_hits += other.approximate_hits;
        self.approximate_hits_right += other.approximate_hits_right;
    }

    pub fn missing(&self) -> Vec<Case> {
        ALL.iter().copied().filter(|case| !self.counts.contains_key(case)).collect()
    }
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for case in ALL {
            writeln!(f, "{:>10}  {case:?}", self.counts.get(case).unwrap_or(&0))?;
        }
        let (right, hits) = (self.approximate_hits_right, self.approximate_hits);
        write!(f, "{:>10}  operations; at default ef {right} of {hits} hits are right", self.operations)
    }
}
