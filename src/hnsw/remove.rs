//! True deletion: the node's in-neighbours are known exactly, lose their edge and get others in its place.

use super::edges::{add_edge, has_edge, in_neighbors, split};
use super::insert::link;
use super::pool::{Candidate, Width};
use super::search::{Scratch, search_layer};
use super::select::select;
use super::tree::{adopt, adopt_by_in_neighbor, adopt_nearby};
use super::{Anchors, Graph, GraphMut, Space};
use crate::error::Result;
use crate::vectors::Slot;

/// An in-neighbour gets at most this many edges in place of the lost one.
const REPLACEMENTS: usize = 3;

/// Unlinks a node from all of its layers; gives back where searches start from now on, `None` when nothing is left.
/// The node's rows are empty afterwards.
pub(crate) fn remove<G: GraphMut + Space>(
    graph: &mut G,
    anchors: Anchors,
    slot: Slot,
    ef_construction: usize,
    scratch: &mut Scratch,
) -> Result<Option<Anchors>> {
    let level = graph.level(slot)?;
    let successor = if anchors.entry == slot { new_entry(graph, slot, level)? } else { None };
    let mut wounds = Vec::new();
    for layer in (1..=level).rev() {
        wounds.push(detach(graph, slot, layer)?);
    }
    let base = detach(graph, slot, 0)?;
    // Its orphans need parents before anything else walks or changes the graph.
    let parent = graph.parent(slot)?;
    graph.row_mut(slot, 0)?.set_parent(None);
    let root = if anchors.root == slot {
        match new_root(graph, &base.children)? {
            Some(root) => root,
            None => return Ok(None),
        }
    } else {
        anchors.root
    };
    let anchors = match successor {
        Some((entry, level)) => Anchors { entry, level, root },
        None => Anchors { root, ..anchors },
    };
    for &orphan in base.children.iter().filter(|&&child| child != root) {
        if !adopt_by_in_neighbor(graph, orphan)? && !adopt_nearby(graph, orphan, &base.neighborhood)? {
            adopt(graph, orphan, parent.unwrap_or(root))?;
        }
    }
    for wound in wounds.into_iter().chain([base]) {
        for &slot in &wound.in_neighbors {
            repair(graph, &anchors, slot, &wound, ef_construction, scratch)?;
        }
    }
    Ok(Some(anchors))
}

/// What a deletion leaves behind on one layer.
struct Wound {
    layer: u8,
    /// Those who pointed at the node.
    in_neighbors: Vec<Slot>,
    /// All who were linked with it, either way.
    neighborhood: Vec<Slot>,
    /// On layer 0: its children in the tree.
    children: Vec<Slot>,
}

/// A neighbour on the highest layer where there is one, and its level.
fn new_entry<G: Graph>(graph: &G, slot: Slot, level: u8) -> Result<Option<(Slot, u8)>> {
    for layer in (0..=level).rev() {
        let mut best: Option<(Slot, u8)> = None;
        let linked = graph.neighbors(slot, layer)?.iter().chain(graph.inbound(slot, layer)?);
        for &neighbor in linked {
            let level = graph.level(neighbor)?;
            if best.is_none_or(|(_, highest)| level > highest) {
                best = Some((neighbor, level));
            }
        }
        if best.is_some() {
            return Ok(best);
        }
    }
    Ok(None)
}

/// The child with the lowest rank: all others are descendants of nodes that rank above it.
fn new_root<G: GraphMut>(graph: &mut G, children: &[Slot]) -> Result<Option<Slot>> {
    let mut lowest: Option<(u64, Slot)> = None;
    for &child in children {
        let rank = graph.rank(child)?;
        if lowest.is_none_or(|(l, _)| rank < l) {
            lowest = Some((rank, child));
        }
    }
    Ok(lowest.map(|(_, slot)| slot))
}

/// Takes every edge to and from the node off one layer.
fn detach<G: GraphMut + Space>(graph: &mut G, slot: Slot, layer: u8) -> Result<Wound> {
    let neighbors = graph.neighbors(slot, layer)?.to_vec();
    let in_neighbors = in_neighbors(graph, slot, layer)?;
    let children = split(graph, slot, layer)?.0.to_vec();
    for &neighbor in &neighbors {
        if !has_edge(graph, neighbor, slot, layer)? {
            graph.row_mut(neighbor, layer)?.remove_inbound(slot);
        }
    }
    for &neighbor in &in_neighbors {
        let mut row = graph.row_mut(neighbor, layer)?;
        row.remove(slot);
        row.count_loss();
    }
    graph.row_mut(slot, layer)?.clear();
    for &child in &children {
        graph.row_mut(child, 0)?.set_parent(None);
    }
    let mut neighborhood = neighbors;
    neighborhood.extend_from_slice(&in_neighbors);
    neighborhood.sort_unstable();
    neighborhood.dedup();
    Ok(Wound { layer, in_neighbors, neighborhood, children })
}

/// Gives an in-neighbour of a deleted node a diverse edge into the node's neighbourhood (IP-DiskANN, § 4), or links it
/// afresh when its row has become too poor.
fn repair<G: GraphMut + Space>(
    graph: &mut G,
    anchors: &Anchors,
    slot: Slot,
    wound: &Wound,
    ef_construction: usize,
    scratch: &mut Scratch,
) -> Result<()> {
    let layer = wound.layer;
    let capacity = graph.capacity();
    // Losses are counted up to 255. Linking afresh writes some ten rows. Doing so after m0 losses gains .0005 of recall when
    // all of a collection is replaced, for 7 % more rows per removal; after 1.5 m0, .0002 for 1 %.
    let worn_out =
        usize::from(graph.row_mut(slot, layer)?.losses()) >= (7 * capacity.degree(layer) / 4).min(255);
    if worn_out || graph.neighbors(slot, layer)?.len() < capacity.m / 2 {
        return relink(graph, anchors, slot, wound, ef_construction, scratch);
    }
    let mut present = graph.neighbors(slot, layer)?.to_vec();
    for &slot in present.iter().chain([&slot]) {
        graph.verify(slot)?;
    }
    let mut candidates = Vec::with_capacity(wound.neighborhood.len());
    for &candidate in &wound.neighborhood {
        if candidate != slot && !present.contains(&candidate) {
            graph.verify(candidate)?;
            candidates.push(Candidate::new(graph.between(slot, candidate), candidate));
        }
    }
    candidates.sort_by(Candidate::nearer);
    // What is far is rarely chosen, and costs as many comparisons.
    candidates.truncate(capacity.m);
    let before = present.len();
    select(graph, &candidates, before + REPLACEMENTS, &mut present);
    for &replacement in present.iter().skip(before) {
        add_edge(graph, slot, replacement, layer)?;
    }
    Ok(())
}

/// Chooses a node's neighbours on one layer anew, as an insertion would. The search starts where the node is, among its
/// neighbours and those of the deleted node, so that a narrow one suffices.
fn relink<G: GraphMut + Space>(
    graph: &mut G,
    anchors: &Anchors,
    slot: Slot,
    wound: &Wound,
    ef_construction: usize,
    scratch: &mut Scratch,
) -> Result<()> {
    let layer = wound.layer;
    graph.row_mut(slot, layer)?.reset_losses();
    let query = graph.query_of(slot)?;
    let mut entries = wound.neighborhood.clone();
    entries.extend_from_slice(graph.neighbors(slot, layer)?);
    if layer == 0 {
        entries.push(anchors.root);
    }
    entries.retain(|&entry| entry != slot);
    let ef = (ef_construction / 2).max(graph.capacity().degree(layer));
    let width = Width::new(ef, graph.capacity().m);
    search_layer(graph, graph, &query, &entries, width, layer, scratch)?;
    let found = scratch.found().filter(|c| c.slot != slot).collect();
    link(graph, slot, layer, found)
}
