//! The integrity check: every invariant of the store, verified.

use std::collections::BTreeSet;

use crate::collection::CollectionSnapshot;
use crate::error::{Error, Result};
use crate::graph::storage::{self, FreeKey, shielded};
use crate::graph::{GraphSnapshot, Node};
use crate::stats::reachable;
use crate::trace::{span, warning};
use crate::transaction::{Borrowed, Published, STORE_FILE, Shared, open_database};
use crate::vectors::{Slot, file_name, orphans};

/// What [`Store::check`](crate::Store::check) found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Report {
    /// What is wrong, up to 1,000 findings.
    pub problems: Vec<Problem>,
    /// Whether more was wrong than `problems` lists.
    pub truncated: bool,
    /// Vectors looked at.
    pub vectors: u64,
    /// Links looked at.
    pub links: u64,
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Problem {
    /// Where: a file, a collection, a slot.
    pub location: String,
    /// What was expected and what was found.
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.location, self.detail)
    }
}

impl Report {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, location: impl Into<String>, detail: impl Into<String>) {
        const MOST: usize = 1000;
        if self.problems.len() < MOST {
            self.problems.push(Problem { location: location.into(), detail: detail.into() });
        } else {
            self.truncated = true;
        }
    }

    /// Notes a failure to read something as a finding of its own.
    fn note<T>(&mut self, location: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Corrupted { location, detail }) => {
                self.add(location, detail);
                None
            }
            Err(e) => {
                self.add(location, e.to_string());
                None
            }
        }
    }
}

pub(crate) fn check(shared: &Shared) -> Result<Report> {
    let span = span!(INFO, "check" [vectors, links, problems]).entered();
    let engine = &shared.engine;
    // With the writer's place taken the files hold still.
    let ledger = Borrowed::new(engine, engine.writer.acquire());
    let mut report = Report::default();
    redb_file(shared, &mut report);
    let published = shared.current.load_full();
    files(&published, &mut report);
    // Read again, so that it is the files that are checked and not what is in memory.
    let stored = report.note(STORE_FILE, published.reread()).map(|(_, collections)| collections);
    for stored in stored.unwrap_or_default() {
        let name = format!("collection {:?}", stored.state.name);
        let in_memory = published.collections.get(&stored.state.name);
        let in_memory = in_memory.map(|collection| collection.state.to_row(collection.graph.slots()));
        if in_memory != Some(stored.state.to_row(stored.graph.slots())) {
            report.add(name, "the tables and the journal do not add up to what the last commit left");
        }
        CollectionCheck::new(&stored, &mut report).run();
    }
    // The next writer must not take this hold on the snapshot for a reader's.
    drop(published);
    drop(ledger);
    let problems = report.problems.len();
    span.record("vectors", report.vectors).record("links", report.links).record("problems", problems);
    if !report.is_clean() {
        warning!(problems, "the store is damaged; the report tells where");
    }
    Ok(report)
}

/// redb's own check, on its file as it is on disk. It may "repair", so it runs on a copy-on-write view of the file.
fn redb_file(shared: &Shared, report: &mut Report) {
    let opened = open_database(&shared.engine.directory, true, 4 << 20);
    let Some(mut database) = report.note(STORE_FILE, opened) else { return };
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => report.add(STORE_FILE, "redb's integrity check had to repair the file"),
        Err(e) => report.add(STORE_FILE, format!("redb's integrity check failed: {e}")),
    }
}

/// Segment rows, files and tables that nobody owns.
fn files(published: &Published, report: &mut Report) {
    let rows = shielded(|| storage::read_segments(&published.transaction));
    let Some(rows) = report.note(STORE_FILE, rows) else { return };
    let owners: BTreeSet<u32> = published.collections.values().map(|c| c.state.id).collect();
    for (segment, row) in &rows {
        if !owners.contains(&row.collection) {
            report.add(
                file_name(*segment),
                format!("it belongs to collection {}, which is gone", row.collection),
            );
        }
    }
    // Files of collections that were dropped stay while a snapshot uses them: they are not orphans to report. Neither are
    // files that a crash left: the next opening for writing sweeps them, so that only one for reading sees any.
    if !published.engine.read_only
        && let Some(orphans) =
            report.note("the directory", orphans(&published.engine.directory, |id| rows.contains_key(&id)))
    {
        for segment in orphans.into_iter().filter(|&id| id >= published.engine.allocator.next()) {
            report.add(file_name(segment), "no commit names this file, and this store never created it");
        }
    }
    let tables = shielded(|| storage::own_tables(&published.transaction));
    for name in report.note(STORE_FILE, tables).unwrap_or_default() {
        if let Some(id) = storage::table_owner(&name).filter(|id| !owners.contains(id)) {
            report.add(STORE_FILE, format!("table {name:?} belongs to collection {id}, which is gone"));
        }
    }
}

/// One collection's invariants.
struct CollectionCheck<'a> {
    snapshot: &'a CollectionSnapshot,
    graph: &'a GraphSnapshot,
    report: &'a mut Report,
    live: Vec<bool>,
}

impl<'a> CollectionCheck<'a> {
    fn new(snapshot: &'a CollectionSnapshot, report: &'a mut Report) -> Self {
        let graph = &snapshot.graph;
        let live = vec![false; graph.slots() as usize];
        Self { snapshot, graph, report, live }
    }

    fn name(&self) -> String {
        format!("collection {:?}", self.snapshot.state.name)
    }

    fn add(&mut self, slot: Slot, detail: impl Into<String>) {
        self.report.add(format!("{}, slot {slot}", self.name()), detail);
    }

    fn run(mut self) {
        for segment in self.snapshot.segments.iter() {
            self.report.note(&file_name(segment.header().segment), segment.open());
        }
        let mut readable = true;
        for number in 0..self.graph.pages() {
            readable &= self.report.note(&self.name(), self.graph.page(number).map(|_| ())).is_some();
        }
        if !readable {
            // What is said of links to and from pages that cannot be read would only repeat it.
            return;
        }
        for slot in 0..self.graph.slots() {
            if let Ok(node) = self.graph.node(slot) {
                if let Some(live) = self.live.get_mut(slot as usize) {
                    *live = true;
                }
                self.report.vectors += 1;
                let node = node.clone();
                self.node(slot, &node);
            }
        }
        self.counts();
        self.free_list();
        self.anchors();
    }

    fn node(&mut self, slot: Slot, node: &Node) {
        let state = &self.snapshot.state;
        let record = &node.record;
        let location = format!("{}, slot {slot}", self.name());
        if record.stamp >= state.next_stamp {
            self.add(slot, format!("stamp {} where the next one is {}", record.stamp, state.next_stamp));
        }
        match self.snapshot.reader.slot_of(record.key) {
            Ok(Some(found)) if found == slot => {}
            Ok(found) => self.add(slot, format!("it holds key {}, which leads to {found:?}", record.key)),
            Err(e) => drop(self.report.note::<()>(&location, Err(e))),
        }
        let identity = record.identity();
        self.report.note(&location, self.snapshot.segments.verify_code(slot, &identity));
        let vector = self
            .snapshot
            .segments
            .place(slot)
            .and_then(|(segment, index)| segment.verify_vector(index, &identity));
        self.report.note(&location, vector);
        for layer in 0..=record.level {
            self.links(slot, node, layer);
        }
        self.tree(slot, node);
    }

    /// Neighbours exist on this layer, and every edge is known at both of its ends.
    fn links(&mut self, slot: Slot, node: &Node, layer: u8) {
        let neighbors = self.graph.neighbors(slot, layer).unwrap_or(&[]).to_vec();
        let inbound = node.inbound(layer).unwrap_or(&[]).to_vec();
        self.report.links += neighbors.len() as u64;
        let distinct: BTreeSet<Slot> = neighbors.iter().chain(&inbound).copied().collect();
        if distinct.len() != neighbors.len() + inbound.len() || distinct.contains(&slot) {
            self.add(slot, format!("on layer {layer} it is linked with itself, or twice with another"));
        }
        for &neighbor in neighbors.iter().chain(&inbound) {
            let Some((level, back, one_way)) = self.ends(neighbor, layer, slot) else {
                self.add(slot, format!("a dangling edge on layer {layer}: slot {neighbor} is not in use"));
                continue;
            };
            let outward = neighbors.contains(&neighbor);
            if level < layer {
                self.add(
                    slot,
                    format!("linked on layer {layer} with slot {neighbor}, whose level is {level}"),
                );
            } else if outward && back == one_way {
                self.add(
                    slot,
                    format!("slot {neighbor} does not know the edge to it on layer {layer} for what it is"),
                );
            } else if !outward && !back {
                self.add(slot, format!("slot {neighbor} has no edge to it on layer {layer}"));
            }
        }
    }

    /// Of a neighbour: its level, whether it points back at `slot`, and whether it lists `slot` as a one-way in-edge.
    fn ends(&self, neighbor: Slot, layer: u8, slot: Slot) -> Option<(u8, bool, bool)> {
        let node = self.graph.node(neighbor).ok()?;
        let back = self.graph.neighbors(neighbor, layer).is_ok_and(|slots| slots.contains(&slot));
        let one_way = node.inbound(layer).is_some_and(|slots| slots.contains(&slot));
        Some((node.record.level, back, one_way))
    }

    /// Every node but the root has a parent of lower rank, with an edge to it, that counts it among its children.
    fn tree(&mut self, slot: Slot, node: &Node) {
        let is_root = self.snapshot.state.anchors.is_some_and(|anchors| anchors.root == slot);
        match node.parent() {
            None if is_root => {}
            None => self.add(slot, "it has no parent and is not the root"),
            Some(parent) if is_root => {
                self.add(slot, format!("it is the root and has slot {parent} as its parent"))
            }
            Some(parent) => {
                let listed = self.graph.node(parent).ok().is_some_and(|p| {
                    let children = self.graph.neighbors(parent, 0).unwrap_or(&[]);
                    p.record.stamp < node.record.stamp
                        && children.iter().take(p.children()).any(|&c| c == slot)
                });
                if !listed {
                    self.add(
                        slot,
                        format!("slot {parent}, its parent, does not list it as a child, or ranks above it"),
                    );
                }
            }
        }
        let children = self.graph.neighbors(slot, 0).unwrap_or(&[]).iter().take(node.children());
        let strangers: Vec<Slot> = children
            .copied()
            .filter(|&child| self.graph.node(child).ok().is_none_or(|c| c.parent() != Some(slot)))
            .collect();
        for child in strangers {
            self.add(slot, format!("slot {child}, listed as its child, has another parent"));
        }
    }

    fn counts(&mut self) {
        let live = self.live.iter().filter(|&&live| live).count() as u64;
        let expected = self.snapshot.state.live;
        let name = self.name();
        if live != expected {
            self.report.add(&name, format!("{live} nodes where {expected} were expected"));
        }
        let keys = self
            .snapshot
            .reader
            .keys()
            .and_then(|keys| keys.map(|entry| entry.map(|_| 1)).sum::<Result<u64>>());
        if let Some(keys) = self.report.note(&name, keys)
            && keys != live
        {
            self.report.add(&name, format!("{keys} keys for {live} nodes"));
        }
    }

    /// Every slot is in use or on the free list, once.
    fn free_list(&mut self) {
        let name = self.name();
        let mut after: Option<FreeKey> = None;
        let mut free = BTreeSet::new();
        loop {
            let batch = self.snapshot.reader.free(after, u64::MAX, 1024);
            let Some(batch) = self.report.note(&name, batch) else { return };
            for &(_, slot) in &batch {
                if self.live.get(slot as usize) == Some(&true) || !free.insert(slot) {
                    self.add(slot, "on the free list, and in use or on it twice");
                }
            }
            match batch.last() {
                Some(&last) => after = Some(last),
                None => break,
            }
        }
        for slot in 0..self.graph.slots() {
            if self.live.get(slot as usize) == Some(&false) && !free.contains(&slot) {
                self.add(slot, "neither in use nor on the free list");
            }
        }
    }

    fn anchors(&mut self) {
        let name = self.name();
        let Some(anchors) = self.snapshot.state.anchors else { return };
        match self.graph.node(anchors.entry) {
            Ok(node) if node.record.level == anchors.level => {}
            Ok(node) => {
                let detail =
                    format!("the entry point has level {}, not {}", node.record.level, anchors.level);
                self.add(anchors.entry, detail);
            }
            Err(_) => self.add(anchors.entry, "the entry point is not in use"),
        }
        if let Some(reached) = self.report.note(&name, reachable(self.graph, anchors.root, 0)) {
            for (slot, (&live, reached)) in self.live.clone().iter().zip(reached).enumerate() {
                if live && !reached {
                    self.add(slot as Slot, "it cannot be reached from the root on layer 0");
                }
            }
        }
    }
}
