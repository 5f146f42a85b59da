//! The algorithm on a graph in memory, with every invariant recomputed from scratch after every operation.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::level::level;
use super::{Anchors, Graph, GraphMut, Scratch, Space, Width, bulk, descend, insert, remove, search_layer};
use crate::error::{Error, Result};
use crate::graph::rows::NodeRecord;
use crate::graph::{Node, PAGE_SLOTS, Page, RowMut};
use crate::options::Capacity;
use crate::vectors::Slot;

/// Pages in a vector, points in another, naive distances.
struct MemoryGraph {
    capacity: Capacity,
    pages: Vec<Page>,
    points: Vec<Vec<f32>>,
}

impl MemoryGraph {
    fn new(m: usize) -> Self {
        Self { capacity: Capacity { m, m0: 2 * m }, pages: Vec::new(), points: Vec::new() }
    }

    fn node(&self, slot: Slot) -> Result<&Node> {
        let page = self.pages.get(slot as usize / PAGE_SLOTS);
        page.and_then(|page| page.node(slot as usize % PAGE_SLOTS))
            .ok_or_else(|| Error::corrupted(format!("slot {slot}"), "no such node"))
    }

    fn create(&mut self, slot: Slot, stamp: u64, seed: u64, point: Vec<f32>) {
        while self.pages.len() <= slot as usize / PAGE_SLOTS {
            self.pages.push(Page::new(self.capacity));
        }
        if self.points.len() <= slot as usize {
            self.points.resize(slot as usize + 1, Vec::new());
        }
        self.points[slot as usize] = point;
        let level = level(seed, stamp, self.capacity.m);
        let record = NodeRecord { key: 0, stamp, level, code_crc: 0, vector_crc: 0 };
        self.pages[slot as usize / PAGE_SLOTS].create(slot as usize % PAGE_SLOTS, record);
    }

    fn delete(&mut self, slot: Slot) {
        self.pages[slot as usize / PAGE_SLOTS].delete(slot as usize % PAGE_SLOTS);
    }
}

impl Graph for MemoryGraph {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn slots(&self) -> usize {
        self.pages.len() * PAGE_SLOTS
    }

    fn neighbors(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        self.node(slot)?;
        let page = &self.pages[slot as usize / PAGE_SLOTS];
        page.neighbors(slot as usize % PAGE_SLOTS, layer)
            .ok_or_else(|| Error::corrupted(format!("slot {slot}, layer {layer}"), "no such row"))
    }

    fn inbound(&self, slot: Slot, layer: u8) -> Result<&[Slot]> {
        Ok(self.node(slot)?.inbound(layer).unwrap_or(&[]))
    }

    fn level(&self, slot: Slot) -> Result<u8> {
        Ok(self.node(slot)?.record.level)
    }

    fn rank(&self, slot: Slot) -> Result<u64> {
        Ok(self.node(slot)?.record.stamp)
    }

    fn parent(&self, slot: Slot) -> Result<Option<Slot>> {
        Ok(self.node(slot)?.parent())
    }

    fn children(&self, slot: Slot) -> Result<usize> {
        Ok(self.node(slot)?.children())
    }

    fn prefetch_neighbors(&self, _slot: Slot, _layer: u8) {}
}

impl GraphMut for MemoryGraph {
    fn row_mut(&mut self, slot: Slot, layer: u8) -> Result<RowMut<'_>> {
        let page = &mut self.pages[slot as usize / PAGE_SLOTS];
        page.row_mut(slot as usize % PAGE_SLOTS, layer)
            .ok_or_else(|| Error::corrupted(format!("slot {slot}, layer {layer}"), "no such row"))
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

impl Space for MemoryGraph {
    type Query = Vec<f32>;
    type Handle<'a> = &'a [f32];

    fn resolve(&self, slot: Slot) -> Result<&[f32]> {
        self.node(slot)?;
        Ok(&self.points[slot as usize])
    }

    fn resolved(&self, slot: Slot) -> Option<&[f32]> {
        self.resolve(slot).ok()
    }

    fn prefetch(&self, _point: &[f32]) {}

    fn distance(&self, query: &Vec<f32>, point: &[f32]) -> f32 {
        squared_distance(query, point)
    }

    fn between(&self, a: Slot, b: Slot) -> f32 {
        squared_distance(&self.points[a as usize], &self.points[b as usize])
    }

    fn are_duplicates(&self, a: Slot, b: Slot) -> bool {
        self.points[a as usize] == self.points[b as usize]
    }

    fn query_of(&self, slot: Slot) -> Result<Vec<f32>> {
        Ok(self.points[slot as usize].clone())
    }
}

/// Recomputes from the out-edges alone what the rows claim about in-edges, parents and reachability.
fn check_invariants(graph: &MemoryGraph, live: &BTreeSet<Slot>, anchors: Option<Anchors>) {
    let mut in_edges: BTreeMap<(u8, Slot), BTreeSet<Slot>> = BTreeMap::new();
    for &slot in live {
        for layer in 0..=graph.level(slot).unwrap() {
            let neighbors = graph.neighbors(slot, layer).unwrap();
            assert!(neighbors.len() <= graph.capacity().degree(layer));
            assert!(graph.inbound(slot, layer).unwrap().len() <= graph.capacity().inbound(layer) + 1);
            let distinct: BTreeSet<Slot> = neighbors.iter().copied().collect();
            assert_eq!(distinct.len(), neighbors.len(), "slot {slot} lists a neighbour twice");
            assert!(!distinct.contains(&slot), "slot {slot} is its own neighbour");
            for &neighbor in neighbors {
                assert!(live.contains(&neighbor), "slot {slot} points at {neighbor}, which is gone");
                assert!(graph.level(neighbor).unwrap() >= layer);
                in_edges.entry((layer, neighbor)).or_default().insert(slot);
            }
        }
    }
    for &slot in live {
        for layer in 0..=graph.level(slot).unwrap() {
            let neighbors = graph.neighbors(slot, layer).unwrap();
            let one_way: BTreeSet<Slot> = in_edges
                .get(&(layer, slot))
                .map(|from| from.iter().copied().filter(|from| !neighbors.contains(from)).collect())
                .unwrap_or_default();
            let listed: BTreeSet<Slot> = graph.inbound(slot, layer).unwrap().iter().copied().collect();
            assert_eq!(listed, one_way, "in-edges of slot {slot} on layer {layer}");
        }
        let parent = graph.parent(slot).unwrap();
        assert_eq!(parent.is_none(), anchors.is_some_and(|a| a.root == slot), "parent of slot {slot}");
        if let Some(parent) = parent {
            assert!(graph.rank(parent).unwrap() < graph.rank(slot).unwrap());
            let children = &graph.neighbors(parent, 0).unwrap()[..graph.children(parent).unwrap()];
            assert!(children.contains(&slot), "slot {parent} does not list its child {slot}");
        }
        assert!(graph.children(slot).unwrap() <= graph.capacity().children());
    }
    let children: usize = live.iter().map(|&slot| graph.children(slot).unwrap()).sum();
    assert_eq!(children, live.len().saturating_sub(1), "every node but the root is somebody's child, once");
    assert_eq!(anchors.is_none(), live.is_empty());
    if let Some(anchors) = anchors {
        assert_eq!(graph.level(anchors.entry).unwrap(), anchors.level);
        let mut reached = BTreeSet::from([anchors.root]);
        let mut open = vec![anchors.root];
        while let Some(slot) = open.pop() {
            open.extend(graph.neighbors(slot, 0).unwrap().iter().filter(|&&n| reached.insert(n)));
        }
        assert_eq!(&reached, live, "reachable from the root");
    }
}

/// A point of one of the crowds that break graphs: clusters, exact copies, a line in order, or anywhere.
fn point(rng: &mut StdRng, kind: u32, stamp: u64) -> Vec<f32> {
    match kind {
        0 => vec![
            rng.random_range(0..4) as f32 * 10.0 + rng.random_range(0.0..0.1),
            rng.random_range(0.0..0.1),
        ],
        1 => vec![rng.random_range(0..2) as f32, 0.0],
        2 => vec![stamp as f32, 0.0],
        _ => vec![rng.random_range(0.0..100.0), rng.random_range(0.0..100.0)],
    }
}

/// The guarantee is what the store stands on, so it is tested where it is cheapest to break: small m, crowds of duplicates, and
/// the removal of roots, entry points and hubs.
#[test]
fn every_invariant_holds_after_every_operation() {
    let (mut emptied, mut roots_removed, mut entries_removed) = (0, 0, 0);
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let m = [2, 3, 5, 8][seed as usize % 4];
        let kind = (seed / 4 % 4) as u32;
        let mut graph = MemoryGraph::new(m);
        let mut scratch = Scratch::default();
        let mut anchors = None;
        let mut live = BTreeSet::new();
        let mut free: Vec<Slot> = Vec::new();
        for stamp in 0..400 {
            let growing = stamp < 120 || (200..260).contains(&stamp);
            if live.is_empty() || rng.random_bool(if growing { 0.85 } else { 0.35 }) {
                let slot = free.pop().unwrap_or(live.len() as Slot);
                graph.create(slot, stamp, seed, point(&mut rng, kind, stamp));
                anchors = Some(insert(&mut graph, anchors, slot, 20.max(m), &mut scratch).unwrap());
                live.insert(slot);
            } else {
                let slot = match rng.random_range(0..4) {
                    0 => anchors.unwrap().root,
                    1 => anchors.unwrap().entry,
                    _ => *live.iter().nth(rng.random_range(0..live.len())).unwrap(),
                };
                roots_removed += u32::from(anchors.unwrap().root == slot);
                entries_removed += u32::from(anchors.unwrap().entry == slot);
                anchors = remove(&mut graph, anchors.unwrap(), slot, 20.max(m), &mut scratch).unwrap();
                graph.delete(slot);
                live.remove(&slot);
                free.push(slot);
                emptied += u32::from(live.is_empty());
            }
            check_invariants(&graph, &live, anchors);
        }
    }
    assert!(
        emptied > 0 && roots_removed > 100 && entries_removed > 100,
        "{emptied} {roots_removed} {entries_removed}"
    );
}

/// With as many candidates as there are nodes, a search must come by all of them.
#[test]
fn a_search_as_wide_as_the_graph_finds_everything() {
    for kind in 0..4 {
        let mut rng = StdRng::seed_from_u64(kind.into());
        let mut graph = MemoryGraph::new(3);
        let mut scratch = Scratch::default();
        let mut anchors = None;
        for slot in 0..500 {
            graph.create(slot, slot.into(), 1, point(&mut rng, kind, slot.into()));
            anchors = Some(insert(&mut graph, anchors, slot, 30, &mut scratch).unwrap());
        }
        let anchors = anchors.unwrap();
        for _ in 0..20 {
            let query = point(&mut rng, 3, 0);
            let entry = descend(&graph, &graph, &query, &anchors, 0, &mut scratch).unwrap();
            search_layer(
                &graph,
                &graph,
                &query,
                &[entry, anchors.root],
                Width::with_all_ties(500),
                0,
                &mut scratch,
            )
            .unwrap();
            let found: Vec<_> = scratch.found().collect();
            assert_eq!(found.len(), 500);
            assert!(found.is_sorted_by(|a, b| a.distance <= b.distance));
        }
    }
}

/// A thousand copies of one point must neither cut each other off nor crowd out the rest.
#[test]
fn copies_do_not_crowd_out_others() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut graph = MemoryGraph::new(8);
    let mut scratch = Scratch::default();
    let (mut anchors, mut live) = (None, BTreeSet::new());
    for slot in 0..1500 {
        let copy = slot % 3 != 0;
        let point = if copy { vec![50.0, 50.0] } else { point(&mut rng, 3, 0) };
        graph.create(slot, slot.into(), 2, point);
        anchors = Some(insert(&mut graph, anchors, slot, 50, &mut scratch).unwrap());
        live.insert(slot);
    }
    check_invariants(&graph, &live, anchors);
    let anchors = anchors.unwrap();
    let (mut narrow, mut wide) = (0, 0);
    for slot in (0..1500).step_by(3) {
        let query = graph.query_of(slot).unwrap();
        let entry = descend(&graph, &graph, &query, &anchors, 0, &mut scratch).unwrap();
        for (ef, right) in [(50, &mut narrow), (1500, &mut wide)] {
            search_layer(&graph, &graph, &query, &[entry, anchors.root], Width::new(ef, 1), 0, &mut scratch)
                .unwrap();
            *right += u32::from(scratch.found().next().unwrap().slot == slot);
        }
    }
    // Of 24 seeds 15 give 500, 7 give 499, 2 give 498.
    assert!(narrow >= 498 && wide == 500, "{narrow} and {wide} of 500 points find themselves");
}

/// Copies are all equally near: a place among them must be found in as few steps as among others.
#[test]
fn the_tree_over_copies_stays_shallow() {
    let mut graph = MemoryGraph::new(4);
    let mut scratch = Scratch::default();
    let (mut anchors, mut live) = (None, BTreeSet::new());
    for slot in 0..2000 {
        graph.create(slot, slot.into(), 5, vec![1.0, 1.0]);
        anchors = Some(insert(&mut graph, anchors, slot, 20, &mut scratch).unwrap());
        live.insert(slot);
    }
    check_invariants(&graph, &live, anchors);
    let depth = |slot| std::iter::successors(Some(slot), |&slot| graph.parent(slot).unwrap()).count();
    let deepest = live.iter().map(|&slot| depth(slot)).max().unwrap();
    assert!(deepest <= 40, "{deepest} parents above one another, where 11 would do");
}

/// The graph of 1,200 points of one kind, inserted in bulk on so many threads.
fn built_in_bulk(kind: u32, m: usize, threads: usize) -> (MemoryGraph, Anchors) {
    let mut rng = StdRng::seed_from_u64(kind.into());
    let mut graph = MemoryGraph::new(m);
    let mut anchors = None;
    let mut linked: Slot = 0;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    while linked < 1200 {
        // Larger than in earnest, so that batches matter in a graph this small.
        let size = (bulk::batch_size(linked.into()) * 5).min(1200 - linked as usize) as Slot;
        let batch: Vec<Slot> = (linked..linked + size).collect();
        for &slot in &batch {
            graph.create(slot, slot.into(), 3, point(&mut rng, kind, slot.into()));
        }
        match anchors {
            Some(found) => {
                let choose = || bulk::choose(&graph, &found, &batch, 40, |run| run(&mut Scratch::default()));
                let choices = pool.install(choose).unwrap();
                let mut decisions = bulk::connect(&mut graph, &choices).unwrap();
                pool.install(|| bulk::decide(&graph, &mut decisions)).unwrap();
                anchors = Some(bulk::settle(&mut graph, found, &choices, &decisions).unwrap());
            }
            None => {
                for &slot in &batch {
                    let inserted = insert(&mut graph, anchors, slot, 40, &mut Scratch::default());
                    anchors = Some(inserted.unwrap());
                }
            }
        }
        linked += size;
        check_invariants(&graph, &(0..linked).collect(), anchors);
    }
    (graph, anchors.unwrap())
}

#[test]
fn bulk_insertion_keeps_every_invariant_and_the_number_of_threads_does_not_show() {
    for kind in 0..4 {
        for m in [2, 8] {
            let (one, anchors) = built_in_bulk(kind, m, 1);
            for threads in [2, 4] {
                let (many, same) = built_in_bulk(kind, m, threads);
                assert_eq!(anchors, same);
                for slot in 0..1200 {
                    let page = slot as usize / PAGE_SLOTS;
                    for layer in 0..=one.level(slot).unwrap() {
                        let row =
                            |graph: &MemoryGraph| graph.pages[page].row(slot as usize % PAGE_SLOTS, layer);
                        assert_eq!(row(&one), row(&many), "kind {kind}, m {m}, slot {slot}, layer {layer}");
                    }
                }
            }
        }
    }
}
