//! Bad input is refused with a typed error that says what was wrong, changes nothing, and leaves everything usable.
//!
//! Trackers of vector stores are full of panics on a wrong dimension, NaNs that poison a graph for good, and directories that an
//! opening "repaired". So each case here checks four things: the error's variant, that its text names the essential facts (key,
//! position, expected, found), that the transaction goes on and commits, and that nothing but the good input was stored.
//! Extremes that are allowed stand beside the refusals, so that a check cannot become too strict unnoticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nestling::redb::{self, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition};
use nestling::{
    Codes, CollectionDefinition, CollectionMut, Error, Hit, Metric, Store, VectorDefect, VectorSubject,
    WriteTransaction,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const L2: CollectionDefinition = CollectionDefinition::new("points", 3, Metric::L2);
const COSINE: CollectionDefinition = CollectionDefinition::new("directions", 3, Metric::Cosine);
const DOT: CollectionDefinition = CollectionDefinition::new("products", 3, Metric::Dot);
const SEEDS: TableDefinition<u64, &str> = TableDefinition::new("seeds");

/// ‖x‖² may not exceed this.
const MOST: f64 = f32::MAX as f64 / 4.0;

// ---------------------------------------------------------------------------------------------------------------- vectors

/// One refusal of a vector: what is given, and the facts that the error has to name.
struct Refusal {
    what: &'static str,
    definition: CollectionDefinition<'static>,
    vector: Vec<f32>,
    expected: Expected,
}

enum Expected {
    WrongDimension { expected: usize, found: usize },
    NotFinite { component: usize, text: &'static str },
    TooLarge,
    NoDirection,
}

impl Expected {
    fn check(&self, what: &str, error: &Error, subject: VectorSubject) {
        assert!(error.is_input(), "{what}: {error:?} is the caller's mistake");
        assert!(!error.is_corrupted(), "{what}: {error:?}");
        let facts: Vec<String> = match (self, error) {
            (
                Expected::WrongDimension { expected, found },
                Error::WrongDimension { subject: s, expected: e, found: f },
            ) if (*s, e, f) == (subject, expected, found) => {
                vec![format!("{found} components"), format!("dimension {expected}")]
            }
            (
                Expected::NotFinite { component, text },
                Error::InvalidVector { subject: s, defect: VectorDefect::NotFinite { component: c, value } },
            ) if *s == subject && c == component && !value.is_finite() => {
                vec![format!("component {component}"), (*text).to_owned()]
            }
            (
                Expected::TooLarge,
                Error::InvalidVector { subject: s, defect: VectorDefect::TooLarge { squared_norm } },
            ) if *s == subject && *squared_norm > MOST => {
                vec!["squared norm".to_owned(), format!("{squared_norm:e}"), "f32::MAX / 4".to_owned()]
            }
            (
                Expected::NoDirection,
                Error::InvalidVector { subject: s, defect: VectorDefect::NoDirection { norm } },
            ) if *s == subject => vec![format!("{norm:e}"), "cosine".to_owned()],
            _ => panic!("{what}: got {error:?} about {subject:?}"),
        };
        names(what, error, facts);
        match subject {
            VectorSubject::Vector { key, position } => {
                names(what, error, [format!("key {key}"), format!("position {position}")]);
            }
            _ => names(what, error, ["query".to_owned()]),
        }
    }
}

fn names(what: &str, error: &Error, facts: impl IntoIterator<Item = impl AsRef<str>>) {
    let text = error.to_string();
    for fact in facts {
        assert!(text.contains(fact.as_ref()), "{what}: {text:?} does not name {:?}", fact.as_ref());
    }
}

fn refusals() -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let large = (MOST.sqrt() * 1.000_001) as f32;
    for definition in [L2, COSINE, DOT] {
        let mut add = |what, vector: &[f32], expected| {
            refusals.push(Refusal { what, definition, vector: vector.to_vec(), expected });
        };
        add("no component at all", &[], Expected::WrongDimension { expected: 3, found: 0 });
        add("one component too few", &[1.0, 2.0], Expected::WrongDimension { expected: 3, found: 2 });
        add("one too many", &[1.0, 2.0, 3.0, 4.0], Expected::WrongDimension { expected: 3, found: 4 });
        add("far too many", &[0.5; 70_000], Expected::WrongDimension { expected: 3, found: 70_000 });
        // The length is told first: a NaN says nothing about a vector that was meant for another collection.
        add("too long, with NaN", &[f32::NAN; 4], Expected::WrongDimension { expected: 3, found: 4 });
        add("NaN first", &[f32::NAN, 1.0, 1.0], Expected::NotFinite { component: 0, text: "NaN" });
        add("-NaN last", &[1.0, 1.0, -f32::NAN], Expected::NotFinite { component: 2, text: "NaN" });
        add("∞", &[1.0, f32::INFINITY, 1.0], Expected::NotFinite { component: 1, text: "inf" });
        add("−∞", &[1.0, 1.0, f32::NEG_INFINITY], Expected::NotFinite { component: 2, text: "-inf" });
        add("both", &[1.0, f32::NAN, f32::INFINITY], Expected::NotFinite { component: 1, text: "NaN" });
        add("‖x‖² above f32::MAX / 4", &[0.0, -large, 0.0], Expected::TooLarge);
        add("‖x‖² above f32::MAX", &[f32::MAX, f32::MAX, f32::MAX], Expected::TooLarge);
    }
    let mut add = |what, vector: [f32; 3]| {
        let vector = vector.to_vec();
        refusals.push(Refusal { what, definition: COSINE, vector, expected: Expected::NoDirection });
    };
    add("zero under cosine", [0.0; 3]);
    add("negative zero under cosine", [-0.0; 3]);
    add("the least subnormal", [0.0, f32::from_bits(1), 0.0]);
    add("a norm just below the normal ones", [0.0, f32::MIN_POSITIVE * 0.999_999, 0.0]);
    refusals
}

#[test]
fn bad_vectors_are_refused_whole_and_the_transaction_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let mut model: BTreeMap<u64, [f32; 3]> = BTreeMap::new();
    let tx = store.begin_write().unwrap();
    for definition in [L2, COSINE, DOT] {
        let mut collection = tx.open_collection(definition).unwrap();
        for key in 0..100 {
            let vector = [key as f32 + 1.0, (key % 7) as f32, -1.0];
            collection.insert(key, &vector).unwrap();
            model.insert(key, vector);
        }
    }
    tx.commit().unwrap();

    for (number, refusal) in refusals().into_iter().enumerate() {
        let Refusal { what, definition, vector, expected } = refusal;
        let what = format!("{what} ({})", definition.name());
        let tx = store.begin_write().unwrap();
        let mut collection = tx.open_collection(definition).unwrap();

        // A new key, and one that has a vector already: the refused replacement must not take it away.
        for key in [1_000_000, 5] {
            let error = collection.insert(key, &vector).unwrap_err();
            expected.check(&what, &error, VectorSubject::Vector { key, position: 0 });
        }
        // In the middle of a batch: what comes before it is not stored either.
        let good = [9.0_f32, 8.0, 7.0];
        let batch = [(7, good.to_vec()), (2_000_000, vector.clone()), (2_000_001, good.to_vec())];
        let error = collection.insert_many(batch).unwrap_err();
        expected.check(&what, &error, VectorSubject::Vector { key: 2_000_000, position: 1 });
        // Even where a later entry of the same key would win.
        let batch = [(2_000_000, vector.clone()), (2_000_000, good.to_vec())];
        let error = collection.insert_many(batch).unwrap_err();
        expected.check(&what, &error, VectorSubject::Vector { key: 2_000_000, position: 0 });

        for error in [
            collection.search(&vector, 3).unwrap_err(),
            collection.query(&vector).exact().run().unwrap_err(),
            // k = 0 is no reason to look away.
            collection.query(&vector).k(0).run().unwrap_err(),
        ] {
            expected.check(&what, &error, VectorSubject::Query);
        }
        same(&collection, &model, &what);
        drop(collection);

        // The transaction goes on and commits, with good input alone.
        let table_entry = number as u64;
        tx.open_table(SEEDS).unwrap().insert(table_entry, what.as_str()).unwrap();
        tx.commit().unwrap();
        let snapshot = store.begin_read().unwrap();
        let stored = snapshot.open_collection(definition).unwrap();
        assert_eq!(snapshot.open_table(SEEDS).unwrap().get(table_entry).unwrap().unwrap().value(), what);
        assert_eq!(stored.iter().unwrap().map(|e| e.unwrap().0).collect::<Vec<_>>(), keys(&model), "{what}");
        let error = stored.search(&vector, 3).unwrap_err();
        expected.check(&what, &error, VectorSubject::Query);
    }
    assert_clean(&store);
}

fn keys(model: &BTreeMap<u64, [f32; 3]>) -> Vec<u64> {
    model.keys().copied().collect()
}

fn same(collection: &CollectionMut<'_>, model: &BTreeMap<u64, [f32; 3]>, what: &str) {
    assert_eq!(collection.len(), model.len() as u64, "{what}");
    let stored: Vec<(u64, Vec<f32>)> = collection
        .iter()
        .unwrap()
        .map(|entry| entry.map(|(key, x)| (key, x.into_owned())).unwrap())
        .collect();
    let expected: Vec<(u64, Vec<f32>)> = model.iter().map(|(&key, x)| (key, x.to_vec())).collect();
    assert_eq!(stored, expected, "{what}");
}

fn assert_clean(store: &Store) {
    let report = store.check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// What is refused under cosine for want of a direction is a point like any other under L2 and Dot.
#[test]
fn zero_and_tiny_vectors_are_fine_without_cosine() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let tiny = f32::from_bits(1);
    for definition in [L2, DOT] {
        let tx = store.begin_write().unwrap();
        let mut collection = tx.open_collection(definition).unwrap();
        collection.insert(0, &[0.0; 3]).unwrap();
        collection.insert(1, &[-0.0, 0.0, -0.0]).unwrap();
        collection.insert(2, &[tiny, 0.0, 0.0]).unwrap();
        for key in 3..200 {
            collection.insert(key, &[key as f32, 1.0, 1.0]).unwrap();
        }
        for query in [[0.0; 3], [tiny, -tiny, 0.0]] {
            let hits = collection.query(&query).k(200).ef(200).run().unwrap();
            assert_eq!(hits.len(), 200);
            assert!(hits.iter().all(|hit| hit.distance.is_finite()));
        }
        if definition == L2 {
            let hits = collection.search(&[0.0; 3], 3).unwrap();
            assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [0, 1, 2]);
        }
        // As it was put in, sign of the zeros included.
        let back = collection.get(1).unwrap().unwrap();
        assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0x8000_0000, 0, 0x8000_0000]);
        drop(back);
        drop(collection);
        tx.commit().unwrap();
    }
    // The smallest norm with a direction.
    let tx = store.begin_write().unwrap();
    let mut collection = tx.open_collection(COSINE).unwrap();
    collection.insert(1, &[f32::MIN_POSITIVE, 0.0, 0.0]).unwrap();
    collection.insert(2, &[0.0, f32::MIN_POSITIVE, 0.0]).unwrap();
    let hits = collection.search(&[1e18, 0.0, 0.0], 2).unwrap();
    assert_eq!(distances(&hits), [(1, 0.0), (2, 1.0)]);
    drop(collection);
    tx.commit().unwrap();
    assert_clean(&store);
}

fn distances(hits: &[Hit]) -> Vec<(u64, f32)> {
    hits.iter().map(|hit| (hit.key, hit.distance)).collect()
}

/// ‖x‖² up to f32::MAX / 4 is accepted because then no distance overflows: between x and −x the squared distance is 4‖x‖². That
/// leaves no room for rounding, so the sum is tried in many shapes.
#[test]
fn the_largest_vectors_are_found_at_finite_distances() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let seed = 41;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for dimension in [1, 2, 3, 7, 16, 33, 64, 100, 384, 1000] {
        for (metric, farthest) in
            [(Metric::L2, f32::MAX), (Metric::Dot, f32::MAX / 4.0 * 1.000_01), (Metric::Cosine, 2.0)]
        {
            let name = format!("{metric}{dimension}");
            let tx = store.begin_write().unwrap();
            let definition = CollectionDefinition::new(&name, dimension, metric);
            let mut collection = tx.open_collection(definition).unwrap();
            for shape in 0..40 {
                let direction: Vec<f32> = match shape {
                    0 => vec![1.0; dimension],
                    _ => (0..dimension).map(|_| rng.random_range(0.5..1.0)).collect(),
                };
                let x = largest(&direction);
                let opposite: Vec<f32> = x.iter().map(|x| -x).collect();
                collection.insert(2 * shape, &x).unwrap();
                collection.insert(2 * shape + 1, &opposite).unwrap();
                for query in [&x, &opposite] {
                    for exact in [true, false] {
                        let query = collection.query(query).k(1000).ef(1000);
                        let hits = if exact { query.exact() } else { query }.run().unwrap();
                        assert_eq!(hits.len() as u64, collection.len(), "{name}");
                        for hit in hits {
                            let within = hit.distance.is_finite() && hit.distance.abs() <= farthest;
                            assert!(within, "{name}, shape {shape}, exact {exact}: {hit:?}");
                        }
                    }
                }
            }
            drop(collection);
            tx.commit().unwrap();
        }
    }
    assert_clean(&store);
}

/// The longest vector in a direction that is accepted, to the last bit of its scale.
fn largest(direction: &[f32]) -> Vec<f32> {
    let scaled =
        |scale: f64| -> Vec<f32> { direction.iter().map(|&x| (f64::from(x) * scale) as f32).collect() };
    let squared = |x: &[f32]| -> f64 { x.iter().map(|&x| f64::from(x) * f64::from(x)).sum() };
    let mut scale = (MOST / squared(direction)).sqrt();
    while squared(&scaled(scale)) > MOST {
        scale *= 1.0 - 1e-9;
    }
    scaled(scale)
}

// ---------------------------------------------------------------------------------------------------------------- searches

#[test]
fn every_k_and_ef_is_clamped_to_the_collection() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let extremes = [0, 1, 2, 63, 64, 65, 1 << 20, 1 << 40, usize::MAX / 2, usize::MAX];
    // None, few enough to be scanned, and enough to be walked.
    for n in [0_u64, 1, 2, 64, 65, 300] {
        let tx = store.begin_write().unwrap();
        tx.drop_collection(L2.name()).unwrap();
        let mut collection = tx.open_collection(L2).unwrap();
        collection.insert_many((0..n).map(|key| (key, [key as f32, 0.0, 0.0]))).unwrap();
        for k in extremes {
            for ef in extremes {
                for exact in [false, true] {
                    let query = collection.query(&[0.4, 0.0, 0.0]).k(k).ef(ef);
                    let hits = if exact { query.exact() } else { query }.run().unwrap();
                    let expected = n.min(k as u64);
                    assert_eq!(hits.len() as u64, expected, "n {n}, k {k}, ef {ef}, exact {exact}");
                    if exact || ef as u64 >= n {
                        let found: Vec<u64> = hits.iter().map(|hit| hit.key).collect();
                        assert_eq!(found, (0..expected).collect::<Vec<_>>(), "n {n}, k {k}, ef {ef}");
                    }
                }
            }
        }
        drop(collection);
        tx.commit().unwrap();
        let snapshot = store.begin_read().unwrap().open_collection(L2).unwrap();
        assert_eq!(snapshot.search(&[0.0; 3], usize::MAX).unwrap().len() as u64, n);
        assert_eq!(snapshot.is_empty(), n == 0);
        assert_eq!(snapshot.keys().unwrap().count() as u64, n);
    }
}

#[test]
fn unknown_keys_are_absent_and_searching_by_one_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let tx = store.begin_write().unwrap();
    let mut collection = tx.open_collection(L2).unwrap();
    let not_found = |error: Error, key: u64| {
        assert!(
            matches!(&error, Error::KeyNotFound { key: k, collection } if *k == key && collection == "points"),
            "{error:?}"
        );
        assert!(error.is_input());
        names("unknown key", &error, [format!("key {key}"), "points".to_owned()]);
    };
    let check = |collection: &mut CollectionMut<'_>, key: u64| {
        assert!(collection.get(key).unwrap().is_none());
        assert!(!collection.contains(key).unwrap());
        assert!(!collection.remove(key).unwrap());
        not_found(collection.query_key(key).run().unwrap_err(), key);
        not_found(collection.query_key(key).k(0).run().unwrap_err(), key);
    };
    // In an empty collection that was just created, beside others, and removed in the same transaction.
    for key in [0, 5, u64::MAX] {
        check(&mut collection, key);
    }
    collection.insert_many((1..100).map(|key| (key, [key as f32, 0.0, 0.0]))).unwrap();
    assert!(collection.remove(5).unwrap());
    for key in [0, 5, 100, u64::MAX] {
        check(&mut collection, key);
    }
    drop(collection);
    tx.commit().unwrap();
    let snapshot = store.begin_read().unwrap().open_collection(L2).unwrap();
    assert_eq!(snapshot.len(), 98);
    for key in [0, 5, 100, u64::MAX] {
        assert!(snapshot.get(key).unwrap().is_none());
        assert!(!snapshot.contains(key).unwrap());
        not_found(snapshot.query_key(key).run().unwrap_err(), key);
    }
    assert_clean(&store);
}

/// The extremes of a key are keys like others.
#[test]
fn every_u64_is_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let tx = store.begin_write().unwrap();
    let extremes = [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX];
    tx.open_collection(L2)
        .unwrap()
        .insert_many(extremes.map(|key| (key, [key as f32 / 1e9, 1.0, 1.0])))
        .unwrap();
    tx.commit().unwrap();
    let snapshot = store.begin_read().unwrap().open_collection(L2).unwrap();
    assert_eq!(snapshot.keys().unwrap().map(|key| key.unwrap()).collect::<Vec<_>>(), extremes);
    for key in extremes {
        assert_eq!(snapshot.get(key).unwrap().unwrap()[0], key as f32 / 1e9);
    }
    assert_clean(&store);
}

// -------------------------------------------------------------------------------------------------------------- definitions

#[test]
fn definitions_out_of_range_are_refused_and_create_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let long = "é".repeat(128);
    assert_eq!(long.len(), 256);
    let with = |dimension| CollectionDefinition::new("x", dimension, Metric::L2);
    let named = |name| CollectionDefinition::new(name, 3, Metric::L2);
    let refused = [
        (with(0), "dimension", "0", "1..=65,535"),
        (with(65_536), "dimension", "65536", "1..=65,535"),
        (with(usize::MAX), "dimension", "18446744073709551615", "1..=65,535"),
        (with(3).m(0), "m", "0", "2..=128"),
        (with(3).m(1), "m", "1", "2..=128"),
        (with(3).m(129), "m", "129", "2..=128"),
        (with(3).m(usize::MAX), "m", "18446744073709551615", "2..=128"),
        (with(3).m(16).m0(15), "m0", "15", "m..=256"),
        (with(3).m0(15), "m0", "15", "m..=256"),
        (with(3).m0(257), "m0", "257", "m..=256"),
        (with(3).m(128).m0(257), "m0", "257", "m..=256"),
        (with(3).m(16).ef_construction(15), "ef_construction", "15", "m..=65,535"),
        (with(3).ef_construction(0), "ef_construction", "0", "m..=65,535"),
        (with(3).ef_construction(65_536), "ef_construction", "65536", "m..=65,535"),
        (named(""), "name", "0 bytes", "1..=255 bytes"),
        (named(&long), "name", "256 bytes", "1..=255 bytes"),
    ];
    let tx = store.begin_write().unwrap();
    for (definition, parameter, found, expected) in refused {
        let what = format!("{definition:?}");
        let error = tx.open_collection(definition).unwrap_err();
        match &error {
            Error::InvalidParameter { parameter: p, found: f, expected: e } => {
                assert!(
                    p.contains(parameter) && f.contains(found) && e.contains(expected),
                    "{what}: {error:?}"
                );
            }
            _ => panic!("{what}: {error:?}"),
        }
        assert!(error.is_input());
        names(&what, &error, [parameter, found, expected]);
        assert!(tx.list_collections().is_empty(), "{what}");
    }
    tx.commit().unwrap();
    assert!(store.begin_read().unwrap().list_collections().is_empty());

    // Their allowed neighbours work from end to end.
    let just_right = "é".repeat(127) + "e";
    let accepted = [
        with(1),
        with(3).m(2).m0(2).ef_construction(2),
        with(3).m(128).m0(256).ef_construction(65_535),
        with(3).m(128).m0(128).ef_construction(128).seed(u64::MAX),
        named(&just_right),
        named("../../etc/passwd\0\n"),
        named("nestling/state"),
    ];
    for definition in accepted {
        let what = format!("{definition:?}");
        let name = definition.name().to_owned();
        let tx = store.begin_write().unwrap();
        let mut collection = tx.open_collection(definition).unwrap();
        let dimension = collection.parameters().dimension;
        let vector = |key: u64| vec![key as f32; dimension];
        collection.insert_many((0..150).map(|key| (key, vector(key)))).unwrap();
        for key in (0..150).step_by(3) {
            assert!(collection.remove(key).unwrap(), "{what}");
        }
        drop(collection);
        tx.commit().unwrap();
        let collection = store.begin_read().unwrap().open_collection(definition).unwrap();
        let hits = collection.query(&vector(50)).k(3).ef(200).run().unwrap();
        let found: Vec<u64> = hits.iter().map(|hit| hit.key).collect();
        assert_eq!(found, [50, 49, 52], "{what}: 51 is gone");
        assert_clean(&store);
        drop(collection);
        let tx = store.begin_write().unwrap();
        assert!(tx.drop_collection(&name).unwrap());
        tx.commit().unwrap();
    }
}

/// What is fixed when a collection is created is compared at every opening, for reading and for writing, and a refusal leaves the
/// collection as it was. What a definition leaves unstated agrees with whatever is stored.
#[test]
fn other_parameters_than_the_stored_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let base = |dimension, metric| CollectionDefinition::new("c", dimension, metric);
    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    let stored = base(3, Metric::L2).m(8).m0(20).seed(9).ef_construction(50);
    tx.open_collection(stored).unwrap().insert_many((0..100).map(|key| (key, [key as f32; 3]))).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();

    let store = Store::open(&path).unwrap();
    let other = [
        (base(4, Metric::L2), "dimension", "3", "4"),
        (base(3, Metric::Cosine), "metric", "l2", "cosine"),
        (base(3, Metric::Dot), "metric", "l2", "dot"),
        (base(3, Metric::L2).m(9), "m", "8", "9"),
        (base(3, Metric::L2).m0(16), "m0", "20", "16"),
        (base(3, Metric::L2).seed(0), "seed", "9", "0"),
        (base(3, Metric::L2).codes(Codes::None), "codes", "7-bit", "none"),
    ];
    for (definition, parameter, stored, stated) in other {
        let what = format!("{definition:?}");
        let tx = store.begin_write().unwrap();
        let parked = store.begin_read().unwrap();
        let refused = [
            parked.open_collection(definition).map(drop).unwrap_err(),
            tx.open_collection(definition).map(drop).unwrap_err(),
            {
                // Also when the transaction has had it open before.
                drop(tx.open_collection(base(3, Metric::L2)).unwrap());
                tx.open_collection(definition).map(drop).unwrap_err()
            },
        ];
        for error in refused {
            let Error::DefinitionMismatch { collection, parameter: p, stored: a, stated: b } = &error else {
                panic!("{what}: {error:?}");
            };
            assert_eq!((collection.as_str(), *p, a.as_str(), b.as_str()), ("c", parameter, stored, stated));
            assert!(error.is_input());
            names(&what, &error, ["\"c\"", parameter, stored, stated]);
        }
        // It is still there, and the transaction still commits.
        assert_eq!(tx.open_collection(base(3, Metric::L2)).unwrap().len(), 100);
        tx.commit().unwrap();
    }

    let agreeing = [
        base(3, Metric::L2),
        base(3, Metric::L2).m(8),
        base(3, Metric::L2).m0(20),
        base(3, Metric::L2).seed(9),
        base(3, Metric::L2).codes(Codes::SevenBit),
        base(3, Metric::L2).ef_construction(8),
        base(3, Metric::L2).ef_construction(400).m(8).m0(20),
    ];
    for definition in agreeing {
        assert_eq!(store.begin_read().unwrap().open_collection(definition).unwrap().len(), 100);
        let tx = store.begin_write().unwrap();
        tx.open_collection(definition).unwrap().insert(7, &[7.0; 3]).unwrap();
        tx.commit().unwrap();
    }
    let stored = store.begin_read().unwrap().open_stored_collection("c").unwrap();
    assert_eq!(stored.parameters().ef_construction, 400, "the last one stated");
    drop(stored);
    store.close().unwrap();
    assert_clean(&Store::open(&path).unwrap());
}

/// The story: with `m` left unstated, an `ef_construction` of 20 was checked against the default m of 16 instead of the stored 64.
/// The commit then wrote a row that no opening accepted any more: the whole store was lost to a parameter.
#[test]
fn an_ef_construction_below_the_stored_m_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_collection(L2.m(64)).unwrap().insert(1, &[1.0; 3]).unwrap();
    tx.commit().unwrap();
    let tx = store.begin_write().unwrap();
    let error = tx.open_collection(L2.ef_construction(20)).map(drop).unwrap_err();
    assert!(matches!(error, Error::InvalidParameter { parameter: "ef_construction", .. }), "{error:?}");
    names("below the stored m", &error, ["ef_construction", "20"]);
    tx.open_collection(L2.ef_construction(64)).unwrap().insert(2, &[2.0; 3]).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    assert_eq!(Store::open(&path).unwrap().begin_read().unwrap().open_collection(L2).unwrap().len(), 2);
}

#[test]
fn a_collection_is_open_once_at_a_time_and_must_exist_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let before = store.begin_read().unwrap();
    let tx = store.begin_write().unwrap();
    let mut first = tx.open_collection(L2).unwrap();
    first.insert(1, &[1.0; 3]).unwrap();
    for error in [tx.open_collection(L2).map(drop).unwrap_err(), tx.drop_collection("points").unwrap_err()] {
        assert!(matches!(&error, Error::CollectionAlreadyOpen { name } if name == "points"), "{error:?}");
        assert!(error.is_input());
        names("open twice", &error, ["points"]);
    }
    first.insert(2, &[2.0; 3]).unwrap();
    drop(first);
    assert_eq!(tx.open_collection(L2).unwrap().len(), 2, "open again once the handle is gone");
    tx.commit().unwrap();

    for error in [
        before.open_collection(L2).map(drop).unwrap_err(),
        store.begin_read().unwrap().open_collection(COSINE).map(drop).unwrap_err(),
        store.begin_read().unwrap().open_stored_collection("").map(drop).unwrap_err(),
    ] {
        let Error::CollectionNotFound { name } = &error else { panic!("{error:?}") };
        assert!(error.is_input());
        names("not there", &error, [format!("{name:?}")]);
    }
    let tx = store.begin_write().unwrap();
    assert!(!tx.drop_collection("no such collection").unwrap());
    assert!(tx.drop_collection("points").unwrap());
    assert!(!tx.drop_collection("points").unwrap());
    tx.commit().unwrap();
    assert_clean(&store);
}

// ------------------------------------------------------------------------------------------------------------------- tables

/// An app that could open our tables could break every invariant of the store.
#[test]
fn reserved_table_names_are_refused_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_collection(L2).unwrap().insert(1, &[1.0; 3]).unwrap();
    tx.open_table(SEEDS).unwrap().insert(1, "one").unwrap();
    tx.commit().unwrap();

    for name in
        ["nestling/state", "nestling/collections", "nestling/00000000/nodes", "nestling/", "nestling/mine"]
    {
        let table = || TableDefinition::<u64, &[u8]>::new(name);
        let multimap = || MultimapTableDefinition::<u64, u64>::new(name);
        let plain = || TableDefinition::<u64, &str>::new("seeds");
        let links = || MultimapTableDefinition::<u64, u64>::new("links");
        let tx = store.begin_write().unwrap();
        let snapshot = store.begin_read().unwrap();
        let refused: [(&str, Error); 10] = [
            ("open_table", tx.open_table(table()).map(drop).unwrap_err()),
            ("open_multimap_table", tx.open_multimap_table(multimap()).map(drop).unwrap_err()),
            ("delete_table", tx.delete_table(table()).unwrap_err()),
            ("delete_multimap_table", tx.delete_multimap_table(multimap()).unwrap_err()),
            ("rename_table from", tx.rename_table(table(), plain()).unwrap_err()),
            ("rename_table to", tx.rename_table(plain(), table()).unwrap_err()),
            ("rename_multimap_table from", tx.rename_multimap_table(multimap(), links()).unwrap_err()),
            ("rename_multimap_table to", tx.rename_multimap_table(links(), multimap()).unwrap_err()),
            ("read open_table", snapshot.open_table(table()).map(drop).unwrap_err()),
            ("read open_multimap_table", snapshot.open_multimap_table(multimap()).map(drop).unwrap_err()),
        ];
        for (method, error) in refused {
            assert!(
                matches!(&error, Error::ReservedTableName { name: n } if n == name),
                "{method}: {error:?}"
            );
            assert!(error.is_input(), "{method}");
            names(method, &error, [name, "nestling/"]);
        }
        assert_eq!(tx.list_tables().unwrap(), ["seeds"]);
        assert_eq!(snapshot.list_tables().unwrap(), ["seeds"]);
        assert!(tx.list_multimap_tables().unwrap().is_empty());
        assert!(snapshot.list_multimap_tables().unwrap().is_empty());
        tx.commit().unwrap();
    }

    // Only the prefix is ours.
    let tx = store.begin_write().unwrap();
    for name in ["nestling", "nestling2/state", "Nestling/state", " nestling/state"] {
        tx.open_table(TableDefinition::<u64, u64>::new(name)).unwrap().insert(1, 2).unwrap();
    }
    tx.commit().unwrap();
    assert_eq!(store.begin_read().unwrap().list_tables().unwrap().len(), 5);
    assert_clean(&store);
}

/// Multimap tables are listed and renamed like tables, and apart from them.
#[test]
fn multimap_tables_are_listed_and_renamed() {
    const LINKS: MultimapTableDefinition<u64, u64> = MultimapTableDefinition::new("links");
    const EDGES: MultimapTableDefinition<u64, u64> = MultimapTableDefinition::new("edges");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_table(SEEDS).unwrap().insert(1, "one").unwrap();
    tx.open_multimap_table(LINKS).unwrap().insert(1, 2).unwrap();
    assert_eq!(tx.list_multimap_tables().unwrap(), ["links"]);
    tx.rename_multimap_table(LINKS, EDGES).unwrap();
    assert_eq!(tx.list_multimap_tables().unwrap(), ["edges"]);
    let missing = tx.rename_multimap_table(LINKS, EDGES).unwrap_err();
    assert!(matches!(missing, Error::Table(_)), "{missing:?}");
    tx.commit().unwrap();

    let snapshot = store.begin_read().unwrap();
    assert_eq!(snapshot.list_multimap_tables().unwrap(), ["edges"]);
    assert_eq!(snapshot.list_tables().unwrap(), ["seeds"]);
    let edges = snapshot.open_multimap_table(EDGES).unwrap();
    let found: Vec<u64> = edges.get(1).unwrap().map(|value| value.unwrap().value()).collect();
    assert_eq!(found, [2]);
}

/// What redb refuses comes back as redb's error, and the transaction goes on.
#[test]
fn misused_tables_are_redbs_typed_errors() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s")).unwrap();
    let tx = store.begin_write().unwrap();
    tx.open_table(SEEDS).unwrap().insert(1, "one").unwrap();
    let other_type = TableDefinition::<u64, u64>::new("seeds");
    let as_multimap = MultimapTableDefinition::<u64, u64>::new("seeds");
    let missing = TableDefinition::<u64, u64>::new("missing");
    let table_error = |error: Error, fact: &str| {
        assert!(matches!(error, Error::Table(_)), "{error:?}");
        names("table", &error, [fact]);
    };
    table_error(tx.open_table(other_type).map(drop).unwrap_err(), "seeds");
    table_error(tx.open_multimap_table(as_multimap).map(drop).unwrap_err(), "seeds");
    table_error(tx.rename_table(missing, TableDefinition::<u64, u64>::new("to")).unwrap_err(), "missing");
    assert!(!tx.delete_table(missing).unwrap());
    tx.commit().unwrap();
    let snapshot = store.begin_read().unwrap();
    table_error(snapshot.open_table(missing).map(drop).unwrap_err(), "missing");
    assert_eq!(snapshot.open_table(SEEDS).unwrap().get(1).unwrap().unwrap().value(), "one");
}

// ------------------------------------------------------------------------------------------------------------------ openings

/// A directory's files with their content.
fn contents(path: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap_or_default()))
        .collect()
}

fn not_a_store(error: &Error, path: &Path, found: &str) {
    match error {
        Error::NotAStore { path: p, found: f } => {
            assert_eq!(p, path);
            assert!(f.contains(found), "{error}");
        }
        _ => panic!("{error:?}"),
    }
    names("not a store", error, [path.to_str().unwrap(), found]);
}

fn not_found(error: &Error, path: &Path) {
    assert!(matches!(error, Error::StoreNotFound { path: p } if p == path), "{error:?}");
    names("no store", error, [path.to_str().unwrap()]);
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();

    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    not_a_store(&Store::open(&file).unwrap_err(), &file, "a file");
    assert_eq!(fs::read(&file).unwrap(), b"text");

    let others = dir.path().join("photos");
    fs::create_dir(&others).unwrap();
    fs::write(others.join("a.jpg"), "picture").unwrap();
    fs::create_dir(others.join("b")).unwrap();
    let before = contents(&others);
    for builder in [Store::builder(), Store::builder().create_new(), Store::builder().read_only()] {
        not_a_store(&builder.open(&others).unwrap_err(), &others, "a.jpg");
        assert_eq!(contents(&others), before, "nothing changed, no lock file left behind");
    }
    // Our own names among them do not make it ours.
    fs::write(others.join("lock"), "").unwrap();
    let before = contents(&others);
    not_a_store(&Store::open(&others).unwrap_err(), &others, "a.jpg");
    assert_eq!(contents(&others), before);

    let orphaned = dir.path().join("missing").join("store");
    let error = Store::open(&orphaned).unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, source, .. } if *path == orphaned && source.kind() == std::io::ErrorKind::NotFound),
        "{error:?}"
    );
    names("no parent", &error, ["create", orphaned.to_str().unwrap()]);
    assert!(!dir.path().join("missing").exists());
}

#[test]
fn nothing_becomes_a_store_unless_creating_is_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    // What an interrupted creation leaves.
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("lock"), "").unwrap();
    let unfinished = dir.path().join("unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("lock"), "").unwrap();
    fs::write(unfinished.join("store.redb.new"), "half of it").unwrap();
    for path in [&missing, &empty, &locked, &unfinished] {
        let before = path.exists().then(|| contents(path));
        for builder in [Store::builder().create(false), Store::builder().read_only()] {
            not_found(&builder.open(path).unwrap_err(), path);
            assert_eq!(path.exists().then(|| contents(path)), before, "{}", path.display());
        }
        let store = Store::builder().create_new().open(path).unwrap();
        let tx = store.begin_write().unwrap();
        tx.open_collection(L2).unwrap().insert(1, &[1.0; 3]).unwrap();
        tx.commit().unwrap();
        assert_clean(&store);
        store.close().unwrap();
        assert!(!path.join("store.redb.new").exists());
        let store = Store::builder().create(false).open(path).unwrap();
        assert_eq!(store.begin_read().unwrap().open_collection(L2).unwrap().len(), 1);
    }
}

#[test]
fn create_new_refuses_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = small_store(dir.path());
    let before = contents(&path);
    let error = Store::builder().create_new().open(&path).unwrap_err();
    assert!(matches!(&error, Error::StoreExists { path: p } if *p == path), "{error:?}");
    names("create_new", &error, [path.to_str().unwrap(), "exists", "create_new"]);
    assert_eq!(contents(&path), before);
    assert_eq!(Store::open(&path).unwrap().begin_read().unwrap().open_collection(L2).unwrap().len(), 100);
}

/// A store that is open is refused to others, in this process as well.
#[test]
fn an_open_store_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = small_store(dir.path());
    let store = Store::open(&path).unwrap();
    for builder in [Store::builder(), Store::builder().read_only()] {
        let error = builder.open(&path).unwrap_err();
        assert!(matches!(&error, Error::Locked { path: p } if *p == path), "{error:?}");
        names("locked", &error, [path.to_str().unwrap()]);
    }
    store.close().unwrap();
    let reader = Store::builder().read_only().open(&path).unwrap();
    let another = Store::builder().read_only().open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Locked { .. })));
    let error = reader.begin_write().map(drop).unwrap_err();
    assert!(matches!(&error, Error::ReadOnly { path: p } if *p == path), "{error:?}");
    assert!(matches!(reader.try_begin_write().map(drop), Err(Error::ReadOnly { .. })));
    assert_eq!(another.begin_read().unwrap().open_collection(L2).unwrap().len(), 100);
}

/// A store of 100 points.
fn small_store(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("store");
    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    fill(&tx);
    tx.commit().unwrap();
    store.close().unwrap();
    path
}

fn fill(tx: &WriteTransaction) {
    let mut points = tx.open_collection(L2).unwrap();
    points.insert_many((0..100).map(|key| (key, [key as f32, 0.0, 1.0]))).unwrap();
}

#[test]
fn a_foreign_redb_file_is_not_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let of_text = TableDefinition::<&str, &str>::new("notes");
    // No state table; one that is something else; one that is a multimap; none at all.
    type Make = fn(&redb::WriteTransaction);
    let makers: [(&str, Make); 4] = [
        ("other tables", |tx| {
            tx.open_table(TableDefinition::<&str, &str>::new("notes")).unwrap().insert("a", "b").unwrap();
        }),
        ("another type", |tx| {
            let table = TableDefinition::<&str, &str>::new("nestling/state");
            tx.open_table(table).unwrap().insert("a", "b").unwrap();
        }),
        ("a multimap", |tx| {
            let table = MultimapTableDefinition::<u32, u32>::new("nestling/state");
            tx.open_multimap_table(table).unwrap().insert(1, 2).unwrap();
        }),
        ("no table", |_| {}),
    ];
    for (number, (what, make)) in makers.into_iter().enumerate() {
        let path = dir.path().join(number.to_string());
        fs::create_dir(&path).unwrap();
        let database = redb::Database::create(path.join("store.redb")).unwrap();
        let tx = database.begin_write().unwrap();
        make(&tx);
        tx.commit().unwrap();
        drop(database);
        for builder in [Store::builder(), Store::builder().create(false)] {
            not_a_store(&builder.open(&path).unwrap_err(), &path, "something else");
        }
        assert!(contents(&path).keys().all(|name| name == "store.redb" || name == "lock"), "{what}");
        // It goes on being what it was.
        let database = redb::Database::open(path.join("store.redb")).unwrap();
        if number == 0 {
            let tx = database.begin_read().unwrap();
            assert_eq!(tx.open_table(of_text).unwrap().get("a").unwrap().unwrap().value(), "b");
        }
    }
}

/// redb takes an empty file for a new database, which would quietly turn a damaged store into an empty one.
#[test]
fn a_damaged_store_redb_is_corrupted_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = small_store(dir.path());
    let file = path.join("store.redb");
    let whole = fs::read(&file).unwrap();
    let seed = 17;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let garbage = |len: usize, rng: &mut StdRng| -> Vec<u8> { (0..len).map(|_| rng.random()).collect() };
    let mut damaged = vec![
        ("empty".to_owned(), Vec::new()),
        ("one byte".to_owned(), vec![0x72]),
        ("zeros".to_owned(), vec![0; whole.len()]),
        ("short garbage".to_owned(), garbage(1000, &mut rng)),
        ("garbage of the same length".to_owned(), garbage(whole.len(), &mut rng)),
        ("text".to_owned(), b"To be, or not to be".repeat(1000)),
    ];
    for kept in
        [9, 64, 320, 4095, 4096, whole.len() / 4, whole.len() / 2, whole.len() - 4096, whole.len() - 1]
    {
        damaged.push((format!("truncated to {kept} of {} bytes", whole.len()), whole[..kept].to_vec()));
    }
    for (what, bytes) in damaged {
        for read_only in [true, false] {
            fs::write(&file, &bytes).unwrap();
            let builder = if read_only { Store::builder().read_only() } else { Store::builder() };
            let error = match builder.open(&path) {
                Err(error) => error,
                Ok(_) => panic!("{what}, read-only {read_only}: opened"),
            };
            assert!(error.is_corrupted(), "{what}, read-only {read_only}: {error:?}");
            names(&what, &error, ["store.redb"]);
            assert!(path.join("store.redb").exists() && path.join("00000000.vectors").exists());
            assert_eq!(
                fs::read(&file).unwrap(),
                bytes,
                "{what}, read-only {read_only}: the file was changed"
            );
        }
    }
    fs::write(&file, &whole).unwrap();
    assert_clean(&Store::open(&path).unwrap());
}

#[test]
fn a_newer_store_is_refused_by_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = small_store(dir.path());
    let file = path.join("store.redb");
    let state = TableDefinition::<u32, &[u8]>::new("nestling/state");
    let database = redb::Database::open(&file).unwrap();
    let tx = database.begin_write().unwrap();
    let mut table = tx.open_table(state).unwrap();
    let mut row = table.get(0).unwrap().unwrap().value().to_vec();
    assert_eq!(row[..4], 1_u32.to_le_bytes(), "the version stands first, for ever");
    // The row's checksum goes with it here: a newer version may have another one.
    row[..4].copy_from_slice(&7_u32.to_le_bytes());
    table.insert(0, row.as_slice()).unwrap();
    drop(table);
    tx.commit().unwrap();
    drop(database);

    let before = contents(&path);
    for builder in [Store::builder(), Store::builder().read_only(), Store::builder().create(false)] {
        let error = builder.open(&path).unwrap_err();
        assert!(
            matches!(&error, Error::UnsupportedFormat { path, found: 7, supported: 1 } if *path == file),
            "{error:?}"
        );
        assert!(!error.is_corrupted());
        names("newer", &error, ["store.redb", "version 7", "up to 1", "upgrade"]);
    }
    let after = contents(&path);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert_eq!(before["00000000.vectors"], after["00000000.vectors"]);
}

// ---------------------------------------------------------------------------------------------------------------- dimensions

#[test]
fn the_extreme_dimensions_work_from_end_to_end() {
    let seed = 5;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for (dimension, n) in [(1, 200_u64), (65_535, 70)] {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s");
            let definition = CollectionDefinition::new("c", dimension, metric).m(4).ef_construction(200);
            let vectors: Vec<Vec<f32>> =
                (0..n).map(|_| (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
            let store = Store::open(&path).unwrap();
            let tx = store.begin_write().unwrap();
            let mut collection = tx.open_collection(definition).unwrap();
            collection.insert_many((0..).zip(&vectors)).unwrap();
            assert!(collection.remove(3).unwrap());
            assert!(collection.insert(4, &vectors[5]).unwrap());
            drop(collection);
            tx.commit().unwrap();
            store.close().unwrap();

            let store = Store::open(&path).unwrap();
            let collection = store.begin_read().unwrap().open_collection(definition).unwrap();
            assert_eq!(collection.len(), n - 1);
            for key in 0..n {
                let expected = match key {
                    3 => None,
                    4 => Some(&vectors[5][..]),
                    _ => Some(&vectors[key as usize][..]),
                };
                assert_eq!(
                    collection.get(key).unwrap().as_deref(),
                    expected,
                    "{metric}, dimension {dimension}"
                );
            }
            let query = &vectors[10];
            let exact = collection.query(query).k(n as usize).exact().run().unwrap();
            let walked = collection.query(query).k(n as usize).ef(n as usize).run().unwrap();
            assert_eq!(exact.len() as u64, n - 1);
            assert_eq!(distances(&exact), distances(&walked), "{metric}, dimension {dimension}");
            if metric != Metric::Dot && dimension > 1 {
                assert_eq!(exact[0].key, 10);
            }
            drop(collection);
            assert_clean(&store);
        }
    }
}
