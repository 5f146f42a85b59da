//! What safe code can do wrong must not cost what is stored. Each of these once did: it was found by review, and the first of them
//! ended with a commit that said all was well and a collection that was gone.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nestling::{CollectionDefinition, Error, Metric, Store};

const POINTS: CollectionDefinition = CollectionDefinition::new("points", 4, Metric::L2);

fn point(i: u64) -> [f32; 4] {
    [i as f32, 1.0, 2.0, 3.0]
}

/// A store with a hundred points.
fn filled() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_collection(POINTS).unwrap().insert_many((0..100).map(|i| (i, point(i)))).unwrap();
    tx.commit().unwrap();
    (dir, store)
}

/// Everything is as `filled` left it, also after reopening, and the store goes on working.
fn assert_unharmed(store: Store) {
    let path = store.path().to_owned();
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    let points = store.begin_read().unwrap().open_collection(POINTS).unwrap();
    assert_eq!(points.len(), 100);
    for i in 0..100 {
        assert_eq!(points.get(i).unwrap().unwrap().as_ref(), point(i));
    }
    assert!(store.check().unwrap().is_clean());
    let tx = store.begin_write().unwrap();
    tx.open_collection(POINTS).unwrap().insert(1000, &point(1000)).unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_leaked_handle_cannot_be_committed() {
    let (_dir, store) = filled();
    let tx = store.begin_write().unwrap();
    let mut points = tx.open_collection(POINTS).unwrap();
    points.remove(5).unwrap();
    std::mem::forget(points);
    assert!(matches!(tx.commit(), Err(Error::TransactionFailed)));
    assert_unharmed(store);
}

/// Answers with another vector when asked again, or panics.
struct Liar {
    asked: Cell<u32>,
    panics: bool,
}

impl AsRef<[f32]> for Liar {
    fn as_ref(&self) -> &[f32] {
        assert!(!self.panics, "as the test wants it");
        self.asked.set(self.asked.get() + 1);
        match self.asked.get() {
            1 => &[1.0, 2.0, 3.0, 4.0],
            2 => &[f32::NAN, 0.0, 0.0, 0.0],
            _ => &[],
        }
    }
}

#[test]
fn what_was_checked_is_what_is_stored() {
    let (_dir, store) = filled();
    let tx = store.begin_write().unwrap();
    {
        let mut points = tx.open_collection(POINTS).unwrap();
        points.insert_many([(500, Liar { asked: Cell::new(0), panics: false })]).unwrap();
        assert_eq!(points.get(500).unwrap().unwrap().as_ref(), [1.0, 2.0, 3.0, 4.0]);
    }
    tx.abort().unwrap();
    assert_unharmed(store);
}

#[test]
fn a_panic_of_the_callers_leaves_the_store_usable() {
    let (_dir, store) = filled();
    let tx = store.begin_write().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut points = tx.open_collection(POINTS).unwrap();
        points.remove(7).unwrap();
        points.insert_many([(500, Liar { asked: Cell::new(0), panics: true })])
    }));
    assert!(panicked.is_err());
    drop(tx);
    assert_unharmed(store);
}

/// An `ef_construction` below the stored m was checked against the default m, stored, and refused at the next opening: of the
/// whole store.
#[test]
fn a_definition_is_checked_together_with_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let wide = CollectionDefinition::new("wide", 4, Metric::L2).m(64);
    let narrow = CollectionDefinition::new("narrow", 4, Metric::L2).m(4).m0(8);
    let tx = store.begin_write().unwrap();
    tx.open_collection(wide).unwrap().insert(1, &point(1)).unwrap();
    tx.open_collection(narrow).unwrap().insert(1, &point(1)).unwrap();
    tx.commit().unwrap();

    let tx = store.begin_write().unwrap();
    let too_few = CollectionDefinition::new("wide", 4, Metric::L2).ef_construction(20);
    assert!(matches!(tx.open_collection(too_few), Err(Error::InvalidParameter { .. })));
    // Legal beside what is stored, though not beside the defaults.
    for stated in [
        CollectionDefinition::new("narrow", 4, Metric::L2).m0(8),
        CollectionDefinition::new("narrow", 4, Metric::L2).ef_construction(8),
    ] {
        tx.open_collection(stated).unwrap().insert(2, &point(2)).unwrap();
    }
    tx.commit().unwrap();
    let path = store.path().to_owned();
    store.close().unwrap();
    let store = Store::open(path).unwrap();
    let tx = store.begin_read().unwrap();
    assert_eq!(tx.open_stored_collection("narrow").unwrap().parameters().ef_construction, 8);
}

#[test]
fn reading_creates_nothing_whatever_else_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert!(matches!(
        Store::builder().read_only().create(true).open(&path),
        Err(Error::StoreNotFound { .. })
    ));
    assert!(matches!(
        Store::builder().read_only().create_new().open(&path),
        Err(Error::StoreNotFound { .. })
    ));
    assert!(!path.exists());
    drop(Store::open(&path).unwrap());
    assert!(matches!(Store::builder().create_new().open(&path), Err(Error::StoreExists { .. })));
}

/// Commits that change a collection's row and no links went into the journal and never out of it.
#[test]
fn commits_without_links_leave_the_journal_too() {
    let (_dir, store) = filled();
    for i in 0..3_000 {
        let tx = store.begin_write().unwrap();
        drop(tx.open_collection(POINTS.ef_construction(100 + i % 2)).unwrap());
        tx.commit().unwrap();
        if i % 500 == 499 {
            let entries = store.stats().unwrap().journal_entries;
            assert!(entries < 1_200, "{entries} entries after {} commits", i + 1);
        }
    }
    assert_unharmed(store);
}

/// An app that saves in a `drop` may do so while it unwinds from a panic of its own, which is no failure of the commit.
#[test]
fn a_commit_while_the_app_unwinds_is_a_commit() {
    struct SaveOnDrop<'a>(&'a Store);
    impl Drop for SaveOnDrop<'_> {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            let tx = self.0.begin_write().unwrap();
            tx.open_collection(POINTS).unwrap().insert(1, &[1.0, 2.0, 3.0, 4.0]).unwrap();
            tx.commit().unwrap();
            self.0.begin_write().unwrap().commit().unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _saver = SaveOnDrop(&store);
        panic!("a defect of the app");
    }));
    assert!(unwound.is_err());
    assert_eq!(store.begin_read().unwrap().open_collection(POINTS).unwrap().len(), 1);
    store.begin_write().unwrap().commit().unwrap();
}
