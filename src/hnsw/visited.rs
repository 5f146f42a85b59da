//! Which slots a search has seen.

use crate::vectors::Slot;

/// One byte per slot that holds the number of the last search to see it, so that starting a search costs nothing: the bytes
/// are cleared once in 255 searches.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    epochs: Vec<u8>,
    epoch: u8,
}

impl Visited {
    /// Starts a search over slots below `slots`.
    pub(crate) fn start(&mut self, slots: usize) {
        if self.epochs.len() < slots {
            self.epochs.resize(slots.next_multiple_of(4096), 0);
        }
        self.epoch = match self.epoch.checked_add(1) {
            Some(epoch) => epoch,
            None => {
                self.epochs.fill(0);
                1
            }
        };
    }

    /// Those of `slots` that were not seen before, in `fresh`, which has room for all. A slot out of range counts as seen: there
    /// is nothing to visit.
    ///
    /// Whether a neighbour was seen is a coin's toss, so there is no branch on it.
    #[inline]
    pub(crate) fn filter<'f>(&mut self, slots: &[Slot], fresh: &'f mut [Slot]) -> &'f [Slot] {
        let mut len = 0;
        for &slot in slots {
            let Some(epoch) = self.epochs.get_mut(slot as usize) else { continue };
            let Some(to) = fresh.get_mut(len) else { break };
            *to = slot;
            len += usize::from(*epoch != self.epoch);
            *epoch = self.epoch;
        }
        fresh.get(..len).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_search_starts_afresh() {
        let mut visited = Visited::default();
        for _ in 0..600 {
            visited.start(10);
            let mut fresh = [0; 8];
            assert_eq!(visited.filter(&[3, 9, 3, 1_000_000, 0], &mut fresh), &[3, 9, 0][..]);
            assert_eq!(visited.filter(&[0, 3, 4], &mut fresh), &[4][..]);
            assert!(visited.filter(&[], &mut []).is_empty());
        }
    }
}
