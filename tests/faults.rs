//! The disk refuses one operation. Nothing panics, nothing that was acknowledged is lost, and what is left is whole.
//!
//! A small workload runs again and again, from the creation of a store to its end, and each time another operation on its
//! files fails: the n-th write, the n-th sync, and so on for every n there is; once, or from there on. Every call has to
//! succeed or to give a typed error. After a commit that failed the store either goes on as if the transaction had not been, or
//! takes no more writes until it is reopened. A snapshot taken before goes on answering, and the next opening finds the last
//! acknowledged commit or the one that was in flight.
//!
//! A recorded trace shows the order that a power cut would depend on.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nestling::redb::TableDefinition;
use nestling::{
    CloseError, Collection, CollectionDefinition, Durability, Error, Metric, Observer, Operation,
    ReadTransaction, Store, WriteTransaction,
};
use tempfile::TempDir;

#[test]
fn a_failed_write_is_survived() {
    fail_every(Kind::Write);
}

#[test]
fn a_failed_sync_is_survived() {
    fail_every(Kind::Sync);
}

#[test]
fn a_failed_change_of_length_is_survived() {
    fail_every(Kind::SetLen);
}

#[test]
fn a_failed_creation_of_a_file_is_survived() {
    fail_every(Kind::Create);
}

#[test]
fn a_failed_sync_of_a_directory_is_survived() {
    fail_every(Kind::SyncDirectory);
}

#[test]
fn a_failed_rename_or_removal_is_survived() {
    fail_every(Kind::Name);
}

#[test]
fn a_failed_read_is_survived() {
    fail_every(Kind::Read);
}

/// Fails the first operation of a kind, the second, and so on, until the workload comes through without a failure.
fn fail_every(kind: Kind) {
    for lasting in [false, true] {
        for close in [true, false] {
            let mut n = 0;
            while Run::new(Fault { kind, n, lasting }, close).run() {
                n += 1;
            }
            assert!(n > 0, "the workload has no {kind:?}");
            println!("{kind:?}, lasting: {lasting}, close: {close}: {n} operations failed");
        }
    }
}

/// One run of the workload.
struct Run {
    fault: Fault,
    /// How the store ends.
    close: bool,
    home: TempDir,
    disk: Arc<Disk>,
    /// Steps acknowledged, and those of them that are durable.
    acknowledged: usize,
    durable: usize,
    /// A step whose outcome is not known.
    in_flight: bool,
}

impl Run {
    fn new(fault: Fault, close: bool) -> Self {
        let disk = Arc::new(Disk { fault: Some(fault), ..Disk::default() });
        Self { fault, close, home: scratch(), disk, acknowledged: 0, durable: 0, in_flight: false }
    }

    /// True when the fault was met.
    fn run(mut self) -> bool {
        let path = self.home.path().join("app.nestling");
        let closed = match Store::builder().observer(self.disk.clone()).open(&path) {
            Ok(store) => self.work(store),
            Err(e) => {
                self.expect_typed(&e);
                false
            }
        };
        // A new process, on a disk that works.
        let store = Store::open(&path).unwrap_or_else(|e| panic!("reopening: {e}; {:?}", self.fault));
        let found = verify(&store.begin_read().unwrap(), &self.fault);
        let allowed = self.allowed(closed);
        assert!(allowed.contains(&found), "{found} steps found, allowed {allowed:?}; {:?}", self.fault);
        check(&store, &self.fault);
        // Nothing is left over, neither of transactions that failed nor of collections that were dropped.
        let named: usize = store.stats().unwrap().collections.iter().map(|c| c.segments).sum();
        assert_eq!(segment_files(&path), named, "segment files; {:?}", self.fault);
        // And it goes on from there.
        for step in found..STEPS.len() {
            carry_out(step, store.begin_write().unwrap()).unwrap().commit().unwrap();
        }
        assert_eq!(verify(&store.begin_read().unwrap(), &self.fault), STEPS.len());
        check(&store, &self.fault);
        self.disk.was_met()
    }

    /// Which states may be found afterwards. When the store says that it was closed, nothing may be missing.
    fn allowed(&self, closed: bool) -> RangeInclusive<usize> {
        let least = if closed { self.acknowledged } else { self.durable };
        least..=self.acknowledged + usize::from(self.in_flight)
    }

    /// All steps, each a second time when it was rolled back; then the end. True when the store was closed without an error.
    fn work(&mut self, store: Store) -> bool {
        let mut pinned: Vec<(ReadTransaction, usize)> = vec![(store.begin_read().unwrap(), 0)];
        let mut attempts = 0;
        while self.acknowledged < STEPS.len() && attempts < 2 {
            attempts += 1;
            match self.step(&store) {
                Outcome::Committed => {
                    attempts = 0;
                    pinned.push((store.begin_read().unwrap(), self.acknowledged));
                }
                Outcome::RolledBack => {}
                Outcome::Poisoned => {
                    for _ in 0..2 {
                        assert!(matches!(store.begin_write(), Err(Error::Poisoned)), "{:?}", self.fault);
                    }
                    assert!(matches!(store.try_begin_write(), Err(Error::Poisoned)));
                    break;
                }
            }
        }
        if self.fault.kind != Kind::Read {
            pinned.push((store.begin_read().unwrap(), self.acknowledged));
            for (snapshot, expected) in &pinned {
                assert_eq!(verify(snapshot, &self.fault), *expected, "a snapshot changed; {:?}", self.fault);
            }
        }
        drop(pinned);
        if !self.close {
            return false;
        }
        match store.close() {
            Ok(()) => true,
            Err(CloseError::Failed(e)) => {
                self.expect_typed(&e);
                false
            }
            Err(e) => panic!("{e}; {:?}", self.fault),
        }
    }

    fn step(&mut self, store: &Store) -> Outcome {
        let step = self.acknowledged;
        let tx = match store.begin_write() {
            Ok(tx) => tx,
            Err(e) => {
                self.expect_typed(&e);
                return Outcome::RolledBack;
            }
        };
        let tx = match carry_out(step, tx) {
            Ok(tx) => tx,
            Err((tx, e)) => {
                self.expect_typed(&e);
                // Whoever goes on regardless is refused, by us or, after an error of a table, by redb.
                return match tx.commit() {
                    Err(Error::TransactionFailed | Error::CommitAborted { .. }) => Outcome::RolledBack,
                    other => panic!("{other:?} after {e:?}; {:?}", self.fault),
                };
            }
        };
        match tx.commit() {
            Ok(()) => {
                self.acknowledged += 1;
                if STEPS[step] == Durability::Immediate {
                    self.durable = self.acknowledged;
                }
                Outcome::Committed
            }
            Err(e @ (Error::TransactionFailed | Error::CommitAborted { .. })) => {
                self.expect_typed(&e);
                Outcome::RolledBack
            }
            Err(e) => {
                self.expect_typed(&e);
                self.in_flight = true;
                Outcome::Poisoned
            }
        }
    }

    /// An error must come from the fault, and must not call healthy bytes corrupted.
    fn expect_typed(&self, error: &Error) {
        assert!(self.disk.was_met(), "{error} without a fault; {:?}", self.fault);
        assert!(!error.is_corrupted(), "{error:?}; {:?}", self.fault);
        assert!(!error.is_input(), "{error:?}; {:?}", self.fault);
    }
}

enum Outcome {
    Committed,
    RolledBack,
    Poisoned,
}

/// How the steps of the workload are committed. What each does is in [`carry_out`]; together they create segments, first ones
/// and further ones, replace and remove, drop a collection, reuse slots and leave something to do for the end.
const STEPS: [Durability; 6] = {
    use Durability::{Immediate, None};
    [Immediate, Immediate, None, Immediate, None, None]
};

const NOTES: CollectionDefinition = CollectionDefinition::new("notes", 2048, Metric::L2);
const PHOTOS: CollectionDefinition = CollectionDefinition::new("photos", 2, Metric::L2);
const PROGRESS: TableDefinition<(), u64> = TableDefinition::new("progress");

#[expect(clippy::result_large_err, reason = "the transaction is wanted back")]
fn carry_out(step: usize, mut tx: WriteTransaction) -> Result<WriteTransaction, (WriteTransaction, Error)> {
    tx.set_durability(STEPS[step]);
    let result = (|| {
        match step {
            // The first segment holds eight such vectors.
            0 => insert(&tx, NOTES, step, 0..6)?,
            1 => {
                insert(&tx, NOTES, step, 2..4)?;
                insert(&tx, PHOTOS, step, 0..3)?;
                tx.open_collection(NOTES)?.remove(0)?;
            }
            2 => insert(&tx, NOTES, step, 3..8)?,
            3 => {
                tx.drop_collection("photos")?;
            }
            4 => insert(&tx, NOTES, step, 1..4)?,
            _ => {
                insert(&tx, PHOTOS, step, 0..2)?;
                tx.open_collection(NOTES)?.remove(7)?;
            }
        }
        tx.open_table(PROGRESS)?.insert((), step as u64 + 1)?;
        Ok(())
    })();
    match result {
        Ok(()) => Ok(tx),
        Err(e) => Err((tx, e)),
    }
}

fn insert(
    tx: &WriteTransaction,
    definition: CollectionDefinition<'_>,
    step: usize,
    keys: std::ops::Range<u64>,
) -> Result<(), Error> {
    let mut collection = tx.open_collection(definition)?;
    let dimension = collection.parameters().dimension;
    for key in keys {
        collection.insert(key, &vector(dimension, step, key))?;
    }
    Ok(())
}

fn vector(dimension: usize, step: usize, key: u64) -> Vec<f32> {
    (0..dimension).map(|i| (i as f32 + 1.0) * 0.01 + step as f32 * 10.0 + key as f32).collect()
}

/// After so many steps: the notes by key and the step that they come from, and the photos, if there are any.
fn expected(steps: usize) -> (BTreeMap<u64, usize>, Option<BTreeMap<u64, usize>>) {
    let mut notes = BTreeMap::new();
    let mut photos = None;
    for step in 0..steps {
        match step {
            0 => notes.extend((0..6).map(|key| (key, 0))),
            1 => {
                notes.extend((2..4).map(|key| (key, 1)));
                photos = Some((0..3).map(|key| (key, 1)).collect());
                notes.remove(&0);
            }
            2 => notes.extend((3..8).map(|key| (key, 2))),
            3 => photos = None,
            4 => notes.extend((1..4).map(|key| (key, 4))),
            _ => {
                photos = Some((0..2).map(|key| (key, 5)).collect());
                notes.remove(&7);
            }
        }
    }
    (notes, photos)
}

/// Tells after how many steps a snapshot is, and makes sure that all of it is.
fn verify(snapshot: &ReadTransaction, fault: &Fault) -> usize {
    let steps = match snapshot.list_tables().unwrap().is_empty() {
        true => 0,
        false => snapshot.open_table(PROGRESS).unwrap().get(()).unwrap().unwrap().value() as usize,
    };
    let (notes, photos) = expected(steps);
    let names: Vec<String> = snapshot.list_collections().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.contains(&"notes".to_owned()), steps > 0, "{fault:?}");
    assert_eq!(names.contains(&"photos".to_owned()), photos.is_some(), "{fault:?}");
    if steps > 0 {
        verify_collection(&snapshot.open_collection(NOTES).unwrap(), &notes, fault);
    }
    if let Some(photos) = photos {
        verify_collection(&snapshot.open_collection(PHOTOS).unwrap(), &photos, fault);
    }
    steps
}

fn verify_collection(collection: &Collection, expected: &BTreeMap<u64, usize>, fault: &Fault) {
    let dimension = collection.parameters().dimension;
    let found: Vec<(u64, Vec<f32>)> = collection
        .iter()
        .unwrap()
        .map(|entry| entry.unwrap_or_else(|e| panic!("{e}; {fault:?}")))
        .map(|(key, vector)| (key, vector.into_owned()))
        .collect();
    let expected: Vec<(u64, Vec<f32>)> =
        expected.iter().map(|(&key, &step)| (key, vector(dimension, step, key))).collect();
    assert!(found == expected, "{} differs; {fault:?}", collection.name());
    for (key, vector) in &expected {
        assert_eq!(collection.search(vector, 1).unwrap()[0].key, *key, "{fault:?}");
    }
}

fn check(store: &Store, fault: &Fault) {
    let report = store.check().unwrap();
    assert!(report.is_clean(), "{:#?}; {fault:?}", report.problems);
}

fn segment_files(path: &Path) -> usize {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".vectors")).count()
}

/// Faults come from the observer, so the fastest file system will do.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

// Order.

/// A power cut may keep any of the writes since the last sync and lose the others. So what a commit points at has to be synced
/// before the pointer is written: the vectors and the names of their files before redb's header, which is redb's own pointer.
#[test]
fn vectors_and_their_names_are_durable_before_redb_commits() {
    let home = scratch();
    let disk = Arc::new(Disk::default());
    let store = Store::builder().observer(disk.clone()).open(home.path().join("app.nestling")).unwrap();

    disk.forget();
    carry_out(0, store.begin_write().unwrap()).ok().unwrap().commit().unwrap();
    let trace = disk.forget();
    let segment = "00000000.vectors";
    let created = trace.first(&Event::Create(segment.to_owned()));
    let named = trace.last(&Event::SyncDirectory);
    let written = trace.last_write(segment);
    let synced = trace.last(&Event::Sync(segment.to_owned()));
    assert!(created < named && written < synced, "{trace:#?}");
    trace.assert_redb_commits_after(named.max(synced));

    // No new file: the directory need not be synced again.
    disk.forget();
    let tx = store.begin_write().unwrap();
    tx.open_collection(NOTES).unwrap().insert(6, &vector(2048, 0, 6)).unwrap();
    tx.commit().unwrap();
    let trace = disk.forget();
    assert!(trace.last_write(segment) < trace.first(&Event::Sync(segment.to_owned())), "{trace:#?}");
    assert!(!trace.0.contains(&Event::SyncDirectory), "{trace:#?}");
    trace.assert_redb_commits_after(trace.last(&Event::Sync(segment.to_owned())));
}

/// A commit that does not wait syncs nothing. What it has written is synced before the next one that does wait commits, even if
/// that one writes no vector of its own; or before the end of the store.
#[test]
fn what_a_commit_did_not_wait_for_is_synced_before_the_next_that_waits() {
    let home = scratch();
    let disk = Arc::new(Disk::default());
    let store = Store::builder().observer(disk.clone()).open(home.path().join("app.nestling")).unwrap();
    disk.forget();
    let later = |key: u64| {
        let mut tx = store.begin_write().unwrap();
        tx.set_durability(Durability::None);
        tx.open_collection(NOTES).unwrap().insert(key, &vector(2048, 0, key)).unwrap();
        tx.commit().unwrap();
    };
    later(1);
    later(2);
    let trace = disk.forget();
    let segment = "00000000.vectors";
    let is_sync = |event: &&Event| matches!(event, Event::Sync(_) | Event::SyncDirectory);
    assert_eq!(trace.0.iter().find(is_sync), None, "{trace:#?}");

    let tx = store.begin_write().unwrap();
    tx.open_table(PROGRESS).unwrap().insert((), 1).unwrap();
    tx.commit().unwrap();
    let trace = disk.forget();
    let synced = trace.last(&Event::Sync(segment.to_owned())).max(trace.last(&Event::SyncDirectory));
    trace.assert_redb_commits_after(synced);

    later(3);
    disk.forget();
    store.close().unwrap();
    let trace = disk.forget();
    trace.assert_redb_commits_after(trace.last(&Event::Sync(segment.to_owned())));
}

/// What happened, in order.
#[derive(Debug)]
struct Trace(Vec<Event>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Create(String),
    /// A file, and where.
    Write(String, u64),
    Sync(String),
    SyncDirectory,
    Other,
}

const STORE: &str = "store.redb";

impl Trace {
    fn first(&self, event: &Event) -> usize {
        self.0.iter().position(|e| e == event).unwrap_or_else(|| panic!("no {event:?} in {self:#?}"))
    }

    fn last(&self, event: &Event) -> usize {
        self.0.iter().rposition(|e| e == event).unwrap_or_else(|| panic!("no {event:?} in {self:#?}"))
    }

    fn last_write(&self, file: &str) -> usize {
        let is_write = |event: &Event| matches!(event, Event::Write(name, _) if name == file);
        self.0.iter().rposition(is_write).unwrap_or_else(|| panic!("no write to {file} in {self:#?}"))
    }

    /// redb's header, at the beginning of its file, is written after `event`, and synced last of all.
    fn assert_redb_commits_after(&self, event: usize) {
        let header = self.first(&Event::Write(STORE.to_owned(), 0));
        let synced = self.last(&Event::Sync(STORE.to_owned()));
        assert!(event < header && header < synced, "{event} < {header} < {synced} in {self:#?}");
        assert!(self.last_write(STORE) < synced, "{self:#?}");
    }
}

// The disk.

/// Which operation fails.
#[derive(Debug, Clone, Copy)]
struct Fault {
    kind: Kind,
    n: usize,
    /// All operations of the kind fail from there on.
    lasting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Write,
    SetLen,
    Sync,
    SyncDirectory,
    /// Renaming and removing.
    Name,
    Read,
}

/// Fails operations, and remembers those that it let pass.
#[derive(Debug, Default)]
struct Disk {
    fault: Option<Fault>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// Operations of the fault's kind so far.
    of_kind: usize,
    events: Vec<Event>,
}

impl Disk {
    fn was_met(&self) -> bool {
        self.fault.is_some_and(|fault| self.log.lock().unwrap().of_kind > fault.n)
    }

    /// What was recorded since the last call.
    fn forget(&self) -> Trace {
        Trace(std::mem::take(&mut self.log.lock().unwrap().events))
    }
}

impl Observer for Disk {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        let (kind, event) = match operation {
            Operation::Create { file } => (Kind::Create, Event::Create(file.to_owned())),
            Operation::Write { file, offset, .. } => (Kind::Write, Event::Write(file.to_owned(), offset)),
            Operation::SetLen { .. } => (Kind::SetLen, Event::Other),
            Operation::Sync { file } => (Kind::Sync, Event::Sync(file.to_owned())),
            Operation::SyncDirectory => (Kind::SyncDirectory, Event::SyncDirectory),
            Operation::SyncParent => (Kind::SyncDirectory, Event::Other),
            Operation::Rename { .. } | Operation::Remove { .. } => (Kind::Name, Event::Other),
            Operation::Read { .. } => (Kind::Read, Event::Other),
            other => panic!("an operation that this test does not know: {other:?}"),
        };
        let mut log = self.log.lock().unwrap();
        if let Some(fault) = self.fault.filter(|fault| fault.kind == kind) {
            log.of_kind += 1;
            let n = log.of_kind - 1;
            if n == fault.n || (fault.lasting && n > fault.n) {
                return Err(io::Error::other(format!("the disk fails {kind:?} number {n}")));
            }
        }
        log.events.push(event);
        Ok(())
    }
}
