//! Insertion in bulk: batches that search in parallel, with the same outcome whatever the number of threads.
//!
//! A batch is small against the graph (at most [`SHARE`] of it), so its nodes hardly miss each other in a search of the graph as it was
//! before; those that they do miss, the other nodes of the batch, are compared with directly. Then
//!
//! 1. each node chooses its neighbours, in parallel, on the graph before the batch;
//! 2. the edges are added, and those that were chosen sort out by target who has chosen them;
//! 3. each target whose row would overflow chooses once among all that it has and is offered, in parallel;
//! 4. the choices are carried out, and each new node finds a parent, in the order of ranks.
//!
//! Nothing in a parallel step depends on another node of the same step, so the order of execution cannot show.

use rayon::prelude::*;

use super::edges::{add_edge, drop_edge, evictable, has_edge};
use super::insert::{choose_again, find_parent, look_past_duplicates};
use super::pool::{Candidate, Width};
use super::search::{Scratch, descend, search_layer};
use super::select::select;
use super::{Anchors, Graph, GraphMut, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// A batch is at most one in so many of the nodes there are.
const SHARE: usize = 50;
/// Comparing a batch with itself is quadratic.
const LARGEST_BATCH: usize = 1024;

/// How many nodes to link at once in a graph of `linked` nodes.
pub(crate) fn batch_size(linked: u64) -> usize {
    usize::try_from(linked).unwrap_or(usize::MAX).div_euclid(SHARE).clamp(1, LARGEST_BATCH)
}

/// What a new node has chosen: its neighbours by layer, from 0 up.
pub(crate) struct Choice {
    slot: Slot,
    layers: Vec<Vec<Slot>>,
}

/// Step 1. The nodes of the batch have empty rows, and ranks above all others.
pub(crate) fn choose<G>(
    graph: &G,
    anchors: &Anchors,
    batch: &[Slot],
    ef_construction: usize,
    with_scratch: impl Fn(&mut dyn FnMut(&mut Scratch) -> Result<Choice>) -> Result<Choice> + Sync,
) -> Result<Vec<Choice>>
where
    G: Graph + Space + Sync,
{
    for &slot in batch {
        graph.verify(slot)?;
    }
    batch
        .par_iter()
        .map(|&slot| {
            with_scratch(&mut |scratch| choose_one(graph, anchors, batch, slot, ef_construction, scratch))
        })
        .collect()
}

fn choose_one<G: Graph + Space>(
    graph: &G,
    anchors: &Anchors,
    batch: &[Slot],
    slot: Slot,
    ef_construction: usize,
    scratch: &mut Scratch,
) -> Result<Choice> {
    let level = graph.level(slot)?;
    let query = graph.query_of(slot)?;
    let mut layers = Vec::with_capacity(usize::from(level) + 1);
    let top = level.min(anchors.level);
    let width = Width::new(ef_construction, graph.capacity().m);
    let mut entry = descend(graph, graph, &query, anchors, top, scratch)?;
    for layer in (0..=level).rev() {
        let mut found = Vec::new();
        if layer <= top {
            let entries = [entry, if layer == 0 { anchors.root } else { entry }];
            search_layer(graph, graph, &query, &entries, width, layer, scratch)?;
            found.extend(scratch.found());
            if let Some(nearest) = found.first() {
                entry = nearest.slot;
            }
            look_past_duplicates(graph, slot, layer, &mut found)?;
        }
        add_nearest_of(graph, batch, slot, layer, &mut found)?;
        let mut chosen = Vec::with_capacity(graph.capacity().m);
        select(graph, &found, graph.capacity().m, &mut chosen);
        layers.push(chosen);
    }
    layers.reverse();
    Ok(Choice { slot, layers })
}

/// Adds the nearest others of the batch, as many as a row may hold, to the candidates.
fn add_nearest_of<G: Graph + Space>(
    graph: &G,
    batch: &[Slot],
    slot: Slot,
    layer: u8,
    found: &mut Vec<Candidate>,
) -> Result<()> {
    let mut others = Vec::with_capacity(batch.len());
    for &other in batch {
        if other != slot && graph.level(other)? >= layer {
            others.push(Candidate::new(graph.between(slot, other), other));
        }
    }
    let most = graph.capacity().degree(layer);
    if others.len() > most {
        others.select_nth_unstable_by(most - 1, Candidate::nearer);
        others.truncate(most);
    }
    found.extend(others);
    found.sort_by(Candidate::nearer);
    Ok(())
}

/// A row that would overflow, and what it holds instead.
pub(crate) struct Decision {
    layer: u8,
    target: Slot,
    offered: Vec<Slot>,
    chosen: Vec<Slot>,
}

/// Step 2. Gives back the rows that were offered more than they have room for, to be [decided](decide).
pub(crate) fn connect<G: GraphMut + Space>(graph: &mut G, choices: &[Choice]) -> Result<Vec<Decision>> {
    let mut offers = Vec::new();
    for Choice { slot, layers } in choices {
        for (layer, chosen) in (0..).zip(layers) {
            for &target in chosen {
                // A target that many point at may have no room for one more in-edge, and is offered the edge back all the same.
                add_edge(graph, *slot, target, layer)?;
                offers.push((layer, target, *slot));
            }
        }
    }
    offers.sort_unstable();
    let mut overflowing = Vec::new();
    for offers in offers.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let Some(&(layer, target, _)) = offers.first() else { continue };
        let mut offered: Vec<Slot> = Vec::with_capacity(offers.len());
        for &(_, _, source) in offers {
            if !has_edge(graph, target, source, layer)? {
                offered.push(source);
            }
        }
        if graph.neighbors(target, layer)?.len() + offered.len() > graph.capacity().degree(layer) {
            overflowing.push(Decision { layer, target, offered, chosen: Vec::new() });
        } else {
            for source in offered {
                add_edge(graph, target, source, layer)?;
            }
        }
    }
    Ok(overflowing)
}

/// Step 3. Each row chooses among what it has and what it is offered.
pub(crate) fn decide<G: Graph + Space + Sync>(graph: &G, decisions: &mut [Decision]) -> Result<()> {
    decisions.par_iter_mut().try_for_each(|decision| {
        decision.chosen = choose_again(graph, decision.target, decision.layer, &decision.offered)?;
        Ok(())
    })
}

/// Step 4. Gives back where searches start from now on.
pub(crate) fn settle<G: GraphMut + Space>(
    graph: &mut G,
    anchors: Anchors,
    choices: &[Choice],
    decisions: &[Decision],
) -> Result<Anchors> {
    for Decision { layer, target, offered, chosen } in decisions {
        for rival in evictable(graph, *target, *layer)?.to_vec() {
            if !chosen.contains(&rival) {
                drop_edge(graph, *target, rival, *layer)?;
            }
        }
        for source in offered.iter().filter(|source| chosen.contains(source)) {
            add_edge(graph, *target, *source, *layer)?;
        }
    }
    let mut anchors = anchors;
    for Choice { slot, .. } in choices {
        find_parent(graph, *slot, anchors.root)?;
        let level = graph.level(*slot)?;
        if level > anchors.level {
            anchors = Anchors { entry: *slot, level, ..anchors };
        }
    }
    Ok(anchors)
}
