//! A backup is taken of a store in use, and is a store.
//!
//! A writer commits without a pause, durably and not, in every way there is: it inserts, replaces, removes, uses slots again, drops a
//! collection and creates it anew, writes large and small values into a table of the app's own. What a commit leaves follows from its number.
//! Meanwhile backups are taken, one after the other. Each of them opens, is flawless under `check`, holds exactly what the commit that
//! it names left, and goes on from there as a store of its own.
//!
//! A backup that is interrupted, wherever that happens, leaves nothing that could be taken for a store.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nestling::redb::TableDefinition;
use nestling::{
    CollectionDefinition, Durability, Error, Metric, Observer, Operation, ReadTransaction, Store,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The transaction of number n draws from the seed SEED + n.
const SEED: u64 = 20_261_121;
const NOTES: CollectionDefinition = CollectionDefinition::new("notes", 48, Metric::Cosine);
const PHOTOS: CollectionDefinition = CollectionDefinition::new("photos", 300, Metric::L2);
const BLOBS: TableDefinition<u64, &[u8]> = TableDefinition::new("blobs");

/// Everything in a snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
struct Content {
    collections: BTreeMap<String, BTreeMap<u64, Vec<f32>>>,
    blobs: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    fn of(tx: &ReadTransaction) -> Self {
        let mut collections = BTreeMap::new();
        for name in tx.list_collections() {
            let collection = tx.open_stored_collection(&name).unwrap();
            let vectors = collection.iter().unwrap().map(|entry| {
                let (key, vector) = entry.unwrap();
                (key, vector.into_owned())
            });
            collections.insert(name, vectors.collect());
        }
        let mut blobs = BTreeMap::new();
        if !tx.list_tables().unwrap().is_empty() {
            for entry in tx.open_table(BLOBS).unwrap().iter().unwrap() {
                let (key, value) = entry.unwrap();
                blobs.insert(key.value(), value.value().to_vec());
            }
        }
        Self { collections, blobs }
    }

    /// What the first `commits` transactions leave.
    fn after(commits: u64) -> Self {
        let mut content = Self::default();
        for n in 1..=commits {
            let change = Change::new(n);
            let notes = content.collections.entry("notes".to_owned()).or_default();
            notes.extend(change.notes);
            change.removed.iter().for_each(|key| drop(notes.remove(key)));
            content.blobs.extend(change.blobs);
            content.blobs.remove(&change.removed_blob);
            if change.drops_photos {
                content.collections.remove("photos");
            }
            if let Some((key, vector)) = change.photo {
                content.collections.entry("photos".to_owned()).or_default().insert(key, vector);
            }
        }
        content
    }
}

/// What the transaction of a number does, which is the commit's number.
struct Change {
    durability: Durability,
    notes: BTreeMap<u64, Vec<f32>>,
    removed: Vec<u64>,
    blobs: BTreeMap<u64, Vec<u8>>,
    removed_blob: u64,
    drops_photos: bool,
    photo: Option<(u64, Vec<f32>)>,
}

impl Change {
    fn new(n: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(SEED + n);
        let mut vector =
            |dimension| -> Vec<f32> { (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let (notes, photo): (Vec<_>, _) = ((0..200).map(|_| vector(48)).collect(), vector(300));
        let most = if n % 10 == 1 { 200 } else { 8 };
        let mut blob = |size| (rng.random_range(0..100), vec![rng.random(); rng.random_range(0..size)]);
        // The first ones make a file that takes its time to copy.
        let blobs = if n <= 20 {
            (0..10).map(|_| blob(1_000_000)).collect()
        } else {
            (0..4).map(|_| blob(30_000)).collect()
        };
        let count = rng.random_range(0..most);
        Self {
            durability: if rng.random_ratio(1, 3) { Durability::None } else { Durability::Immediate },
            notes: notes.into_iter().take(count).map(|vector| (rng.random_range(0..1500), vector)).collect(),
            removed: (0..count / 2).map(|_| rng.random_range(0..1500)).collect(),
            blobs,
            removed_blob: rng.random_range(0..100),
            drops_photos: rng.random_ratio(1, 10),
            photo: rng.random_ratio(1, 3).then(|| (rng.random_range(0..90), photo)),
        }
    }

    fn apply(self, store: &Store) {
        let mut tx = store.begin_write().unwrap();
        tx.set_durability(self.durability);
        {
            let mut notes = tx.open_collection(NOTES).unwrap();
            notes.insert_many(self.notes).unwrap();
            for key in self.removed {
                notes.remove(key).unwrap();
            }
            let mut blobs = tx.open_table(BLOBS).unwrap();
            for (key, blob) in self.blobs {
                blobs.insert(key, blob.as_slice()).unwrap();
            }
            blobs.remove(self.removed_blob).unwrap();
        }
        if self.drops_photos {
            tx.drop_collection("photos").unwrap();
        }
        if let Some((key, vector)) = self.photo {
            tx.open_collection(PHOTOS).unwrap().insert(key, &vector).unwrap();
        }
        tx.commit().unwrap();
    }
}

/// Brings a store up to a commit.
fn advance(store: &Store, to: u64) {
    for n in store.begin_read().unwrap().commit_number() + 1..=to {
        Change::new(n).apply(store);
    }
}

#[test]
fn backups_during_writes_are_stores_that_equal_a_commit() {
    const BACKUPS: usize = 4;
    println!("seed {SEED}");
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("app.nestling")).unwrap();
    advance(&store, 40);
    let done = AtomicBool::new(false);
    let last = || store.begin_read().unwrap().commit_number();
    let mut overtaken = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                advance(&store, last() + 1);
            }
        });
        // Whatever comes of it, the writer has to be told.
        let backups: Vec<_> = (0..BACKUPS)
            .map(|n| {
                let backup = store.backup(home.path().join(format!("backup {n}")));
                backup.map(|backup| last() - backup.commit)
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        overtaken.extend(backups.into_iter().map(Result::unwrap));
    });
    println!("{} commits, of them during each backup: {overtaken:?}", last());
    assert!(overtaken.iter().sum::<u64>() > BACKUPS as u64, "the writer stood still");
    for n in 0..BACKUPS {
        verify(&home.path().join(format!("backup {n}")));
    }
    assert_eq!(store.check().unwrap().problems, []);
    assert!(Content::of(&store.begin_read().unwrap()) == Content::after(last()));
}

/// Opens a backup, compares it with the commit that it shows, and writes to it. Tells the commit.
fn verify(path: &Path) -> u64 {
    let store = Store::builder().create(false).open(path).unwrap();
    let tx = store.begin_read().unwrap();
    let commit = tx.commit_number();
    assert_eq!(store.check().unwrap().problems, [], "{}", path.display());
    assert!(Content::of(&tx) == Content::after(commit), "{} is not commit {commit}", path.display());
    drop(tx);
    advance(&store, commit + 10);
    assert_eq!(store.check().unwrap().problems, [], "{}, written to", path.display());
    assert!(Content::of(&store.begin_read().unwrap()) == Content::after(commit + 10));
    store.close().unwrap();
    commit
}

/// Of a store opened for reading, left by a process that died; the store itself stays as it was left.
#[test]
fn a_store_that_was_not_closed_is_backed_up_by_a_reader() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("app.nestling")).unwrap();
    advance(&store, 30);
    store.begin_write().unwrap().commit().unwrap();
    // Which is the thirty-first commit, and changes nothing.
    let left = home.path().join("left");
    copy(store.path(), &left);
    let before = std::fs::read(left.join("store.redb")).unwrap();

    let reader = Store::builder().read_only().open(&left).unwrap();
    let backup = reader.backup(home.path().join("backup")).unwrap();
    assert_eq!(backup.commit, 31);
    assert!(std::fs::read(left.join("store.redb")).unwrap() == before, "the store was written to");
    let copy = Store::open(home.path().join("backup")).unwrap();
    assert_eq!(copy.check().unwrap().problems, []);
    assert!(Content::of(&copy.begin_read().unwrap()) == Content::after(30));
}

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.nestling");
    let store = Store::open(&path).unwrap();
    advance(&store, 1);

    let refused = |target: &Path| matches!(store.backup(target), Err(Error::TargetNotEmpty { .. }));
    assert!(refused(&path), "the store itself");
    let file = home.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(refused(&file));
    let directory = home.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("letter"), "mine").unwrap();
    assert!(refused(&directory));
    assert_eq!(std::fs::read(directory.join("letter")).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "something was left behind");
    assert!(matches!(store.backup(home.path().join("no/parent")), Err(Error::Io { .. })));

    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    store.backup(&empty).unwrap();
    assert!(refused(&empty), "a backup");
}

/// Shows what is in the backup's directory before each operation of the backup on the store, and may fail one of them.
#[derive(Debug, Default)]
struct Interruption {
    target: Mutex<Option<PathBuf>>,
    operations: AtomicUsize,
    /// Fails this one.
    fail: Mutex<Option<usize>>,
    seen: AtomicUsize,
}

impl Observer for Interruption {
    fn before(&self, _: Operation<'_>) -> io::Result<()> {
        let Some(target) = self.target.lock().unwrap().clone() else { return Ok(()) };
        let n = self.operations.fetch_add(1, Ordering::Relaxed);
        if target.join("store.redb").exists() && self.fail.lock().unwrap().is_none() {
            let found = target.with_extension("found");
            copy(&target, &found);
            // As the next process finds it, with and without leave to create a store.
            for create in [false, true] {
                let opened = Store::builder().create(create).open(&found);
                assert!(matches!(opened, Err(Error::NotAStore { .. })), "operation {n}: {opened:?}");
            }
            std::fs::remove_dir_all(found).unwrap();
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
        match *self.fail.lock().unwrap() {
            Some(fail) if fail == n => Err(io::Error::other("the disk is gone")),
            _ => Ok(()),
        }
    }
}

#[test]
fn an_interrupted_backup_is_not_taken_for_a_store() {
    let home = tempfile::tempdir().unwrap();
    let observer = Arc::new(Interruption::default());
    let store = Store::builder().observer(observer.clone()).open(home.path().join("app.nestling")).unwrap();
    advance(&store, 6);

    let target = home.path().join("backup");
    *observer.target.lock().unwrap() = Some(target.clone());
    store.backup(&target).unwrap();
    let operations = observer.operations.swap(0, Ordering::Relaxed);
    assert!(observer.seen.load(Ordering::Relaxed) > 3, "{observer:?}");

    // The same with a failure: an error, nothing left behind, and the store goes on.
    for n in (0..operations).step_by(operations / 16 + 1) {
        let target = home.path().join(format!("backup {n}"));
        *observer.target.lock().unwrap() = Some(target.clone());
        *observer.fail.lock().unwrap() = Some(n);
        observer.operations.store(0, Ordering::Relaxed);
        let result = store.backup(&target);
        assert!(matches!(result, Err(Error::Io { .. })), "operation {n}: {result:?}");
        assert!(!target.exists(), "operation {n}");
    }
    println!("{operations} operations");
    *observer.target.lock().unwrap() = None;
    advance(&store, 7);
    store.backup(home.path().join("last")).unwrap();
    assert_eq!(verify(&home.path().join("last")), 7);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
