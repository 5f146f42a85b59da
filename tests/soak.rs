//! A store that lives long: half of it is replaced over and over, and nothing grows.
//!
//! Leaks are small. A slot that is not used again, a page that stays in memory, a map that is not given back, a journal entry that is never
//! removed: each is nothing in a test of a thousand operations, and the end of an app after a year. So the 5,000 words of
//! `examples/data` are put through a life: at any time half of them are stored, and a round replaces half of those by others,
//! removes and restores some and updates others, in transactions of all sizes, with searches in between and snapshots that are held across
//! commits. After the first rounds memory, files and maps have the size that this life takes, and may not grow from there:
//!
//! - anonymous memory in the second half of the run, against that in the first (in the long form: the short one ends while caches still fill);
//! - open files and maps of segments, at the end of each round, against those after loading;
//! - the directory: at most [`MOST_GROWTH`] times what it took after loading;
//! - `check()` is clean every four rounds and at the end, and every stored vector is what it should be;
//! - searches find what they find in a store that is built afresh from the same vectors.
//!
//! ```text
//! cargo test --test soak                                                      what CI runs: some 6,000 operations
//! NESTLING_SOAK_OPERATIONS=100000 cargo test --test soak -- --nocapture       the long form
//! NESTLING_SOAK_SEED=7 …                                                      another life
//! ```

#[path = "common/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use nestling::redb::TableDefinition;
use nestling::{Collection, CollectionDefinition, Durability, Metric, ReadTransaction, Store};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const WORDS: CollectionDefinition = CollectionDefinition::new("words", words::DIMENSION, Metric::Cosine);
const TEXTS: TableDefinition<u64, &str> = TableDefinition::new("texts");

const DEFAULT_OPERATIONS: u64 = 6_000;
/// `check` reads everything; it is made every so many rounds.
const ROUNDS_PER_CHECK: u64 = 4;
/// Against the directory after loading. Half of the words at a time are replaced, and what a snapshot or a transaction that is not
/// durable holds on to cannot be used again in the meantime; files double in size as a collection grows, and redb's file doubles too.
const MOST_GROWTH: f64 = 3.0;
/// The second half of the run may take so much more memory at its peak than the first one at its own.
const MEMORY_TOLERANCE: f64 = 1.05;
const K: usize = 10;
const QUERIES: usize = 200;

#[test]
fn half_of_a_store_is_replaced_again_and_again_and_nothing_grows() {
    let operations = number("NESTLING_SOAK_OPERATIONS").unwrap_or(DEFAULT_OPERATIONS);
    let seed = number("NESTLING_SOAK_SEED").unwrap_or(1);
    println!("NESTLING_SOAK_SEED={seed}, {operations} operations");
    let start = Instant::now();
    let words = words::words();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("soak.nestling");
    let store = Store::open(&path).unwrap();
    let mut life = Life::begin(&store, &words, seed);
    let loaded = Footprint::of(&store, &path);
    println!("loaded: {loaded:?}, {:.1} s", start.elapsed().as_secs_f64());

    let mut footprints = Vec::new();
    while life.operations < operations {
        life.round(&store);
        let footprint = Footprint::of(&store, &path);
        footprint.assert_bounded(&loaded);
        footprints.push(footprint);
        if (footprints.len() as u64).is_multiple_of(ROUNDS_PER_CHECK) {
            println!("{} operations: {footprint:?}, {:.1} s", life.operations, start.elapsed().as_secs_f64());
            assert_clean(&store);
        }
    }
    assert_flat(&footprints);
    assert_clean(&store);
    life.assert_stored(&store);
    println!("{:?}\n{:?} at the end", life.done, footprints.last().unwrap());

    let (lived, fresh) = life.recalls(&store, &directory.path().join("fresh.nestling"));
    println!("recall {lived:.4}, of a fresh store {fresh:.4}; {:.1} s", start.elapsed().as_secs_f64());
    assert!(lived > fresh - 0.01, "recall has gone down to {lived}, a fresh store has {fresh}");
    store.close().unwrap();
}

/// What is stored, and what could be.
struct Life<'a> {
    words: &'a words::Words,
    rng: StdRng,
    /// For each key the word whose vector it has.
    live: BTreeMap<u64, usize>,
    next_key: u64,
    /// Removals, insertions and updates so far.
    operations: u64,
    done: Done,
}

#[derive(Debug, Default)]
struct Done {
    inserted: u64,
    removed: u64,
    updated: u64,
    commits: u64,
    searches: u64,
}

/// What one transaction changes.
enum Change {
    Insert(u64, usize),
    Remove(u64),
}

impl<'a> Life<'a> {
    /// Stores half of the words, in one transaction.
    fn begin(store: &Store, words: &'a words::Words, seed: u64) -> Self {
        let live: BTreeMap<u64, usize> = (0..words.vectors.len()).step_by(2).map(|i| (i as u64, i)).collect();
        let tx = store.begin_write().unwrap();
        let vectors = live.iter().map(|(&key, &word)| (key, &words.vectors[word]));
        tx.open_collection(WORDS).unwrap().insert_many(vectors).unwrap();
        let mut texts = tx.open_table(TEXTS).unwrap();
        for (key, &word) in &live {
            texts.insert(key, words.texts[word].as_str()).unwrap();
        }
        drop(texts);
        tx.commit().unwrap();
        let (rng, next_key) = (StdRng::seed_from_u64(seed), words.vectors.len() as u64);
        Self { words, rng, live, next_key, operations: 0, done: Done::default() }
    }

    /// Replaces a half of what is stored by words that are not, and updates a tenth.
    fn round(&mut self, store: &Store) {
        let stored: BTreeSet<usize> = self.live.values().copied().collect();
        let mut others: Vec<usize> = (0..self.words.vectors.len()).filter(|i| !stored.contains(i)).collect();
        let mut keys: Vec<u64> = self.live.keys().copied().collect();
        others.shuffle(&mut self.rng);
        keys.shuffle(&mut self.rng);
        let (half, tenth) = (keys.len() / 2, keys.len() / 10);
        let mut changes = Vec::new();
        for (&removed, &word) in keys[..half].iter().zip(&others) {
            changes.push(Change::Remove(removed));
            changes.push(Change::Insert(self.next_key, word));
            self.next_key += 1;
        }
        for (&key, &word) in keys[half..].iter().zip(&others[half..]).take(tenth) {
            changes.push(Change::Insert(key, word));
        }
        changes.shuffle(&mut self.rng);

        let mut held: Option<ReadTransaction> = None;
        let mut rest = changes.as_slice();
        while !rest.is_empty() {
            let most = if self.rng.random_ratio(1, 12) { 400 } else { 24 };
            let (some, later) = rest.split_at(self.rng.random_range(1..=most).min(rest.len()));
            rest = later;
            self.transact(store, some);
            match self.rng.random_range(0..4) {
                0 => held = Some(store.begin_read().unwrap()),
                1 => held = None,
                _ => {}
            }
            let latest = store.begin_read().unwrap();
            self.search(&latest);
            if let Some(snapshot) = &held {
                self.search(snapshot);
            }
        }
    }

    fn transact(&mut self, store: &Store, changes: &[Change]) {
        let mut tx = store.begin_write().unwrap();
        if self.rng.random_ratio(1, 4) {
            tx.set_durability(Durability::None);
        }
        let mut collection = tx.open_collection(WORDS).unwrap();
        let mut texts = tx.open_table(TEXTS).unwrap();
        for change in changes {
            match *change {
                Change::Insert(key, word) => {
                    let replaced = collection.insert(key, &self.words.vectors[word]).unwrap();
                    texts.insert(key, self.words.texts[word].as_str()).unwrap();
                    assert_eq!(replaced, self.live.insert(key, word).is_some());
                    if replaced { self.done.updated += 1 } else { self.done.inserted += 1 }
                }
                Change::Remove(key) => {
                    assert!(collection.remove(key).unwrap() && self.live.remove(&key).is_some());
                    texts.remove(key).unwrap();
                    self.done.removed += 1;
                }
            }
        }
        drop((collection, texts));
        tx.commit().unwrap();
        self.operations += changes.len() as u64;
        self.done.commits += 1;
    }

    /// A search returns what it was asked for, in a snapshot of whatever age.
    fn search(&mut self, snapshot: &ReadTransaction) {
        let collection = snapshot.open_collection(WORDS).unwrap();
        let word = self.rng.random_range(0..self.words.vectors.len());
        let hits = collection.search(&self.words.vectors[word], K).unwrap();
        assert_eq!(hits.len(), K, "of {} vectors", collection.len());
        self.done.searches += 1;
    }

    /// Everything that should be there is, bit by bit, and nothing else.
    fn assert_stored(&self, store: &Store) {
        let snapshot = store.begin_read().unwrap();
        let (collection, texts) =
            (snapshot.open_collection(WORDS).unwrap(), snapshot.open_table(TEXTS).unwrap());
        assert_eq!(collection.len(), self.live.len() as u64);
        assert_eq!(texts.len().unwrap(), self.live.len() as u64);
        for ((key, &word), entry) in self.live.iter().zip(collection.iter().unwrap()) {
            let (found, vector) = entry.unwrap();
            assert_eq!((found, &*vector), (*key, self.words.vectors[word].as_slice()));
            assert_eq!(texts.get(key).unwrap().unwrap().value(), self.words.texts[word]);
        }
    }

    /// How much of the nearest is found by default, here and in a store that is built from the same vectors.
    fn recalls(&self, store: &Store, path: &Path) -> (f64, f64) {
        let fresh = Store::open(path).unwrap();
        let tx = fresh.begin_write().unwrap();
        let vectors = self.live.iter().map(|(&key, &word)| (key, &self.words.vectors[word]));
        tx.open_collection(WORDS).unwrap().insert_many(vectors).unwrap();
        tx.commit().unwrap();
        let stored: BTreeSet<usize> = self.live.values().copied().collect();
        let others = (0..self.words.vectors.len()).filter(|i| !stored.contains(i));
        let queries: Vec<&[f32]> = others.take(QUERIES).map(|i| self.words.vectors[i].as_slice()).collect();
        let recall =
            |store: &Store| recall(&store.begin_read().unwrap().open_collection(WORDS).unwrap(), &queries);
        (recall(store), recall(&fresh))
    }
}

fn recall(collection: &Collection, queries: &[&[f32]]) -> f64 {
    let found = queries.iter().map(|query| {
        let nearest = collection.query(query).k(K).exact().run().unwrap();
        let nearest: BTreeSet<u64> = nearest.iter().map(|hit| hit.key).collect();
        collection.search(query, K).unwrap().iter().filter(|hit| nearest.contains(&hit.key)).count()
    });
    found.sum::<usize>() as f64 / (K * queries.len()) as f64
}

fn assert_clean(store: &Store) {
    let report = store.check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// What a store takes of the system.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    bytes_on_disk: u64,
    /// What only Linux tells.
    system: Option<System>,
}

/// What the process takes.
#[derive(Debug, Clone, Copy)]
struct System {
    anonymous_kib: u64,
    open_files: usize,
    segments_mapped: usize,
}

impl Footprint {
    fn of(store: &Store, path: &Path) -> Self {
        let system = cfg!(target_os = "linux").then(|| System::of(path));
        Self { bytes_on_disk: store.bytes_on_disk().unwrap(), system }
    }

    fn assert_bounded(&self, loaded: &Self) {
        let growth = self.bytes_on_disk as f64 / loaded.bytes_on_disk as f64;
        assert!(growth < MOST_GROWTH, "the directory has grown {growth:.2} times: {self:?} after {loaded:?}");
        if let (Some(now), Some(loaded)) = (self.system, loaded.system) {
            // A collection that has grown has two segments more at most, as they double in size.
            assert!(now.segments_mapped <= loaded.segments_mapped + 2, "{self:?} after {loaded:?}");
            assert!(now.open_files <= loaded.open_files + 2, "{self:?} after {loaded:?}");
        }
    }
}

impl System {
    fn of(path: &Path) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let path = path.to_str().unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        Self {
            anonymous_kib: anonymous.trim().trim_end_matches(" kB").parse().unwrap(),
            open_files: fs::read_dir("/proc/self/fd").unwrap().count(),
            segments_mapped: maps
                .lines()
                .filter(|line| line.contains(path) && line.contains(".vectors"))
                .count(),
        }
    }
}

/// The second half takes as much as the first. The first quarter is left out: caches fill then.
fn assert_flat(footprints: &[Footprint]) {
    let settled = &footprints[footprints.len() / 4..];
    let (first, second) = settled.split_at(settled.len() / 2);
    let memory = |half: &[Footprint]| half.iter().filter_map(|f| Some(f.system?.anonymous_kib)).max();
    let disk = |half: &[Footprint]| half.iter().map(|f| f.bytes_on_disk).max();
    println!(
        "at most, in the halves: {:?} and {:?} KiB of memory, {:?} and {:?} bytes on disk",
        memory(first),
        memory(second),
        disk(first),
        disk(second)
    );
    // Two rounds tell nothing.
    if first.len() < 4 {
        return;
    }
    if let (Some(first), Some(second)) = (memory(first), memory(second)) {
        let growth = second as f64 / first as f64;
        assert!(growth < MEMORY_TOLERANCE, "memory has grown {growth:.3} times from one half to the other");
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}
