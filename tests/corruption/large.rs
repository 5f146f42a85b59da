//! A store of more than 20 MB on real embeddings, and questions whose answers take no longer than the damage deserves.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use nestling::redb::TableDefinition;
use nestling::{Collection, CollectionDefinition, Durability, Hit, Metric, Store};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tempfile::TempDir;

use crate::asking::{Outcome, get, stage};
use crate::layout::Layout;
use crate::words::{DIMENSION, words};

const WORDS: CollectionDefinition = CollectionDefinition::new("words", DIMENSION, Metric::Cosine);
const TEXTS: TableDefinition<u64, &str> = TableDefinition::new("texts");

pub struct Large {
    _dir: TempDir,
    pub path: PathBuf,
    keys: Vec<u64>,
    vectors: BTreeMap<u64, Vec<f32>>,
    walked: HashMap<u64, Vec<Hit>>,
}

impl Large {
    /// The shipped words, and each once more with its components in reverse; some removed, replaced and inserted since, in commits that
    /// are in the journal. The answers are compared with what was stored.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let words = words();
        let reversed = words.vectors.iter().map(|vector| vector.iter().rev().copied().collect());
        let all: Vec<Vec<f32>> = words.vectors.iter().cloned().chain(reversed).collect();
        let mut vectors: BTreeMap<u64, Vec<f32>> = (0..).zip(all.iter().cloned()).collect();
        let store = Store::open(&path).unwrap();
        let mut tx = store.begin_write().unwrap();
        tx.set_durability(Durability::None);
        tx.open_collection(WORDS).unwrap().insert_many((0..).zip(&all)).unwrap();
        for (key, text) in (0..).zip(&words.texts) {
            tx.open_table(TEXTS).unwrap().insert(key, text.as_str()).unwrap();
        }
        tx.commit().unwrap();
        for round in 0..12_u64 {
            let tx = store.begin_write().unwrap();
            let mut collection = tx.open_collection(WORDS).unwrap();
            for i in 0..5 {
                let (gone, replaced) = (round * 700 + i * 31, round * 650 + i * 17 + 5);
                collection.remove(gone).unwrap();
                vectors.remove(&gone);
                let vector = &all[(replaced as usize + 4_000) % all.len()];
                collection.insert(replaced, vector).unwrap();
                vectors.insert(replaced, vector.clone());
            }
            drop(collection);
            tx.commit().unwrap();
        }
        assert!(store.stats().unwrap().journal_entries > 2, "the newest commits are in the journal");
        store.close().unwrap();

        let store = Store::builder().read_only().open(&path).unwrap();
        assert!(store.check().unwrap().is_clean());
        let collection = store.begin_read().unwrap().open_collection(WORDS).unwrap();
        let walked = vectors.iter().map(|(&key, vector)| (key, walk(&collection, vector).unwrap())).collect();
        Self { _dir: dir, path, keys: vectors.keys().copied().collect(), vectors, walked }
    }

    /// The key in the slot that this byte of a file belongs to.
    pub fn key_at(&self, file: &Path, offset: u64) -> Option<u64> {
        let file = File::open(file).unwrap();
        let layout = Layout::read(&file, DIMENSION);
        let slot = layout.slot_at(offset)?;
        Some(layout.tail(&file, slot).key).filter(|key| self.vectors.contains_key(key))
    }

    /// Opens the store and asks: for the key that the damage is next to, for some others, and `whole`: for everything.
    pub fn ask(&self, next_to: Option<u64>, whole: bool, rng: &mut StdRng) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(store) = outcome.open(&self.path) else { return outcome };
        stage("reading");
        match store.begin_read().unwrap().open_collection(WORDS) {
            Ok(collection) => {
                for key in next_to.into_iter().chain(self.keys.sample(rng, 2).copied()) {
                    self.ask_for(key, &collection, &mut outcome);
                }
                outcome.note("len", &(self.vectors.len() as u64), Ok(collection.len()));
                if whole && !outcome.lost_its_way {
                    let expected = self.vectors.iter().map(|(&key, vector)| (key, vector.clone()));
                    outcome.note("iter", &expected.collect(), crate::asking::all(&collection));
                }
            }
            Err(e) => outcome.refuse("opening the collection", &e),
        }
        if whole && !outcome.lost_its_way {
            stage("checking");
            outcome.check(&store);
        }
        outcome
    }

    fn ask_for(&self, key: u64, collection: &Collection, outcome: &mut Outcome) {
        if outcome.lost_its_way {
            return;
        }
        let vector = &self.vectors[&key];
        outcome.note("walk", &self.walked[&key], walk(collection, vector));
        outcome.note("get", &Some(vector.clone()), get(collection, key));
        outcome.note("get nothing", &None, get(collection, key + (1 << 40)));
    }
}

fn walk(collection: &Collection, query: &[f32]) -> Result<Vec<Hit>, nestling::Error> {
    Ok(collection.query(query).k(5).ef(16).run()?.into_vec())
}
