//! The writer's place: one at a time, first come first served by the scheduler.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::engine::Engine;
use super::journal::Journal;
use super::published::Published;
use crate::vectors::Segment;

/// Held by the one writer; when nobody writes, the ledger lies here.
///
/// A mutex and a condition variable instead of a guard, so that a transaction may move between threads. It is taken before
/// redb's own lock and given back after publishing: redb lets the next writer in before our snapshot of the commit is taken.
#[derive(Debug)]
pub(crate) struct WriterSlot {
    ledger: Mutex<Option<Ledger>>,
    returned: Condvar,
}

/// What the writers hand on to each other.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The number of the last commit.
    pub(crate) commit: u64,
    /// The number of the last commit that is durable.
    pub(crate) durable: u64,
    pub(crate) journal: Journal,
    /// Snapshots that may still be in use.
    pub(crate) snapshots: Vec<(u64, Weak<Published>)>,
    /// Segments written by commits that are not durable yet.
    pub(crate) unsynced: Vec<Arc<Segment>>,
    /// The directory may have names that are not durable yet: new segments, and at first whatever a crash left unsynced.
    pub(crate) unsynced_names: bool,
    /// The directory's own name may not be durable yet.
    pub(crate) unsynced_parent: bool,
    /// Segments of collections dropped by commits that are not durable yet.
    pub(crate) dropped: Vec<Arc<Segment>>,
}

impl Ledger {
    pub(crate) fn new(commit: u64, journal: Journal) -> Self {
        Self {
            commit,
            journal,
            durable: commit,
            snapshots: Vec::new(),
            unsynced: Vec::new(),
            unsynced_names: true,
            unsynced_parent: true,
            dropped: Vec::new(),
        }
    }

    /// Slots freed by commits up to this one may be written to: those commits are durable, and no snapshot from before them
    /// is in use.
    pub(crate) fn reusable(&mut self) -> u64 {
        self.snapshots.retain(|(_, snapshot)| snapshot.strong_count() > 0);
        // What the last readers of a snapshot that is gone have read happened before we write there.
        fence(Ordering::Acquire);
        let oldest = self.snapshots.iter().map(|(commit, _)| *commit).min().unwrap_or(self.commit);
        oldest.min(self.durable)
    }
}

/// The ledger in the hands of a commit or a check, which give it back however they end.
pub(crate) struct Borrowed<'a> {
    engine: &'a Engine,
    ledger: Option<Ledger>,
}

impl<'a> Borrowed<'a> {
    pub(crate) fn new(engine: &'a Engine, ledger: Ledger) -> Self {
        Self { engine, ledger: Some(ledger) }
    }
}

impl Deref for Borrowed<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        self.ledger.as_ref().expect("the ledger is there until the drop")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Ledger {
        self.ledger.as_mut().expect("the ledger is there until the drop")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody knows how far a commit has come.
            self.engine.directory.poison();
        }
        if let Some(ledger) = self.ledger.take() {
            self.engine.writer.release(ledger);
        }
    }
}

impl WriterSlot {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { ledger: Mutex::new(Some(ledger)), returned: Condvar::new() }
    }

    /// Waits for the place.
    pub(crate) fn acquire(&self) -> Ledger {
        let mut place = self.lock();
        loop {
            if let Some(ledger) = place.take() {
                return ledger;
            }
            place = self.returned.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the place if it is free.
    pub(crate) fn try_acquire(&self) -> Option<Ledger> {
        self.lock().take()
    }

    pub(crate) fn release(&self, ledger: Ledger) {
        *self.lock() = Some(ledger);
        self.returned.notify_one();
    }

    /// Notes the snapshot that a store begins with.
    pub(crate) fn note(&self, snapshot: &Arc<Published>) {
        if let Some(ledger) = self.lock().as_mut() {
            ledger.snapshots.push((snapshot.commit, Arc::downgrade(snapshot)));
        }
    }

    /// The ledger, for good: nobody writes any more.
    pub(crate) fn take(&mut self) -> Option<Ledger> {
        self.ledger.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ledger>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
