//! Cost follows the change: an insert or a removal reads and writes a number of rows that grows with log n, not with n, and so does
//! the first one after opening the store.
//!
//! The story: usearch and hnswlib write the whole index for one vector; hannoy, which keeps links in a database, scans all of them at
//! every build; stores with a reverse index build it by a scan at the first deletion. Here each node's row lists who points at it,
//! so that nothing needs a scan; this test would notice one that crept in.
//!
//! How many nodes an operation looks at is set by m and ef_construction, not by n. With the default ones that is some two thousand,
//! whose pages are nearly all there are in a small collection; so what is *loaded* is measured with narrow ones, in collections
//! that are large beside them.
//!
//! `NESTLING_LOCALITY_N=50000 cargo test --release --test store locality -- --nocapture` adds larger sizes, and bytes.

use std::path::Path;

use nestling::{CollectionDefinition, CollectionMut, Metric, Store};
use rand::rngs::StdRng;
use rand::seq::index;
use rand::{RngExt, SeedableRng};

const DIMENSION: usize = 32;
const DEFAULT: CollectionDefinition = CollectionDefinition::new("points", DIMENSION, Metric::L2);
const NARROW: CollectionDefinition = DEFAULT.m(4).ef_construction(8);
const SEED: u64 = 71;

/// Operations are measured in this many sessions, each of which opens the store anew…
const SESSIONS: usize = 8;
/// …and performs this many, each in its own transaction.
const OPERATIONS: usize = 7;
/// What chance may add to a mean.
const SLACK: f64 = 1.25;

/// Points around centres, in random order, as embeddings come: neighbours in space have slots far apart. About fifty to a centre at
/// every size, so that what surrounds a point does not change with n.
struct Clusters {
    rng: StdRng,
    centers: Vec<Vec<f32>>,
}

impl Clusters {
    fn new(n: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(SEED);
        let centers =
            (0..n / 50).map(|_| (0..DIMENSION).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        Self { rng, centers }
    }

    fn point(&mut self) -> Vec<f32> {
        let center = self.rng.random_range(0..self.centers.len());
        self.centers[center].iter().map(|x| x + self.rng.random_range(-0.3..0.3)).collect()
    }
}

/// What one operation took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Link rows read and changed.
    read: u64,
    touched: u64,
    /// Pages of the graph that it loaded, and how many there are.
    loaded: usize,
    pages: usize,
    bytes_read: u64,
    bytes_written: u64,
}

/// Runs one operation in its own transaction.
fn measure(
    store: &Store,
    definition: CollectionDefinition<'static>,
    operation: impl FnOnce(&mut CollectionMut<'_>),
) -> Cost {
    let bytes_before = store.counters();
    let loaded_before = store.begin_read().unwrap().open_collection(definition).unwrap().graph_pages_loaded();
    let tx = store.begin_write().unwrap();
    let mut points = tx.open_collection(definition).unwrap();
    operation(&mut points);
    let rows = points.row_counts();
    drop(points);
    tx.commit().unwrap();
    let bytes = store.counters();
    let points = store.begin_read().unwrap().open_collection(definition).unwrap();
    Cost {
        read: rows.read,
        touched: rows.touched,
        loaded: points.graph_pages_loaded() - loaded_before,
        pages: points.graph_pages(),
        bytes_read: bytes.bytes_read - bytes_before.bytes_read,
        bytes_written: bytes.bytes_written - bytes_before.bytes_written,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Remove,
}

/// The costs of one kind of operation at one size.
struct Series {
    kind: Kind,
    n: u64,
    /// Of the first operations after opening.
    first: Vec<Cost>,
    /// Of those behind them.
    later: Vec<Cost>,
    /// Bytes that an opening reads before them.
    opening: u64,
    store_redb: u64,
}

fn mean(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    costs.iter().map(of).sum::<f64>() / costs.len() as f64
}

/// Leaves out the rare insertion that also takes a calibration sample, which searches widely.
fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut sorted: Vec<f64> = costs.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Series {
    fn run(
        path: &Path,
        definition: CollectionDefinition<'static>,
        kind: Kind,
        n: u64,
        clusters: &mut Clusters,
    ) -> Self {
        let mut series = Self {
            kind,
            n,
            first: Vec::new(),
            later: Vec::new(),
            opening: 0,
            store_redb: path.join("store.redb").metadata().unwrap().len(),
        };
        // Those removed are old ones and young ones, hubs and hermits.
        let removed = index::sample(&mut clusters.rng, n as usize, SESSIONS * OPERATIONS);
        let mut keys =
            removed.into_iter().map(|key| if kind == Kind::Insert { n + key as u64 } else { key as u64 });
        for _ in 0..SESSIONS {
            let store = Store::open(path).unwrap();
            series.opening = store.counters().bytes_read;
            for number in 0..OPERATIONS {
                let key = keys.next().unwrap();
                let cost = measure(&store, definition, |points| match kind {
                    Kind::Insert => assert!(!points.insert(key, &clusters.point()).unwrap()),
                    Kind::Remove => assert!(points.remove(key).unwrap()),
                });
                if number == 0 { &mut series.first } else { &mut series.later }.push(cost);
            }
            store.close().unwrap();
        }
        series
    }
}

fn both_kinds(definition: CollectionDefinition<'static>, n: u64) -> [Series; 2] {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut clusters = Clusters::new(n);
    let store = Store::open(&path).unwrap();
    let tx = store.begin_write().unwrap();
    let vectors: Vec<(u64, Vec<f32>)> = (0..n).map(|key| (key, clusters.point())).collect();
    tx.open_collection(definition).unwrap().insert_many(vectors).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    let series =
        [Kind::Insert, Kind::Remove].map(|kind| Series::run(&path, definition, kind, n, &mut clusters));
    assert!(Store::open(&path).unwrap().check().unwrap().is_clean());
    series
}

fn print_head(what: &str) {
    println!(
        "\n{what}; seed {SEED}; means over {SESSIONS} first operations after opening, and {} later ones",
        SESSIONS * (OPERATIONS - 1)
    );
    println!(
        "| n | operation | rows read | rows touched | KB written | first: rows read | touched | pages loaded | KB read by opening and first, of store.redb |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---:|---:|");
}

fn print(series: &Series) {
    let Series { kind, n, first, later, opening, store_redb } = series;
    let loaded = mean(first, |cost| cost.loaded as f64);
    let pages = mean(first, |cost| cost.pages as f64);
    let read = mean(first, |cost| cost.bytes_read as f64) + *opening as f64;
    println!(
        "| {n} | {kind:?} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {loaded:.0} of {pages:.0} ({:.0} %) | {:.0} of {:.0} ({:.0} %) |",
        mean(later, |cost| cost.read as f64),
        mean(later, |cost| cost.touched as f64),
        mean(later, |cost| cost.bytes_written as f64) / 1e3,
        mean(first, |cost| cost.read as f64),
        mean(first, |cost| cost.touched as f64),
        100.0 * loaded / pages,
        read / 1e3,
        *store_redb as f64 / 1e3,
        100.0 * read / *store_redb as f64,
    );
}

/// The sizes to measure: these, and larger ones when asked for.
fn sizes(small: &[u64]) -> Vec<u64> {
    let most: u64 = std::env::var("NESTLING_LOCALITY_N").map_or(0, |n| n.parse().unwrap());
    let larger = [10_000, 50_000].into_iter().filter(|&n| n <= most && !small.contains(&n));
    let mut sizes: Vec<u64> = small.iter().copied().chain(larger).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn the_rows_that_a_change_reads_and_touches_grow_no_faster_than_log_n() {
    print_head("default parameters");
    let series: Vec<[Series; 2]> =
        sizes(&[1_000, 5_000]).into_iter().map(|n| both_kinds(DEFAULT, n)).collect();
    series.iter().flatten().for_each(print);
    series.iter().flatten().for_each(assert_first_is_like_later);
    for_each_step(&series, |small, large| {
        assert_grows_like_log("rows read", small, large, |cost| cost.read as f64);
        assert_grows_like_log("rows touched", small, large, |cost| cost.touched as f64);
    });
}

/// What the first change after opening loads: pages with the nodes it looks at, and nothing else.
#[test]
fn the_first_change_after_opening_loads_what_it_looks_at() {
    print_head("m 4, ef_construction 8");
    let series: Vec<[Series; 2]> =
        sizes(&[5_000, 20_000]).into_iter().map(|n| both_kinds(NARROW, n)).collect();
    series.iter().flatten().for_each(print);
    series.iter().flatten().for_each(assert_first_is_like_later);
    for_each_step(&series, |small, large| {
        let log = (large.n as f64).ln() / (small.n as f64).ln();
        let [a, b] = [small, large].map(|series| median(&series.first, |cost| cost.loaded as f64));
        assert!(
            b / a <= log * 1.5,
            "{:?}: pages loaded grew {:.2}-fold from {} to {}",
            small.kind,
            b / a,
            small.n,
            large.n
        );
    });
    // A page that is loaded brings its neighbours in redb's pages along, which counts in a small file.
    for series in series.iter().flatten().filter(|series| series.n >= 20_000) {
        let Series { kind, n, first, opening, store_redb, .. } = series;
        let (few, many): (Vec<&Cost>, Vec<&Cost>) =
            first.iter().partition(|cost| cost.loaded * 5 < cost.pages);
        // A calibration sample is taken by one insertion in 39 here, and by no removal.
        assert!(many.len() <= usize::from(*kind == Kind::Insert), "{n}: the first {kind:?} loaded {many:?}");
        for Cost { bytes_read, .. } in few {
            // In a debug build redb reads the whole file when it opens it, to check itself.
            let read = opening + bytes_read;
            let few = cfg!(debug_assertions) || read * 4 < *store_redb;
            assert!(few, "{n}: the first {kind:?} read {read} of {store_redb} bytes");
        }
    }
}

fn for_each_step(series: &[[Series; 2]], check: impl Fn(&Series, &Series)) {
    for pair in series.windows(2) {
        for (small, large) in pair[0].iter().zip(&pair[1]) {
            assert!(small.kind == large.kind && small.n < large.n);
            check(small, large);
        }
    }
}

/// The first operation finds nothing in memory, and still does the work of one operation only.
fn assert_first_is_like_later(series: &Series) {
    let Series { kind, n, first, later, .. } = series;
    for (what, of) in
        [("read", (|cost| cost.read as f64) as fn(&Cost) -> f64), ("touched", |cost| cost.touched as f64)]
    {
        // From a hermit's to a hub's, costs differ too widely for a mean of few.
        let typical = |costs: &[Cost]| mean(costs, |cost| of(cost).max(1.0).ln()).exp();
        let (first, later) = (typical(first), typical(later));
        assert!(first <= 2.0 * later, "{n}: the first {kind:?} {what} {first:.0} rows, others {later:.0}");
    }
}

fn assert_grows_like_log(what: &str, small: &Series, large: &Series, of: impl Fn(&Cost) -> f64) {
    let log = (large.n as f64).ln() / (small.n as f64).ln();
    let growth = mean(&large.later, &of) / mean(&small.later, &of);
    let (kind, from, to) = (small.kind, small.n, large.n);
    assert!(
        growth <= log * SLACK,
        "{kind:?}: {what} grew {growth:.2}-fold from {from} to {to}, log n {log:.2}-fold"
    );
}

/// The story: with 4,000 collections an insert into one of them took 6 ms, because each commit's reader looked for its collection's row
/// by decoding everybody's.
#[test]
fn an_insert_reads_no_rows_of_other_collections() {
    let bytes_read = |others: usize| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        let tx = store.begin_write().unwrap();
        for other in 0..others {
            let name = format!("collection {other}");
            tx.open_collection(CollectionDefinition::new(&name, DIMENSION, Metric::L2)).unwrap();
        }
        tx.open_collection(DEFAULT).unwrap().insert(0, &[1.0; DIMENSION]).unwrap();
        tx.commit().unwrap();
        store.close().unwrap();
        // Without a cache, so that whatever is looked at is read.
        let store = Store::builder().cache_size(0).open(&path).unwrap();
        let costs: Vec<u64> = (1..=8)
            .map(|key| {
                let cost = measure(&store, DEFAULT, |points| {
                    points.insert(key, &[key as f32; DIMENSION]).unwrap();
                });
                cost.bytes_read
            })
            .collect();
        costs.iter().sum::<u64>() / costs.len() as u64
    };
    let (few, many) = (bytes_read(20), bytes_read(600));
    println!("bytes read for an insert beside 20 collections: {few}, beside 600: {many}");
    assert!(many < few + few / 2, "{many} bytes beside 600 collections, {few} beside 20");
}
