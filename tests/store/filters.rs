//! Filters and budgets, over real embeddings.
//!
//! The bug that filtered vector searches are known for is a short answer: the index is walked near the query, what does not pass is
//! thrown away, and of k results three are left, or none, although thousands of vectors pass. The other one is a wrong answer
//! that looks right: what passes lies far from the query, and the walk returns whatever it came by. So here filters are
//! drawn at random, from near the query and from far away, from half of the collection down to one vector, as sets and as closures; and for
//! each the number of hits is exact, their order and distances are those of brute force over what passes, and recall has a floor.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nestling::{Codes, Collection, CollectionDefinition, Hit, KeySet, Metric, Query, Store, Strategy};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::words;

const K: usize = 10;
const SEED: u64 = 20;
const WORDS: CollectionDefinition = CollectionDefinition::new("words", words::DIMENSION, Metric::Cosine);

/// A store with the words, under their row numbers times three as keys, and every 50th word as a query, not stored.
struct Library {
    _directory: tempfile::TempDir,
    store: Store,
    queries: Vec<Vec<f32>>,
}

impl Library {
    fn new(definition: CollectionDefinition<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("words.nestling")).unwrap();
        let (mut queries, mut stored) = (Vec::new(), Vec::new());
        for (row, vector) in words::words().vectors.into_iter().enumerate() {
            if row % 50 == 0 { queries.push(vector) } else { stored.push((3 * row as u64, vector)) }
        }
        let tx = store.begin_write().unwrap();
        tx.open_collection(definition).unwrap().insert_many(stored).unwrap();
        tx.commit().unwrap();
        Self { _directory: directory, store, queries }
    }

    fn words(&self) -> Collection {
        self.store.begin_read().unwrap().open_collection(WORDS).unwrap()
    }
}

fn keys(hits: &[Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.key).collect()
}

/// All keys, nearest first.
fn ranking(collection: &Collection, query: &[f32]) -> Vec<Hit> {
    collection.query(query).k(usize::MAX).exact().run().unwrap().into_vec()
}

/// The hits that a filtered search should have.
fn truth(ranking: &[Hit], k: usize, passes: impl Fn(u64) -> bool) -> Vec<Hit> {
    ranking.iter().filter(|hit| passes(hit.key)).take(k).copied().collect()
}

/// The hits are as many as can be, all pass, their distances are the exact ones, and they are in order. How many are right?
fn check(
    hits: &[Hit],
    truth: &[Hit],
    all: &BTreeMap<u64, f32>,
    passes: impl Fn(u64) -> bool,
    context: &str,
) -> usize {
    assert_eq!(hits.len(), truth.len(), "number of hits; {context}");
    assert_eq!(keys(hits).into_iter().collect::<BTreeSet<_>>().len(), hits.len(), "a key twice; {context}");
    assert!(
        hits.windows(2).all(|pair| (pair[0].distance, pair[0].key) < (pair[1].distance, pair[1].key)),
        "order; {context}"
    );
    for hit in hits {
        assert!(passes(hit.key), "{hit:?} does not pass; {context}");
        assert_eq!(all[&hit.key], hit.distance, "the distance of {hit:?}; {context}");
    }
    let right = keys(truth);
    hits.iter().filter(|hit| right.contains(&hit.key)).count()
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Random,
    Near,
    Far,
}

/// `allowed` keys, ascending.
fn draw(kind: Kind, ranking: &[Hit], allowed: usize, rng: &mut StdRng) -> Vec<u64> {
    let mut chosen = keys(ranking);
    match kind {
        Kind::Random => chosen.shuffle(rng),
        Kind::Near => {}
        Kind::Far => chosen.reverse(),
    }
    chosen.truncate(allowed);
    chosen.sort_unstable();
    chosen
}

/// Whatever passes, and however it is said, min(k, allowed) are found, and nearly always the nearest.
fn whatever_passes(definition: CollectionDefinition<'_>) {
    let library = Library::new(definition);
    let collection = library.words();
    let live = collection.len() as usize;
    let mut rng = StdRng::seed_from_u64(SEED);
    for kind in [Kind::Random, Kind::Near, Kind::Far] {
        for allowed in [live / 2, live / 10, live / 100, 49, 12, 9, 1, 0] {
            let (mut right, mut expected) = (0, 0);
            for query in library.queries.iter().step_by(10) {
                let ranking = ranking(&collection, query);
                let all: BTreeMap<u64, f32> = ranking.iter().map(|hit| (hit.key, hit.distance)).collect();
                let set = draw(kind, &ranking, allowed, &mut rng);
                let passes = |key| set.binary_search(&key).is_ok();
                let truth = truth(&ranking, K, passes);
                let search = || collection.query(query).k(K);
                for (how, query) in [("set", search().among(&set)), ("closure", search().filter(passes))] {
                    let context = format!("{kind:?}, {allowed} of {live}, {how}, seed {SEED}");
                    let hits = query.run().unwrap();
                    assert!(!hits.is_partial(), "{context}");
                    right += check(&hits, &truth, &all, passes, &context);
                    expected += truth.len();
                }
                for exact in [
                    search().among(&set).exact(),
                    search().filter(passes).exact(),
                    search().among(&set).ef(live),
                ] {
                    assert_eq!(
                        exact.run().unwrap()[..],
                        truth[..],
                        "{kind:?}, {allowed} of {live}, seed {SEED}"
                    );
                }
            }
            let recall = right as f64 / f64::max(expected as f64, 1.0);
            assert!(
                right == expected || recall >= 0.95,
                "recall {recall}: {kind:?}, {allowed} of {live}, seed {SEED}"
            );
        }
    }
}

#[test]
fn what_passes_is_found_wherever_it_lies() {
    whatever_passes(WORDS);
}

#[test]
fn what_passes_is_found_without_codes() {
    whatever_passes(WORDS.codes(Codes::None));
}

#[test]
fn each_strategy_is_taken_where_it_is_due() {
    let library = Library::new(WORDS);
    let collection = library.words();
    let query = &library.queries[3];
    let ranking = keys(&ranking(&collection, query));
    let strategy = |query: Query<'_>| query.run().unwrap().statistics().strategy;
    let search = || collection.query(query).k(K);

    assert_eq!(strategy(search()), Strategy::Walk);
    assert_eq!(strategy(search().filter(|_| true)), Strategy::Walk);
    assert_eq!(strategy(search().filter(|key| key % 2 == 0)), Strategy::Walk);
    assert_eq!(strategy(search().among(&ranking[..600])), Strategy::Walk, "near the query");
    assert_eq!(strategy(search().among(&ranking[4000..4020])), Strategy::Scan, "a small set");
    assert_eq!(strategy(search().among(&ranking[3000..])), Strategy::WalkThenScan, "far from the query");
    assert_eq!(strategy(search().filter(|_| false)), Strategy::WalkThenScan, "nothing passes");

    let few = search().among(&ranking[4000..4004]).run().unwrap().statistics();
    assert_eq!((few.layers, few.ef, few.expanded, few.distances), (0, 0, 0, 4), "nothing is walked: {few:?}");

    let far = search().among(&ranking[3000..]).run().unwrap().statistics();
    assert!(far.distances < 4_000, "a walk is given up before it has cost as much as the scan: {far:?}");
    assert!(
        far.filter_calls >= collection.len()
            && far.layers > 0
            && far.ef == 64
            && far.expanded > 0
            && far.reranked >= K as u64
    );
    let all = search().filter(|_| true).run().unwrap();
    let plain = search().run().unwrap();
    assert_eq!(all[..], plain[..], "a filter that lets all pass changes nothing");
    assert_eq!(all.statistics().expanded, plain.statistics().expanded);
    assert_eq!(plain.statistics().filter_calls, 0);
}

#[test]
fn sets_may_be_unsorted_repeat_keys_and_name_unknown_ones() {
    let library = Library::new(WORDS);
    let collection = library.words();
    let query = &library.queries[5];
    let ranking = ranking(&collection, query);
    for size in [3, 30, 2000] {
        let mut set = keys(&ranking[size..2 * size]);
        let expected = truth(&ranking, K, |key| set.contains(&key));
        set.extend_from_within(..);
        // Keys that are not multiples of three are not there.
        set.extend((0..size as u64).map(|i| 3 * i + 1).chain([u64::MAX, u64::MAX - 1]));
        set.sort_unstable_by_key(|key| key.reverse_bits());
        let found = collection.query(query).k(K).among(&set).ef(400).run().unwrap();
        assert_eq!(found[..], expected[..], "{size}");
        let set = KeySet::from(set);
        let found = collection.query(query).k(K).among(&set).exact().run().unwrap();
        assert_eq!(found[..], expected[..], "{size}, exact");
    }
    assert!(collection.query(query).among([]).run().unwrap().is_empty());
    assert!(collection.query(query).among([1, 2, 4]).run().unwrap().is_empty(), "none is there");
    assert!(collection.query(query).among([3]).k(0).run().unwrap().is_empty());
}

#[test]
fn filters_add_up() {
    let library = Library::new(WORDS);
    let collection = library.words();
    let ranking = ranking(&collection, &library.queries[7]);
    let (near, some) = (keys(&ranking[..500]), keys(&ranking[100..]));
    let expected =
        truth(&ranking, K, |key| near.contains(&key) && some.contains(&key) && key % 2 == 0 && key % 5 == 0);
    let search = || collection.query(&library.queries[7]).k(K).ef(500);
    let of_hits = collection.query(&library.queries[7]).k(500).exact().run().unwrap();
    for hits in [
        search().among(&near).among(&some).filter(|key| key % 2 == 0).filter(|key| key % 5 == 0),
        search().filter(|key| key % 5 == 0).among(&some).filter(|key| key % 2 == 0).among(&of_hits),
    ] {
        assert_eq!(hits.run().unwrap()[..], expected[..]);
    }
}

/// Ties are broken by keys, among what passes as among everything.
#[test]
fn ties_are_in_key_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("ties.nestling")).unwrap();
    for (name, codes) in [("coded", Codes::SevenBit), ("plain", Codes::None)] {
        let definition = CollectionDefinition::new(name, 2, Metric::L2).codes(codes);
        let tx = store.begin_write().unwrap();
        // 40 places with 50 vectors each.
        let vectors = (0..2000_u64).map(|key| (key, [(key % 40) as f32, 0.0]));
        tx.open_collection(definition).unwrap().insert_many(vectors).unwrap();
        tx.commit().unwrap();
        let collection = store.begin_read().unwrap().open_collection(definition).unwrap();
        let odd_rounds = |key: u64| (key / 40) % 2 == 1;
        let expected: Vec<u64> = (0..2000).filter(|&key| odd_rounds(key) && key % 40 == 7).take(5).collect();
        let hits = collection.query(&[7.1, 0.0]).k(5).filter(odd_rounds).ef(2000).run().unwrap();
        assert_eq!(keys(&hits), expected, "{name}");
        let set: Vec<u64> = (0..2000).filter(|&key| odd_rounds(key)).collect();
        let hits = collection.query(&[7.1, 0.0]).k(5).among(&set).exact().run().unwrap();
        assert_eq!(keys(&hits), expected, "{name}, exact");
    }
}

/// A write transaction's own inserts and removals count, and so they do after years of churn.
#[test]
fn pending_changes_and_churn_count() {
    let library = Library::new(WORDS);
    let mut rng = StdRng::seed_from_u64(SEED);
    let all = words::words().vectors;
    let mut live: BTreeSet<u64> =
        (0..all.len() as u64).filter(|row| row % 50 != 0).map(|row| 3 * row).collect();
    for round in 0..6 {
        let tx = library.store.begin_write().unwrap();
        {
            let mut collection = tx.open_collection(WORDS).unwrap();
            // A third goes, and comes back in the next round.
            for row in (0..all.len()).filter(|row| row % 50 != 0) {
                let key = 3 * row as u64;
                if rng.random_range(0..3) == 0 {
                    if live.remove(&key) {
                        assert!(collection.remove(key).unwrap());
                    } else {
                        live.insert(key);
                        collection.insert(key, &all[row]).unwrap();
                    }
                }
            }
            let set: Vec<u64> = live.iter().copied().filter(|key| key % 4 == 0).collect();
            // Removed ones are named as well.
            let named: Vec<u64> =
                (0..all.len() as u64).map(|row| 3 * row).filter(|key| key % 4 == 0).collect();
            let (mut right, mut expected) = (0, 0);
            for query in &library.queries {
                let truth = keys(&collection.query(query).k(K).exact().among(&set).run().unwrap());
                for hits in [
                    collection.query(query).k(K).among(&named).run().unwrap(),
                    collection.query(query).k(K).filter(|key| key % 4 == 0).run().unwrap(),
                ] {
                    assert_eq!(hits.len(), K, "round {round}, seed {SEED}");
                    assert!(hits.iter().all(|hit| live.contains(&hit.key) && hit.key % 4 == 0));
                    right += hits.iter().filter(|hit| truth.contains(&hit.key)).count();
                    expected += K;
                }
                let few: Vec<u64> = set.iter().copied().take(4).chain([1, 3 * 5000]).collect();
                assert_eq!(collection.query(query).among(&few).run().unwrap().len(), 4);
            }
            let recall = right as f64 / expected as f64;
            assert!(recall >= 0.95, "recall {recall} in round {round}, seed {SEED}");
        }
        tx.commit().unwrap();
    }
    assert!(library.store.check().unwrap().is_clean());
}

#[test]
fn a_filter_that_panics_or_searches_itself_does_no_harm() {
    let library = Library::new(WORDS);
    let collection = library.words();
    let query = &library.queries[11];
    let expected = collection.query(query).k(K).filter(|key| key % 2 == 0).run().unwrap();
    for after in [0, 1, 100, 3000] {
        let calls = Cell::new(0);
        let panics = |_| {
            calls.set(calls.get() + 1);
            assert!(calls.get() <= after, "on purpose");
            false
        };
        let result = catch_unwind(AssertUnwindSafe(|| collection.query(query).filter(panics).run()));
        assert!(result.is_err(), "after {after} calls");
        let again = collection.query(query).k(K).filter(|key| key % 2 == 0).run().unwrap();
        assert_eq!(again, expected, "after {after} calls");
    }
    let nested =
        |key: u64| key.is_multiple_of(2) && collection.query_key(key).k(1).run().unwrap()[0].distance < 0.1;
    assert_eq!(collection.query(query).k(K).filter(nested).run().unwrap(), expected);

    // In a write transaction, which can be committed afterwards.
    let tx = library.store.begin_write().unwrap();
    {
        let mut words = tx.open_collection(WORDS).unwrap();
        words.insert(1, query).unwrap();
        let result =
            catch_unwind(AssertUnwindSafe(|| words.query(query).filter(|_| panic!("on purpose")).run()));
        assert!(result.is_err());
        assert_eq!(words.query(query).k(1).among([1]).run().unwrap()[0].key, 1);
    }
    tx.commit().unwrap();
    assert!(library.store.check().unwrap().is_clean());
}

/// A search that may not go on says so, and what it has found so far is sound.
#[test]
fn a_budget_bounds_a_search_and_tells() {
    let library = Library::new(WORDS);
    let collection = library.words();
    let query = &library.queries[13];
    let ranking = ranking(&collection, query);
    let all: BTreeMap<u64, f32> = ranking.iter().map(|hit| (hit.key, hit.distance)).collect();
    let free = collection.query(query).k(K).run().unwrap();
    for limit in [0, 1, 50, 100, 200, 400] {
        for search in [
            collection.query(query),
            collection.query(query).exact(),
            collection.query(query).filter(|key| key % 4 == 0),
        ] {
            let hits = search.k(K).max_distances(limit).run().unwrap();
            assert!(hits.is_partial(), "limit {limit}");
            // A descent, a row of neighbours or a chunk of a scan, and the re-ranking of ef candidates at most.
            assert!(hits.statistics().distances <= limit + 400, "{limit}: {:?}", hits.statistics());
            assert!(hits.iter().all(|hit| all[&hit.key] == hit.distance), "limit {limit}");
            assert!(hits.is_sorted_by(|a, b| (a.distance, a.key) < (b.distance, b.key)), "limit {limit}");
        }
    }
    let generous =
        collection.query(query).k(K).max_distances(1_000_000).time_limit(Duration::MAX).run().unwrap();
    assert!(!generous.is_partial());
    assert_eq!(generous[..], free[..], "a limit that is not reached changes nothing");

    let hits = collection.query(query).exact().time_limit(Duration::ZERO).run().unwrap();
    assert!(hits.is_partial() && hits.statistics().distances < 200);

    // The flag may be set at any time: here by the filter itself, at its 300th call.
    let flag = AtomicBool::new(false);
    let calls = Cell::new(0);
    let passes = |_| {
        calls.set(calls.get() + 1);
        flag.store(calls.get() == 300 || flag.load(Ordering::Relaxed), Ordering::Relaxed);
        calls.get() % 50 == 0
    };
    let hits = collection.query(query).filter(passes).cancel(&flag).run().unwrap();
    assert!(hits.is_partial() && calls.get() < 300 + 300, "{} calls", calls.get());
    assert!(collection.query(query).cancel(&flag).run().unwrap().is_partial());
    flag.store(false, Ordering::Relaxed);
    assert!(!collection.query(query).cancel(&flag).run().unwrap().is_partial());
}
