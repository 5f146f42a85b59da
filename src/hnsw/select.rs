//! Choosing diverse neighbours: the paper's algorithm 4, with a rule for duplicates.

use super::Space;
use super::pool::Candidate;
use crate::vectors::Slot;

/// Adds to `chosen` from `candidates` (nearest to the centre first) until it holds `limit`.
///
/// A candidate is passed over when something already chosen is nearer to it than the centre is. Exact duplicates of the
/// centre tie with it in every comparison and would all be taken: of slots that duplicate each other only one is.
pub(crate) fn select<S: Space>(space: &S, candidates: &[Candidate], limit: usize, chosen: &mut Vec<Slot>) {
    for candidate in candidates {
        if chosen.len() >= limit {
            return;
        }
        let covered = chosen.iter().any(|&c| {
            if c == candidate.slot {
                return true;
            }
            let distance = space.between(candidate.slot, c);
            distance < candidate.distance || space.are_duplicates(candidate.slot, c)
        });
        if !covered {
            chosen.push(candidate.slot);
        }
    }
}
