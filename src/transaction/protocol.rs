//! Who writes, which commit readers see, and what may be used again: all that takes an agreement between threads.
//!
//! The store knows what a snapshot is and what is reclaimed; here they are parameters. So `tests/interleavings` can compile this very file
//! against loom and try every way in which threads may meet.

use super::sync::{Arc, ArcSwap, Condvar, Mutex, MutexGuard, Ordering, PoisonError, Weak, fence};

/// The writer's place: one at a time, first come first served by the scheduler. When nobody writes, what the writers hand on to
/// each other lies here.
///
/// A mutex and a condition variable instead of a guard, so that a transaction may move between threads. It is taken before
/// redb's own lock and given back after publishing: redb lets the next writer in before our snapshot of the commit is taken.
#[derive(Debug)]
pub(crate) struct WriterSlot<L> {
    ledger: Mutex<Option<L>>,
    returned: Condvar,
}

impl<L> WriterSlot<L> {
    pub(crate) fn new(ledger: L) -> Self {
        Self { ledger: Mutex::new(Some(ledger)), returned: Condvar::new() }
    }

    /// Waits for the place.
    pub(crate) fn acquire(&self) -> L {
        let mut place = self.lock();
        loop {
            if let Some(ledger) = place.take() {
                return ledger;
            }
            place = self.returned.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the place if it is free.
    pub(crate) fn try_acquire(&self) -> Option<L> {
        self.lock().take()
    }

    pub(crate) fn release(&self, ledger: L) {
        *self.lock() = Some(ledger);
        self.returned.notify_one();
    }

    /// The ledger, for good: nobody writes any more.
    pub(crate) fn take(&mut self) -> Option<L> {
        self.ledger.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<L>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writers' account of commits: which was the last, which one is durable, and which snapshots may still be in use.
///
/// `S` is a snapshot; `F` is a file that goes when its commit is durable and the last snapshot has let go of it.
#[derive(Debug)]
pub(crate) struct Commits<S, F> {
    last: u64,
    durable: u64,
    /// Snapshots that may still be in use.
    snapshots: Vec<(u64, Weak<S>)>,
    /// Files that commits have dropped which are not durable yet.
    dropped: Vec<Arc<F>>,
}

impl<S, F> Commits<S, F> {
    /// After the opening of a store whose last commit is `last`, and durable.
    pub(crate) fn new(last: u64) -> Self {
        Self { last, durable: last, snapshots: Vec::new(), dropped: Vec::new() }
    }

    /// The number of the last commit.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number of the last commit that is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Notes a snapshot of the last commit before readers can get at it.
    pub(crate) fn note(&mut self, snapshot: &Arc<S>) {
        self.snapshots.push((self.last, Arc::downgrade(snapshot)));
    }

    /// Slots freed by commits up to this one may be written to: those commits are durable, and no snapshot from before them
    /// is in use.
    pub(crate) fn reusable(&mut self) -> u64 {
        self.snapshots.retain(|(_, snapshot)| snapshot.strong_count() > 0);
        // What the last readers of a snapshot that is gone have read happened before we write there.
        fence(Ordering::Acquire);
        let oldest = self.snapshots.iter().map(|(commit, _)| *commit).min().unwrap_or(self.last);
        oldest.min(self.durable)
    }

    /// Lets readers see the commit of this number, which has `dropped` files that older ones may use.
    pub(crate) fn publish(
        &mut self,
        commit: u64,
        snapshot: Arc<S>,
        dropped: impl IntoIterator<Item = Arc<F>>,
        current: &ArcSwap<S>,
    ) {
        self.last = commit;
        self.dropped.extend(dropped);
        self.note(&snapshot);
        current.store(snapshot);
    }

    /// To be called when everything up to the last commit is durable. The files that are given back are to go with their last user.
    pub(crate) fn made_durable(&mut self) -> impl Iterator<Item = Arc<F>> {
        self.durable = self.last;
        self.dropped.drain(..)
    }
}
