//! The disk refuses one operation. Nothing panics, nothing that was acknowledged is lost, and what is left is whole.
//!
//! Every workload of `tests/disk/workload.rs` runs again and again, from the creation of a store to its end, and each time
//! another operation on its files fails: the n-th write, the n-th sync, and so on for every n there is; once, or from there on;
//! because the device fails, because the disk is full, or in the middle of a write. Every call has to succeed or to
//! give a typed error. After a commit that failed the store either goes on as if the transaction had not been, or takes no more
//! writes until it is reopened. Snapshots go on answering, and the next opening finds the last acknowledged commit or the one
//! that was in flight, is whole, and goes on from there.
//!
//! ```text
//! cargo test --test faults                                                 what CI runs: DEFAULT_RUNS of the combinations
//! NESTLING_FAULTS=all cargo test --test faults a_fault -- --nocapture      all of them; add the result to CAMPAIGNS.md
//! NESTLING_FAULTS=9000 NESTLING_FAULTS_SEED=7 cargo test --test faults     others
//! ```
//!
//! Recorded traces show the order that a power cut would depend on; `tests/crash` cuts the power.

mod disk;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use disk::dice::Dice;
use disk::observer::{Disk, Entry, Fault, KINDS, Op};
use disk::play::{End, play};
use disk::workload::{self, Workload};
use disk::{number, oracle, panic_text, scratch};
use nestling::redb::TableDefinition;
use nestling::{CollectionDefinition, Durability, Metric, Store};

const DEFAULT_RUNS: usize = 4_000;

#[test]
fn a_fault_at_every_operation_is_survived() {
    let workloads = workload::all();
    let mut runs: Vec<Vec<Run>> = workloads.iter().map(Run::all).collect();
    let (all, seed) = (runs.iter().map(Vec::len).sum::<usize>(), number("NESTLING_FAULTS_SEED").unwrap_or(0));
    if std::env::var("NESTLING_FAULTS").as_deref() != Ok("all") {
        let mut sample: Vec<Run> = runs.into_iter().flatten().collect();
        Dice::new(seed).shuffle(&mut sample);
        sample.truncate(number("NESTLING_FAULTS").map_or(DEFAULT_RUNS, |runs| runs as usize));
        println!("{} of {all} faults, seed {seed}", sample.len());
        return run_all(&sample);
    }
    println!("all {all} faults");
    // The short workloads first: whoever stops this early knows which are complete.
    runs.sort_by_key(Vec::len);
    for runs in &runs {
        let started = Instant::now();
        run_all(runs);
        let workload = runs.first().map_or("", |run| run.workload.name);
        println!("{:6} faults in {:4.0} s  {workload}", runs.len(), started.elapsed().as_secs_f64());
    }
}

/// Runs all on as many threads as there are cores.
fn run_all(runs: &[Run]) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = std::panic::catch_unwind(|| run.judge());
            let result = result.unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic))));
            if let Err(e) = result {
                let Run { workload, fault, end } = run;
                failures.lock().unwrap().push(format!("{:?}, {fault:?}, {end:?}: {e}", workload.name));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures, the first: {}", failures.len(), failures[0]);
}

/// A workload with one fault.
struct Run<'a> {
    workload: &'a Workload,
    fault: Fault,
    end: End,
}

impl<'a> Run<'a> {
    /// One for every operation of the workload, in every way that it can fail. The store is closed or dropped afterwards, in turns.
    fn all(workload: &'a Workload) -> Vec<Self> {
        let mut runs = Vec::new();
        for end in [End::Close, End::Drop] {
            let home = scratch();
            let path = home.path().join("app.nestling");
            let disk = Arc::new(Disk::failing(path.clone(), None));
            play(workload, &path, &disk, end).unwrap_or_else(|e| panic!("{:?}: {e}", workload.name));
            for kind in KINDS {
                let operations = disk.count(kind);
                // The writes of a batch of a thousand vectors are all alike.
                let stride = if operations > 2_000 { 16 } else { 1 };
                for n in (0..operations).step_by(stride).filter(|n| n / stride % 2 == end as usize) {
                    let fault = |lasting, how| Fault { kind, n, lasting, how };
                    let faults = kind.ways().iter().flat_map(|&how| [fault(false, how), fault(true, how)]);
                    runs.extend(faults.map(|fault| Self { workload, fault, end }));
                }
            }
        }
        runs
    }

    fn judge(&self) -> Result<(), String> {
        let home = scratch();
        let path = home.path().join("app.nestling");
        let disk = Arc::new(Disk::failing(path.clone(), Some(self.fault)));
        let history = play(self.workload, &path, &disk, self.end)?;
        if !disk.was_met() {
            return Err("the fault was never met".to_owned());
        }
        oracle::judge(&path, &history, &history.allowed_at_the_end()).map(|_| ())
    }
}

// Order.

/// A power cut may keep any of the writes since the last sync and lose the others. So what a commit points at has to be synced
/// before the pointer is written: the vectors and the names of their files before redb's header, which is redb's own pointer.
#[test]
fn vectors_and_their_names_are_durable_before_redb_commits() {
    let home = scratch();
    let (disk, store) = recorded(&home);
    insert(&store, 0, Durability::Immediate);
    let trace = Trace(disk.trace());
    let segment = "00000000.vectors";
    let created = trace.places(|op| matches!(op, Op::Create(_))).next().expect("a segment is created");
    let named = trace.last_directory_sync().expect("its name is made durable");
    let (written, synced) = (trace.last_write(segment), trace.last_sync(segment));
    assert!(created < named && written < synced, "{trace:#?}");
    trace.assert_redb_commits_after(named.max(synced));

    // No new file: the directory need not be synced again.
    insert(&store, 6, Durability::Immediate);
    let trace = Trace(disk.trace());
    assert!(trace.last_write(segment) < trace.last_sync(segment), "{trace:#?}");
    assert_eq!(trace.last_directory_sync(), None, "{trace:#?}");
    trace.assert_redb_commits_after(trace.last_sync(segment));
}

/// A commit that does not wait syncs nothing. What it has written is synced before the next one that does wait commits, even if
/// that one writes no vector of its own; or before the end of the store.
#[test]
fn what_a_commit_did_not_wait_for_is_synced_before_the_next_that_waits() {
    let home = scratch();
    let (disk, store) = recorded(&home);
    insert(&store, 1, Durability::None);
    insert(&store, 2, Durability::None);
    let trace = Trace(disk.trace());
    let segment = "00000000.vectors";
    let created = trace.places(|op| matches!(op, Op::Create(_))).next().expect("a segment is created");
    let mut syncs = trace.places(|op| matches!(op, Op::Sync(_) | Op::SyncDirectory));
    assert!(syncs.all(|place| place < created), "only for the names found at opening: {trace:#?}");

    let tx = store.begin_write().unwrap();
    tx.open_table(PROGRESS).unwrap().insert((), 1).unwrap();
    tx.commit().unwrap();
    let trace = Trace(disk.trace());
    trace.assert_redb_commits_after(trace.last_sync(segment).max(trace.last_directory_sync().unwrap()));

    insert(&store, 3, Durability::None);
    disk.trace();
    store.close().unwrap();
    let trace = Trace(disk.trace());
    trace.assert_redb_commits_after(trace.last_sync(segment));
}

/// Found by `tests/crash`: a process is killed while it creates a store, after `store.redb` has got its name and before that
/// is durable. The next one opens the store and creates a segment, and the power cut that follows may keep the segment's name and
/// lose the other: a directory that was no store, and not empty either.
#[test]
fn names_found_at_opening_are_durable_before_a_segment_is_created() {
    let home = scratch();
    let path = home.path().join("app.nestling");
    Store::open(&path).unwrap().close().unwrap();
    let disk = Arc::new(Disk::recorder(path.clone(), None));
    let store = Store::builder().observer(disk.clone()).open(&path).unwrap();
    insert(&store, 0, Durability::None);
    let trace = Trace(disk.trace());
    let created = trace.places(|op| matches!(op, Op::Create(_))).next().expect("a segment is created");
    let synced = trace.last_directory_sync().expect("the directory is synced");
    assert!(synced < created, "{trace:#?}");
}

const NOTES: CollectionDefinition = CollectionDefinition::new("notes", 2048, Metric::L2);
const PROGRESS: TableDefinition<(), u64> = TableDefinition::new("progress");

/// A new store, with nothing recorded yet.
fn recorded(home: &tempfile::TempDir) -> (Arc<Disk>, Store) {
    let path = home.path().join("app.nestling");
    let disk = Arc::new(Disk::recorder(path.clone(), None));
    let store = Store::builder().observer(disk.clone()).open(path).unwrap();
    disk.trace();
    (disk, store)
}

fn insert(store: &Store, key: u64, durability: Durability) {
    let mut tx = store.begin_write().unwrap();
    tx.set_durability(durability);
    tx.open_collection(NOTES).unwrap().insert(key, &[key as f32; 2048]).unwrap();
    tx.commit().unwrap();
}

/// What happened, in order.
#[derive(Debug)]
struct Trace(Vec<Entry>);

const STORE: &str = "store.redb";

impl Trace {
    fn places(&self, is_it: impl Fn(&Op) -> bool) -> impl DoubleEndedIterator<Item = usize> {
        self.0.iter().enumerate().filter(move |(_, entry)| is_it(&entry.op)).map(|(place, _)| place)
    }

    fn last_directory_sync(&self) -> Option<usize> {
        self.places(|op| matches!(op, Op::SyncDirectory)).next_back()
    }

    fn last_sync(&self, file: &str) -> usize {
        self.places(|op| matches!(op, Op::Sync(name) if name == file))
            .next_back()
            .expect("the file is synced")
    }

    fn last_write(&self, file: &str) -> usize {
        let mut writes = self.places(|op| matches!(op, Op::Write(name, ..) if name == file));
        writes.next_back().expect("the file is written to")
    }

    /// redb's header, at the beginning of its file, is written after `event`, and synced last of all.
    fn assert_redb_commits_after(&self, event: usize) {
        let header = self.places(|op| matches!(op, Op::Write(name, 0, _) if name == STORE)).next();
        let (header, synced) = (header.expect("redb's header is written"), self.last_sync(STORE));
        assert!(event < header && header < synced, "{event} < {header} < {synced} in {self:#?}");
        assert!(self.last_write(STORE) < synced, "{self:#?}");
    }
}
