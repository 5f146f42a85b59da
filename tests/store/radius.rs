//! All within a distance, against brute force.
//!
//! "Everything that resembles this" has no k: it may be nothing, one thing, or a good part of the collection. A graph index is made for
//! the k nearest, and the usual ways to bend it to a radius go wrong: a fixed k cuts large results and nobody is told; a walk that stops
//! where the radius ends misses what the graph connects only from outside (islands: groups of results with no edge between them);
//! rounded distances let results in and out at the border; negative distances, as the dot product has, are taken for none at all.
//!
//! So here radii are chosen from the distances that plain loops in f64 compute, for a single result up to most of the collection, on real
//! embeddings, on clusters, and on islands made on purpose. What is found must be right to the last bit, whatever is missed is
//! counted, and the default settings must find 98 of 100. At the border, where f32 and f64 disagree, either answer is right: radii are put
//! in the middle between two distances.

use std::collections::BTreeSet;

use nestling::{Codes, Collection, Error, Hit, Metric};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::points::{Opened, clustered, normal};
use crate::words;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::Dot];
const CODES: [Codes; 2] = [Codes::SevenBit, Codes::None];

// ------------------------------------------------------------------------------------------------------------------------ recall

#[test]
fn words_within_a_radius_are_found() {
    let mut vectors = words::words().vectors;
    let queries = vectors.split_off(vectors.len() - 60);
    let data = Data { metric: Metric::Cosine, vectors, queries };
    data.assert_recall(&[1, 10, 100, 300, 2_000]);
}

#[test]
fn clustered_vectors_within_a_radius_are_found_under_every_metric() {
    for metric in METRICS {
        let seed = 11;
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let vectors = (0..4_000).map(|_| clustered(&mut rng)).collect();
        let queries = (0..60).map(|_| clustered(&mut rng)).collect();
        let data = Data { metric, vectors, queries };
        data.assert_recall(&[1, 10, 100, 240, 1_000]);
    }
}

/// Eight dense groups at one distance from the query and far from each other, in a crowd that lies farther from it: within the radius no
/// path leads from one group to the next.
#[test]
fn islands_of_results_are_found() {
    let seed = 12;
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut vectors = Vec::new();
    for island in 0..8 {
        let mut center = [0.0; 32];
        center[island * 4] = 10.0;
        vectors
            .extend((0..25).map(|_| center.iter().map(|x| x + 0.1 * normal(&mut rng)).collect::<Vec<f32>>()));
    }
    vectors.extend((0..4_000).map(|_| {
        let direction: Vec<f32> = (0..32).map(|_| normal(&mut rng)).collect();
        let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
        direction.iter().map(|x| x / length * rng.random_range(12.0..20.0)).collect()
    }));
    let queries = (0..20).map(|_| (0..32).map(|_| 0.05 * normal(&mut rng)).collect()).collect();
    let data = Data { metric: Metric::L2, vectors, queries };
    data.assert_recall(&[200]);
}

struct Data {
    metric: Metric,
    vectors: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
}

impl Data {
    /// Radii that hold so many: at the default settings at least 98 of 100 are found, and all of them when every vector may be
    /// looked at.
    fn assert_recall(&self, counts: &[usize]) {
        let truths: Vec<Truth> = self.queries.iter().map(|query| self.truth(query)).collect();
        for codes in CODES {
            let opened = Opened::with(self.metric, codes, &self.vectors);
            for &count in counts {
                self.assert_recall_within(count, &truths, codes, &opened.collection);
            }
        }
    }

    fn assert_recall_within(&self, count: usize, truths: &[Truth], codes: Codes, collection: &Collection) {
        let (mut found, mut walked) = (0, 0);
        for (query, truth) in self.queries.iter().zip(truths) {
            let (truth, radius) = truth.nearest(count);
            let hits = collection.within(query, radius).run().unwrap();
            assert_sound(collection, &hits, query, radius);
            assert!(hits.iter().all(|hit| truth.contains(&hit.key)), "a hit beyond the radius");
            assert!(!hits.is_cut());
            found += hits.len();
            walked += usize::from(hits.statistics().distances < collection.len());
            for all in [
                collection.within(query, radius).exact(),
                collection.within(query, radius).ef(self.vectors.len()),
            ] {
                let keys: BTreeSet<u64> = all.run().unwrap().iter().map(|hit| hit.key).collect();
                assert_eq!(keys, truth);
            }
        }
        let recall = found as f64 / (count * self.queries.len()) as f64;
        println!(
            "{}, {codes}, within {count}: recall {recall:.4}, {walked} of {} searches compared with less than all",
            self.metric,
            self.queries.len()
        );
        assert!(recall >= 0.98, "{}, {codes}, within {count}: recall {recall}", self.metric);
        assert!(count > 10 || walked == self.queries.len(), "a scan for {count} of {}", collection.len());
    }

    fn truth(&self, query: &[f32]) -> Truth {
        let mut distances: Vec<(f64, u64)> = (0..)
            .zip(&self.vectors)
            .map(|(key, vector)| (distance(self.metric, query, vector), key))
            .collect();
        distances.sort_by(|a, b| a.0.total_cmp(&b.0));
        Truth(distances)
    }
}

/// All distances and their keys by brute force, nearest first.
struct Truth(Vec<(f64, u64)>);

impl Truth {
    /// The `count` nearest, and a radius that holds them and no others.
    fn nearest(&self, count: usize) -> (BTreeSet<u64>, f32) {
        let radius = (self.0[count - 1].0 + self.0[count].0) / 2.0;
        (self.0[..count].iter().map(|&(_, key)| key).collect(), radius as f32)
    }
}

fn distance(metric: Metric, x: &[f32], y: &[f32]) -> f64 {
    let pairs = || x.iter().zip(y).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let dot: f64 = pairs().map(|(x, y)| x * y).sum();
    match metric {
        Metric::L2 => pairs().map(|(x, y)| (x - y).powi(2)).sum(),
        Metric::Cosine => 1.0 - dot / (norm(x) * norm(y)),
        _ => -dot,
    }
}

/// Different keys with the distances that an exact search tells, within the radius, nearest first, ties in key order.
fn assert_sound(collection: &Collection, hits: &[Hit], query: &[f32], radius: f32) {
    assert!(hits.is_sorted_by(|a, b| (a.distance, a.key) < (b.distance, b.key)), "{hits:?}");
    assert!(hits.iter().all(|hit| hit.distance <= radius), "{hits:?} within {radius}");
    let exact = collection.within(query, radius).exact().run().unwrap();
    let told: BTreeSet<(u64, u32)> = exact.iter().map(|hit| (hit.key, hit.distance.to_bits())).collect();
    assert!(hits.iter().all(|hit| told.contains(&(hit.key, hit.distance.to_bits()))));
}

// ------------------------------------------------------------------------------------------------------------------------- limits

/// A limit gives the nearest of what lies within the radius, and whether there was more.
#[test]
fn a_limit_keeps_the_nearest_and_says_so() {
    let mut vectors = words::words().vectors;
    let queries = vectors.split_off(vectors.len() - 30);
    let data = Data { metric: Metric::Cosine, vectors, queries };
    let truths: Vec<Truth> = data.queries.iter().map(|query| data.truth(query)).collect();
    for codes in CODES {
        let opened = Opened::with(data.metric, codes, &data.vectors);
        let within = |query, radius, limit| opened.collection.within(query, radius).limit(limit);
        let (mut right, mut all) = (0, 0);
        for (query, truth) in data.queries.iter().zip(&truths) {
            for count in [100, 3_000] {
                let (_, radius) = truth.nearest(count);
                // Well below the count: the walk may miss a few.
                for limit in [0, 1, 10, 90] {
                    let exact = within(query, radius, limit).exact().run().unwrap();
                    assert_eq!(exact[..], opened.collection.query(query).k(limit).exact().run().unwrap()[..]);
                    assert!(exact.is_cut(), "{limit} of {count}");
                    let hits = within(query, radius, limit).run().unwrap();
                    assert_eq!((hits.len(), hits.is_cut()), (limit, true), "{limit} of {count}");
                    assert_sound(&opened.collection, &hits, query, radius);
                    let work = hits.statistics().distances;
                    assert!(work < opened.collection.len(), "a limit of {limit} took {work} distances");
                    all += limit;
                    right += hits.iter().filter(|hit| exact.contains(hit)).count();
                }
                for limit in [count, count + 1, usize::MAX] {
                    let hits = within(query, radius, limit).exact().run().unwrap();
                    assert_eq!((hits.len(), hits.is_cut()), (count, false), "{limit} of {count}");
                    let hits = within(query, radius, limit).run().unwrap();
                    assert!(!hits.is_cut() && hits.len() <= count, "{limit} of {count}");
                }
            }
        }
        assert!(right as f64 >= 0.98 * all as f64, "{codes}: {right} of {all} are among the nearest");
    }
}

// ------------------------------------------------------------------------------------------------------------ borders and misuse

#[test]
fn radii_without_results_and_radii_without_end() {
    for (metric, codes) in METRICS.into_iter().flat_map(|metric| CODES.map(|codes| (metric, codes))) {
        for count in [0, 1, 2, 40, 900] {
            let mut rng = StdRng::seed_from_u64(13);
            let vectors: Vec<Vec<f32>> = (0..count).map(|_| clustered(&mut rng)).collect();
            let opened = Opened::with(metric, codes, &vectors);
            let query = clustered(&mut rng);
            let within = |radius| opened.collection.within(&query, radius).run().unwrap();
            for everything in [f32::INFINITY, f32::MAX] {
                let hits = within(everything);
                assert_eq!(hits.len(), count, "{metric}, {codes}");
                assert_eq!(hits[..], opened.collection.query(&query).k(count).exact().run().unwrap()[..]);
            }
            for nothing in [f32::NEG_INFINITY, f32::MIN] {
                let hits = within(nothing);
                assert!(hits.is_empty() && !hits.is_cut(), "{metric}, {codes}: {hits:?} within {nothing}");
            }
            // Under the dot product, nearer than 0 is a good part of everything.
            let below = vectors.iter().filter(|vector| distance(metric, &query, vector) <= -0.5).count();
            assert_eq!(opened.collection.within(&query, -0.5).exact().run().unwrap().len(), below);
            assert!(metric != Metric::Dot || count < 40 || below > 0, "a test of nothing");
        }
    }
}

/// Exact duplicates are at 0 under L2.
#[test]
fn a_radius_of_zero_finds_duplicates() {
    let mut rng = StdRng::seed_from_u64(14);
    let mut vectors: Vec<Vec<f32>> = (0..1_000).map(|_| clustered(&mut rng)).collect();
    let twin = vectors[3].clone();
    for key in [500, 700, 999] {
        vectors[key] = twin.clone();
    }
    for codes in CODES {
        let opened = Opened::with(Metric::L2, codes, &vectors);
        let hits = opened.collection.within(&twin, 0.0).run().unwrap();
        assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), [3, 500, 700, 999], "{codes}");
        assert!(opened.collection.within(&twin, -0.0).limit(4).run().is_ok_and(|hits| hits.len() == 4));
        assert!(opened.collection.within(&twin, -f32::MIN_POSITIVE).run().unwrap().is_empty());
    }
}

#[test]
fn bad_radii_and_bad_queries_are_refused() {
    for count in [0, 100] {
        let mut rng = StdRng::seed_from_u64(15);
        let vectors: Vec<Vec<f32>> = (0..count).map(|_| clustered(&mut rng)).collect();
        let opened = Opened::with(Metric::L2, Codes::SevenBit, &vectors);
        let query = clustered(&mut rng);
        let error = opened.collection.within(&query, f32::NAN).run().unwrap_err();
        assert!(matches!(error, Error::InvalidParameter { parameter: "radius", .. }) && error.is_input());
        let error = opened.collection.within(&query[1..], 1.0).run().unwrap_err();
        assert!(matches!(error, Error::WrongDimension { .. }), "{error}");
        let error = opened.collection.within(&[f32::NAN; 32], 1.0).run().unwrap_err();
        assert!(matches!(error, Error::InvalidVector { .. }), "{error}");
    }
}

/// A write transaction sees its own changes within a radius as everywhere.
#[test]
fn a_write_transaction_finds_its_own() {
    let mut rng = StdRng::seed_from_u64(16);
    let vectors: Vec<Vec<f32>> = (0..1_000).map(|_| clustered(&mut rng)).collect();
    let opened = Opened::with(Metric::L2, Codes::SevenBit, &vectors);
    let tx = opened.store.begin_write().unwrap();
    let mut points = tx.open_collection(opened.definition()).unwrap();
    points.remove(1).unwrap();
    points.insert(5_000, &vectors[0]).unwrap();
    let keys = |query, radius| {
        points.within(query, radius).run().unwrap().iter().map(|hit| hit.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&vectors[0], 0.0), [0, 5_000]);
    assert!(keys(&vectors[1], 0.0).is_empty());
}
