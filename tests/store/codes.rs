//! What 7-bit codes do to data that suits them badly, and what a collection without them does instead.
//!
//! By default a search finds its way on codes: every vector's components, rounded to 128 equal steps between the lowest and the
//! highest of them. Embeddings lose nothing by that. But where one component is a thousand times larger than the rest, the rest falls
//! into a single step, and a search walks blind among vectors that all look alike. It must not lie about it: whatever is found, its
//! distance is that of the vectors, and in order. How much is *not* found is measured here, against exact search, on seeded data
//! made to be bad; the floors are what the default delivers, with a margin, and one of them is a floor in the cellar. The
//! documentation of [`Codes`] tells users by these figures when to switch codes off. Without codes the same data must be searched as
//! well as any other, and everything else a collection does must go on as before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nestling::{Codes, Collection, CollectionDefinition, Durability, Metric, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::points::normal;
use crate::words;

const K: usize = 10;
const EF: usize = 64;
const VECTORS: usize = 4_000;
const QUERIES: usize = 100;

// ------------------------------------------------------------------------------------------------------- data that codes suit

/// The 5,000 words: on embeddings it makes no difference.
#[test]
fn real_embeddings_are_found_as_well_with_codes_as_without() {
    let mut vectors = words::words().vectors;
    let queries = vectors.split_off(vectors.len() - QUERIES);
    let recall = Recall::of("words", &Data { metric: Metric::Cosine, vectors, queries });
    assert!((recall.with_codes - recall.without).abs() <= 0.01, "{recall:?}");
    assert!(recall.without >= 0.97, "{recall:?}");
}

/// The steps of a code are between a vector's own lowest and highest components, so a large offset in all of them costs nothing.
#[test]
fn tiny_differences_at_a_large_offset_are_found() {
    let data =
        Data::drawn(Metric::L2, 1, |rng| clustered(32, rng).iter().map(|x| 1000.0 + 0.01 * x).collect());
    Recall::of("offset 1000, differences of 0.01", &data).assert_at_least(0.98);
}

// ----------------------------------------------------------------------------------------------------- data that does not suit

/// Clusters whose centres and spread are Cauchy's, which has neither variance nor mean: in nearly every vector one component is far
/// larger than the others.
#[test]
fn heavy_tails_cost_next_to_nothing() {
    for metric in [Metric::L2, Metric::Cosine] {
        let data = Data::drawn(metric, 2, |rng| {
            let mut center = center(rng);
            (0..32).map(|_| cauchy(&mut center) + 0.1 * cauchy(rng)).collect()
        });
        Recall::of(&format!("heavy tails, {metric}"), &data).assert_at_least(0.98);
    }
}

#[test]
fn one_component_a_thousand_times_larger_that_decides_costs_nothing() {
    let data = Data::drawn(Metric::L2, 3, |rng| {
        let mut vector = clustered(32, rng);
        vector[0] = 1000.0 * normal(rng);
        vector
    });
    Recall::of("one component of about 1000 that varies", &data).assert_at_least(0.98);
}

#[test]
fn one_huge_component_that_does_not_decide_costs_nothing_at_100_and_most_at_1000() {
    for (huge, floor) in [(100.0, 0.98), (1000.0, 0.2)] {
        let data = Data::drawn(Metric::L2, 4, |rng| {
            let mut vector = clustered(32, rng);
            vector[0] = huge;
            vector
        });
        Recall::of(&format!("one component of {huge}"), &data).assert_at_least(floor);
    }
}

/// The offset is another in each component, so that the differences are small against the steps of a code.
#[test]
fn tiny_differences_on_a_wide_pattern_cost_nothing_at_a_tenth_and_much_at_a_hundredth() {
    for (tiny, floor) in [(0.1, 0.98), (0.01, 0.7)] {
        let data = Data::drawn(Metric::L2, 5, |rng| {
            let mut pattern = StdRng::seed_from_u64(77);
            clustered(32, rng).iter().map(|x| normal(&mut pattern) + tiny * x).collect()
        });
        Recall::of(&format!("differences of {tiny} on a pattern"), &data).assert_at_least(floor);
    }
}

/// Base vectors and queries from one source.
struct Data {
    metric: Metric,
    vectors: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
}

impl Data {
    fn drawn(metric: Metric, seed: u64, mut draw: impl FnMut(&mut StdRng) -> Vec<f32>) -> Self {
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let vectors = (0..VECTORS).map(|_| draw(&mut rng)).collect();
        let queries = (0..QUERIES).map(|_| draw(&mut rng)).collect();
        Self { metric, vectors, queries }
    }
}

/// Student's t with one degree of freedom. Cut off where f32 still has digits left for the other components.
fn cauchy(rng: &mut StdRng) -> f32 {
    (normal(rng) / normal(rng)).clamp(-1e4, 1e4)
}

/// What draws the centre of one of a hundred clusters.
fn center(rng: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(rng.random_range(0..100))
}

/// A point of a cluster, as embeddings have them.
fn clustered(dimension: usize, rng: &mut StdRng) -> Vec<f32> {
    let mut center = center(rng);
    (0..dimension).map(|_| normal(&mut center) + 0.4 * normal(rng)).collect()
}

/// The part of the ten nearest that searches at one `ef` find.
#[derive(Debug)]
struct Recall {
    with_codes: f64,
    without: f64,
}

impl Recall {
    fn of(name: &str, data: &Data) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let [with_codes, without] = [Codes::SevenBit, Codes::None].map(|codes| {
            let (name, dimension) = (codes.to_string(), data.vectors[0].len());
            let definition = CollectionDefinition::new(&name, dimension, data.metric).codes(codes);
            let mut tx = store.begin_write().unwrap();
            tx.set_durability(Durability::None);
            tx.open_collection(definition).unwrap().insert_many((0..).zip(&data.vectors)).unwrap();
            tx.commit().unwrap();
            measure(&store.begin_read().unwrap().open_collection(definition).unwrap(), &data.queries)
        });
        println!("{name}: recall@{K} at ef {EF} is {with_codes:.3} with codes, {without:.3} without");
        Self { with_codes, without }
    }

    fn assert_at_least(&self, floor: f64) {
        assert!(self.with_codes >= floor, "{self:?}, not {floor}");
        assert!(self.without >= 0.98, "{self:?}");
    }
}

/// Recall, and that whatever is found has the distance that an exact search tells, to the last bit.
fn measure(collection: &Collection, queries: &[Vec<f32>]) -> f64 {
    let mut right = 0;
    for query in queries {
        let all = collection.query(query).k(usize::MAX).exact().run().unwrap();
        assert_eq!(all.len() as u64, collection.len());
        let distances: BTreeMap<u64, f32> = all.iter().map(|hit| (hit.key, hit.distance)).collect();
        let hits = collection.query(query).k(K).ef(EF).run().unwrap();
        assert_eq!(hits.len(), K);
        assert!(hits.is_sorted_by(|a, b| (a.distance, a.key) < (b.distance, b.key)), "{hits:?}");
        for hit in hits.iter() {
            assert_eq!(
                hit.distance.to_bits(),
                distances[&hit.key].to_bits(),
                "the distance of key {}",
                hit.key
            );
        }
        right += hits.iter().filter(|hit| hit.distance <= all[K - 1].distance).count();
    }
    right as f64 / (K * queries.len()) as f64
}

// ------------------------------------------------------------------------------------------------------- life without codes

const DIMENSION: usize = 24;
const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];

fn uncoded(metric: Metric) -> CollectionDefinition<'static> {
    CollectionDefinition::new("points", DIMENSION, metric).m(8).ef_construction(60).codes(Codes::None)
}

/// Everything a collection can do: in bulk and one by one, replaced and removed, committed through the journal and past it, reopened
/// after a clean end and after none at all.
#[test]
fn a_collection_without_codes_lives_like_any_other() {
    for metric in METRICS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut rng = StdRng::seed_from_u64(6);
        let mut point = || clustered(DIMENSION, &mut rng);
        let mut expected: BTreeMap<u64, Vec<f32>> = (0..2_000).map(|key| (key, point())).collect();

        let mut store = Store::open(&path).unwrap();
        let tx = store.begin_write().unwrap();
        tx.open_collection(uncoded(metric)).unwrap().insert_many(expected.clone()).unwrap();
        tx.commit().unwrap();
        for round in 0..30 {
            let tx = store.begin_write().unwrap();
            // What is left unstated is what is stored.
            let mut points =
                tx.open_collection(CollectionDefinition::new("points", DIMENSION, metric)).unwrap();
            let (updated, added, removed) = (round * 7, 5_000 + round, round * 11 + 3);
            for key in [updated, added] {
                let vector = point();
                assert_eq!(points.insert(key, &vector).unwrap(), expected.insert(key, vector).is_some());
            }
            assert_eq!(points.remove(removed).unwrap(), expected.remove(&removed).is_some());
            let query = || points.query_key(added).ef(expected.len());
            assert_eq!(query().run().unwrap().into_vec(), query().exact().run().unwrap().into_vec());
            drop(points);
            tx.commit().unwrap();
            if round % 10 == 9 {
                store.close().unwrap();
                store = Store::open(&path).unwrap();
            }
        }
        assert!(store.stats().unwrap().journal_entries > 0);
        verify(&store, metric, &expected);

        // A copy of the files of an open store between two commits is what a power cut leaves.
        let crashed = directory.path().join("crashed");
        copy_files(&path, &crashed);
        verify(&Store::open(&crashed).unwrap(), metric, &expected);
        store.close().unwrap();
        verify(&Store::builder().read_only().open(&path).unwrap(), metric, &expected);
    }
}

fn verify(store: &Store, metric: Metric, expected: &BTreeMap<u64, Vec<f32>>) {
    let points = store.begin_read().unwrap().open_collection(uncoded(metric)).unwrap();
    assert_eq!(points.parameters().codes, Codes::None);
    let found: BTreeMap<u64, Vec<f32>> = points
        .iter()
        .unwrap()
        .map(|entry| entry.map(|(key, x)| (key, x.into_owned())))
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(found == *expected, "the vectors differ");
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..5 {
        let query = clustered(DIMENSION, &mut rng);
        let exact = points.query(&query).k(50).exact().run().unwrap().into_vec();
        let wide = points.query(&query).k(50).ef(expected.len()).run().unwrap();
        assert_eq!(wide.statistics().reranked, 0, "the distances of the walk are the exact ones");
        assert_eq!(wide.into_vec(), exact);
    }
    let report = store.check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
    assert_eq!(report.vectors, expected.len() as u64);
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A thousand copies of one vector must not fill neighbour lists, or what lies around them is lost. That they are copies is told by
/// codes where there are any, and by the vectors where there are none; under cosine a vector's double is a copy of it. (A search
/// that comes by the copies has a pool full of them, so a few others are missed with either; a wide one finds all.)
#[test]
fn a_crowd_of_duplicates_does_not_hide_the_others() {
    for metric in [Metric::L2, Metric::Cosine] {
        let [with_codes, without] = [Codes::SevenBit, Codes::None].map(|codes| {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path().join("store")).unwrap();
            let definition = uncoded(metric).codes(codes);
            let vectors = crowded(metric);
            let tx = store.begin_write().unwrap();
            tx.open_collection(definition).unwrap().insert_many(vectors.clone()).unwrap();
            tx.commit().unwrap();
            assert!(store.check().unwrap().is_clean());
            let points = store.begin_read().unwrap().open_collection(definition).unwrap();
            let found = |ef: usize| {
                let itself = |(key, vector): &&(u64, Vec<f32>)| {
                    points.query(vector).k(1).ef(ef).run().unwrap()[0].key == *key
                };
                vectors.iter().step_by(3).filter(itself).count()
            };
            assert_eq!(found(1_500), 500, "{metric}, {codes}");
            found(EF)
        });
        println!("{metric}: {with_codes} of 500 with codes, {without} without");
        assert!(
            without >= 450 && without + 25 >= with_codes,
            "{metric}: {without}, and {with_codes} with codes"
        );
    }
}

/// Every third vector is one of its own, the others are copies of one.
fn crowded(metric: Metric) -> Vec<(u64, Vec<f32>)> {
    let mut rng = StdRng::seed_from_u64(8);
    let one = clustered(DIMENSION, &mut rng);
    let mut vector = |key: u64| -> Vec<f32> {
        if key.is_multiple_of(3) {
            return clustered(DIMENSION, &mut rng);
        }
        let scale = if metric == Metric::Cosine { 2.0_f32.powi(key as i32 % 100 - 50) } else { 1.0 };
        one.iter().map(|x| x * scale).collect()
    };
    (0..1_500).map(|key| (key, vector(key))).collect()
}

/// Codes take their place on disk only where there are any.
#[test]
fn a_store_without_codes_is_smaller() {
    let sizes = [Codes::SevenBit, Codes::None].map(|codes| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = Store::open(&path).unwrap();
        let tx = store.begin_write().unwrap();
        let definition = CollectionDefinition::new("points", 384, Metric::Cosine).codes(codes);
        let vectors = (0..500).map(|key| (key, vec![key as f32 + 1.0; 384]));
        tx.open_collection(definition).unwrap().insert_many(vectors).unwrap();
        tx.commit().unwrap();
        let segments = fs::read_dir(&path).unwrap().map(Result::unwrap);
        let segments = segments.filter(|entry| entry.path().extension().is_some_and(|e| e == "vectors"));
        segments.map(|entry| entry.metadata().unwrap().len()).sum::<u64>()
    });
    let [with_codes, without] = sizes;
    assert!(without < with_codes, "{without} bytes without codes, {with_codes} with them");
}
