//! What a search may cost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The clock is read once in so many inquiries.
const CLOCK_STRIDE: u32 = 16;

/// The bounds that a query states, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits<'a> {
    pub(super) distances: Option<u64>,
    pub(super) time: Option<Duration>,
    pub(super) cancel: Option<&'a AtomicBool>,
}

impl<'a> Limits<'a> {
    pub(super) fn are_none(&self) -> bool {
        self.distances.is_none() && self.time.is_none() && self.cancel.is_none()
    }

    /// What is left at the start of a search.
    pub(super) fn start(self) -> Budget<'a> {
        Budget {
            distances: self.distances.unwrap_or(u64::MAX),
            // A limit beyond what the clock can tell is none.
            deadline: self.time.and_then(|time| Instant::now().checked_add(time)),
            cancel: self.cancel,
            inquiries: 0,
            is_spent: false,
        }
    }
}

/// The bounds of a search under way.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    distances: u64,
    deadline: Option<Instant>,
    cancel: Option<&'a AtomicBool>,
    inquiries: u32,
    is_spent: bool,
}

impl Budget<'_> {
    /// True while the search, which has computed so many distances, may go on. Once false, false for ever.
    #[inline]
    pub(super) fn allows(&mut self, distances: u64) -> bool {
        if self.is_spent || distances >= self.distances || self.is_late() || self.is_cancelled() {
            self.is_spent = true;
        }
        !self.is_spent
    }

    /// True when the search was stopped.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    fn is_late(&mut self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let asks = self.inquiries.is_multiple_of(CLOCK_STRIDE);
        self.inquiries = self.inquiries.wrapping_add(1);
        asks && Instant::now() >= deadline
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }
}
