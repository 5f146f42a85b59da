//! Which slots a search has seen.

use crate::vectors::Slot;

/// One bit per slot. Of a million vectors that is 125 KB, which stay in the nearer caches; a number of the search per slot would
/// need no clearing, but a megabyte (3 % fewer QPS there).
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    /// Where bits were set since the start.
    touched: Vec<Slot>,
}

impl Visited {
    /// Starts a search over slots below `slots`.
    pub(crate) fn start(&mut self, slots: usize) {
        // A few words are cleared one by one, many are cleared with all others.
        if self.touched.len() < self.words.len() / 16 {
            for &slot in &self.touched {
                if let Some(word) = self.words.get_mut(slot as usize / 64) {
                    *word = 0;
                }
            }
        } else {
            self.words.fill(0);
        }
        self.touched.clear();
        if self.words.len() < slots.div_ceil(64) {
            self.words.resize(slots.div_ceil(64).next_multiple_of(64), 0);
        }
    }

    /// Those of `slots` that were not seen before, in `fresh`, which has room for all. A slot out of range counts as seen: there
    /// is nothing to visit.
    ///
    /// Whether a neighbour was seen is a coin's toss, so there is no branch on it.
    #[inline]
    pub(crate) fn filter<'f>(&mut self, slots: &[Slot], fresh: &'f mut [Slot]) -> &'f [Slot] {
        let mut len = 0;
        for &slot in slots {
            let Some(word) = self.words.get_mut(slot as usize / 64) else { continue };
            let Some(to) = fresh.get_mut(len) else { break };
            let bit = 1 << (slot % 64);
            *to = slot;
            len += usize::from(*word & bit == 0);
            *word |= bit;
        }
        let fresh = fresh.get(..len).unwrap_or(&[]);
        self.touched.extend_from_slice(fresh);
        fresh
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
