//! Changes made to a collection and to its reference at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use nestling::redb::{Table, TableDefinition};
use nestling::{CollectionMut, Error, Metric, WriteTransaction};

use super::compare;
use super::dice::Dice;
use super::evidence::{Case, Evidence};
use super::reference::Shelf;

/// A table of the app's own that mirrors the collection [`MIRRORED`]: keys to the bytes of their vectors.
pub const MIRROR: TableDefinition<u64, &[u8]> = TableDefinition::new("mirror");
pub const MIRRORED: &str = "a";

/// A collection in the open write transaction beside its shelf. Both get every change, and must answer the same.
pub struct Twin<'a> {
    pub collection: CollectionMut<'a>,
    pub shelf: &'a mut Shelf,
    mirror: Option<Table<'a, u64, &'static [u8]>>,
}

impl<'a> Twin<'a> {
    /// Opens the collection, and so creates it if the shelf is new.
    pub fn open(tx: &'a WriteTransaction, shelf: &'a mut Shelf, dice: &mut Dice) -> Self {
        let brief = shelf.was_filled && dice.percent(30);
        let definition = if brief { shelf.spec.brief_definition() } else { shelf.spec.definition() };
        let mirror = (shelf.spec.name == MIRRORED).then(|| tx.open_table(MIRROR).unwrap());
        Self { collection: tx.open_collection(definition).unwrap(), shelf, mirror }
    }

    pub fn any_key(&self, dice: &mut Dice) -> u64 {
        dice.below(self.shelf.spec.keys) as u64
    }

    /// A key that is there, if any is.
    pub fn live_key(&self, dice: &mut Dice) -> u64 {
        self.shelf.any_key(dice).unwrap_or_else(|| self.any_key(dice))
    }

    pub fn insert(&mut self, key: u64, dice: &mut Dice, evidence: &mut Evidence) {
        let vector = self.shelf.spec.vector(key, dice);
        let replaced = self.collection.insert(key, &vector).unwrap();
        assert_eq!(replaced, self.shelf.vectors.contains_key(&key), "insert({key}), {:?}", self.shelf.spec);
        self.note_insertion(key, vector, evidence);
        compare::key(&self.collection, self.shelf, key);
        assert_eq!(self.collection.len(), self.shelf.vectors.len() as u64);
    }

    /// Inserts `n` keys in one call, with repetitions.
    pub fn insert_many(&mut self, n: usize, dice: &mut Dice, evidence: &mut Evidence) {
        let from = self.any_key(dice);
        let in_a_row = dice.percent(30);
        let mut batch: Vec<(u64, Vec<f32>)> = Vec::with_capacity(n);
        for i in 0..n as u64 {
            let key = match batch.last() {
                Some((last, _)) if dice.percent(5) => *last,
                _ if in_a_row => (from + i) % self.shelf.spec.keys as u64,
                _ => self.any_key(dice),
            };
            batch.push((key, self.shelf.spec.vector(key, dice)));
        }
        let keys: BTreeSet<u64> = batch.iter().map(|(key, _)| *key).collect();
        let expected = keys.iter().filter(|key| self.shelf.vectors.contains_key(key)).count();
        evidence.saw_if(keys.len() < batch.len(), Case::RepeatedKeyInBatch);
        let replaced = self.collection.insert_many(batch.iter().map(|(key, v)| (*key, v))).unwrap();
        assert_eq!(replaced, expected as u64, "insert_many of {n}, {:?}", self.shelf.spec);
        for (key, vector) in batch {
            self.note_insertion(key, vector, evidence);
        }
        assert_eq!(self.collection.len(), self.shelf.vectors.len() as u64);
    }

    fn note_insertion(&mut self, key: u64, vector: Vec<f32>, evidence: &mut Evidence) {
        evidence
            .saw_if(self.shelf.was_filled && self.shelf.vectors.is_empty(), Case::EmptiedCollectionRefilled);
        if let Some(mirror) = &mut self.mirror {
            mirror.insert(key, bytes(&vector).as_slice()).unwrap();
        }
        let replaced = self.shelf.vectors.insert(key, vector.into()).is_some();
        self.shelf.was_filled = true;
        evidence.saw_if(replaced, Case::Update);
    }

    pub fn remove(&mut self, key: u64, evidence: &mut Evidence) {
        let there = self.shelf.vectors.remove(&key).is_some();
        assert_eq!(self.collection.remove(key).unwrap(), there, "remove({key}), {:?}", self.shelf.spec);
        if let Some(mirror) = &mut self.mirror {
            assert_eq!(mirror.remove(key).unwrap().is_some(), there);
        }
        compare::key(&self.collection, self.shelf, key);
        assert_eq!(self.collection.len(), self.shelf.vectors.len() as u64);
        evidence.saw_if(!there, Case::UnknownKeyRemoved);
        evidence.saw_if(there && self.shelf.vectors.is_empty(), Case::CollectionEmptied);
    }

    /// Removes all but `keep` vectors, in one order or another.
    pub fn remove_down_to(&mut self, keep: usize, dice: &mut Dice, evidence: &mut Evidence) {
        let mut keys: Vec<u64> = self.shelf.vectors.keys().copied().collect();
        match dice.below(3) {
            0 => {}
            1 => keys.reverse(),
            _ => dice.shuffle(&mut keys),
        }
        for &key in keys.iter().skip(keep) {
            self.remove(key, evidence);
        }
    }

    /// A bad vector is refused, alone or within a batch, and changes nothing.
    pub fn refuse(&mut self, dice: &mut Dice, evidence: &mut Evidence) {
        let key = self.any_key(dice);
        let good = self.shelf.spec.vector(key, dice);
        let mut bad = good.clone();
        let at = dice.below(bad.len());
        match dice.below(6) {
            0 => bad.push(0.0),
            1 => drop(bad.pop()),
            2 => bad[at] = f32::NAN,
            3 => bad[at] = f32::NEG_INFINITY,
            4 => bad[at] = 1e19,
            _ if self.shelf.spec.metric == Metric::Cosine => bad.fill(1e-40),
            _ => bad[at] = f32::INFINITY,
        }
        let error = if dice.percent(50) {
            self.collection.insert(key, &bad).unwrap_err()
        } else {
            self.collection.insert_many([(key, &good), (key + 1, &bad), (key, &good)]).unwrap_err()
        };
        assert!(matches!(error, Error::WrongDimension { .. } | Error::InvalidVector { .. }), "{error:?}");
        assert!(error.is_input());
        let error = self.collection.query(&bad).run().unwrap_err();
        assert!(error.is_input(), "{error:?}");
        compare::key(&self.collection, self.shelf, key);
        compare::key(&self.collection, self.shelf, key + 1);
        evidence.saw(Case::InputRefused);
    }

    pub fn compare(&mut self, dice: &mut Dice, evidence: &mut Evidence) {
        if dice.percent(50) {
            compare::content(&self.collection, self.shelf, dice);
        }
        compare::searches(&self.collection, self.shelf, dice, evidence);
    }
}

/// What the mirror holds of a vector.
pub fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What the mirror should hold as a whole.
pub fn mirrored(shelf: &Shelf) -> Vec<(u64, Vec<u8>)> {
    shelf.vectors.iter().map(|(&key, vector): (&u64, &Arc<[f32]>)| (key, bytes(vector))).collect()
}
