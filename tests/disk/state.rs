//! What a store must hold: the model that workloads change beside the store, and its comparison with a snapshot.

use std::collections::BTreeMap;
use std::ops::Range;

use nestling::redb::TableDefinition;
use nestling::{
    Codes, Collection, CollectionDefinition, Error, Metric, ReadTransaction, Result, WriteTransaction,
};

use super::dice::Dice;

/// A kind of collection. Its name is all that tells two of them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub name: &'static str,
    pub dimension: usize,
    pub metric: Metric,
    pub codes: Codes,
    pub m: usize,
}

impl Space {
    pub const fn new(name: &'static str, dimension: usize, metric: Metric) -> Self {
        Self { name, dimension, metric, codes: Codes::SevenBit, m: 4 }
    }

    pub const fn definition(&self) -> CollectionDefinition<'static> {
        let definition = CollectionDefinition::new(self.name, self.dimension, self.metric);
        // Graphs are small here, and what is tested is not how good they are.
        definition.m(self.m).ef_construction(24).codes(self.codes)
    }

    /// The vector of a key, as a change of this version wrote it.
    pub fn vector(&self, key: u64, version: u64) -> Vec<f32> {
        let mut dice = Dice::new(key << 32 ^ version << 8 ^ self.dimension as u64);
        (0..self.dimension).map(|_| dice.symmetric()).collect()
    }
}

/// One change in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Vectors, one by one.
    Insert(Space, Range<u64>),
    /// Vectors in one batch.
    InsertMany(Space, Range<u64>),
    Remove(Space, Range<u64>),
    DropCollection(&'static str),
    /// Values of so many bytes into a table of the app's.
    Put(&'static str, Range<u64>, usize),
    Delete(&'static str, Range<u64>),
    DeleteTable(&'static str),
    RenameTable(&'static str, &'static str),
}

type Table = TableDefinition<'static, u64, &'static [u8]>;

const fn table(name: &'static str) -> Table {
    TableDefinition::new(name)
}

fn value(key: u64, version: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(!(key << 32 ^ version));
    (0..len).map(|_| dice.next() as u8).collect()
}

impl Change {
    /// Makes the change in a store. What it writes differs from version to version.
    pub fn perform(&self, tx: &WriteTransaction, version: u64) -> Result<()> {
        match self {
            Change::Insert(space, keys) => {
                let mut collection = tx.open_collection(space.definition())?;
                for key in keys.clone() {
                    collection.insert(key, &space.vector(key, version))?;
                }
            }
            Change::InsertMany(space, keys) => {
                let vectors = keys.clone().map(|key| (key, space.vector(key, version)));
                tx.open_collection(space.definition())?.insert_many(vectors)?;
            }
            Change::Remove(space, keys) => {
                let mut collection = tx.open_collection(space.definition())?;
                for key in keys.clone() {
                    collection.remove(key)?;
                }
            }
            Change::DropCollection(name) => drop(tx.drop_collection(name)?),
            Change::Put(name, keys, len) => {
                let mut table = tx.open_table(table(name))?;
                for key in keys.clone() {
                    table.insert(key, value(key, version, *len).as_slice())?;
                }
            }
            Change::Delete(name, keys) => {
                let mut table = tx.open_table(table(name))?;
                for key in keys.clone() {
                    table.remove(key)?;
                }
            }
            Change::DeleteTable(name) => drop(tx.delete_table(table(name))?),
            Change::RenameTable(from, to) => tx.rename_table(table(from), table(to))?,
        }
        Ok(())
    }
}

/// Everything a store holds. Content is kept as the version that wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    collections: BTreeMap<&'static str, (Space, BTreeMap<u64, u64>)>,
    /// By key: version and length.
    tables: BTreeMap<&'static str, BTreeMap<u64, (u64, usize)>>,
}

impl State {
    /// The same change as [`Change::perform`].
    pub fn apply(&mut self, change: &Change, version: u64) {
        match change {
            Change::Insert(space, keys) | Change::InsertMany(space, keys) => {
                self.keys(*space).extend(keys.clone().map(|key| (key, version)));
            }
            Change::Remove(space, keys) => self.keys(*space).retain(|key, _| !keys.contains(key)),
            Change::DropCollection(name) => drop(self.collections.remove(name)),
            Change::Put(name, keys, len) => {
                self.table(name).extend(keys.clone().map(|key| (key, (version, *len))));
            }
            Change::Delete(name, keys) => self.table(name).retain(|key, _| !keys.contains(key)),
            Change::DeleteTable(name) => drop(self.tables.remove(name)),
            Change::RenameTable(from, to) => {
                let table = self.tables.remove(from).expect("workloads rename what exists");
                self.tables.insert(to, table);
            }
        }
    }

    fn keys(&mut self, space: Space) -> &mut BTreeMap<u64, u64> {
        &mut self.collections.entry(space.name).or_insert((space, BTreeMap::new())).1
    }

    fn table(&mut self, name: &'static str) -> &mut BTreeMap<u64, (u64, usize)> {
        self.tables.entry(name).or_default()
    }

    pub fn collections(&self) -> usize {
        self.collections.len()
    }

    /// Some collection of the state's.
    pub fn any_space(&self) -> Option<Space> {
        self.collections.values().next().map(|(space, _)| *space)
    }

    /// Compares a snapshot with the state, bit by bit; tells how they differ.
    pub fn compare(&self, snapshot: &ReadTransaction) -> Result<(), String> {
        let found = snapshot.list_collections();
        if !found.iter().eq(self.collections.keys()) {
            return Err(format!("collections {found:?}, not {:?}", self.collections.keys()));
        }
        for (space, versions) in self.collections.values() {
            let different = |e: Error| format!("{}: {e}", space.name);
            let collection = snapshot.open_collection(space.definition()).map_err(different)?;
            compare_collection(*space, versions, &collection)?;
        }
        let found = snapshot.list_tables().map_err(|e| e.to_string())?;
        if !found.iter().eq(self.tables.keys()) {
            return Err(format!("tables {found:?}, not {:?}", self.tables.keys()));
        }
        for (name, rows) in &self.tables {
            compare_table(name, rows, snapshot).map_err(|e| format!("table {name}: {e}"))?;
        }
        Ok(())
    }
}

fn compare_collection(
    space: Space,
    versions: &BTreeMap<u64, u64>,
    collection: &Collection,
) -> Result<(), String> {
    let name = space.name;
    let mut expected = versions.iter();
    for entry in collection.iter().map_err(|e| format!("{name}: {e}"))? {
        let (key, vector) = entry.map_err(|e| format!("{name}: {e}"))?;
        let Some((&expected, &version)) = expected.next() else {
            return Err(format!("{name} holds key {key}, and should end before"));
        };
        if key != expected {
            return Err(format!("{name} holds key {key} where {expected} should come"));
        }
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        if bits(&vector) != bits(&space.vector(key, version)) {
            return Err(format!("{name}: the vector of key {key} is not that of version {version}"));
        }
    }
    if let Some((key, _)) = expected.next() {
        return Err(format!("{name} lacks key {key} and what comes after it"));
    }
    // The nearest to a stored vector is itself; with the inner product that need not be so.
    if space.metric != Metric::Dot
        && let Some((&key, &version)) = versions.last_key_value()
    {
        let hits = collection.query(&space.vector(key, version)).k(1).ef(versions.len()).run();
        let hits = hits.map_err(|e| format!("{name}: searching: {e}"))?;
        if hits.first().map(|hit| hit.key) != Some(key) {
            return Err(format!("{name}: key {key} is not found by its own vector, but {hits:?}"));
        }
    }
    Ok(())
}

fn compare_table(
    name: &'static str,
    rows: &BTreeMap<u64, (u64, usize)>,
    snapshot: &ReadTransaction,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut expected = rows.iter();
    for entry in snapshot.open_table(table(name))?.iter()? {
        let (key, found) = entry?;
        let Some((&expected, &(version, len))) = expected.next() else {
            return Err(format!("a key {} too many", key.value()).into());
        };
        if key.value() != expected || found.value() != value(expected, version, len) {
            return Err(format!("key {} where {expected} in version {version} should be", key.value()).into());
        }
    }
    match expected.next() {
        None => Ok(()),
        Some((key, _)) => Err(format!("key {key} is missing").into()),
    }
}
