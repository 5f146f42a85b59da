//! Vectors stored as f16 and as i8: half and a quarter of the bytes, and what is lost by it.
//!
//! A vector is rounded once, when it is inserted. From then on the rounded one is the truth: `get` gives it back, distances are those to it,
//! and storing it again (by an update, a backup, a compaction, a repair) changes no bit. How far rounding itself moves what is found
//! is measured on the 5,000 words, against the exact order of the vectors as they were given.

use nestling::{Codes, Collection, CollectionDefinition, Element, Error, Metric, Store, VectorDefect};

use crate::words;

const WORDS: CollectionDefinition = CollectionDefinition::new("words", words::DIMENSION, Metric::Cosine);
const K: usize = 10;

fn collection(store: &Store) -> Collection {
    store.begin_read().unwrap().open_collection(WORDS).unwrap()
}

fn all(collection: &Collection) -> Vec<(u64, Vec<u32>)> {
    let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect();
    collection.iter().unwrap().map(|entry| entry.map(|(key, x)| (key, bits(&x))).unwrap()).collect()
}

/// The keys of the nearest by the vectors as they were given.
fn truth(vectors: &[Vec<f32>], query: &[f32]) -> Vec<u64> {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let mut nearest: Vec<(f64, u64)> =
        (0..).zip(vectors).map(|(key, x)| (1.0 - dot(query, x) / dot(x, x).sqrt(), key)).collect();
    nearest.sort_by(|a, b| a.0.total_cmp(&b.0));
    nearest.iter().take(K).map(|&(_, key)| key).collect()
}

#[test]
fn real_embeddings_are_found_in_half_and_in_a_quarter_of_the_bytes() {
    let mut vectors = words::words().vectors;
    let queries = vectors.split_off(vectors.len() - 100);
    let truths: Vec<Vec<u64>> = queries.iter().map(|query| truth(&vectors, query)).collect();
    let mut figures = Vec::new();
    for element in [Element::F32, Element::F16, Element::I8] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let tx = store.begin_write().unwrap();
        tx.open_collection(WORDS.element(element)).unwrap().insert_many((0..).zip(&vectors)).unwrap();
        tx.commit().unwrap();
        let words = collection(&store);
        let recall = |exact: bool| {
            let found = queries.iter().zip(&truths).map(|(query, truth)| {
                let query = words.query(query).k(K).ef(64);
                let hits = if exact { query.exact() } else { query }.run().unwrap();
                hits.iter().filter(|hit| truth.contains(&hit.key)).count()
            });
            found.sum::<usize>() as f64 / (K * queries.len()) as f64
        };
        let (walked, exact) = (recall(false), recall(true));
        let files = std::fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap());
        let segments = files.filter(|entry| entry.path().extension().is_some_and(|e| e == "vectors"));
        let bytes: u64 = segments.map(|entry| entry.metadata().unwrap().len()).sum();
        println!(
            "{element}: {bytes} bytes of segments, recall@{K} {walked:.4} at ef 64, {exact:.4} by exact search"
        );
        figures.push((bytes as f64, walked, exact));
    }
    let [f32, f16, i8] = figures[..] else { unreachable!() };
    assert!(f16.0 < 0.64 * f32.0 && i8.0 < 0.48 * f32.0, "codes included");
    assert!(f32.2 == 1.0 && f16.2 >= 0.999 && i8.2 >= 0.96);
    assert!(f32.1 >= 0.98 && f16.1 >= f32.1 - 0.003 && i8.1 >= f32.1 - 0.03);
}

#[test]
fn what_is_stored_stays_as_it_is_wherever_it_goes() {
    let vectors = words::words().vectors;
    for (element, codes) in
        [(Element::F16, Codes::SevenBit), (Element::I8, Codes::SevenBit), (Element::I8, Codes::None)]
    {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let tx = store.begin_write().unwrap();
        let mut words = tx.open_collection(WORDS.element(element).codes(codes)).unwrap();
        words.insert_many((0..).zip(&vectors[..600])).unwrap();
        drop(words);
        tx.commit().unwrap();
        let stored = all(&collection(&store));

        // Rounded to the nearest: no component moves farther than half a step.
        for ((_, bits), given) in stored.iter().zip(&vectors) {
            let largest = given.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let half_a_step = match element {
                Element::I8 => largest / 127.0,
                _ => largest / 2048.0,
            };
            let near = |(&bits, x): (&u32, &f32)| (f32::from_bits(bits) - x).abs() <= half_a_step;
            assert!(bits.iter().zip(given).all(near), "{element}");
        }
        // Distances are those of what is stored.
        let hits = collection(&store).query(&vectors[700]).k(K).ef(600).run().unwrap();
        for hit in hits.iter() {
            let x = collection(&store).get(hit.key).unwrap().unwrap().into_owned();
            let products = |x: &[f32], y: &[f32]| -> f64 {
                x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
            };
            let y = &vectors[700];
            let expected = 1.0 - products(&x, y) / (products(&x, &x) * products(y, y)).sqrt();
            assert!((f64::from(hit.distance) - expected).abs() < 1e-5, "{element}: {hit:?}, not {expected}");
        }
        // Found by itself, in the transaction that stores it again as well.
        let tx = store.begin_write().unwrap();
        let mut words = tx.open_collection(WORDS).unwrap();
        for (key, bits) in stored.iter().take(50) {
            let vector: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            assert!(words.insert(*key, &vector).unwrap());
            assert_eq!(words.search(&vector, 1).unwrap()[0].key, *key);
        }
        drop(words);
        tx.commit().unwrap();
        assert_eq!(all(&collection(&store)), stored, "{element}, updated");

        let copy = dir.path().join("copy");
        store.backup(&copy).unwrap();
        assert_eq!(all(&collection(&Store::open(&copy).unwrap())), stored, "{element}, backup");
        let (store, _) = store.compact().unwrap();
        assert_eq!(all(&collection(&store)), stored, "{element}, compacted");
        assert!(store.check().unwrap().is_clean());
        store.close().unwrap();

        // Repaired with and without what `store.redb` says.
        let from = dir.path().join("store");
        for lost in [false, true] {
            let to = dir.path().join(format!("repaired {lost}"));
            if lost {
                std::fs::remove_file(from.join("store.redb")).unwrap();
            }
            let repair = Store::repair(&from, &to).unwrap();
            assert_eq!(repair.collections[0].recovered, 600, "{element}, {codes}: {repair:?}");
            let store = Store::open(&to).unwrap();
            let tx = store.begin_read().unwrap();
            let name = repair.collections[0].name.clone();
            let repaired = tx.open_stored_collection(&name).unwrap();
            assert_eq!(repaired.parameters().element, element);
            assert_eq!(all(&repaired), stored, "{element}, {codes}, lost: {lost}");
        }
    }
}

#[test]
fn what_an_element_type_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let tx = store.begin_write().unwrap();
    let halves = CollectionDefinition::new("halves", 2, Metric::Cosine).element(Element::F16);
    let mut halves = tx.open_collection(halves).unwrap();
    assert!(!halves.insert(1, &[65_504.0, 0.0]).unwrap());
    let refused = |result: Result<bool, Error>| match result {
        Err(Error::InvalidVector { defect, .. }) => defect,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(halves.insert(2, &[1.0, -70_000.0])),
        VectorDefect::OutOfRange { component: 1, value: -70_000.0, largest: 65_504.0 }
    );
    // All components round to zero.
    assert_eq!(refused(halves.insert(2, &[1e-9, 1e-9])), VectorDefect::NoDirection { norm: 0.0 });
    assert_eq!(halves.len(), 1);
    // Queries are not rounded.
    assert_eq!(halves.search(&[1e9, 1.0], 1).unwrap()[0].key, 1);
}
