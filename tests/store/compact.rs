//! Compaction gives space back and changes nothing else.
//!
//! Stores that have lived, with removed and replaced vectors, free slots, small commits in the journal, several collections and tables of
//! the app's own, hold the same after `compact` as before, are flawless under `check`, find what they found, and take less space.
//! They go on from there.
//!
//! A process that dies at any operation of a compaction leaves the store whole: the directory is looked at as it was before each of them.
//! So does a disk that fails for good at some operation: every third is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nestling::redb::TableDefinition;
use nestling::{
    CloseError, Codes, CollectionDefinition, Durability, Error, Metric, Observer, Operation, Parameters,
    Store,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::words::{self, words};

const SEED: u64 = 20_261_122;
const NOTES: CollectionDefinition =
    CollectionDefinition::new("notes", 24, Metric::Cosine).m(6).ef_construction(40);
const PHOTOS: CollectionDefinition =
    CollectionDefinition::new("photos", 500, Metric::L2).m(4).ef_construction(20).codes(Codes::None);
const EMPTY: CollectionDefinition = CollectionDefinition::new("empty", 3, Metric::Dot);
const TITLES: TableDefinition<u64, &str> = TableDefinition::new("titles");

type Vectors = BTreeMap<u64, Vec<f32>>;

fn parameters_of(store: &Store) -> Vec<(String, Parameters)> {
    let stats = store.stats().unwrap();
    stats.collections.into_iter().map(|collection| (collection.name, collection.parameters)).collect()
}

/// Everything in a store.
fn contents(store: &Store) -> (BTreeMap<String, Vectors>, BTreeMap<u64, String>) {
    let tx = store.begin_read().unwrap();
    let collections = tx.list_collections().into_iter().map(|name| {
        let collection = tx.open_stored_collection(&name).unwrap();
        let vectors = collection.iter().unwrap().map(|entry| {
            let (key, vector) = entry.unwrap();
            (key, vector.into_owned())
        });
        (name, vectors.collect())
    });
    let collections = collections.collect();
    let titles = tx.open_table(TITLES).unwrap();
    let titles = titles.iter().unwrap().map(|entry| {
        let (key, title) = entry.unwrap();
        (key.value(), title.value().to_owned())
    });
    (collections, titles.collect())
}

/// Commits large and small ones: what is in the tables is behind what is in the journal.
fn live(store: &Store, rng: &mut StdRng, notes: u64, commits: usize) {
    let mut vector =
        |dimension: usize| -> Vec<f32> { (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let tx = store.begin_write().unwrap();
    tx.open_collection(NOTES).unwrap().insert_many((0..notes).map(|key| (key, vector(24)))).unwrap();
    tx.open_collection(PHOTOS).unwrap().insert_many((0..notes / 10).map(|key| (key, vector(500)))).unwrap();
    tx.open_collection(EMPTY).unwrap();
    tx.commit().unwrap();
    for n in 0..commits as u64 {
        let mut tx = store.begin_write().unwrap();
        if n % 3 == 0 {
            tx.set_durability(Durability::None);
        }
        let mut collection = tx.open_collection(NOTES).unwrap();
        for key in (n % 4..notes).step_by(commits + 3) {
            collection.remove(key).unwrap();
        }
        collection.insert(2 * n, &vector(24)).unwrap();
        drop(collection);
        tx.open_collection(PHOTOS).unwrap().insert(n % 7, &vector(500)).unwrap();
        tx.open_table(TITLES).unwrap().insert(n, "a title that takes some room".repeat(20).as_str()).unwrap();
        tx.open_table(TITLES).unwrap().remove(n / 2).unwrap();
        tx.commit().unwrap();
    }
}

#[test]
fn a_compacted_store_holds_the_same_and_goes_on() {
    println!("seed {SEED}");
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.nestling");
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut store = Store::open(&path).unwrap();
    for round in 0..3 {
        live(&store, &mut rng, 400 + 100 * round, 45);
        let before = contents(&store);
        let parameters = parameters_of(&store);
        let commit = store.begin_read().unwrap().commit_number();
        let (compacted, compaction) = store.compact().unwrap();
        store = compacted;
        assert!(contents(&store) == before, "round {round}");
        assert_eq!(store.check().unwrap().problems, [], "round {round}");
        assert_eq!(parameters_of(&store), parameters);
        assert!(store.begin_read().unwrap().commit_number() > commit);
        assert!(compaction.bytes_after < compaction.bytes_before, "{compaction:?}");
        let stats = store.stats().unwrap();
        assert_eq!(stats.bytes_on_disk, compaction.bytes_after);
        assert_eq!(stats.journal_entries, 0);
        assert_eq!(stats.collections.iter().map(|c| c.vectors).sum::<u64>(), compaction.vectors);
        for collection in &stats.collections {
            assert_eq!(collection.dead_slots, 0, "{collection:?}");
        }
        assert_eq!(segment_files(&path), stats.collections.iter().map(|c| c.segments).sum::<usize>());
        // What is open goes on, and so does what is opened anew.
        live(&store, &mut rng, 50, 20);
        assert_eq!(store.check().unwrap().problems, [], "round {round}, written to");
        let before = contents(&store);
        store.close().unwrap();
        store = Store::open(&path).unwrap();
        assert!(contents(&store) == before, "round {round}, reopened");
        assert_eq!(store.check().unwrap().problems, [], "round {round}, reopened");
    }
}

/// After half of the collection is gone: half of the space, and the same hits at the same `ef`.
#[test]
fn what_was_removed_gives_its_space_back_and_recall_stays() {
    const WORDS: CollectionDefinition = CollectionDefinition::new("words", words::DIMENSION, Metric::Cosine);
    let words = words();
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("app.nestling")).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_collection(WORDS).unwrap().insert_many((0..).zip(&words.vectors)).unwrap();
    tx.commit().unwrap();
    let tx = store.begin_write().unwrap();
    for key in (0..words.vectors.len() as u64).filter(|key| key % 2 == 1) {
        tx.open_collection(WORDS).unwrap().remove(key).unwrap();
    }
    tx.commit().unwrap();

    let queries: Vec<&Vec<f32>> = words.vectors.iter().skip(1).step_by(50).collect();
    let found = |store: &Store| -> Vec<BTreeSet<u64>> {
        let collection = store.begin_read().unwrap().open_collection(WORDS).unwrap();
        let hits = |query: &&Vec<f32>| collection.query(query.as_slice()).k(10).ef(32).run().unwrap();
        queries.iter().map(|query| hits(query).iter().map(|hit| hit.key).collect()).collect()
    };
    let before = found(&store);
    let (store, compaction) = store.compact().unwrap();
    assert_eq!(store.check().unwrap().problems, []);
    println!("{compaction:?}");
    assert!(compaction.bytes_after * 10 < compaction.bytes_before * 6, "{compaction:?}");
    let after = found(&store);
    let common: usize = before.iter().zip(&after).map(|(a, b)| a.intersection(b).count()).sum();
    // The walk is the same but for ties.
    assert!(common * 1000 >= queries.len() * 10 * 995, "{common} of {} hits", queries.len() * 10);
}

#[test]
fn readers_keep_a_store_from_being_compacted() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.nestling");
    let mut store = Store::open(&path).unwrap();
    live(&store, &mut StdRng::seed_from_u64(1), 40, 4);
    let before = contents(&store);
    let refused = |store: Store| match store.compact() {
        Err(CloseError::ReadersAlive { store }) => store,
        other => panic!("{other:?}"),
    };
    let snapshot = store.begin_read().unwrap();
    store = refused(store);
    let notes = snapshot.open_collection(NOTES).unwrap();
    drop(snapshot);
    live(&store, &mut StdRng::seed_from_u64(2), 4, 2);
    store = refused(store);
    assert_eq!(notes.len(), before.0["notes"].len() as u64);
    drop(notes);
    let tx = store.begin_write().unwrap();
    store = refused(store);
    drop(tx);
    store.compact().unwrap().0.close().unwrap();

    let reader = Store::builder().read_only().open(&path).unwrap();
    assert!(matches!(reader.compact(), Err(CloseError::Failed(Error::ReadOnly { .. }))));
}

/// Nothing is thrown away that does not verify.
#[test]
fn a_damaged_store_is_not_compacted() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.nestling");
    let store = Store::open(&path).unwrap();
    live(&store, &mut StdRng::seed_from_u64(1), 40, 4);
    let vector = contents(&store).0["notes"].values().next().unwrap().clone();
    store.close().unwrap();
    // In the vector of a live note.
    let needle: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let find = |file: PathBuf| {
        let bytes = std::fs::read(&file).unwrap();
        bytes.windows(needle.len()).position(|window| window == needle).map(|place| (file, bytes, place))
    };
    let (segment, mut bytes, place) = files(&path).into_iter().find_map(find).unwrap();
    bytes[place] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    match Store::open(&path).unwrap().compact() {
        Err(CloseError::Failed(e)) => assert!(e.is_corrupted(), "{e}"),
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read(&segment).unwrap() == bytes);
    assert_eq!(Store::open(&path).unwrap().check().unwrap().problems.len(), 1);
}

/// Keeps a copy of the directory as it is before each operation, or fails one of them and all that follow.
#[derive(Debug, Default)]
struct Disk {
    armed: AtomicBool,
    operations: AtomicUsize,
    fail: Option<usize>,
    copies: Option<(PathBuf, PathBuf)>,
    names: Mutex<BTreeSet<&'static str>>,
}

impl Observer for Disk {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        let name = match operation {
            Operation::Create { .. } => "create",
            Operation::Write { .. } => "write",
            Operation::SetLen { .. } => "set the length",
            Operation::Sync { .. } => "sync",
            Operation::Remove { .. } => "remove",
            Operation::SyncDirectory => "sync the directory",
            _ => return Ok(()),
        };
        if !self.armed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.names.lock().unwrap().insert(name);
        let n = self.operations.fetch_add(1, Ordering::Relaxed);
        if let Some((from, to)) = &self.copies {
            copy(from, &to.join(n.to_string()));
        }
        match self.fail {
            Some(fail) if n >= fail => Err(io::Error::other("the disk is gone")),
            _ => Ok(()),
        }
    }
}

fn store_to_compact(home: &Path, disk: Arc<Disk>) -> Store {
    let store = Store::builder().observer(disk).open(home.join("app.nestling")).unwrap();
    live(&store, &mut StdRng::seed_from_u64(SEED), 24, 18);
    store
}

#[test]
fn a_process_that_dies_while_it_compacts_leaves_the_store_whole() {
    let home = tempfile::tempdir().unwrap();
    let copies = home.path().join("copies");
    std::fs::create_dir(&copies).unwrap();
    let disk = Arc::new(Disk {
        copies: Some((home.path().join("app.nestling"), copies.clone())),
        ..Disk::default()
    });
    let store = store_to_compact(home.path(), disk.clone());
    let expected = contents(&store);
    disk.armed.store(true, Ordering::Relaxed);
    let (store, _) = store.compact().unwrap();
    disk.armed.store(false, Ordering::Relaxed);
    drop(store);
    let operations = disk.operations.load(Ordering::Relaxed);
    println!("{operations} operations: {:?}", disk.names.lock().unwrap());
    assert_eq!(disk.names.lock().unwrap().len(), 6, "{:?}", disk.names.lock().unwrap());
    let mut swept = 0;
    for n in 0..operations {
        swept += usize::from(whole(&copies.join(n.to_string()), &expected, n));
        std::fs::remove_dir_all(copies.join(n.to_string())).unwrap();
    }
    assert!(swept > 0, "no opening found files to sweep");
}

#[test]
fn a_disk_that_fails_while_it_compacts_leaves_the_store_whole() {
    let home = tempfile::tempdir().unwrap();
    store_to_compact(home.path(), Arc::new(Disk::default())).close().unwrap();
    for fail in (0..).step_by(3) {
        let path = home.path().join(fail.to_string());
        copy(&home.path().join("app.nestling"), &path);
        let disk = Arc::new(Disk { fail: Some(fail), ..Disk::default() });
        let store = Store::builder().observer(disk.clone()).open(&path).unwrap();
        let expected = contents(&store);
        disk.armed.store(true, Ordering::Relaxed);
        let failed = match store.compact() {
            Ok(_) => false,
            Err(CloseError::Failed(e)) => {
                assert!(!e.is_corrupted() && !e.is_input(), "operation {fail}: {e:?}");
                true
            }
            Err(e) => panic!("operation {fail}: {e:?}"),
        };
        disk.armed.store(false, Ordering::Relaxed);
        whole(&path, &expected, fail);
        std::fs::remove_dir_all(&path).unwrap();
        if !failed && disk.operations.load(Ordering::Relaxed) <= fail {
            println!("{fail} operations, every third failed for good");
            return;
        }
    }
}

/// The store holds what it held, in files that all belong to it, and can be compacted again. Tells whether there was anything to sweep.
fn whole(path: &Path, expected: &(BTreeMap<String, Vectors>, BTreeMap<u64, String>), n: usize) -> bool {
    let files = segment_files(path);
    let store = Store::open(path).unwrap_or_else(|e| panic!("operation {n}: {e}"));
    assert!(contents(&store) == *expected, "operation {n}");
    assert_eq!(store.check().unwrap().problems, [], "operation {n}");
    let named = |store: &Store| store.stats().unwrap().collections.iter().map(|c| c.segments).sum::<usize>();
    assert_eq!(segment_files(path), named(&store), "operation {n}");
    let swept = files > named(&store);
    if n.is_multiple_of(10) {
        let (store, _) = store.compact().unwrap();
        assert!(contents(&store) == *expected, "operation {n}, compacted");
        assert_eq!(store.check().unwrap().problems, [], "operation {n}, compacted");
    }
    swept
}

fn files(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn segment_files(path: &Path) -> usize {
    files(path).iter().filter(|file| file.extension().is_some_and(|extension| extension == "vectors")).count()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in files(from) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}
