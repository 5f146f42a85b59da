//! What the writers hand on to each other.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::engine::Engine;
use super::journal::Journal;
use super::protocol::Commits;
use super::published::Published;
use crate::vectors::Segment;

/// What the writers hand on to each other.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) commits: Commits<Published, Segment>,
    pub(crate) journal: Journal,
    /// Segments written by commits that are not durable yet.
    pub(crate) unsynced: Vec<Arc<Segment>>,
    /// The directory may have names that are not durable yet: new segments, and at first whatever a crash left unsynced.
    pub(crate) unsynced_names: bool,
    /// The directory's own name may not be durable yet.
    pub(crate) unsynced_parent: bool,
}

impl Ledger {
    pub(crate) fn new(commit: u64, journal: Journal) -> Self {
        Self {
            commits: Commits::new(commit),
            journal,
            unsynced: Vec::new(),
            unsynced_names: true,
            unsynced_parent: true,
        }
    }
}

/// The ledger in the hands of a commit or a check, which give it back however they end.
pub(crate) struct Borrowed<'a> {
    engine: &'a Engine,
    ledger: Option<Ledger>,
    /// Whether the thread was unwinding already: a commit in an app's `drop` has not failed because of that.
    unwinding: bool,
}

impl<'a> Borrowed<'a> {
    pub(crate) fn new(engine: &'a Engine, ledger: Ledger) -> Self {
        Self { engine, ledger: Some(ledger), unwinding: std::thread::panicking() }
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
        if std::thread::panicking() && !self.unwinding {
            // Nobody knows how far a commit has come.
            self.engine.directory.poison();
        }
        if let Some(ledger) = self.ledger.take() {
            self.engine.writer.release(ledger);
        }
    }
}
