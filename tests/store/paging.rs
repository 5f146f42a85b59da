//! Pages of hits, against brute force.
//!
//! A user scrolls. Offering page 7 by asking for 70 hits and dropping 60 costs more with every page, and as an approximate search for 70 may
//! rank otherwise than one for 60 did, vectors appear twice and others never; a commit between two pages shifts them all. The promise here
//! is that the pages of one cursor are the collection as it was when the cursor was made, every vector once, whatever happens to the store
//! meanwhile, each page sorted, and pages from near to far as well as a search could do it. Completeness is tested to the last vector,
//! the order is measured against plain loops in f64.

use std::collections::BTreeSet;

use nestling::{Codes, Collection, Error, Hit, Metric, Pages, Store};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::points::{Opened, clustered};
use crate::words;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];
const CODES: [Codes; 2] = [Codes::SevenBit, Codes::None];
const PAGE: usize = 10;

// ------------------------------------------------------------------------------------------------------- each vector once, in order

/// Besides being complete, the pages up to any one hold what belongs there, nearly.
#[test]
fn pages_of_words_are_the_collection_from_near_to_far() {
    let mut vectors = words::words().vectors;
    let queries = vectors.split_off(vectors.len() - 40);
    for codes in CODES {
        let opened = Opened::with(Metric::Cosine, codes, &vectors);
        let mut order = Order::default();
        for query in &queries {
            let hits = all(&opened.collection, opened.collection.browse(query, PAGE).unwrap());
            order.add(&hits, &nearest(Metric::Cosine, query, &vectors));
        }
        order.assert_good(&format!("words, {codes}"));
    }
}

#[test]
fn pages_of_clusters_are_the_collection_under_every_metric() {
    for (metric, codes) in METRICS.into_iter().flat_map(|metric| CODES.map(|codes| (metric, codes))) {
        let seed = 21;
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let vectors: Vec<Vec<f32>> = (0..3_000).map(|_| clustered(&mut rng)).collect();
        let opened = Opened::with(metric, codes, &vectors);
        let mut order = Order::default();
        for _ in 0..20 {
            let query = clustered(&mut rng);
            let hits = all(&opened.collection, opened.collection.browse(&query, PAGE).unwrap());
            order.add(&hits, &nearest(metric, &query, &vectors));
        }
        order.assert_good(&format!("clusters, {metric}, {codes}"));
    }
}

/// With as many candidates as vectors the pages are an exact search, cut into pieces.
#[test]
fn with_ef_of_the_whole_collection_the_order_is_exact() {
    let mut rng = StdRng::seed_from_u64(22);
    let vectors: Vec<Vec<f32>> = (0..1_500).map(|_| clustered(&mut rng)).collect();
    for (metric, codes) in METRICS.into_iter().flat_map(|metric| CODES.map(|codes| (metric, codes))) {
        let opened = Opened::with(metric, codes, &vectors);
        let query = clustered(&mut rng);
        let exact = opened.collection.query(&query).k(usize::MAX).exact().run().unwrap();
        let pages = opened.collection.browse(&query, 7).unwrap().ef(vectors.len());
        assert_eq!(all(&opened.collection, pages), exact.into_vec(), "{metric}, {codes}");
        let page = opened.collection.browse(&query, usize::MAX).unwrap().next().unwrap().unwrap();
        assert_eq!(page.len(), vectors.len(), "one page of everything");
    }
}

/// A thousand copies of one vector fill every page for long, and still each comes once and all others come.
#[test]
fn crowds_of_duplicates_come_once_each() {
    let mut rng = StdRng::seed_from_u64(23);
    let one = clustered(&mut rng);
    let vectors: Vec<Vec<f32>> =
        (0..1_500).map(|key| if key % 3 == 0 { clustered(&mut rng) } else { one.clone() }).collect();
    for (metric, codes) in METRICS.into_iter().flat_map(|metric| CODES.map(|codes| (metric, codes))) {
        let opened = Opened::with(metric, codes, &vectors);
        for page_size in [1, 10, 999] {
            all(&opened.collection, opened.collection.browse(&one, page_size).unwrap());
        }
    }
}

/// What removals and updates leave behind is reached as well.
#[test]
fn pages_are_complete_after_churn() {
    let mut rng = StdRng::seed_from_u64(24);
    let vectors: Vec<Vec<f32>> = (0..1_200).map(|_| clustered(&mut rng)).collect();
    let opened = Opened::with(Metric::L2, Codes::SevenBit, &vectors);
    for round in 0..8 {
        let tx = opened.store.begin_write().unwrap();
        {
            let mut points = tx.open_collection(opened.definition()).unwrap();
            for key in 0..130 {
                points.remove(round * 140 + key).unwrap();
                points.insert(key, &clustered(&mut rng)).unwrap();
            }
        }
        tx.commit().unwrap();
        let points = opened.now();
        all(&points, points.browse(&clustered(&mut rng), PAGE).unwrap());
    }
}

/// Goes through all pages: as many as must be, each sorted, together every key of the collection once.
fn all(collection: &Collection, pages: Pages) -> Vec<Hit> {
    let pages: Vec<Vec<Hit>> = pages.map(|page| page.unwrap().into_vec()).collect();
    let size = pages.first().map_or(1, Vec::len);
    for (number, page) in pages.iter().enumerate() {
        assert!(page.is_sorted_by(|a, b| (a.distance, a.key) < (b.distance, b.key)), "{page:?}");
        assert!(page.len() == size || (number + 1 == pages.len() && page.len() < size), "page {number}");
    }
    let hits = pages.concat();
    let keys: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
    assert_eq!(keys.len(), hits.len(), "a vector on two pages");
    let stored: BTreeSet<u64> = collection.keys().unwrap().map(Result::unwrap).collect();
    assert!(keys == stored, "{} keys on the pages, {} stored", keys.len(), stored.len());
    hits
}

/// How far the pages are from the true order.
#[derive(Default)]
struct Order {
    queries: usize,
    /// By number of pages: the part of what belongs on the first pages that is there.
    recall: [f64; 4],
    /// Hits nearer than one on an earlier page, among the first hundred pages, and how many those hits are.
    late: usize,
    hits: usize,
}

const UP_TO: [usize; 4] = [1, 2, 10, 100];

impl Order {
    fn add(&mut self, hits: &[Hit], truth: &[u64]) {
        self.queries += 1;
        for (recall, pages) in self.recall.iter_mut().zip(UP_TO) {
            let count = pages * PAGE;
            let belongs: BTreeSet<u64> = truth[..count].iter().copied().collect();
            let right = hits[..count].iter().filter(|hit| belongs.contains(&hit.key)).count();
            *recall += right as f64 / count as f64;
        }
        let mut farthest = f32::NEG_INFINITY;
        for page in hits[..100 * PAGE].chunks(PAGE) {
            self.late += page.iter().filter(|hit| hit.distance < farthest).count();
            self.hits += page.len();
            farthest = page.iter().fold(farthest, |farthest, hit| farthest.max(hit.distance));
        }
    }

    fn assert_good(&self, name: &str) {
        let recall = self.recall.map(|sum| sum / self.queries as f64);
        let late = self.late as f64 / self.hits as f64;
        println!("{name}: recall of the first {UP_TO:?} pages {recall:.3?}, {late:.4} of the hits late");
        assert!(recall.iter().all(|&recall| recall >= 0.98), "{name}: {recall:?}");
        assert!(late <= 0.05, "{name}: {late} of the hits are nearer than one on an earlier page");
    }
}

/// All keys by brute force, nearest first.
fn nearest(metric: Metric, query: &[f32], vectors: &[Vec<f32>]) -> Vec<u64> {
    let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let distance = |vector: &[f32]| {
        let pairs = || query.iter().zip(vector).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        let dot: f64 = pairs().map(|(x, y)| x * y).sum();
        match metric {
            Metric::L2 => pairs().map(|(x, y)| (x - y).powi(2)).sum(),
            Metric::Cosine => 1.0 - dot / (norm(query) * norm(vector)),
            _ => -dot,
        }
    };
    let mut order: Vec<(f64, u64)> =
        (0..).zip(vectors).map(|(key, vector)| (distance(vector), key)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.into_iter().map(|(_, key)| key).collect()
}

// ------------------------------------------------------------------------------------------------------------------ a cursor is kept

/// The app keeps the cursor and nothing else: not the collection, not the transaction. Commits, the slots that they would like to use
/// again, other searches on the thread, other threads: nothing shows.
#[test]
fn a_cursor_goes_on_whatever_happens_meanwhile() {
    fn assert_kept_by_apps<T: Send + Sync + 'static>(_: &T) {}
    let mut rng = StdRng::seed_from_u64(25);
    let vectors: Vec<Vec<f32>> = (0..2_000).map(|_| clustered(&mut rng)).collect();
    let opened = Opened::with(Metric::Cosine, Codes::SevenBit, &vectors);
    let query = clustered(&mut rng);
    let undisturbed = all(&opened.collection, opened.collection.browse(&query, PAGE).unwrap());

    let mut pages = opened.now().browse(&query, PAGE).unwrap();
    assert_kept_by_apps(&pages);
    let mut other = opened.now().browse(&vectors[9], 3).unwrap();
    let mut hits = Vec::new();
    for round in 0..20 {
        hits.extend(pages.next().unwrap().unwrap());
        other.next().unwrap().unwrap();
        let tx = opened.store.begin_write().unwrap();
        {
            let mut points = tx.open_collection(opened.definition()).unwrap();
            for key in 0..100 {
                points.remove(round * 100 + key).unwrap();
                points.insert(10_000 + key, &clustered(&mut rng)).unwrap();
            }
        }
        tx.commit().unwrap();
        let now = opened.now();
        assert!(now.search(&query, 10).unwrap().iter().all(|hit| hit.key >= (round + 1) * 100));
    }
    assert_eq!(pages.told(), hits.len() as u64);
    let Opened { store, collection, _directory } = opened;
    drop((store, collection, other));
    let rest = std::thread::spawn(move || pages.map(|page| page.unwrap().into_vec()).collect::<Vec<_>>());
    hits.extend(rest.join().unwrap().concat());
    assert_eq!(hits, undisturbed);
}

/// Every node is compared with once, however many pages it takes; no page starts anew.
#[test]
fn a_page_costs_what_it_adds() {
    let mut rng = StdRng::seed_from_u64(26);
    let vectors: Vec<Vec<f32>> = (0..3_000).map(|_| clustered(&mut rng)).collect();
    for codes in CODES {
        let opened = Opened::with(Metric::L2, codes, &vectors);
        let pages = opened.collection.browse(&clustered(&mut rng), PAGE).unwrap();
        let statistics: Vec<_> = pages.map(|page| page.unwrap().statistics()).collect();
        let sum = |part: fn(&nestling::QueryStatistics) -> u64| statistics.iter().map(part).sum::<u64>();
        let (live, reranked) = (opened.collection.len(), sum(|s| s.reranked));
        assert_eq!(reranked, if codes == Codes::None { 0 } else { live });
        let descent = 500;
        assert!((live..live + descent).contains(&(sum(|s| s.distances) - reranked)));
        assert!((live..live + descent).contains(&sum(|s| s.expanded)));
        assert!(statistics[0].distances < live, "the first page walked through everything");
        assert!(statistics[0].layers > 0 && statistics[1..].iter().all(|s| s.layers == 0), "one descent");
    }
}

// ------------------------------------------------------------------------------------------------------------------ borders and misuse

#[test]
fn empty_and_tiny_collections_end_at_once() {
    for (metric, codes) in METRICS.into_iter().flat_map(|metric| CODES.map(|codes| (metric, codes))) {
        for count in [0_usize, 1, 2, 9, 10, 11, 70] {
            let mut rng = StdRng::seed_from_u64(27);
            let vectors: Vec<Vec<f32>> = (0..count).map(|_| clustered(&mut rng)).collect();
            let opened = Opened::with(metric, codes, &vectors);
            let query = clustered(&mut rng);
            let mut pages = opened.collection.browse(&query, PAGE).unwrap();
            assert_eq!(pages.by_ref().count(), count.div_ceil(PAGE), "{metric}, {codes}, {count}");
            assert!(pages.next().is_none() && pages.next().is_none(), "it has ended for good");
            let hits = all(&opened.collection, opened.collection.browse(&query, PAGE).unwrap());
            assert_eq!(hits, opened.collection.query(&query).k(count).exact().run().unwrap().into_vec());
        }
    }
}

#[test]
fn bad_pages_and_bad_queries_are_refused() {
    let mut rng = StdRng::seed_from_u64(28);
    let opened = Opened::with(Metric::Cosine, Codes::SevenBit, &[clustered(&mut rng)]);
    let query = clustered(&mut rng);
    let error = opened.collection.browse(&query, 0).unwrap_err();
    assert!(matches!(error, Error::InvalidParameter { parameter: "page_size", .. }) && error.is_input());
    let error = opened.collection.browse(&query[1..], PAGE).unwrap_err();
    assert!(matches!(error, Error::WrongDimension { .. }), "{error}");
    for bad in [[f32::NAN; 32], [0.0; 32]] {
        let error = opened.collection.browse(&bad, PAGE).unwrap_err();
        assert!(matches!(error, Error::InvalidVector { .. }), "{error}");
    }
}

/// Damage that a page comes by is told, and ends the pages: what would follow could repeat or leave out.
#[test]
fn damage_ends_the_pages_with_an_error() {
    let mut rng = StdRng::seed_from_u64(29);
    let vectors: Vec<Vec<f32>> = (0..500).map(|_| clustered(&mut rng)).collect();
    let Opened { store, collection, _directory } = Opened::with(Metric::L2, Codes::SevenBit, &vectors);
    drop(collection);
    store.close().unwrap();
    let path = _directory.path().join("store");
    for entry in std::fs::read_dir(&path).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "vectors") {
            let mut bytes = std::fs::read(&path).unwrap();
            let body = bytes.iter_mut().skip(64 * 1024).step_by(4_001).filter(|byte| **byte != 0);
            body.for_each(|byte| *byte ^= 1);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let store = Store::open(&path).unwrap();
    let points = store.begin_read().unwrap().open_stored_collection("points").unwrap();
    let mut pages = points.browse(&vectors[0], 1).unwrap().ef(1);
    let error = pages.by_ref().find_map(Result::err).expect("an error where bytes are damaged");
    assert!(error.is_corrupted(), "{error}");
    assert!(pages.next().is_none());
}
