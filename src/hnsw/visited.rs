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

    /// True the first time that a slot is seen. A slot out of range counts as seen: there is nothing to visit.
    #[inline]
    pub(crate) fn insert(&mut self, slot: Slot) -> bool {
        match self.epochs.get_mut(slot as usize) {
            Some(epoch) if *epoch != self.epoch => {
                *epoch = self.epoch;
                true
            }
            _ => false,
        }
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
            assert!(visited.insert(3));
            assert!(!visited.insert(3));
            assert!(visited.insert(9));
            assert!(!visited.insert(1_000_000));
        }
    }
}
