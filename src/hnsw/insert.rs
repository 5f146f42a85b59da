//! Insertion: the paper's algorithm 1, with in-edges and parents kept up.

use super::edges::{add_edge, drop_edge, evictable, has_edge, split};
use super::pool::{Candidate, Width};
use super::search::{Scratch, descend, search_layer};
use super::select::select;
use super::tree::{adopt, try_parent};
use super::{Anchors, Graph, GraphMut, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// Links a node whose rows exist and are empty, and whose rank is the highest; gives back where searches start from now on.
pub(crate) fn insert<G: GraphMut + Space>(
    graph: &mut G,
    anchors: Option<Anchors>,
    slot: Slot,
    ef_construction: usize,
    scratch: &mut Scratch,
) -> Result<Anchors> {
    let level = graph.level(slot)?;
    let Some(anchors) = anchors else {
        return Ok(Anchors { entry: slot, level, root: slot });
    };
    let query = graph.query_of(slot)?;
    let top = level.min(anchors.level);
    let width = Width::new(ef_construction, graph.capacity().m);
    let mut entry = descend(graph, graph, &query, &anchors, top, scratch)?;
    for layer in (0..=top).rev() {
        let entries = [entry, if layer == 0 { anchors.root } else { entry }];
        search_layer(graph, graph, &query, &entries, width, layer, scratch)?;
        let found: Vec<Candidate> = scratch.found().filter(|c| c.slot != slot).collect();
        if let Some(nearest) = found.first() {
            entry = nearest.slot;
        }
        link(graph, slot, layer, found)?;
    }
    find_parent(graph, slot, anchors.root)?;
    if level > anchors.level {
        return Ok(Anchors { entry: slot, level, ..anchors });
    }
    Ok(anchors)
}

/// Chooses the neighbours of `slot` on one layer from `found` (nearest first) and those it has, and offers it to the chosen.
pub(crate) fn link<G: GraphMut + Space>(
    graph: &mut G,
    slot: Slot,
    layer: u8,
    mut found: Vec<Candidate>,
) -> Result<()> {
    look_past_duplicates(graph, slot, layer, &mut found)?;
    let (children, present) = split(graph, slot, layer)?;
    let (mut chosen, present) = (children.to_vec(), present.to_vec());
    let children = chosen.len();
    merge(graph, slot, &present, &mut found)?;
    let limit = graph.capacity().m.max(children + present.len());
    select(graph, &found, limit, &mut chosen);
    for &neighbor in present.iter().filter(|slot| !chosen.contains(slot)) {
        drop_edge(graph, slot, neighbor, layer)?;
    }
    for &neighbor in chosen.iter().skip(children) {
        add_edge(graph, slot, neighbor, layer)?;
    }
    for &neighbor in chosen.iter().skip(children) {
        offer(graph, neighbor, slot, layer)?;
    }
    Ok(())
}

/// Adds `slots` to the candidates around `center`, nearest first.
fn merge<G: Graph + Space>(
    graph: &G,
    center: Slot,
    slots: &[Slot],
    candidates: &mut Vec<Candidate>,
) -> Result<()> {
    for &slot in slots {
        if candidates.iter().all(|c| c.slot != slot) {
            graph.verify(slot)?;
            candidates.push(Candidate::new(graph.between(center, slot), slot));
        }
    }
    candidates.sort_by(Candidate::nearer);
    Ok(())
}

/// When a search found nothing but exact duplicates of `slot`, adds the neighbours of the nearest ones, so that a crowd of
/// duplicates stays connected with what surrounds it.
pub(super) fn look_past_duplicates<G: Graph + Space>(
    graph: &G,
    slot: Slot,
    layer: u8,
    found: &mut Vec<Candidate>,
) -> Result<()> {
    if found.is_empty() || !found.iter().all(|c| graph.are_duplicates(slot, c.slot)) {
        return Ok(());
    }
    let mut around = Vec::new();
    for candidate in found.iter().take(graph.capacity().m) {
        for &neighbor in graph.neighbors(candidate.slot, layer)? {
            graph.verify(neighbor)?;
            if neighbor != slot && !graph.are_duplicates(slot, neighbor) {
                around.push(neighbor);
            }
        }
    }
    merge(graph, slot, &around, found)
}

/// Offers `slot` to `center` as a neighbour. A full row is chosen anew.
fn offer<G: GraphMut + Space>(graph: &mut G, center: Slot, slot: Slot, layer: u8) -> Result<()> {
    if has_edge(graph, center, slot, layer)? {
        return Ok(());
    }
    if graph.neighbors(center, layer)?.len() < graph.capacity().degree(layer) {
        add_edge(graph, center, slot, layer)?;
        return Ok(());
    }
    let chosen = choose_again(graph, center, layer, &[slot])?;
    for rival in evictable(graph, center, layer)?.to_vec() {
        if !chosen.contains(&rival) {
            drop_edge(graph, center, rival, layer)?;
        }
    }
    if chosen.contains(&slot) {
        add_edge(graph, center, slot, layer)?;
    }
    Ok(())
}

/// The neighbours that `center` would choose among those it has and those it is offered. Its children stay.
pub(super) fn choose_again<G: Graph + Space>(
    graph: &G,
    center: Slot,
    layer: u8,
    offered: &[Slot],
) -> Result<Vec<Slot>> {
    graph.verify(center)?;
    let (children, rivals) = split(graph, center, layer)?;
    let mut chosen = children.to_vec();
    for &child in &chosen {
        graph.verify(child)?;
    }
    let mut candidates = Vec::with_capacity(rivals.len() + offered.len());
    merge(graph, center, rivals, &mut candidates)?;
    merge(graph, center, offered, &mut candidates)?;
    // Below the cap, so that the next offers and repairs need not choose again.
    let degree = graph.capacity().degree(layer);
    let limit = (degree - degree / 8).max(chosen.len());
    select(graph, &candidates, limit, &mut chosen);
    Ok(chosen)
}

/// How much farther than the nearest a parent may be, on squared distances.
const ALPHA: f32 = 1.2 * 1.2;

/// A distance made larger by [`ALPHA`]; under the dot product distances are often negative.
fn relaxed(distance: f32) -> f32 {
    if distance > 0.0 { distance * ALPHA } else { distance / ALPHA }
}

/// Finds the new node a parent: the nearest of its neighbours that points back, ranks lower and has room, or a place below the
/// nearest that ranks lower.
///
/// A parent that is much farther than that will not do, though it points back: a search that has come near would not look there.
/// In a crowd of near-duplicates, whose rows are full of each other, it may be the only way to the new node.
pub(super) fn find_parent<G: GraphMut + Space>(graph: &mut G, slot: Slot, root: Slot) -> Result<()> {
    let rank = graph.rank(slot)?;
    graph.verify(slot)?;
    let mut elders = Vec::new();
    for &neighbor in graph.neighbors(slot, 0)? {
        if graph.rank(neighbor)? < rank {
            graph.verify(neighbor)?;
            elders.push(Candidate::new(graph.between(slot, neighbor), neighbor));
        }
    }
    elders.sort_by(Candidate::nearer);
    let Some(&nearest) = elders.first() else { return adopt(graph, slot, root) };
    for elder in elders.into_iter().take_while(|elder| elder.distance <= relaxed(nearest.distance)) {
        if try_parent(graph, elder.slot, slot)? {
            return Ok(());
        }
    }
    adopt(graph, slot, nearest.slot)
}
