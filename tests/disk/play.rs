//! Plays a workload on a store, beside the model, and takes note of what was promised when.

use std::path::Path;
use std::sync::Arc;

use nestling::{CloseError, Durability, Error, ReadTransaction, Store, WriteTransaction};

use super::observer::{Disk, Kind};
use super::state::{Change, State};
use super::workload::{Step, Workload};

/// What was committed, and when.
#[derive(Debug, Default, Clone)]
pub struct History {
    /// The states that commits led to, from the empty one on, and the numbers of those commits.
    pub states: Vec<(u64, State)>,
    pub promises: Vec<Promise>,
}

/// A state is made durable: by a commit that waits, or by the end of a store.
#[derive(Debug, Clone)]
pub struct Promise {
    pub state: usize,
    /// Operations recorded before the call…
    pub start: usize,
    /// …and when it had returned. `None`: it failed, and may have happened all the same.
    pub end: Option<usize>,
    /// Whether readers must not see the state before it is durable: not so at the end of a store, since they have seen it.
    pub hidden_until_then: bool,
}

impl History {
    /// Which states may be found when the power goes after so many operations, at a time when readers see commit `visible`.
    pub fn allowed(&self, operations: usize, visible: u64) -> Vec<usize> {
        let seen = |promise: &&Promise| {
            promise.hidden_until_then && self.states[promise.state].0 == visible && promise.start < operations
        };
        let kept = |promise: &&Promise| promise.end.is_some_and(|end| end <= operations) || seen(promise);
        let least = self.promises.iter().filter(kept).map(|promise| promise.state).max().unwrap_or(0);
        let begun = |promise: &&Promise| promise.start < operations && promise.state > least;
        let in_flight = self.promises.iter().filter(begun).map(|promise| promise.state);
        let mut allowed: Vec<usize> = std::iter::once(least).chain(in_flight).collect();
        allowed.dedup();
        allowed
    }

    /// Of a recovery after a kill: what the killed process had not made durable is so with the next commit only. Until then
    /// `least` may be found again.
    pub fn found_is_not_durable(&mut self, least: usize) {
        let [found, next] = &self.promises[..] else {
            panic!("a recovery finds a state, and commits another")
        };
        let shown = Promise { end: next.end, ..found.clone() };
        if least < shown.state {
            self.promises[0].state = least;
            self.promises.insert(1, shown);
        }
    }

    /// Where nothing was recorded: the states that may be found at the end.
    pub fn allowed_at_the_end(&self) -> Vec<usize> {
        self.allowed(usize::MAX, u64::MAX)
    }
}

/// How the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Close,
    Drop,
}

/// Plays the workload. What goes wrong without a fault, or in another way than a fault may make it go wrong, is an error.
pub fn play(workload: &Workload, path: &Path, disk: &Arc<Disk>, end: End) -> Result<History, String> {
    let player = Player {
        workload,
        path,
        disk,
        store: None,
        poisoned: false,
        pins: Vec::new(),
        history: History::default(),
    };
    // One thread, so that a trace can be recorded a second time.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| player.run(end))
}

struct Player<'a> {
    workload: &'a Workload,
    path: &'a Path,
    disk: &'a Arc<Disk>,
    store: Option<Arc<Store>>,
    poisoned: bool,
    pins: Vec<(ReadTransaction, usize)>,
    history: History,
}

/// Whether the workload goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The transaction was rolled back by a fault.
    RolledBack,
    /// No more writes.
    Stopped,
}

impl Player<'_> {
    fn run(mut self, end: End) -> Result<History, String> {
        self.history.states.push((0, State::default()));
        if !self.open()? {
            return Ok(self.history);
        }
        let mut failures = 0;
        let steps = self.workload.steps.iter().enumerate();
        for (number, step) in steps {
            // A transaction that was rolled back is tried once more.
            let mut outcome = self.step(number as u64, step)?;
            if outcome == Outcome::RolledBack {
                outcome = self.step(number as u64, step)?;
            }
            failures += usize::from(outcome == Outcome::RolledBack);
            self.poisoned = outcome == Outcome::Stopped && self.store.is_some();
            if outcome == Outcome::Stopped || failures > 1 {
                break;
            }
        }
        while !self.pins.is_empty() {
            self.unpin()?;
        }
        self.end(end)?;
        Ok(self.history)
    }

    /// True when the store is open.
    fn open(&mut self) -> Result<bool, String> {
        let builder = Store::builder().observer(self.disk.clone()).vector_access(self.workload.access);
        #[cfg(nestling_defects)]
        let builder =
            self.workload.defect.into_iter().fold(builder, |builder, defect| builder.defect(defect));
        match builder.open(self.path) {
            Ok(store) => {
                let store = Arc::new(store);
                self.disk.watch(&store);
                self.compare_latest(&store)?;
                self.store = Some(store);
                Ok(true)
            }
            Err(e) => self.expect_fault(&e).map(|()| false),
        }
    }

    fn compare_latest(&self, store: &Store) -> Result<(), String> {
        let (number, state) = self.history.states.last().expect("there is the empty state");
        let snapshot = store.begin_read().unwrap();
        if snapshot.commit_number() != *number {
            return Err(format!("commit {} is open, not {number}", snapshot.commit_number()));
        }
        self.compare(state, &snapshot, "the store as opened")
    }

    /// Reads may fail when a fault makes them.
    fn compare(&self, state: &State, snapshot: &ReadTransaction, what: &str) -> Result<(), String> {
        match state.compare(snapshot) {
            Err(_) if self.disk.fails(Kind::Read) && self.disk.was_met() => Ok(()),
            result => result.map_err(|e| format!("{what}: {e}")),
        }
    }

    fn step(&mut self, number: u64, step: &Step) -> Result<Outcome, String> {
        match step {
            Step::Commit(durability, changes) => self.transaction(number, changes, Some(*durability)),
            Step::Abort(changes) => self.transaction(number, changes, None),
            Step::Pin => {
                self.pins.push((self.store().begin_read().unwrap(), self.history.states.len() - 1));
                Ok(Outcome::Done)
            }
            Step::Unpin => self.unpin().map(|()| Outcome::Done),
            Step::Reopen => self.reopen(End::Close),
            Step::DropAndReopen => self.reopen(End::Drop),
            Step::Compact => self.compact(),
        }
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("the store is open between steps")
    }

    fn unpin(&mut self) -> Result<(), String> {
        let (snapshot, state) = self.pins.remove(0);
        self.compare(&self.history.states[state].1, &snapshot, "a snapshot held meanwhile")
    }

    fn transaction(
        &mut self,
        number: u64,
        changes: &[Change],
        durability: Option<Durability>,
    ) -> Result<Outcome, String> {
        let mut tx = match self.store().begin_write() {
            Ok(tx) => tx,
            Err(Error::Poisoned) if self.disk.was_met() => return Ok(Outcome::Stopped),
            Err(e) => return self.expect_fault(&e).map(|()| Outcome::RolledBack),
        };
        tx.set_durability(durability.unwrap_or_default());
        let (base, state) = self.history.states.last().expect("there is the empty state");
        let (base, mut state) = (*base, state.clone());
        for (i, change) in changes.iter().enumerate() {
            let version = number << 8 | i as u64;
            if let Err(e) = change.perform(&tx, version) {
                self.expect_fault(&e)?;
                return self.refused(tx);
            }
            state.apply(change, version);
        }
        let Some(durability) = durability else {
            return match tx.abort() {
                Ok(()) => Ok(Outcome::Done),
                Err(e) => self.expect_fault(&e).map(|()| Outcome::RolledBack),
            };
        };
        let start = self.disk.len();
        let durable = durability == Durability::Immediate;
        let failed_before = self.disk.failures();
        match tx.commit() {
            Ok(()) if self.disk.failures() > failed_before && !self.disk.fails(Kind::Remove) => {
                Err("a commit is acknowledged although an operation in it failed".to_owned())
            }
            Ok(()) => {
                let snapshot = self.store().begin_read().unwrap();
                if snapshot.commit_number() <= base {
                    return Err(format!("commit {} after {base}", snapshot.commit_number()));
                }
                self.note(snapshot.commit_number(), state, durable.then_some((start, Some(self.disk.len()))));
                Ok(Outcome::Done)
            }
            Err(e @ (Error::TransactionFailed | Error::CommitAborted { .. })) => {
                self.expect_fault(&e).map(|()| Outcome::RolledBack)
            }
            Err(e) => {
                self.expect_fault(&e)?;
                if !matches!(self.store().begin_write(), Err(Error::Poisoned)) {
                    return Err(format!("the store is not poisoned after {e}"));
                }
                let (number, latest) = self.history.states.last().expect("there is the empty state");
                let snapshot = self.store().begin_read().unwrap();
                if snapshot.commit_number() != *number {
                    return Err(format!("commit {} is shown after {e}", snapshot.commit_number()));
                }
                self.compare(latest, &snapshot, "the last snapshot of a poisoned store")?;
                self.note(base + 1, state, durable.then_some((start, None)));
                Ok(Outcome::Stopped)
            }
        }
    }

    fn note(&mut self, number: u64, state: State, promise: Option<(usize, Option<usize>)>) {
        if let Some((start, end)) = promise {
            let state = self.history.states.len();
            self.history.promises.push(Promise { state, start, end, hidden_until_then: true });
        }
        self.history.states.push((number, state));
    }

    /// Whoever goes on after a failed operation is refused, by us or, after an error of a table, by redb.
    fn refused(&self, tx: WriteTransaction) -> Result<Outcome, String> {
        match tx.commit() {
            Err(Error::TransactionFailed | Error::CommitAborted { .. }) => Ok(Outcome::RolledBack),
            Err(e) if self.store().begin_write().is_err() => self.expect_fault(&e).map(|()| Outcome::Stopped),
            other => Err(format!("{other:?} from the commit of a transaction that had failed")),
        }
    }

    fn reopen(&mut self, end: End) -> Result<Outcome, String> {
        Ok(if self.end(end)? && self.open()? { Outcome::Done } else { Outcome::Stopped })
    }

    /// A commit for each collection, and one for the journal, that change nothing to be seen. The power may go after any of them.
    fn compact(&mut self) -> Result<Outcome, String> {
        let store =
            Arc::try_unwrap(self.store.take().expect("the store is open")).expect("nobody else holds it");
        let start = self.disk.len();
        let (base, state) = self.history.states.last().expect("there is the empty state").clone();
        let first = self.history.promises.len();
        let latest = self.history.states.len() - 1;
        let steps = state.collections() + 1;
        self.history.states.extend((1..=steps as u64).map(|i| (base + i, state.clone())));
        // What was pending becomes durable first.
        for state in latest..=latest + steps {
            self.history.promises.push(Promise { state, start, end: None, hidden_until_then: false });
        }
        match store.compact() {
            Ok((store, _)) => {
                let end = Some(self.disk.len());
                self.history.promises[first..].iter_mut().for_each(|promise| promise.end = end);
                let store = Arc::new(store);
                self.disk.watch(&store);
                self.compare_latest(&store)?;
                self.store = Some(store);
                Ok(Outcome::Done)
            }
            Err(CloseError::Failed(e)) => self.expect_fault(&e).map(|()| Outcome::Stopped),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Closes or drops the store; true when everything is durable.
    fn end(&mut self, end: End) -> Result<bool, String> {
        let Some(store) = self.store.take() else { return Ok(false) };
        let store = Arc::try_unwrap(store).expect("nobody else holds the store");
        let start = self.disk.len();
        let latest = self.history.states.len() - 1;
        let closed = match end {
            End::Close => match store.close() {
                Ok(()) => true,
                Err(CloseError::Failed(e)) => self.expect_fault(&e).map(|()| false)?,
                Err(e) => return Err(e.to_string()),
            },
            End::Drop => {
                drop(store);
                !self.disk.was_met()
            }
        };
        // A store that is poisoned must not make durable what was pending.
        let pending = latest > 0 && !self.history.promises.iter().any(|promise| promise.state == latest);
        if pending && !self.poisoned {
            let end = closed.then(|| self.disk.len());
            self.history.promises.push(Promise { state: latest, start, end, hidden_until_then: false });
        }
        Ok(closed)
    }

    /// An error must come from the fault, and must neither blame the input nor call healthy bytes corrupted.
    fn expect_fault(&self, error: &Error) -> Result<(), String> {
        if self.disk.was_met() && !error.is_corrupted() && !error.is_input() {
            Ok(())
        } else {
            Err(format!("unexpected: {error:?}"))
        }
    }
}
