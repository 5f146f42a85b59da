//! The guarantee: on layer 0, everything can be reached from the root.
//!
//! Every node but the root has a *parent*: a node of lower rank with an edge to it that may not be evicted. Ranks fall along
//! parents, so there are no cycles, every chain of parents ends at the root, and every node is reachable from it, with no
//! walk to prove it. Ranks are insertion stamps: a new node outranks all others and may become anybody's child.
//!
//! A node has at most [`Capacity::children`](crate::options::Capacity::children) children. That suffices: [`adopt`] finds a
//! place for an orphan as insertion into a heap does, so it always succeeds.

use super::edges::{add_edge, drop_edge, force_edge, has_edge, in_neighbors, make_room};
use super::level::mix;
use super::{Graph, GraphMut, Space};
use crate::error::{Error, Result};
use crate::vectors::Slot;

/// Makes an existing edge a tree edge, if the parent has room for a child.
pub(crate) fn try_parent<G: GraphMut>(graph: &mut G, parent: Slot, child: Slot) -> Result<bool> {
    if graph.children(parent)? >= graph.capacity().children()
        || graph.rank(parent)? >= graph.rank(child)?
        || !has_edge(graph, parent, child, 0)?
    {
        return Ok(false);
    }
    graph.row_mut(parent, 0)?.promote(child);
    graph.row_mut(child, 0)?.set_parent(Some(parent));
    Ok(true)
}

/// Gives an orphan a parent among those who point at it already, the nearest first.
pub(crate) fn adopt_by_in_neighbor<G: GraphMut + Space>(graph: &mut G, orphan: Slot) -> Result<bool> {
    let rank = graph.rank(orphan)?;
    graph.verify(orphan)?;
    let mut candidates = Vec::new();
    for slot in in_neighbors(graph, orphan, 0)? {
        if graph.rank(slot)? < rank && graph.children(slot)? < graph.capacity().children() {
            graph.verify(slot)?;
            candidates.push((graph.between(orphan, slot), slot));
        }
    }
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (_, slot) in candidates {
        if try_parent(graph, slot, orphan)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives an orphan a parent, and an edge from it, among `around`: the nearest that has room for both.
///
/// After a deletion, whose neighbourhood changes anyway, no further row is written for it.
pub(crate) fn adopt_nearby<G: GraphMut + Space>(
    graph: &mut G,
    orphan: Slot,
    around: &[Slot],
) -> Result<bool> {
    let rank = graph.rank(orphan)?;
    graph.verify(orphan)?;
    let mut nearest: Option<(f32, Slot)> = None;
    for &slot in around {
        let has_room = graph.children(slot)? < graph.capacity().children()
            && graph.neighbors(slot, 0)?.len() < graph.capacity().degree(0);
        if has_room && graph.rank(slot)? < rank {
            graph.verify(slot)?;
            let distance = graph.between(orphan, slot);
            if nearest.is_none_or(|(d, _)| distance < d) {
                nearest = Some((distance, slot));
            }
        }
    }
    match nearest {
        Some((_, parent)) => attach(graph, parent, orphan).map(|()| true),
        None => Ok(false),
    }
}

/// Gives an orphan a parent below `start`, whose rank is lower than the orphan's.
///
/// Where `start` is full, the orphan goes down to the nearest child of lower rank; if all children have higher ranks, it takes
/// the place of the farthest one, which becomes the orphan to place below it. Ranks rise with every step down, so this ends
/// at the latest at a leaf.
pub(crate) fn adopt<G: GraphMut + Space>(graph: &mut G, orphan: Slot, start: Slot) -> Result<()> {
    let (mut orphan, mut node) = (orphan, start);
    loop {
        if graph.rank(node)? >= graph.rank(orphan)? {
            return Err(Error::corrupted(
                format!("slot {node}"),
                format!("its rank is not below that of slot {orphan}, its descendant"),
            ));
        }
        if graph.children(node)? < graph.capacity().children() {
            return attach(graph, node, orphan);
        }
        let (nearest_lower, farthest) = children_by_distance(graph, node, orphan)?;
        if let Some(child) = nearest_lower {
            // On sound rows ranks rise with every step, which is why this ends; rows from disk are not trusted to be sound.
            if graph.rank(child)? <= graph.rank(node)? {
                let detail = format!("it ranks below slot {node}, its parent");
                return Err(Error::corrupted(format!("slot {child}"), detail));
            }
            node = child;
        } else if let Some(child) = farthest {
            graph.row_mut(node, 0)?.demote(child);
            graph.row_mut(child, 0)?.set_parent(None);
            drop_edge(graph, node, child, 0)?;
            attach(graph, node, orphan)?;
            (orphan, node) = (child, orphan);
        } else {
            return Err(Error::corrupted(format!("slot {node}"), "it counts children that it does not have"));
        }
    }
}

/// Makes `child` a child of `parent`, which has room for a child.
fn attach<G: GraphMut + Space>(graph: &mut G, parent: Slot, child: Slot) -> Result<()> {
    if !has_edge(graph, parent, child, 0)? {
        if !make_room(graph, parent, 0)? {
            return Err(Error::corrupted(
                format!("slot {parent}"),
                "its row holds more children than it counts",
            ));
        }
        force_edge(graph, parent, child, 0)?;
    }
    graph.row_mut(parent, 0)?.promote(child);
    graph.row_mut(child, 0)?.set_parent(Some(parent));
    // A mutual edge helps a search to leave the orphan again; no harm if there is no room.
    add_edge(graph, child, parent, 0)?;
    Ok(())
}

/// Of the children of `node`: the nearest to `orphan` with a lower rank than it, and the farthest of all.
fn children_by_distance<G: Graph + Space>(
    graph: &G,
    node: Slot,
    orphan: Slot,
) -> Result<(Option<Slot>, Option<Slot>)> {
    let rank = graph.rank(orphan)?;
    graph.verify(orphan)?;
    // Among copies all are equally near: always the first one would make a path of the tree.
    let draw = |child: u64| mix(rank ^ mix(child));
    let mut nearest: Option<(f32, u64, Slot)> = None;
    let mut farthest: Option<(f32, Slot)> = None;
    for &child in graph.neighbors(node, 0)?.iter().take(graph.children(node)?) {
        graph.verify(child)?;
        let distance = graph.between(orphan, child);
        let child_rank = graph.rank(child)?;
        let draw = draw(child_rank);
        if child_rank < rank
            && nearest.is_none_or(|(d, drawn, _)| distance < d || (distance == d && draw < drawn))
        {
            nearest = Some((distance, draw, child));
        }
        if farthest.is_none_or(|(d, _)| distance > d) {
            farthest = Some((distance, child));
        }
    }
    Ok((nearest.map(|(_, _, slot)| slot), farthest.map(|(_, slot)| slot)))
}
