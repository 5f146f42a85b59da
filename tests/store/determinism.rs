//! The same seed and the same operations give the same graph, whatever the number of threads, and whatever else happened.
//!
//! Without this a failure at a user's cannot be replayed, two devices that apply the same changes drift apart, and no
//! measurement of a change to the algorithm means anything. Reproducibility is lost quietly: to a race in a parallel insertion, to
//! the iteration order of a hash map, to a reader that decides which slots are reused, to state that an aborted transaction
//! leaves behind.
//!
//! With codes it is the same on every CPU, since sums of codes are exact. Without them ([`Codes::None`]) it is the same wherever the
//! same kernels run, as they do within this test.
//!
//! The graph itself is private. What is compared shows it: the shape of every layer, the path of narrow searches (how many
//! distances they compute and how many nodes they expand differs as soon as a few edges do, which the last test verifies),
//! and the segment files, byte for byte, which show what got which slot.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use nestling::{
    Codes, CollectionDefinition, CollectionMut, Hit, LayerStats, Metric, QueryStatistics, Store,
    WriteTransaction,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DIMENSION: usize = 24;
const KEYS: u64 = 3_000;
const COLLECTIONS: [CollectionDefinition; 4] = [
    CollectionDefinition::new("l2", DIMENSION, Metric::L2).m(4).ef_construction(40).seed(1),
    CollectionDefinition::new("cosine", DIMENSION, Metric::Cosine).m(8).ef_construction(60).seed(2),
    CollectionDefinition::new("dot", DIMENSION, Metric::Dot).m(2).m0(6).ef_construction(30).seed(3),
    CollectionDefinition::new("uncoded", DIMENSION, Metric::Cosine)
        .m(6)
        .ef_construction(40)
        .codes(Codes::None),
];
const TRANSACTIONS: u64 = 10;

#[test]
fn the_same_operations_give_the_same_files_and_graphs() {
    Run::default().fingerprint().assert_is(baseline());
    assert!(baseline().segments.len() > 2 * COLLECTIONS.len(), "the collections have too few segments");
}

#[test]
fn the_number_of_threads_does_not_show() {
    for threads in [1, 7] {
        Run { threads, ..Run::default() }.fingerprint().assert_is(baseline());
    }
}

#[test]
fn reopening_between_transactions_does_not_show() {
    Run { reopen: true, ..Run::default() }.fingerprint().assert_is(baseline());
}

#[test]
fn aborted_transactions_and_searches_leave_no_trace_in_the_graph() {
    let found = Run { abort_in_between: true, ..Run::default() }.fingerprint();
    assert!(found.graphs == baseline().graphs, "the graphs differ");
}

/// Without this the tests above could compare things that never differ.
#[test]
fn a_fingerprint_shows_another_order_and_another_seed() {
    let reordered = Run { reverse: true, ..Run::default() }.fingerprint();
    let seeded = Run { seed: 1, ..Run::default() }.fingerprint();
    for (found, what) in [(reordered, "the order"), (seeded, "the seed")] {
        for (name, expected) in &baseline().graphs {
            let found = &found.graphs[name];
            assert_eq!(found.vectors, expected.vectors, "{what} changes what {name} holds");
            assert!(found.paths != expected.paths, "{what} does not show in {name}");
        }
    }
}

/// What the others are compared with.
fn baseline() -> &'static Fingerprint {
    static BASELINE: LazyLock<Fingerprint> = LazyLock::new(|| Run::default().fingerprint());
    &BASELINE
}

/// One way to perform the same operations.
#[derive(Clone, Copy)]
struct Run {
    threads: usize,
    reopen: bool,
    abort_in_between: bool,
    /// The first insertions happen in the opposite order. What is stored in the end is the same.
    reverse: bool,
    /// Is added to the seeds of the collections.
    seed: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self { threads: 2, reopen: false, abort_in_between: false, reverse: false, seed: 0 }
    }
}

impl Run {
    fn fingerprint(self) -> Fingerprint {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().unwrap();
        let mut store = Store::open(&path).unwrap();
        for number in 0..TRANSACTIONS {
            if self.abort_in_between {
                let tx = store.begin_write().unwrap();
                pool.install(|| self.perform(&tx, TRANSACTIONS + number));
                tx.abort().unwrap();
            }
            let tx = store.begin_write().unwrap();
            pool.install(|| self.perform(&tx, number));
            tx.commit().unwrap();
            if self.reopen {
                store.close().unwrap();
                store = Store::open(&path).unwrap();
            }
        }
        let report = store.check().unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
        let graphs = self.graphs(&store);
        store.close().unwrap();
        Fingerprint { graphs, segments: segments(&path) }
    }

    fn definitions(&self) -> [CollectionDefinition<'static>; 4] {
        let [l2, cosine, dot, uncoded] = COLLECTIONS;
        let seed = self.seed;
        [l2.seed(seed + 1), cosine.seed(seed + 2), dot.seed(seed + 3), uncoded.seed(seed + 4)]
    }

    /// One transaction of bulk and single insertions, updates and removals.
    fn perform(&self, tx: &WriteTransaction, number: u64) {
        let mut rng = StdRng::seed_from_u64(number);
        for definition in self.definitions() {
            let mut collection = tx.open_collection(definition).unwrap();
            let unique: BTreeMap<u64, Vec<f32>> =
                (0..500).map(|_| (rng.random_range(0..KEYS), vector(&mut rng))).collect();
            let mut bulk: Vec<_> = unique.into_iter().collect();
            if self.reverse && number == 0 {
                bulk.reverse();
            }
            collection.insert_many(bulk).unwrap();
            for _ in 0..100 {
                change(&mut collection, &mut rng);
            }
        }
    }

    fn graphs(&self, store: &Store) -> BTreeMap<String, GraphFingerprint> {
        let stats = store.stats().unwrap();
        let tx = store.begin_read().unwrap();
        let fingerprint = |definition: CollectionDefinition| {
            let stats = stats.collections.iter().find(|stats| stats.name == definition.name()).unwrap();
            assert!(stats.dead_slots < stats.slots / 2, "slots were reused");
            let collection = tx.open_collection(definition).unwrap();
            let mut rng = StdRng::seed_from_u64(99);
            let mut path = |ef: usize| {
                let hits = collection.query(&vector(&mut rng)).k(3).ef(ef).run().unwrap();
                (hits.statistics(), hits.into_vec())
            };
            GraphFingerprint {
                vectors: (stats.vectors, stats.slots, stats.dead_slots),
                layers: stats.layers.clone(),
                paths: (0..600).map(|i| path([1, 4, 16][i % 3])).collect(),
            }
        };
        self.definitions().into_iter().map(|d| (d.name().to_owned(), fingerprint(d))).collect()
    }
}

fn change(collection: &mut CollectionMut, rng: &mut StdRng) {
    let key = rng.random_range(0..KEYS);
    match rng.random_range(0..3) {
        0 => drop(collection.insert(key, &vector(rng)).unwrap()),
        1 => drop(collection.remove(key).unwrap()),
        // Looking around in between changes nothing.
        _ => drop(collection.search(&vector(rng), 5).unwrap()),
    }
}

/// Around one of twenty centres; one in ten is a centre itself, so that there are exact duplicates.
fn vector(rng: &mut StdRng) -> Vec<f32> {
    let mut center = StdRng::seed_from_u64(rng.random_range(0..20));
    let radius = if rng.random_range(0..10) == 0 { 0.0 } else { 0.4 };
    (0..DIMENSION)
        .map(|_| center.random_range(-1.0..1.0_f32) + radius * rng.random_range(-1.0..1.0_f32))
        .collect()
}

struct Fingerprint {
    graphs: BTreeMap<String, GraphFingerprint>,
    segments: BTreeMap<String, Vec<u8>>,
}

impl Fingerprint {
    fn assert_is(&self, expected: &Self) {
        for (name, expected) in &expected.graphs {
            let found = &self.graphs[name];
            assert_eq!(found.vectors, expected.vectors, "live vectors, slots, dead slots of {name}");
            assert_eq!(found.layers, expected.layers, "the layers of {name}");
            let differs = found.paths.iter().zip(&expected.paths).find(|(found, expected)| found != expected);
            assert_eq!(differs, None, "a search in {name}");
        }
        assert!(self.segments == expected.segments, "the segment files differ");
    }
}

#[derive(Debug, PartialEq)]
struct GraphFingerprint {
    /// Live ones, slots, dead slots.
    vectors: (u64, u64, u64),
    layers: Vec<LayerStats>,
    paths: Vec<(QueryStatistics, Vec<Hit>)>,
}

/// The segment files by name, without what no two stores share: the store's UUID, and the header's checksum, which covers it.
fn segments(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut segments = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".vectors") {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            bytes[12..28].fill(0);
            bytes[66..70].fill(0);
            segments.insert(name, bytes);
        }
    }
    segments
}
