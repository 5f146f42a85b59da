//! Adding and dropping single edges, with the in-edge lists kept exact.
//!
//! For every edge u → v on a layer, either v → u exists too, or u stands in v's in-edge list. So the in-neighbours of v are
//! its in-edge list and those of its neighbours that point back.

use super::{Graph, GraphMut, Space};
use crate::error::Result;
use crate::vectors::Slot;

pub(crate) fn has_edge<G: Graph>(graph: &G, from: Slot, to: Slot, layer: u8) -> Result<bool> {
    Ok(graph.neighbors(from, layer)?.contains(&to))
}

/// All nodes that point at `slot`.
pub(crate) fn in_neighbors<G: Graph>(graph: &G, slot: Slot, layer: u8) -> Result<Vec<Slot>> {
    let mut found = Vec::new();
    for &neighbor in graph.neighbors(slot, layer)? {
        if has_edge(graph, neighbor, slot, layer)? {
            found.push(neighbor);
        }
    }
    found.extend_from_slice(graph.inbound(slot, layer)?);
    Ok(found)
}

/// True when another one-way edge may end in `slot`.
fn has_inbound_room<G: Graph>(graph: &G, slot: Slot, layer: u8) -> Result<bool> {
    let parent = graph.parent(slot)?;
    let counted = graph.inbound(slot, layer)?.iter().filter(|&&from| Some(from) != parent).count();
    Ok(counted < graph.capacity().inbound(layer))
}

/// Adds `from → to` if it is missing and both rows have room; true when it exists afterwards.
pub(crate) fn add_edge<G: GraphMut>(graph: &mut G, from: Slot, to: Slot, layer: u8) -> Result<bool> {
    if from == to {
        return Ok(false);
    }
    if has_edge(graph, from, to, layer)? {
        return Ok(true);
    }
    if graph.neighbors(from, layer)?.len() >= graph.capacity().degree(layer) {
        return Ok(false);
    }
    if !has_edge(graph, to, from, layer)? && !has_inbound_room(graph, to, layer)? {
        return Ok(false);
    }
    force_edge(graph, from, to, layer)?;
    Ok(true)
}

/// Adds `from → to`, which must be missing, to a row that has room, whatever the number of in-edges of `to`. For tree edges.
pub(crate) fn force_edge<G: GraphMut>(graph: &mut G, from: Slot, to: Slot, layer: u8) -> Result<()> {
    let mutual = has_edge(graph, to, from, layer)?;
    let mut row = graph.row_mut(from, layer)?;
    row.push(to);
    if mutual {
        row.remove_inbound(to);
    } else {
        graph.row_mut(to, layer)?.push_inbound(from);
    }
    Ok(())
}

/// Drops `from → to`, which must exist and not be a tree edge. When that leaves `to → from` as one in-edge too many, that
/// edge goes as well, unless it is a tree edge.
pub(crate) fn drop_edge<G: GraphMut>(graph: &mut G, from: Slot, to: Slot, layer: u8) -> Result<()> {
    graph.row_mut(from, layer)?.remove(to);
    if !has_edge(graph, to, from, layer)? {
        graph.row_mut(to, layer)?.remove_inbound(from);
    } else if (layer == 0 && graph.parent(from)? == Some(to)) || has_inbound_room(graph, from, layer)? {
        graph.row_mut(from, layer)?.push_inbound(to);
    } else {
        graph.row_mut(to, layer)?.remove(from);
    }
    Ok(())
}

/// The neighbours of `slot`: its children, of which there are none above layer 0, and those that may be evicted.
pub(crate) fn split<G: Graph>(graph: &G, slot: Slot, layer: u8) -> Result<(&[Slot], &[Slot])> {
    let children = if layer == 0 { graph.children(slot)? } else { 0 };
    let neighbors = graph.neighbors(slot, layer)?;
    Ok(neighbors.split_at_checked(children).unwrap_or((neighbors, &[])))
}

/// The neighbours of `slot` that may be evicted.
pub(crate) fn evictable<G: Graph>(graph: &G, slot: Slot, layer: u8) -> Result<&[Slot]> {
    Ok(split(graph, slot, layer)?.1)
}

/// Drops the farthest neighbour that may be evicted, if the row is full. True when the row has room afterwards.
pub(crate) fn make_room<G: GraphMut + Space>(graph: &mut G, slot: Slot, layer: u8) -> Result<bool> {
    if graph.neighbors(slot, layer)?.len() < graph.capacity().degree(layer) {
        return Ok(true);
    }
    graph.verify(slot)?;
    let mut farthest: Option<(f32, Slot)> = None;
    for &neighbor in evictable(graph, slot, layer)? {
        graph.verify(neighbor)?;
        let distance = graph.between(slot, neighbor);
        if farthest.is_none_or(|(d, _)| distance > d) {
            farthest = Some((distance, neighbor));
        }
    }
    match farthest {
        Some((_, neighbor)) => {
            drop_edge(graph, slot, neighbor, layer)?;
            Ok(true)
        }
        None => Ok(false),
    }
}
