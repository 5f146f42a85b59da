//! Searches of every kind with every parameter, on collections of every metric, with and without codes.
//!
//! What cannot be searched with is refused as input. Whatever else is asked is answered by as many different keys as there are to be
//! found, nearest first, with their distances; exact searches are compared with brute force.

#![no_main]

#[path = "../../tests/model/dice.rs"]
mod dice;
#[path = "../../tests/model/reference.rs"]
mod reference;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use dice::Dice;
use libfuzzer_sys::fuzz_target;
use nestling::{Codes, Collection, Element, Hit, Hits, Metric, Query, Result, Store};
use reference::{Distance, Shape, Shelf, Spec};

fuzz_target!(|bytes: &[u8]| {
    // Input that is too short for a question asks nothing.
    if let Ok(question) = Question::arbitrary(&mut Unstructured::new(bytes)) {
        let library = &*LIBRARY;
        let (collection, shelf) = &library[usize::from(question.collection) % library.len()];
        Asked { collection, shelf, question: &question }.ask();
    }
});

// ------------------------------------------------------------------------------------------------------------ what is asked

#[derive(Debug, Arbitrary)]
struct Question {
    collection: u8,
    vector: Vector,
    form: Form,
}

#[derive(Debug, Arbitrary)]
enum Vector {
    /// Of a key, which may be there.
    Key(u8),
    /// That of a key, with a component changed.
    Near(u8, u8, Component),
    /// Repeated up to the dimension.
    Of(Vec<Component>),
    OfAnyLength(Vec<Component>),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Component {
    Bits(u32),
    Small(i8),
    Special(u8),
}

#[derive(Debug, Arbitrary)]
enum Form {
    Search(Search),
    Within { radius: Component, hit: Option<u8>, limit: Number, ef: Option<Number>, exact: bool },
    Browse { page_size: Number, ef: Option<Number>, pages: u8 },
}

#[derive(Debug, Arbitrary)]
struct Search {
    k: Number,
    effort: Effort,
    filters: Vec<Filter>,
    max_distances: Option<u16>,
    microseconds: Option<u8>,
    cancelled: Option<bool>,
    by_key: bool,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Number {
    Small(u8),
    Any(usize),
    Largest,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Effort {
    Unstated,
    Ef(Number),
    Recall(u8),
    AnyRecall(f64),
    Exact,
}

#[derive(Debug, Clone, Arbitrary)]
enum Filter {
    Among(Vec<u8>),
    AmongFarKeys(Vec<u64>),
    Every { nth: u8, from: u8 },
}

impl Component {
    fn value(self) -> f32 {
        const SPECIAL: [f32; 14] = [
            0.0,
            -0.0,
            1.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            // The norm may be so large, and no larger.
            9.223_371e18,
            9.223_373e18,
            1e-19,
            1e15,
        ];
        match self {
            Component::Bits(bits) => f32::from_bits(bits),
            Component::Small(n) => f32::from(n) / 16.0,
            Component::Special(n) => SPECIAL[usize::from(n) % SPECIAL.len()],
        }
    }
}

impl Number {
    fn value(self) -> usize {
        match self {
            Number::Small(n) => n.into(),
            Number::Any(n) => n,
            Number::Largest => usize::MAX,
        }
    }
}

impl Filter {
    fn passes(&self, key: u64) -> bool {
        match self {
            Filter::Among(keys) => keys.iter().any(|&named| u64::from(named) == key),
            Filter::AmongFarKeys(keys) => keys.contains(&key),
            Filter::Every { nth, from } => key % u64::from((*nth).max(1)) == u64::from(*from),
        }
    }

    fn apply<'a>(&'a self, query: Query<'a>) -> Query<'a> {
        match self {
            Filter::Among(keys) => query.among(keys.iter().map(|&key| key.into()).collect::<Vec<u64>>()),
            Filter::AmongFarKeys(keys) => query.among(keys),
            Filter::Every { .. } => query.filter(|key| self.passes(key)),
        }
    }
}

// --------------------------------------------------------------------------------------------------- whom it is asked of

/// Collections of every kind, and what they hold.
static LIBRARY: LazyLock<Vec<(Collection, Shelf)>> = LazyLock::new(|| {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path().join("store")).unwrap();
    let mut shelves = Vec::new();
    let sizes = [(3, 0), (5, 3), (2, 70), (33, 250), (1, 250)];
    let shapes = [Shape::Clustered, Shape::Extreme, Shape::Crowd, Shape::Signs, Shape::Sorted];
    for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
        for codes in [Codes::SevenBit, Codes::None] {
            for ((dimension, n), shape) in sizes.into_iter().zip(shapes) {
                shelves.push(shelf(shelves.len(), metric, codes, dimension, shape, n));
            }
        }
    }
    // Large enough to have measured itself, for searches by recall.
    shelves.push(shelf(shelves.len(), Metric::L2, Codes::SevenBit, 4, Shape::Clustered, 1500));
    let tx = store.begin_write().unwrap();
    for shelf in &shelves {
        let mut collection = tx.open_collection(shelf.spec.definition()).unwrap();
        collection.insert_many(shelf.vectors.iter().map(|(&key, vector)| (key, vector))).unwrap();
        // With free slots.
        let gone: Vec<u64> = (1000..1010).collect();
        let vector = vec![1.0; shelf.spec.dimension];
        collection.insert_many(gone.iter().map(|&key| (key, &vector))).unwrap();
        gone.iter().for_each(|&key| assert!(collection.remove(key).unwrap() || shelf.vectors.len() > 1000));
        for key in gone.iter().filter(|key| shelf.vectors.contains_key(key)) {
            collection.insert(*key, &shelf.vectors[key]).unwrap();
        }
    }
    tx.commit().unwrap();
    let snapshot = store.begin_read().unwrap();
    let open = |shelf: &Shelf| snapshot.open_collection(shelf.spec.definition()).unwrap();
    // The collections keep the files open; their names may go.
    shelves.into_iter().map(|shelf| (open(&shelf), shelf)).collect()
});

fn shelf(number: usize, metric: Metric, codes: Codes, dimension: usize, shape: Shape, n: u64) -> Shelf {
    let element = [Element::F32, Element::F16, Element::I8][number % 3];
    let name = format!("collection {number}").leak();
    let seed = number as u64;
    let (m, m0, ef_construction) = (4, 8, 40);
    let spec =
        Spec { name, dimension, metric, m, m0, ef_construction, seed, codes, element, shape, keys: 256 };
    let mut dice = Dice::new(seed);
    let mut shelf = Shelf::new(spec, 0);
    shelf.vectors = (0..n).map(|key| (key, spec.vector(key, &mut dice).into())).collect();
    shelf
}

// ------------------------------------------------------------------------------------------------------- what is right

struct Asked<'a> {
    collection: &'a Collection,
    shelf: &'a Shelf,
    question: &'a Question,
}

impl Asked<'_> {
    fn ask(&self) {
        let vector = self.vector();
        match &self.question.form {
            Form::Search(search) => self.search(search, &vector),
            Form::Within { radius, hit, limit, ef, exact } => {
                let (limit, ef) = (limit.value(), ef.map(Number::value));
                self.within(&vector, self.radius(*radius, *hit, &vector), limit, ef, *exact);
            }
            Form::Browse { page_size, ef, pages } => {
                self.browse(&vector, page_size.value(), ef.map(Number::value), (*pages).into());
            }
        }
    }

    fn vector(&self) -> Vec<f32> {
        let dimension = self.shelf.spec.dimension;
        let stored = |key: u8| match self.shelf.vectors.get(&key.into()) {
            Some(vector) => vector.to_vec(),
            None => vec![1.0; dimension],
        };
        match &self.question.vector {
            Vector::Key(key) => stored(*key),
            Vector::Near(key, at, component) => {
                let mut vector = stored(*key);
                vector[usize::from(*at) % dimension] = component.value();
                vector
            }
            Vector::OfAnyLength(components) => components.iter().map(|component| component.value()).collect(),
            Vector::Of(components) if components.is_empty() => vec![0.5; dimension],
            Vector::Of(components) => {
                components.iter().cycle().take(dimension).map(|component| component.value()).collect()
            }
        }
    }

    /// Some number, or just that of a hit.
    fn radius(&self, radius: Component, hit: Option<u8>, vector: &[f32]) -> f32 {
        let hits = self.collection.query(vector).k(256).exact().run();
        match (hit, hits) {
            (Some(hit), Ok(hits)) => hits.get(usize::from(hit)).map_or(radius.value(), |hit| hit.distance),
            _ => radius.value(),
        }
    }

    /// Whether the vector may be searched with; `None` where rounding decides.
    fn accepted(&self, vector: &[f32]) -> Option<bool> {
        if vector.len() != self.shelf.spec.dimension || vector.iter().any(|x| !x.is_finite()) {
            return Some(false);
        }
        let squared: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let beside = |x: f64, bound: f64| (x - bound).abs() < 1e-6 * bound;
        let (most, least) = (f64::from(f32::MAX) / 4.0, f64::from(f32::MIN_POSITIVE));
        let cosine = self.shelf.spec.metric == Metric::Cosine;
        if beside(squared, most) || (cosine && beside(squared.sqrt(), least)) {
            return None;
        }
        Some(squared < most && (!cosine || squared.sqrt() > least))
    }

    /// The answer to what may be asked; a typed error where it may not be.
    fn answer<T>(&self, result: Result<T>, accepted: Option<bool>) -> Option<T> {
        match result {
            Ok(answer) => {
                assert_ne!(accepted, Some(false), "answered: {:?}, {:?}", self.question, self.shelf.spec);
                Some(answer)
            }
            Err(e) => {
                let refused = e.is_input() && accepted != Some(true);
                assert!(refused, "{e}: {:?}, {:?}", self.question, self.shelf.spec);
                None
            }
        }
    }

    fn search(&self, search: &Search, vector: &[f32]) {
        let key = match self.question.vector {
            Vector::Key(key) if search.by_key => Some(u64::from(key)),
            _ => None,
        };
        let recall = match search.effort {
            Effort::Recall(percent) => Some(f64::from(percent) / 100.0),
            Effort::AnyRecall(recall) => Some(recall),
            _ => None,
        };
        let cancel = AtomicBool::new(search.cancelled == Some(true));
        let refine = |query| refine(query, search, recall, &cancel);
        let query = match key {
            Some(key) => self.collection.query_key(key),
            None => self.collection.query(vector),
        };
        let known = key.is_none_or(|key| self.shelf.vectors.contains_key(&key));
        let effort = recall.is_none_or(|recall| recall > 0.0 && recall <= 1.0);
        let accepted = self.accepted(vector).map(|accepted| accepted && known && effort);
        let Some(hits) = self.answer(refine(query).run(), accepted) else { return };
        let passes = |key| search.filters.iter().all(|filter| filter.passes(key));
        let limited = search.max_distances.is_some() || search.microseconds.is_some();
        assert!(!hits.is_partial() || limited || search.cancelled == Some(true), "{:?}", self.question);
        self.check(&hits, vector, passes);
        let allowed = self.shelf.vectors.keys().filter(|&&key| passes(key)).count();
        let k = search.k.value().min(allowed);
        assert!(hits.len() == k || (hits.is_partial() && hits.len() < k), "{} of {k}: {self}", hits.len());
        let live = self.shelf.vectors.len();
        let exhaustive = match search.effort {
            Effort::Exact => true,
            Effort::Ef(ef) => ef.value() >= live,
            Effort::Unstated => live <= 64,
            Effort::Recall(_) | Effort::AnyRecall(_) => recall == Some(1.0),
        };
        if exhaustive && !hits.is_partial() {
            self.assert_none_nearer(&hits, vector, passes);
        }
        if key.is_none() && search.microseconds.is_none() {
            let vectors = [vector; 2];
            let many = self.collection.search_many(&vectors, refine).unwrap();
            assert!(many.iter().all(|one| one[..] == hits[..]), "search_many: {self}");
        }
    }

    fn within(&self, vector: &[f32], radius: f32, limit: usize, ef: Option<usize>, exact: bool) {
        let mut search = self.collection.within(vector, radius).limit(limit);
        search = ef.into_iter().fold(search, |search, ef| search.ef(ef));
        search = if exact { search.exact() } else { search };
        let accepted = self.accepted(vector).map(|accepted| accepted && !radius.is_nan());
        let Some(hits) = self.answer(search.run(), accepted) else { return };
        let passes = |_| true;
        self.check(&hits, vector, passes);
        assert!(hits.len() <= limit && hits.iter().all(|hit| hit.distance <= radius), "{hits:?}: {self}");
        if exact || ef.is_some_and(|ef| ef >= self.shelf.vectors.len()) {
            let all = self.collection.query(vector).k(usize::MAX).exact().run().unwrap();
            let inside = &all[..all.partition_point(|hit| hit.distance <= radius)];
            assert_eq!(hits[..], inside[..limit.min(inside.len())], "{self}");
            assert_eq!(hits.is_cut(), inside.len() > limit, "{self}");
        }
    }

    fn browse(&self, vector: &[f32], page_size: usize, ef: Option<usize>, most: usize) {
        let accepted = self.accepted(vector).map(|accepted| accepted && page_size > 0);
        let Some(mut pages) = self.answer(self.collection.browse(vector, page_size), accepted) else {
            return;
        };
        pages = ef.into_iter().fold(pages, |pages, ef| pages.ef(ef));
        let (mut all, mut ended) = (Vec::new(), false);
        for _ in 0..most {
            let Some(page) = pages.next() else {
                ended = true;
                break;
            };
            let page = page.unwrap();
            let left = self.shelf.vectors.len() - all.len();
            assert_eq!(page.len(), page_size.min(left), "{self}");
            self.check(&page, vector, |_| true);
            all.extend(page);
        }
        let keys: BTreeSet<u64> = all.iter().map(|hit| hit.key).collect();
        assert_eq!(keys.len(), all.len(), "told twice: {self}");
        assert!(!ended || all.len() == self.shelf.vectors.len(), "ended after {}: {self}", all.len());
    }

    /// Different keys that pass, nearest first, each with its distance.
    fn check(&self, hits: &Hits, vector: &[f32], passes: impl Fn(u64) -> bool) {
        let ordered =
            |a: &Hit, b: &Hit| a.distance < b.distance || (a.distance == b.distance && a.key < b.key);
        assert!(hits.windows(2).all(|pair| ordered(&pair[0], &pair[1])), "{hits:?}: {self}");
        let keys: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
        assert!(keys.len() == hits.len() && keys.iter().all(|&key| passes(key)), "{hits:?}: {self}");
        for hit in hits.iter() {
            let Distance { value, tolerance } = self.distance(vector, hit.key);
            assert!((f64::from(hit.distance) - value).abs() <= tolerance, "{hit:?}, not {value:e}: {self}");
        }
    }

    fn assert_none_nearer(&self, hits: &Hits, vector: &[f32], passes: impl Fn(u64) -> bool) {
        let Some(last) = hits.last() else { return };
        let found: BTreeSet<u64> = hits.iter().map(|hit| hit.key).collect();
        for &key in self.shelf.vectors.keys().filter(|key| passes(**key) && !found.contains(key)) {
            let Distance { value, tolerance } = self.distance(vector, key);
            assert!(
                value + 2.0 * tolerance >= f64::from(last.distance),
                "key {key} at {value:e} was missed: {self}"
            );
        }
    }

    fn distance(&self, vector: &[f32], key: u64) -> Distance {
        let stored = self.shelf.vectors.get(&key).unwrap_or_else(|| panic!("{key} is not there: {self}"));
        Distance::between(self.shelf.spec.metric, vector, stored)
    }
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {:?}", self.question, self.shelf.spec)
    }
}

fn refine<'a>(
    query: Query<'a>,
    search: &'a Search,
    recall: Option<f64>,
    cancel: &'a AtomicBool,
) -> Query<'a> {
    let mut query = query.k(search.k.value());
    query = match (search.effort, recall) {
        (Effort::Ef(ef), _) => query.ef(ef.value()),
        (Effort::Exact, _) => query.exact(),
        (_, Some(recall)) => query.recall(recall),
        _ => query,
    };
    query = search.filters.iter().fold(query, |query, filter| filter.apply(query));
    if let Some(distances) = search.max_distances {
        query = query.max_distances(distances.into());
    }
    if let Some(time) = search.microseconds {
        query = query.time_limit(Duration::from_micros(time.into()));
    }
    if search.cancelled.is_some() {
        query = query.cancel(cancel);
    }
    query
}
