//! The workloads: short scripts that between them do everything that changes files.
//!
//! To add one, add it to [`all`]; simulation and fault sweep take it up by themselves.

use std::ops::Range;

use nestling::{Codes, Durability, Metric, VectorAccess};

use super::state::{Change, Space};

/// A script and its name.
#[derive(Debug, Clone)]
pub struct Workload {
    pub name: &'static str,
    pub access: VectorAccess,
    pub steps: Vec<Step>,
    /// What is broken in the store.
    #[cfg(nestling_defects)]
    pub defect: Option<nestling::Defect>,
}

impl Workload {
    pub fn new(access: VectorAccess, name: &'static str, steps: Vec<Step>) -> Self {
        Self {
            name,
            access,
            steps,
            #[cfg(nestling_defects)]
            defect: None,
        }
    }
}

/// One step of a script. Stores are opened before the first and closed after the last.
#[derive(Debug, Clone)]
pub enum Step {
    Commit(Durability, Vec<Change>),
    Abort(Vec<Change>),
    /// Takes a snapshot, which must still show the same when it goes.
    Pin,
    /// Gives up the oldest snapshot.
    Unpin,
    /// Closes the store and opens it again.
    Reopen,
    /// The same, but by dropping it.
    DropAndReopen,
    /// Compacts the store. No snapshot may be held.
    Compact,
}

use Change::{Delete, DeleteTable, DropCollection, Insert, InsertMany, Put, Remove, RenameTable};
use Step::{Abort, Compact, DropAndReopen, Pin, Reopen, Unpin};

/// Eight such vectors fill the first segment, sixteen more the second.
pub const LARGE: Space = Space::new("large", 2048, Metric::L2);
pub const SMALL: Space = Space::new("small", 8, Metric::L2);
pub const OTHER: Space = Space::new("other", 3, Metric::L2);
pub const COSINE: Space = Space::new("cosine", 24, Metric::Cosine);
const DOT: Space = Space::new("dot", 24, Metric::Dot);
pub const BARE: Space = Space { codes: Codes::None, ..Space::new("bare", 1536, Metric::L2) };
/// With so many layers 1,150 new nodes change more than 2,048 rows: too many for an entry of the journal.
pub const NARROW: Space = Space { m: 2, ..Space::new("narrow", 3, Metric::L2) };
const WIDE: Space = Space { m: 16, ..Space::new("wide", 8, Metric::L2) };

fn commit(changes: impl Into<Vec<Change>>) -> Step {
    Step::Commit(Durability::Immediate, changes.into())
}

/// A commit that does not wait for the disk.
fn later(changes: impl Into<Vec<Change>>) -> Step {
    Step::Commit(Durability::None, changes.into())
}

fn one(key: u64) -> Range<u64> {
    key..key + 1
}

/// All of them.
pub fn all() -> Vec<Workload> {
    let workload = |name, steps| Workload::new(VectorAccess::default(), name, steps);
    let copied = |name, steps| Workload::new(VectorAccess::Copy, name, steps);
    vec![
        workload("creation alone", vec![]),
        workload("first commit", vec![commit([Insert(SMALL, 0..3), Put("titles", 0..3, 20)])]),
        workload("segment growth", (0..7).map(|i| commit([Insert(LARGE, i * 4..i * 4 + 4)])).collect()),
        workload(
            "segment growth without waiting",
            (0..6).map(|i| later([Insert(LARGE, i * 5..i * 5 + 5)])).collect(),
        ),
        workload(
            "bulk insert",
            vec![commit([InsertMany(COSINE, 0..120)]), commit([InsertMany(COSINE, 60..180)])],
        ),
        workload("slot reuse", slot_reuse()),
        workload("slot reuse without waiting", slot_reuse_without_waiting()),
        workload(
            "updates",
            (0..10).map(|i| commit([Insert(LARGE, 0..3), Insert(LARGE, i % 3 + 3..i % 3 + 5)])).collect(),
        ),
        workload("removals", removals()),
        workload(
            "everything removed and refilled",
            vec![
                commit([Insert(LARGE, 0..8), Insert(SMALL, 0..20)]),
                commit([Remove(LARGE, 0..8), Remove(SMALL, 0..20)]),
                commit([Insert(LARGE, 4..12)]),
                commit([Remove(LARGE, 4..12), Insert(SMALL, 0..2)]),
                commit([Insert(LARGE, 0..8), Insert(SMALL, 0..20)]),
            ],
        ),
        workload(
            "everything replaced in one transaction",
            vec![
                commit([Insert(LARGE, 0..8)]),
                commit([Remove(LARGE, 0..8), Insert(LARGE, 0..8)]),
                commit([Insert(LARGE, 0..8)]),
            ],
        ),
        workload("journal folding", journal_folding()),
        workload("journal folding, one vector a commit", {
            let mut steps = vec![commit([Insert(SMALL, 0..40)])];
            steps.extend((0..36).map(|i| commit([Insert(SMALL, one(i * 7 % 50)), Put("log", one(i), 30)])));
            steps
        }),
        workload("journal folding without waiting", {
            let step = |i: u64| match i % 5 {
                4 => commit([Insert(WIDE, one(i * 11 % 60))]),
                _ => later([Insert(WIDE, i * 11 % 60..i * 11 % 60 + 3)]),
            };
            (0..48).map(step).collect()
        }),
        workload("journal of two collections, one dropped", journal_of_two()),
        workload("large commits straight to rows", large_commits()),
        workload(
            "dropping a collection",
            vec![
                commit([Insert(LARGE, 0..6), Insert(OTHER, 0..9)]),
                commit([DropCollection("large"), Insert(OTHER, 4..6)]),
                commit([Insert(OTHER, 0..2)]),
                commit([Insert(LARGE, 2..4)]),
                commit([DropCollection("other"), DropCollection("large")]),
                commit([Put("titles", 0..2, 9)]),
            ],
        ),
        workload(
            "dropping and creating in one transaction",
            vec![
                commit([Insert(LARGE, 0..9)]),
                commit([DropCollection("large"), Insert(LARGE, 0..3)]),
                later([DropCollection("large"), Insert(LARGE, 5..9)]),
                commit([Insert(LARGE, 9..11)]),
            ],
        ),
        workload(
            "dropping without waiting",
            vec![
                commit([Insert(LARGE, 0..9), Insert(OTHER, 0..3)]),
                later([DropCollection("large")]),
                later([Insert(LARGE, 0..2)]),
                later([DropCollection("other")]),
                commit([]),
                later([DropCollection("large")]),
            ],
        ),
        workload(
            "dropping under a snapshot",
            vec![
                commit([Insert(LARGE, 0..9)]),
                Pin,
                commit([DropCollection("large"), Insert(OTHER, 0..3)]),
                commit([Insert(OTHER, 1..2)]),
                Unpin,
                commit([Insert(OTHER, 2..4)]),
            ],
        ),
        workload(
            "not waiting",
            vec![
                commit([Insert(LARGE, 0..3), Put("titles", 0..3, 10)]),
                later([Insert(LARGE, 2..6)]),
                later([Put("titles", 2..7, 10), Remove(LARGE, one(0))]),
                later([Insert(SMALL, 0..4)]),
                commit([Put("titles", one(9), 10)]),
                later([Insert(LARGE, 1..3)]),
                later([Insert(SMALL, 3..6)]),
                commit([]),
            ],
        ),
        workload(
            "closing with commits pending",
            vec![
                later([Insert(LARGE, 0..3)]),
                Reopen,
                later([Insert(LARGE, 2..6), Put("titles", 0..2, 5)]),
                later([Remove(LARGE, 0..3)]),
                Reopen,
                later([Insert(LARGE, 0..3)]),
            ],
        ),
        workload(
            "dropping the store with commits pending",
            vec![
                commit([Insert(LARGE, 0..3)]),
                later([Insert(LARGE, 2..10)]),
                DropAndReopen,
                later([Remove(LARGE, 0..4)]),
                later([Insert(LARGE, 0..2)]),
                DropAndReopen,
                commit([Insert(LARGE, 2..4)]),
            ],
        ),
        workload(
            "several collections",
            vec![
                commit([Insert(LARGE, 0..2), Insert(SMALL, 0..5), Insert(OTHER, 0..5), Insert(COSINE, 0..5)]),
                commit([Insert(LARGE, 1..3), Remove(SMALL, 0..2), Insert(OTHER, 3..8)]),
                later([Insert(COSINE, 3..9), Insert(DOT, 0..4)]),
                commit([Remove(LARGE, 0..2), Remove(DOT, 1..3)]),
            ],
        ),
        workload(
            "tables alone",
            vec![
                commit([Put("titles", 0..9, 40), Put("tags", 0..3, 8)]),
                commit([Put("titles", 3..6, 4), Delete("tags", 0..2)]),
                commit([DeleteTable("tags"), RenameTable("titles", "names")]),
                later([Put("names", 9..20, 70)]),
                commit([Put("tags", 0..2, 8)]),
            ],
        ),
        workload(
            "large values beside vectors",
            vec![
                commit([Put("blobs", 0..3, 30_000), Insert(SMALL, 0..3)]),
                commit([Put("blobs", 1..4, 90_000), Insert(SMALL, 2..5)]),
                commit([Delete("blobs", 0..4), Insert(SMALL, 0..2)]),
                commit([Put("blobs", 0..1, 5_000)]),
            ],
        ),
        workload(
            "a file that grows and shrinks",
            vec![
                commit([Put("blobs", 0..6, 400_000), Insert(SMALL, 0..3)]),
                commit([Delete("blobs", 0..6)]),
                commit([Insert(SMALL, 2..5)]),
                commit([Insert(SMALL, 0..1)]),
                commit([Put("blobs", 0..2, 400_000)]),
            ],
        ),
        workload(
            "aborted transactions",
            vec![
                Abort(vec![Insert(LARGE, 0..9)]),
                commit([Insert(LARGE, 0..4)]),
                Abort(vec![Insert(LARGE, 2..12), Put("titles", 0..3, 9)]),
                Abort(vec![DropCollection("large"), Insert(SMALL, 0..3)]),
                commit([Insert(LARGE, 3..6), Remove(LARGE, one(0))]),
                Abort(vec![Remove(LARGE, 0..9), Insert(LARGE, 0..9)]),
                later([Insert(LARGE, 6..7)]),
                Abort(vec![Insert(OTHER, 0..2)]),
            ],
        ),
        workload("aborted creations while the journal folds", {
            let mut steps = vec![commit([Insert(SMALL, 0..9)])];
            for i in 0..18 {
                if i % 3 == 0 {
                    steps.push(Abort(vec![Insert(LARGE, 0..2)]));
                }
                steps.push(commit([Insert(SMALL, one(i % 9))]));
            }
            steps
        }),
        workload(
            "empty commits",
            vec![
                commit([]),
                commit([Insert(LARGE, 0..2)]),
                commit([]),
                later([]),
                commit([]),
                commit([Remove(LARGE, 5..6)]),
                later([]),
            ],
        ),
        workload("snapshots held while writing", snapshots_held()),
        workload(
            "reopened in between",
            vec![
                commit([Insert(LARGE, 0..5)]),
                Reopen,
                commit([Insert(LARGE, 3..9), Put("titles", 0..3, 7)]),
                DropAndReopen,
                Reopen,
                commit([Remove(LARGE, 0..4)]),
                Reopen,
                commit([Insert(LARGE, 20..24)]),
            ],
        ),
        workload(
            "inner product",
            vec![
                commit([Insert(DOT, 0..20)]),
                commit([Insert(DOT, 10..24), Remove(DOT, 0..5)]),
                commit([InsertMany(DOT, 0..50)]),
            ],
        ),
        workload(
            "no codes",
            vec![
                commit([Insert(BARE, 0..12)]),
                commit([Insert(BARE, 10..24), Remove(BARE, 0..5)]),
                later([Insert(BARE, 0..3)]),
                commit([Insert(BARE, 24..34)]),
            ],
        ),
        workload(
            "compaction",
            vec![
                commit([Insert(LARGE, 0..14), Insert(SMALL, 0..20), Put("blobs", 0..4, 60_000)]),
                commit([Remove(LARGE, 0..10), Remove(SMALL, 5..15), Delete("blobs", 0..4)]),
                Compact,
                commit([Insert(LARGE, 0..3), Remove(SMALL, 0..2)]),
                Compact,
                Compact,
                commit([Insert(LARGE, 12..16)]),
            ],
        ),
        workload(
            "compaction with commits pending",
            vec![
                later([Insert(LARGE, 0..9), Insert(OTHER, 0..9)]),
                later([Remove(LARGE, 0..9)]),
                Compact,
                later([Insert(LARGE, 3..5), DropCollection("other")]),
                Compact,
                later([Insert(LARGE, 0..2)]),
            ],
        ),
        copied(
            "vectors read through copies",
            vec![
                commit([Insert(LARGE, 0..6)]),
                commit([Insert(LARGE, 4..10), Remove(LARGE, 0..2)]),
                Reopen,
                Pin,
                commit([Insert(LARGE, 0..6)]),
                later([Insert(LARGE, 1..3)]),
                Unpin,
                commit([Insert(LARGE, 1..3)]),
            ],
        ),
    ]
}

fn slot_reuse() -> Vec<Step> {
    let mut steps = vec![commit([Insert(LARGE, 0..7)])];
    for i in 0..8 {
        steps.push(commit([Remove(LARGE, i % 7..i % 7 + 1)]));
        steps.push(commit([Insert(LARGE, i % 7..i % 7 + 1), Insert(LARGE, one((i + 3) % 7))]));
    }
    steps
}

fn slot_reuse_without_waiting() -> Vec<Step> {
    let mut steps = vec![commit([Insert(LARGE, 0..7)])];
    for i in 0..12 {
        let change =
            if i % 2 == 0 { Remove(LARGE, i % 7..i % 7 + 2) } else { Insert(LARGE, i % 7..i % 7 + 2) };
        steps.push(if i % 4 == 3 { commit([change]) } else { later([change]) });
    }
    steps
}

/// Down to nothing, entry points included, and up again.
fn removals() -> Vec<Step> {
    let mut steps = vec![commit([Insert(SMALL, 0..14)])];
    steps.extend((0..14).map(|i| commit([Remove(SMALL, one(i * 5 % 14))])));
    steps.push(commit([Insert(SMALL, 3..6)]));
    steps
}

/// Long enough that entries are removed from the journal.
fn journal_folding() -> Vec<Step> {
    let mut steps = vec![commit([InsertMany(WIDE, 0..150)])];
    for i in 0..76 {
        let key = i * 13 % 150;
        steps.push(commit([Insert(WIDE, key..key + 3), Remove(WIDE, one((key + 70) % 150))]));
    }
    steps
}

fn journal_of_two() -> Vec<Step> {
    let mut steps = vec![commit([Insert(SMALL, 0..9), Insert(OTHER, 0..9)])];
    for i in 0..14 {
        steps.push(commit([Insert(SMALL, one(i % 9)), Insert(OTHER, one(i % 5))]));
    }
    steps.push(commit([DropCollection("small")]));
    for i in 0..9 {
        steps.push(commit([Insert(OTHER, one(i))]));
    }
    steps.push(commit([Insert(SMALL, 0..3)]));
    for i in 0..14 {
        steps.push(commit([Insert(SMALL, one(i % 9)), Remove(OTHER, one(i % 5))]));
    }
    steps
}

fn large_commits() -> Vec<Step> {
    let mut steps = vec![commit([InsertMany(NARROW, 0..60)])];
    steps.extend((0..5).map(|i| commit([Insert(NARROW, i * 9..i * 9 + 2)])));
    steps.push(commit([InsertMany(NARROW, 50..1200), Insert(OTHER, 0..3)]));
    steps.extend((0..14).map(|i| commit([Insert(NARROW, i * 9..i * 9 + 1), Insert(OTHER, one(i))])));
    steps.extend((0..3).map(|i| later([Insert(NARROW, i * 9..i * 9 + 1)])));
    steps
}

fn snapshots_held() -> Vec<Step> {
    let mut steps = vec![commit([Insert(LARGE, 0..7), Put("titles", 0..7, 30)]), Pin];
    for i in 0..4 {
        steps.push(commit([Insert(LARGE, i..i + 2), Put("titles", i..i + 2, 30)]));
        steps.push(Pin);
        steps.push(commit([Remove(LARGE, one(i)), Delete("titles", one(i))]));
        if i % 2 == 1 {
            steps.push(Unpin);
        }
    }
    steps.extend([Unpin, Unpin, commit([Insert(LARGE, 0..7)]), Unpin, commit([Insert(LARGE, 2..5)])]);
    steps
}
