//! A snapshot that is held, with what it must go on showing.

use std::sync::Arc;

use nestling::redb::TableDefinition;
use nestling::{Collection, Error, ReadTable, ReadTransaction};

use super::compare;
use super::dice::Dice;
use super::evidence::Evidence;
use super::reference::Reference;
use super::twin::{MIRROR, MIRRORED, mirrored};

/// A table of the app's own that has nothing to do with any collection.
pub const NOTES: TableDefinition<u64, u64> = TableDefinition::new("notes");

pub struct Snapshot {
    /// `None` when only the handles are held: each keeps the snapshot alive by itself.
    transaction: Option<ReadTransaction>,
    collections: Vec<(&'static str, Collection)>,
    mirror: Option<ReadTable<u64, &'static [u8]>>,
    notes: Option<ReadTable<u64, u64>>,
    reference: Arc<Reference>,
    /// How many commits the sequence had made when this was taken.
    pub taken_after: u64,
}

impl Snapshot {
    pub fn take(
        transaction: ReadTransaction,
        reference: Arc<Reference>,
        taken_after: u64,
        dice: &mut Dice,
    ) -> Self {
        let names: Vec<&str> = reference.shelves.keys().copied().collect();
        assert_eq!(transaction.list_collections(), names);
        for (name, shelf) in &reference.shelves {
            let spec = &shelf.spec;
            let collection = transaction.open_stored_collection(name).unwrap();
            let found = collection.parameters();
            let parameters =
                (found.dimension, found.metric, found.m, found.m0, found.seed, found.codes, found.element);
            assert_eq!(
                parameters,
                (spec.dimension, spec.metric, spec.m, spec.m0, spec.seed, spec.codes, spec.element)
            );
        }
        let absent = transaction.open_stored_collection("no such collection").unwrap_err();
        assert!(matches!(absent, Error::CollectionNotFound { .. }), "{absent:?}");
        let mut tables = Vec::new();
        tables.extend(reference.shelves.contains_key(MIRRORED).then_some("mirror"));
        tables.extend(reference.notes.is_some().then_some("notes"));
        assert_eq!(transaction.list_tables().unwrap(), tables);

        let open = |shelf: &super::reference::Shelf| transaction.open_collection(shelf.spec.definition());
        let collections = reference.shelves.values().map(|s| (s.spec.name, open(s).unwrap())).collect();
        let mirror =
            reference.shelves.contains_key(MIRRORED).then(|| transaction.open_table(MIRROR).unwrap());
        let notes = reference.notes.as_ref().map(|_| transaction.open_table(NOTES).unwrap());
        // Of an empty store there are no handles to hold.
        let only_handles = !reference.shelves.is_empty() && dice.percent(50);
        let transaction = (!only_handles).then_some(transaction);
        Self { transaction, collections, mirror, notes, reference, taken_after }
    }

    pub fn compare(&self, dice: &mut Dice, evidence: &mut Evidence) {
        for (name, collection) in &self.collections {
            let shelf = &self.reference.shelves[name];
            compare::content(collection, shelf, dice);
            compare::searches(collection, shelf, dice, evidence);
        }
        if let Some(mirror) = &self.mirror {
            let entries = mirror.iter().unwrap().map(|entry| entry.unwrap());
            let found: Vec<_> = entries.map(|(key, value)| (key.value(), value.value().to_vec())).collect();
            assert_eq!(found, mirrored(&self.reference.shelves[MIRRORED]), "the mirror");
        }
        if let (Some(notes), Some(expected)) = (&self.notes, &self.reference.notes) {
            let found =
                notes.iter().unwrap().map(|entry| entry.unwrap()).map(|(k, v)| (k.value(), v.value()));
            assert!(found.eq(expected.iter().map(|(&k, &v)| (k, v))), "the table of notes");
        }
        if let Some(transaction) = &self.transaction {
            assert_eq!(transaction.list_collections().len(), self.reference.shelves.len());
        }
    }

    /// True when the snapshot has a collection that `now` has not, or has as another.
    pub fn has_dropped_collection(&self, now: &Reference) -> bool {
        self.reference.shelves.iter().any(|(name, shelf)| {
            now.shelves.get(name).is_none_or(|current| current.generation != shelf.generation)
        })
    }
}
