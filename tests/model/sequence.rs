//! One sequence of operations on one store.

mod opening;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use nestling::{CollectionDefinition, Durability, Error, Store, WriteTransaction};

use super::Progress;
use super::dice::Dice;
use super::evidence::{Case, Evidence};
use super::reference::{Reference, Shelf, Spec};
use super::snapshot::{NOTES, Snapshot};
use super::twin::{MIRROR, MIRRORED, Twin};

const NAMES: [&str; 3] = ["a", "b", "c"];
const MOST_SNAPSHOTS: usize = 4;

/// Runs the sequence of this seed; what it did depends on the seed alone.
pub fn run(seed: u64, progress: &Progress) -> Evidence {
    let mut sequence = Sequence::new(Dice::new(seed));
    let operations = sequence.dice.within(100..=140);
    for index in 0..operations {
        sequence.operate(index, progress);
    }
    sequence.finish(operations, progress)
}

/// Runs a sequence of which every operation depends on a seed of its own, so that a fuzzer can leave operations out, repeat them and
/// move them.
#[cfg(fuzzing)]
pub fn run_seeds(seeds: impl IntoIterator<Item = u64>, progress: &Progress) -> Evidence {
    let mut sequence = Sequence::new(Dice::new(0));
    let mut operations = 0;
    for seed in seeds {
        sequence.dice = Dice::new(seed);
        sequence.operate(operations, progress);
        operations += 1;
    }
    sequence.finish(operations, progress)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Begin,
    Insert,
    InsertMany,
    Update,
    Remove,
    Churn,
    RemoveMost,
    RemoveAll,
    TwoCollections,
    Refuse,
    DropCollection,
    ReplaceCollection,
    WriteNotes,
    CompareInTransaction,
    Commit,
    Abort,
    TakeSnapshot,
    CompareSnapshot,
    CompareOnThread,
    ReleaseSnapshot,
    CompareLatest,
    Check,
    CloseStore,
    DropStore,
    End,
}

struct Sequence {
    dice: Dice,
    evidence: Evidence,
    directory: tempfile::TempDir,
    /// How much is inserted at once: what keeps small collections small.
    batch: usize,
    store: Option<Store>,
    tx: Option<WriteTransaction>,
    /// What the store holds as of the last commit…
    committed: Arc<Reference>,
    /// …and in the open write transaction.
    pending: Reference,
    snapshots: Vec<Arc<Snapshot>>,
    readers: Vec<JoinHandle<Evidence>>,
    commits: u64,
    non_durable: bool,
    generations: u64,
    /// By generation: dead slots and layers when last looked at.
    shapes: BTreeMap<u64, (u64, usize)>,
}

impl Sequence {
    fn new(mut dice: Dice) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        Self {
            batch: dice.pick(&[4, 20, 80, 200, 350]),
            dice,
            evidence: Evidence::default(),
            directory,
            store: Some(store),
            tx: None,
            committed: Arc::default(),
            pending: Reference::default(),
            snapshots: Vec::new(),
            readers: Vec::new(),
            commits: 0,
            non_durable: false,
            generations: 0,
            shapes: BTreeMap::new(),
        }
    }

    fn operate(&mut self, index: usize, progress: &Progress) {
        let operation = self.choose();
        progress.note(index, operation);
        self.perform(operation);
    }

    fn finish(mut self, operations: usize, progress: &Progress) -> Evidence {
        progress.note(operations, Operation::End);
        self.end();
        self.evidence.operations = operations as u64;
        self.evidence
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open between operations")
    }

    fn choose(&mut self) -> Operation {
        use Operation::*;
        let in_transaction = [
            (16, Insert),
            (12, InsertMany),
            (10, Update),
            (12, Remove),
            (8, Churn),
            (2, RemoveMost),
            (2, RemoveAll),
            (3, TwoCollections),
            (3, Refuse),
            (1, DropCollection),
            (1, ReplaceCollection),
            (3, WriteNotes),
            (8, CompareInTransaction),
            (20, Commit),
            (4, Abort),
            (2, TakeSnapshot),
            (2, CompareSnapshot),
            (2, CompareOnThread),
            (1, CloseStore),
        ];
        let between = [
            (60, Begin),
            (10, TakeSnapshot),
            (5, CompareSnapshot),
            (4, CompareOnThread),
            (5, ReleaseSnapshot),
            (5, CompareLatest),
            (4, Check),
            (3, CloseStore),
            (3, DropStore),
        ];
        let operation =
            self.dice.weighted(if self.tx.is_some() { &in_transaction[..] } else { &between[..] });
        match operation {
            CompareSnapshot | CompareOnThread | ReleaseSnapshot if self.snapshots.is_empty() => TakeSnapshot,
            TakeSnapshot if self.snapshots.len() == MOST_SNAPSHOTS => CompareSnapshot,
            operation => operation,
        }
    }

    fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Begin => self.begin(),
            Operation::Commit => {
                let durable = self.dice.percent(60);
                self.commit(if durable { Durability::Immediate } else { Durability::None });
            }
            Operation::Abort => self.abort(),
            Operation::DropCollection => self.drop_collection(false),
            Operation::ReplaceCollection => self.drop_collection(true),
            Operation::TwoCollections => self.two_collections(),
            Operation::WriteNotes => self.write_notes(),
            Operation::TakeSnapshot => {
                let snapshot = self.take_snapshot();
                self.snapshots.push(Arc::new(snapshot));
            }
            Operation::CompareSnapshot => {
                let at = self.dice.below(self.snapshots.len());
                self.compare_snapshot(at);
            }
            Operation::CompareOnThread => self.compare_on_thread(),
            Operation::ReleaseSnapshot => {
                // A reader's thread must not decide how long a snapshot lives, or the sequence would not replay.
                self.join_readers();
                let at = self.dice.below(self.snapshots.len());
                self.compare_snapshot(at);
                self.snapshots.swap_remove(at);
            }
            Operation::CompareLatest | Operation::End => self.compare_latest(),
            Operation::Check => self.check(),
            Operation::CloseStore if self.tx.is_some() => self.end_transaction_without_store(),
            Operation::CloseStore => self.close_and_reopen(),
            Operation::DropStore => self.drop_and_reopen(),
            operation => self.change(operation),
        }
    }

    fn end(&mut self) {
        if self.tx.is_some() {
            self.commit(Durability::Immediate);
        }
        for at in 0..self.snapshots.len() {
            self.compare_snapshot(at);
        }
        self.compare_latest();
        self.check();
        self.close_and_reopen();
        self.check();
    }

    fn begin(&mut self) {
        let tx = if self.dice.percent(50) {
            self.store().begin_write()
        } else {
            self.store().try_begin_write().map(|tx| tx.expect("nobody else writes"))
        };
        self.tx = Some(tx.unwrap());
        assert!(self.store().try_begin_write().unwrap().is_none(), "two writers at once");
        self.pending = (*self.committed).clone();
    }

    /// An operation on one collection, which is created if it is missing.
    fn change(&mut self, operation: Operation) {
        let name = self.dice.pick(&NAMES);
        let Self { dice, evidence, tx, pending, generations, batch, .. } = self;
        let tx = tx.as_ref().expect("a write transaction is open");
        let shelf = pending.shelves.entry(name).or_insert_with(|| {
            *generations += 1;
            Shelf::new(Spec::draw(name, dice), *generations)
        });
        let mut twin = Twin::open(tx, shelf, dice);
        match operation {
            Operation::Insert => {
                let key = twin.any_key(dice);
                twin.insert(key, dice, evidence);
            }
            Operation::InsertMany => {
                let n = dice.within(0..=*batch);
                twin.insert_many(n, dice, evidence);
            }
            Operation::Update => {
                let key = twin.live_key(dice);
                twin.insert(key, dice, evidence);
            }
            Operation::Remove => {
                let key = if dice.percent(80) { twin.live_key(dice) } else { twin.any_key(dice) };
                twin.remove(key, evidence);
            }
            Operation::Churn => {
                for _ in 0..dice.within(2..=40) {
                    let key = twin.any_key(dice);
                    if dice.percent(50) {
                        twin.insert(key, dice, evidence);
                    } else {
                        twin.remove(key, evidence);
                    }
                }
            }
            Operation::RemoveMost => {
                let keep = dice.pick(&[1, 1, 2, 5, 70]);
                twin.remove_down_to(keep, dice, evidence);
            }
            Operation::RemoveAll => twin.remove_down_to(0, dice, evidence),
            Operation::Refuse => twin.refuse(dice, evidence),
            Operation::CompareInTransaction => twin.compare(dice, evidence),
            other => unreachable!("{other:?} is not about one collection"),
        }
        if dice.percent(10) {
            twin.compare(dice, evidence);
        }
    }

    /// Two handles at once, and a third that is refused.
    fn two_collections(&mut self) {
        let Self { dice, evidence, tx, pending, .. } = self;
        let tx = tx.as_ref().expect("a write transaction is open");
        let mut shelves = pending.shelves.values_mut();
        let (Some(first), Some(second)) = (shelves.next(), shelves.next()) else { return };
        let mut first = Twin::open(tx, first, dice);
        let mut second = Twin::open(tx, second, dice);
        for _ in 0..dice.within(1..=10) {
            let key = first.any_key(dice);
            first.insert(key, dice, evidence);
            let key = second.any_key(dice);
            second.remove(key, evidence);
        }
        let refused = tx.open_collection(first.shelf.spec.definition()).unwrap_err();
        assert!(matches!(refused, Error::CollectionAlreadyOpen { .. }), "{refused:?}");
        let refused = tx.drop_collection(second.shelf.spec.name).unwrap_err();
        assert!(matches!(refused, Error::CollectionAlreadyOpen { .. }), "{refused:?}");
        first.compare(dice, evidence);
        second.compare(dice, evidence);
    }

    fn drop_collection(&mut self, replace: bool) {
        let name = self.dice.pick(&NAMES);
        let Self { dice, evidence, tx, pending, generations, .. } = self;
        let tx = tx.as_ref().expect("a write transaction is open");
        let there = pending.shelves.remove(name).is_some();
        assert_eq!(tx.drop_collection(name).unwrap(), there, "drop_collection({name:?})");
        assert!(!tx.drop_collection(name).unwrap(), "collection {name:?} was dropped twice");
        if name == MIRRORED {
            assert_eq!(tx.delete_table(MIRROR).unwrap(), there);
        }
        let left: Vec<&str> = pending.shelves.keys().copied().collect();
        assert_eq!(tx.list_collections(), left);
        evidence.saw_if(there, Case::CollectionDropped);
        if replace {
            *generations += 1;
            let shelf = Shelf::new(Spec::draw(name, dice), *generations);
            let mut twin = Twin::open(tx, pending.shelves.entry(name).or_insert(shelf), dice);
            let n = dice.within(0..=100);
            twin.insert_many(n, dice, evidence);
            twin.compare(dice, evidence);
            drop(twin);
            evidence.saw_if(there, Case::CollectionReplaced);
            let spec = &pending.shelves[name].spec;
            let other = CollectionDefinition::new(name, spec.dimension + 1, spec.metric);
            let refused = tx.open_collection(other).unwrap_err();
            assert!(matches!(refused, Error::DefinitionMismatch { .. }), "{refused:?}");
        }
    }

    fn write_notes(&mut self) {
        let tx = self.tx.as_ref().expect("a write transaction is open");
        let mut table = tx.open_table(NOTES).unwrap();
        let notes = self.pending.notes.get_or_insert_default();
        for _ in 0..self.dice.within(1..=5) {
            let (key, value) = (self.dice.below(20) as u64, self.dice.next());
            let before = table.insert(key, value).unwrap().map(|guard| guard.value());
            assert_eq!(before, notes.insert(key, value));
        }
    }

    fn commit(&mut self, durability: Durability) {
        let mut tx = self.tx.take().expect("a write transaction is open");
        tx.set_durability(durability);
        tx.commit().unwrap();
        self.committed = Arc::new(std::mem::take(&mut self.pending));
        self.commits += 1;
        self.non_durable = durability == Durability::None;
        self.evidence.saw(if self.non_durable { Case::NonDurableCommit } else { Case::Commit });
        if self.store.is_some() {
            match self.dice.below(10) {
                0 => self.check(),
                1 => self.compare_latest(),
                2..=5 => self.look_at_shapes(),
                _ => {}
            }
        }
    }

    fn abort(&mut self) {
        let tx = self.tx.take().expect("a write transaction is open");
        if self.dice.percent(50) {
            tx.abort().unwrap();
            self.evidence.saw(Case::ExplicitAbort);
        } else {
            drop(tx);
            self.evidence.saw(Case::AbortByDrop);
        }
        let created = |shelf: &Shelf| {
            let before = self.committed.shelves.get(shelf.spec.name);
            before.is_none_or(|before| before.generation != shelf.generation)
        };
        let created = self.pending.shelves.values().any(created);
        self.evidence.saw_if(created, Case::CreatedCollectionAborted);
        self.pending = Reference::default();
        if self.store.is_some() && self.dice.percent(30) {
            self.compare_latest();
        }
    }

    fn take_snapshot(&mut self) -> Snapshot {
        let transaction = self.store().begin_read().unwrap();
        let mut dice = self.dice.fork();
        Snapshot::take(transaction, self.committed.clone(), self.commits, &mut dice)
    }

    fn compare_latest(&mut self) {
        let snapshot = self.take_snapshot();
        snapshot.compare(&mut self.dice, &mut self.evidence);
    }

    fn compare_snapshot(&mut self, at: usize) {
        let snapshot = self.snapshots[at].clone();
        self.note_age(&snapshot);
        snapshot.compare(&mut self.dice, &mut self.evidence);
    }

    fn note_age(&mut self, snapshot: &Snapshot) {
        self.evidence.saw_if(self.commits >= snapshot.taken_after + 3, Case::SnapshotAfterThreeCommits);
        let dropped = snapshot.has_dropped_collection(&self.committed);
        self.evidence.saw_if(dropped, Case::SnapshotOfDroppedCollection);
    }

    /// Compares a snapshot on a thread that goes on while the next operations write.
    fn compare_on_thread(&mut self) {
        let at = self.dice.below(self.snapshots.len());
        let snapshot = self.snapshots[at].clone();
        self.note_age(&snapshot);
        let mut dice = self.dice.fork();
        self.readers.push(std::thread::spawn(move || {
            let mut evidence = Evidence::default();
            evidence.saw(Case::SnapshotOnAnotherThread);
            snapshot.compare(&mut dice, &mut evidence);
            evidence
        }));
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            match reader.join() {
                Ok(evidence) => self.evidence.add(&evidence),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }

    fn check(&mut self) {
        let report = self.store().check().unwrap();
        let problems: Vec<String> = report.problems.iter().map(|problem| problem.to_string()).collect();
        assert!(report.is_clean(), "check found {problems:#?}\nin {:#?}", self.specs());
        let live: usize = self.committed.shelves.values().map(|shelf| shelf.vectors.len()).sum();
        assert_eq!(report.vectors, live as u64);
        self.evidence.saw(Case::Check);
        self.look_at_shapes();
    }

    fn specs(&self) -> Vec<Spec> {
        self.committed.shelves.values().map(|shelf| shelf.spec).collect()
    }

    /// Compares the counts in `stats`, and notes what the graph has been through.
    fn look_at_shapes(&mut self) {
        let stats = self.store().stats().unwrap();
        assert_eq!(stats.collections.len(), self.committed.shelves.len());
        for (found, shelf) in stats.collections.iter().zip(self.committed.shelves.values()) {
            let spec = &shelf.spec;
            let live = shelf.vectors.len() as u64;
            assert_eq!((found.name.as_str(), found.vectors), (spec.name, live));
            assert_eq!(found.slots - found.dead_slots, live);
            assert_eq!(found.layers.is_empty(), live == 0);
            for (number, layer) in found.layers.iter().enumerate() {
                let degree = if number == 0 { spec.m0 } else { spec.m };
                assert!(layer.max_degree <= degree, "{layer:?} of layer {number}, {spec:?}");
                self.evidence.saw_if(number == 0 && layer.max_degree == degree, Case::RowFull);
            }
            if let Some(ground) = found.layers.first() {
                assert_eq!((ground.nodes, ground.reachable), (live, live), "{spec:?}");
            }
            self.evidence.saw_if(found.layers.len() >= 3, Case::ThreeLayers);
            let shape = (found.dead_slots, found.layers.len());
            if let Some((dead, layers)) = self.shapes.insert(shelf.generation, shape) {
                self.evidence.saw_if(shape.0 < dead, Case::SlotsReused);
                self.evidence.saw_if(shape.1 < layers, Case::EntryPointRemoved);
            }
        }
    }
}
