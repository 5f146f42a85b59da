//! The shipped data, and the main job on it from end to end.
//!
//! `examples/quickstart.rs` shows the job and prints what it finds; here the same data goes the same way, and every claim that
//! the example makes to a newcomer is held to a number: near neighbours are found, a reopened store answers as before, and
//! half of it removed leaves the other half as findable as it was.

use std::collections::HashSet;

use nestling::redb::TableDefinition;
use nestling::{Collection, CollectionDefinition, Metric, Store};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::words;

const VECTORS: CollectionDefinition = CollectionDefinition::new("vectors", words::DIMENSION, Metric::Cosine);
const TEXTS: TableDefinition<u64, &str> = TableDefinition::new("texts");
const SEED: u64 = 0x6e65_7374;

/// A cut file, a wrong byte order or a wrong sign would still load: what they give is not of unit length, or not near what it
/// should be near.
#[test]
fn data_is_whole() {
    let words = words::words();
    assert_eq!(words.vectors.len(), 5_000);
    assert_eq!(words.texts.len(), 5_000);
    for (vector, text) in words.vectors.iter().zip(&words.texts) {
        let length = dot(vector, vector).sqrt();
        assert!((length - 1.0).abs() < 1e-2, "{text:?} has length {length}");
        assert!(text.contains(": "), "{text:?} is not of the form \"lemmas: gloss\"");
    }
    assert_eq!(words.texts.iter().collect::<HashSet<_>>().len(), 5_000, "texts are distinct");

    let row = |lemmas: &str| {
        let found = words.texts.iter().position(|text| text.split(':').next() == Some(lemmas));
        &words.vectors[found.unwrap_or_else(|| panic!("no entry has exactly the lemmas {lemmas:?}"))]
    };
    let jazz = row("jazz");
    assert!(dot(jazz, row("bop, bebop")) > 0.7);
    assert!(dot(jazz, row("penguin")) < 0.3);
}

/// Entries come in WordNet's order, so the graph grows topic by topic, which is harder than a random order.
#[test]
fn stored_reopened_and_halved() {
    println!("seed {SEED:#x}");
    let mut rng = StdRng::seed_from_u64(SEED);
    let words = words::words();
    let queries = perturbed(&words.vectors, 200, &mut rng);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words.nestling");

    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    {
        let mut vectors = tx.open_collection(VECTORS).unwrap();
        let mut texts = tx.open_table(TEXTS).unwrap();
        for (key, (vector, text)) in (0..).zip(words.vectors.iter().zip(&words.texts)) {
            vectors.insert(key, vector).unwrap();
            texts.insert(key, text.as_str()).unwrap();
        }
    }
    tx.commit().unwrap();
    let before = found(&open(&store), &queries);
    assert_recall(&open(&store), &queries, &before, "after filling");
    store.close().unwrap();

    let store = Store::open(&path).unwrap();
    let vectors = open(&store);
    assert_eq!(vectors.len(), 5_000);
    assert_eq!(found(&vectors, &queries), before, "the reopened store answers as before");
    drop(vectors);
    store.close().unwrap();

    let mut keys: Vec<u64> = (0..5_000).collect();
    keys.shuffle(&mut rng);
    let (removed, kept) = keys.split_at(2_500);

    // Whether the first thing that a store does after opening is to read or to write must not matter. Removals used to compare
    // codes that no search had verified yet, and panicked where their segment was not even open.
    for &key in &removed[..100] {
        let store = Store::open(&path).unwrap();
        let tx = store.begin_write().unwrap();
        assert!(tx.open_collection(VECTORS).unwrap().remove(key).unwrap());
        tx.abort().unwrap();
    }

    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    {
        let mut vectors = tx.open_collection(VECTORS).unwrap();
        let mut texts = tx.open_table(TEXTS).unwrap();
        for &key in removed {
            assert!(vectors.remove(key).unwrap());
            assert!(texts.remove(key).unwrap().is_some());
        }
    }
    tx.commit().unwrap();

    let report = store.check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
    assert_eq!(report.vectors, 2_500);
    let vectors = open(&store);
    let after = found(&vectors, &queries);
    let kept: HashSet<u64> = kept.iter().copied().collect();
    assert!(after.iter().flatten().all(|key| kept.contains(key)), "a removed key was found");
    assert_recall(&vectors, &queries, &after, "after removing half");
    let texts = store.begin_read().unwrap().open_table(TEXTS).unwrap();
    let stored: HashSet<u64> = texts.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect();
    assert_eq!(stored, kept, "texts went with their vectors");
    for (key, vector) in vectors.iter().unwrap().map(Result::unwrap) {
        assert_eq!(vector[..], words.vectors[key as usize][..], "key {key} gives back what was put in");
    }
}

fn open(store: &Store) -> Collection {
    store.begin_read().unwrap().open_collection(VECTORS).unwrap()
}

/// Stored vectors, each moved by noise that is as long as a quarter of it: near the data, but not of it.
fn perturbed(vectors: &[Vec<f32>], count: usize, rng: &mut StdRng) -> Vec<Vec<f32>> {
    let mut query = || {
        let vector = &vectors[rng.random_range(0..vectors.len())];
        let noise: Vec<f32> = vector.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        let scale = 0.25 / dot(&noise, &noise).sqrt();
        vector.iter().zip(&noise).map(|(x, noise)| x + scale * noise).collect()
    };
    (0..count).map(|_| query()).collect()
}

/// The keys of the 10 nearest that a search with ef 64 finds, query by query.
fn found(vectors: &Collection, queries: &[Vec<f32>]) -> Vec<Vec<u64>> {
    let search = |query: &Vec<f32>| {
        let hits = vectors.query(query).k(10).ef(64).run().unwrap();
        assert_eq!(hits.len(), 10);
        hits.iter().map(|hit| hit.key).collect()
    };
    queries.iter().map(search).collect()
}

/// Compares with the brute-force answer over the vectors that the collection says it holds.
fn assert_recall(vectors: &Collection, queries: &[Vec<f32>], found: &[Vec<u64>], when: &str) {
    let held: Vec<(u64, Vec<f32>)> = vectors
        .iter()
        .unwrap()
        .map(|entry| entry.map(|(key, vector)| (key, vector.into_owned())))
        .collect::<Result<_, _>>()
        .unwrap();
    let mut hits = 0;
    for (query, found) in queries.iter().zip(found) {
        let mut all: Vec<(f32, u64)> = held
            .iter()
            .map(|(key, vector)| (-dot(query, vector) / dot(vector, vector).sqrt(), *key))
            .collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        hits += all[..10].iter().filter(|(_, key)| found.contains(key)).count();
    }
    let recall = hits as f64 / (10 * queries.len()) as f64;
    println!("recall@10 at ef 64 {when}: {recall:.4}");
    assert!(recall >= 0.98, "recall@10 at ef 64 {when} is {recall:.4}, seed {SEED:#x}");
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
