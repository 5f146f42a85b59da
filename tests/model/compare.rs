//! Comparing what a store says with the reference.

use std::collections::BTreeSet;

use nestling::{Codes, Collection, CollectionMut, Element, Hit, Query, Result, Strategy, Within};

use super::dice::Dice;
use super::evidence::{Case, Evidence};
use super::reference::{Distance, Shelf};

/// A collection, whether in a snapshot or in a write transaction.
pub trait Readable {
    const IN_TRANSACTION: bool;
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool;
    fn contains(&self, key: u64) -> Result<bool>;
    fn get(&self, key: u64) -> Result<Option<Vec<f32>>>;
    fn keys(&self) -> Result<Vec<u64>>;
    fn vectors(&self) -> Result<Vec<(u64, Vec<f32>)>>;
    fn search(&self, vector: &[f32], k: usize) -> Result<Vec<Hit>>;
    fn query<'a>(&'a self, vector: &'a [f32]) -> Query<'a>;
    fn query_key(&self, key: u64) -> Query<'_>;
    fn within<'a>(&'a self, vector: &'a [f32], radius: f32) -> Within<'a>;
    /// Pages, where there are any: a write transaction has none.
    fn browse(&self, vector: &[f32], page_size: usize, ef: usize) -> Option<Vec<Vec<Hit>>>;
}

macro_rules! readable {
    ($collection:ty, in transaction: $in_transaction:literal, pages: $pages:expr) => {
        impl Readable for $collection {
            const IN_TRANSACTION: bool = $in_transaction;
            fn len(&self) -> u64 {
                self.len()
            }
            fn is_empty(&self) -> bool {
                self.is_empty()
            }
            fn contains(&self, key: u64) -> Result<bool> {
                self.contains(key)
            }
            fn get(&self, key: u64) -> Result<Option<Vec<f32>>> {
                Ok(self.get(key)?.map(|vector| vector.into_owned()))
            }
            fn keys(&self) -> Result<Vec<u64>> {
                self.keys()?.collect()
            }
            fn vectors(&self) -> Result<Vec<(u64, Vec<f32>)>> {
                self.iter()?.map(|entry| entry.map(|(key, vector)| (key, vector.into_owned()))).collect()
            }
            fn search(&self, vector: &[f32], k: usize) -> Result<Vec<Hit>> {
                self.search(vector, k)
            }
            fn query<'a>(&'a self, vector: &'a [f32]) -> Query<'a> {
                self.query(vector)
            }
            fn query_key(&self, key: u64) -> Query<'_> {
                self.query_key(key)
            }
            fn within<'a>(&'a self, vector: &'a [f32], radius: f32) -> Within<'a> {
                self.within(vector, radius)
            }
            fn browse(&self, vector: &[f32], page_size: usize, ef: usize) -> Option<Vec<Vec<Hit>>> {
                let pages: fn(&$collection, &[f32], usize, usize) -> Option<Vec<Vec<Hit>>> = $pages;
                pages(self, vector, page_size, ef)
            }
        }
    };
}

readable!(Collection, in transaction: false, pages: |collection, vector, page_size, ef| {
    let pages = collection.browse(vector, page_size).unwrap().ef(ef);
    Some(pages.map(|page| page.unwrap().into_vec()).collect())
});
readable!(CollectionMut<'_>, in transaction: true, pages: |_, _, _, _| None);

/// Everything the collection holds is everything the shelf holds, bit for bit, in order.
pub fn content<R: Readable>(collection: &R, shelf: &Shelf, dice: &mut Dice) {
    let context = || format!("{:?}", shelf.spec);
    assert_eq!(collection.len(), shelf.vectors.len() as u64, "len of {}", context());
    assert_eq!(collection.is_empty(), shelf.vectors.is_empty(), "is_empty of {}", context());
    let keys: Vec<u64> = shelf.vectors.keys().copied().collect();
    assert_eq!(collection.keys().unwrap(), keys, "keys of {}", context());
    let found = collection.vectors().unwrap();
    assert_eq!(found.len(), keys.len(), "iter of {}", context());
    for ((key, vector), (expected_key, expected)) in found.iter().zip(&shelf.vectors) {
        assert_eq!(key, expected_key, "iter of {}", context());
        assert_same_bits(vector, expected, *key, shelf);
    }
    for _ in 0..keys.len().min(20) {
        key(collection, shelf, dice.pick(&keys));
    }
    for _ in 0..4 {
        key(collection, shelf, dice.below(shelf.spec.keys + 2) as u64);
    }
    key(collection, shelf, u64::MAX);
}

/// The collection has the key exactly if the shelf has it, with the same vector.
pub fn key<R: Readable>(collection: &R, shelf: &Shelf, key: u64) {
    let expected = shelf.vectors.get(&key);
    assert_eq!(collection.contains(key).unwrap(), expected.is_some(), "contains({key}) in {:?}", shelf.spec);
    match (collection.get(key).unwrap(), expected) {
        (Some(found), Some(expected)) => assert_same_bits(&found, expected, key, shelf),
        (found, expected) => {
            assert_eq!(found.is_some(), expected.is_some(), "get({key}) in {:?}", shelf.spec);
        }
    }
}

fn assert_same_bits(found: &[f32], expected: &[f32], key: u64, shelf: &Shelf) {
    let same = found.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits()));
    assert!(same, "the vector of key {key} is {found:?} where {expected:?} was inserted; {:?}", shelf.spec);
}

/// Searches with seeded queries of all kinds, each in every way there is.
pub fn searches<R: Readable>(collection: &R, shelf: &Shelf, dice: &mut Dice, evidence: &mut Evidence) {
    let live = shelf.vectors.len();
    evidence.saw_if(live >= 300, Case::ThreeHundredVectors);
    evidence.saw_if(live > 64 && shelf.largest_crowd() >= 200, Case::CrowdOfDuplicates);
    for _ in 0..dice.within(1..=3) {
        let k = dice.pick(&[0, 1, 2, 10, 10, 10, live / 2, live, live + 7, usize::MAX]);
        let stored = shelf.any_key(dice).filter(|_| dice.percent(50));
        if let Some(key) = stored {
            let vector = &shelf.vectors[&key];
            let by_key = collection.query_key(key).k(k).exact().run().unwrap();
            nearest(&by_key, shelf, vector, k);
            search(collection, shelf, vector, k, dice, evidence);
        } else {
            let key = dice.below(shelf.spec.keys) as u64;
            let vector = shelf.spec.vector(key, dice);
            search(collection, shelf, &vector, k, dice, evidence);
        }
    }
}

fn search<R: Readable>(
    collection: &R,
    shelf: &Shelf,
    query: &[f32],
    k: usize,
    dice: &mut Dice,
    evidence: &mut Evidence,
) {
    let live = shelf.vectors.len();
    let exact = collection.query(query).k(k).exact().run().unwrap();
    nearest(&exact, shelf, query, k);

    // A search that may keep everything finds everything, and so gives the exact answer to the bit.
    let exhaustive = collection.query(query).k(k).ef(live).run().unwrap();
    assert_eq!(exhaustive[..], exact[..], "ef = {live} differs from exact, k = {k}, {:?}", shelf.spec);
    let walked = live > 64 && k > 0;
    if walked {
        let expanded = exhaustive.statistics().expanded;
        assert!(
            expanded >= live as u64,
            "a walk with ef = {live} expanded {expanded} nodes; {:?}",
            shelf.spec
        );
        evidence.saw(Case::ExhaustiveGraphSearch);
        evidence.saw_if(R::IN_TRANSACTION, Case::GraphSearchInTransaction);
    }

    // Narrower ones may miss some of the nearest, but not come back with less than k, nor with a wrong distance.
    let default = collection.search(query, k).unwrap();
    answer(&default, shelf, query, k);
    if walked {
        let right: BTreeSet<u64> = exact.iter().map(|hit| hit.key).collect();
        evidence.approximate_hits += default.len() as u64;
        evidence.approximate_hits_right +=
            default.iter().filter(|hit| right.contains(&hit.key)).count() as u64;
    }
    let narrow = collection.query(query).k(k).ef(1).run().unwrap();
    answer(&narrow, shelf, query, k);
    let asked = collection.query(query).k(k).recall(dice.pick(&[0.5, 0.9, 0.99])).run().unwrap();
    answer(&asked, shelf, query, k);
    let complete = collection.query(query).k(k).recall(1.0).run().unwrap();
    assert_eq!(complete[..], exact[..], "a recall of 1, k = {k}, {:?}", shelf.spec);
    filtered(collection, shelf, query, k, dice, evidence);
    within(collection, shelf, query, dice, evidence);
    pages(collection, shelf, query, dice, evidence);
    evidence.saw_if(walked, Case::GraphSearch);
    evidence.saw_if(walked && shelf.spec.codes == Codes::None, Case::GraphSearchWithoutCodes);
    evidence.saw_if(walked && shelf.spec.element != Element::F32, Case::GraphSearchOnSmallElements);
    evidence.saw_if(!walked && k > 0 && live > 0, Case::ScannedSearch);
}

/// With a filter, a search is one of a collection that holds nothing but what passes.
fn filtered<R: Readable>(
    collection: &R,
    shelf: &Shelf,
    query: &[f32],
    k: usize,
    dice: &mut Dice,
    evidence: &mut Evidence,
) {
    let percent = dice.pick(&[0, 1, 10, 50, 90, 100]);
    // Keys that are not there may be named as well.
    let named: Vec<u64> = (0..shelf.spec.keys as u64 + 2).filter(|_| dice.percent(percent)).collect();
    let passes = |key: u64| named.binary_search(&key).is_ok();
    let mut passing = shelf.clone();
    passing.vectors.retain(|&key, _| passes(key));
    let live = shelf.vectors.len();
    let search = || collection.query(query).k(k);
    for (set, closure) in [
        (search().among(&named).exact(), search().filter(passes).exact()),
        (search().among(&named).ef(live), search().filter(passes).ef(live)),
    ] {
        let (by_set, by_closure) = (set.run().unwrap(), closure.run().unwrap());
        nearest(&by_set, &passing, query, k);
        assert_eq!(by_set[..], by_closure[..], "a set and a closure, k = {k}, {:?}", shelf.spec);
    }
    for approximate in [search().among(&named), search().filter(passes), search().filter(passes).ef(1)] {
        let hits = approximate.run().unwrap();
        answer(&hits, &passing, query, k);
        let strategy = hits.statistics().strategy;
        evidence.saw_if(strategy == Strategy::WalkThenScan, Case::FilteredSearchGivenUp);
        evidence.saw_if(strategy == Strategy::Walk && !hits.is_empty(), Case::FilteredWalk);
        evidence.saw_if(strategy == Strategy::Walk && R::IN_TRANSACTION, Case::FilteredWalkInTransaction);
    }
}

/// What lies within a radius is a beginning of all that there is, from near to far.
fn within<R: Readable>(
    collection: &R,
    shelf: &Shelf,
    query: &[f32],
    dice: &mut Dice,
    evidence: &mut Evidence,
) {
    let live = shelf.vectors.len();
    let all = collection.query(query).k(live).exact().run().unwrap();
    let radius = match all.get(dice.below(live + 1)) {
        Some(hit) => hit.distance,
        None => dice.pick(&[f32::NEG_INFINITY, f32::INFINITY]),
    };
    let inside = &all[..all.partition_point(|hit| hit.distance <= radius)];
    let limit = dice.pick(&[0, 1, 10, live, usize::MAX]);
    let search = || collection.within(query, radius).limit(limit);
    for hits in [search().exact().run().unwrap(), search().ef(live).run().unwrap()] {
        assert_eq!(hits[..], inside[..limit.min(inside.len())], "within {radius:e}, {:?}", shelf.spec);
        assert_eq!(hits.is_cut(), inside.len() > limit, "within {radius:e}, {:?}", shelf.spec);
    }
    let hits = search().run().unwrap();
    let known: BTreeSet<(u64, u32)> = inside.iter().map(|hit| (hit.key, hit.distance.to_bits())).collect();
    assert!(
        hits.iter().all(|hit| known.contains(&(hit.key, hit.distance.to_bits()))),
        "within {radius:e}, {:?}",
        shelf.spec
    );
    answer(&hits, shelf, query, hits.len());
    evidence.saw_if(hits.statistics().strategy == Strategy::Walk && !hits.is_empty(), Case::RadiusWalk);
    evidence.saw_if(hits.statistics().strategy == Strategy::WalkThenScan, Case::RadiusWalkGivenUp);
}

/// Pages hold everything once.
fn pages<R: Readable>(
    collection: &R,
    shelf: &Shelf,
    query: &[f32],
    dice: &mut Dice,
    evidence: &mut Evidence,
) {
    let live = shelf.vectors.len();
    let page_size = dice.pick(&[1, 7, 50, live.max(1), usize::MAX]);
    for ef in [live, dice.pick(&[0, 10, 64])] {
        let Some(pages) = collection.browse(query, page_size, ef) else { return };
        let full = pages.iter().rev().skip(1).all(|page| page.len() == page_size);
        assert!(full && pages.iter().all(|page| !page.is_empty()), "pages of {page_size}, {:?}", shelf.spec);
        let mut hits = pages.concat();
        let distance_then_key = |a: &Hit, b: &Hit| a.distance.total_cmp(&b.distance).then(a.key.cmp(&b.key));
        if ef < live {
            hits.sort_by(distance_then_key);
        }
        let all = collection.query(query).k(live).exact().run().unwrap();
        assert_eq!(hits[..], all[..], "pages of {page_size} with ef {ef}, {:?}", shelf.spec);
        evidence.saw_if(pages.len() > 2, Case::SeveralPages);
    }
}

/// The hits are k different keys with their distances, nearest first, ties in key order.
fn answer(hits: &[Hit], shelf: &Shelf, query: &[f32], k: usize) {
    let context = || format!("k = {k}, {} vectors, {:?}", shelf.vectors.len(), shelf.spec);
    assert_eq!(hits.len(), k.min(shelf.vectors.len()), "number of hits; {}", context());
    let keys: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
    assert_eq!(keys.len(), hits.len(), "a key was found twice; {}", context());
    let ordered = |a: &Hit, b: &Hit| a.distance < b.distance || (a.distance == b.distance && a.key < b.key);
    assert!(hits.windows(2).all(|pair| ordered(&pair[0], &pair[1])), "the order of {hits:?}; {}", context());
    for hit in hits {
        let vector = shelf.vectors.get(&hit.key);
        let vector = vector.unwrap_or_else(|| panic!("found {hit:?}, which is not there; {}", context()));
        let Distance { value, tolerance } = Distance::between(shelf.spec.metric, query, vector);
        let off = (f64::from(hit.distance) - value).abs();
        assert!(off <= tolerance, "{hit:?}: the distance is {value:e} ± {tolerance:e}; {}", context());
    }
}

/// The hits are the k nearest by brute force. Among those whose distances f32 cannot tell apart, any may be taken.
fn nearest(hits: &[Hit], shelf: &Shelf, query: &[f32], k: usize) {
    answer(hits, shelf, query, k);
    let k = hits.len();
    let found: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
    let metric = shelf.spec.metric;
    let distances: Vec<(u64, Distance)> =
        shelf.vectors.iter().map(|(&key, vector)| (key, Distance::between(metric, query, vector))).collect();
    let sorted = |bound: fn(&Distance) -> f64| {
        let mut bounds: Vec<f64> = distances.iter().map(|(_, distance)| bound(distance)).collect();
        bounds.sort_by(f64::total_cmp);
        bounds
    };
    let lowest = sorted(|d| d.value - d.tolerance);
    let highest = sorted(|d| d.value + d.tolerance);
    for (key, d) in &distances {
        // Whether it is among the k nearest whatever the rounding, or is not.
        let surely_in = lowest.partition_point(|&low| low <= d.value + d.tolerance) <= k;
        let surely_out = highest.partition_point(|&high| high < d.value - d.tolerance) >= k;
        let is_in = found.contains(key);
        assert!(!surely_in || is_in, "key {key} at {:e} was missed, k = {k}, {:?}", d.value, shelf.spec);
        assert!(!surely_out || !is_in, "key {key} at {:e} is too far, k = {k}, {:?}", d.value, shelf.spec);
    }
}
