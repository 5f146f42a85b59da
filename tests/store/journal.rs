//! Small commits write one entry of a journal instead of rows all over the tables, and every sixteenth or so folds what has come
//! together into the tables. What a reader sees must not depend on which of the two a row is in: right after a commit, in a
//! snapshot from before a fold, after reopening in the middle of everything, beside transactions that are large enough to go
//! into the tables directly. And the journal must stay bounded however long it goes on.

use std::collections::BTreeMap;

use nestling::{Collection, CollectionDefinition, Metric, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DIMENSION: usize = 12;
const POINTS: CollectionDefinition = CollectionDefinition::new("points", DIMENSION, Metric::L2).m(6);
const OTHERS: CollectionDefinition = CollectionDefinition::new("others", 3, Metric::L2).m(2);

type Model = BTreeMap<u64, Vec<f32>>;

fn vector(rng: &mut StdRng, dimension: usize) -> Vec<f32> {
    let center = rng.random_range(0..5) as f32;
    (0..dimension).map(|_| center + rng.random_range(-0.5..0.5)).collect()
}

fn assert_equal(collection: &Collection, model: &Model) {
    let stored: Model =
        collection.iter().unwrap().map(|e| e.map(|(k, v)| (k, v.into_owned())).unwrap()).collect();
    assert!(&stored == model, "{} of {} entries", stored.len(), model.len());
    for (&key, vector) in model.iter().step_by(17) {
        let nearest = collection.query(vector).k(1).ef(model.len()).run().unwrap();
        assert_eq!(nearest[0].distance, 0.0, "key {key} finds itself");
    }
}

/// One small change of one or both collections.
fn change(store: &Store, rng: &mut StdRng, points: &mut Model, others: &mut Model) {
    let tx = store.begin_write().unwrap();
    {
        let mut collection = tx.open_collection(POINTS).unwrap();
        for _ in 0..rng.random_range(1..3) {
            let key = rng.random_range(0..400);
            if rng.random_bool(0.4) {
                assert_eq!(collection.remove(key).unwrap(), points.remove(&key).is_some());
            } else {
                let vector = vector(rng, DIMENSION);
                let replaced = collection.insert(key, &vector).unwrap();
                assert_eq!(replaced, points.insert(key, vector).is_some());
            }
        }
        if rng.random_bool(0.2) {
            let key = rng.random_range(0..100);
            let vector = vector(rng, 3);
            tx.open_collection(OTHERS).unwrap().insert(key, &vector).unwrap();
            others.insert(key, vector);
        }
    }
    tx.commit().unwrap();
}

#[test]
fn what_is_read_does_not_depend_on_what_is_folded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut store = Store::open(&path).unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    let (mut points, mut others) = (Model::new(), Model::new());
    let mut snapshots: Vec<(Collection, Model)> = Vec::new();
    let (mut most_entries, mut shrank, mut last_entries) = (0, 0, 0);
    for commit in 0..1500 {
        change(&store, &mut rng, &mut points, &mut others);
        if commit % 400 == 399 {
            // Large enough for the tables.
            let tx = store.begin_write().unwrap();
            let many: Model = (1000..1300).map(|key| (key, vector(&mut rng, DIMENSION))).collect();
            tx.open_collection(POINTS).unwrap().insert_many(many.clone()).unwrap();
            tx.commit().unwrap();
            points.extend(many);
        }
        if commit % 37 == 0 {
            snapshots.push((store.begin_read().unwrap().open_collection(POINTS).unwrap(), points.clone()));
        }
        if commit % 50 == 13 {
            let entries = store.stats().unwrap().journal_entries;
            most_entries = most_entries.max(entries);
            shrank += u32::from(entries < last_entries);
            last_entries = entries;
            assert_equal(&store.begin_read().unwrap().open_collection(POINTS).unwrap(), &points);
        }
        if commit % 110 == 109 {
            for (collection, model) in snapshots.drain(..) {
                assert_equal(&collection, &model);
            }
            drop(store);
            store = Store::open(&path).unwrap();
            let report = store.check().unwrap();
            assert!(report.is_clean(), "after commit {commit}: {:?}", report.problems);
            let tx = store.begin_read().unwrap();
            assert_equal(&tx.open_collection(POINTS).unwrap(), &points);
            assert_equal(&tx.open_collection(OTHERS).unwrap(), &others);
        }
    }
    assert!(most_entries > 16, "the journal was used: {most_entries} entries");
    assert!(most_entries < 250, "the journal is bounded: {most_entries} entries");
    assert!(shrank > 3, "entries are removed: {shrank} times");
}

/// An app is opened, saves a few notes and is closed, day after day. A lap of the fold over a large collection takes many such
/// days; it must come to its end all the same, or the journal would keep every change ever made.
#[test]
fn the_journal_is_bounded_in_short_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut rng = StdRng::seed_from_u64(13);
    let mut points: Model = (0..2_000).map(|key| (key, vector(&mut rng, DIMENSION))).collect();
    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_collection(POINTS).unwrap().insert_many(points.clone()).unwrap();
    tx.commit().unwrap();
    drop(store);
    let mut most_entries = 0;
    for session in 0..120 {
        let store = Store::open(&path).unwrap();
        most_entries = most_entries.max(store.stats().unwrap().journal_entries);
        for _ in 0..[3, 20, 17][session % 3] {
            change(&store, &mut rng, &mut points, &mut Model::new());
        }
    }
    let store = Store::open(&path).unwrap();
    assert!(store.check().unwrap().is_clean());
    assert_equal(&store.begin_read().unwrap().open_collection(POINTS).unwrap(), &points);
    assert!((50..400).contains(&most_entries), "{most_entries} entries after 1,600 commits");
}

/// The point of it all: a small commit into a large collection writes little, and so do many of them, folding included.
#[test]
fn small_commits_write_little() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let mut rng = StdRng::seed_from_u64(12);
    let tx = store.begin_write().unwrap();
    let many: Vec<_> = (0..8_000).map(|key| (key, vector(&mut rng, DIMENSION))).collect();
    tx.open_collection(POINTS).unwrap().insert_many(many).unwrap();
    tx.commit().unwrap();
    let before = store.counters().bytes_written;
    let commits = 1_500;
    for key in 0..commits {
        let tx = store.begin_write().unwrap();
        tx.open_collection(POINTS).unwrap().insert(100_000 + key, &vector(&mut rng, DIMENSION)).unwrap();
        tx.commit().unwrap();
    }
    let per_commit = (store.counters().bytes_written - before) / commits;
    let entries = store.stats().unwrap().journal_entries;
    assert!(entries < commits as usize, "entries have been folded: {entries} are left");
    assert!(per_commit < 100_000, "{per_commit} bytes per commit");
}
