//! What a commit says about itself, and the vectors that follow from it.

use std::collections::BTreeMap;

use nestling::redb::TableDefinition;
use nestling::{Codes, CollectionDefinition, Metric, ReadTransaction};

use crate::Violation;
use crate::dice::Dice;

pub const DIMENSION: usize = 48;

/// A collection, and the tables' account of it.
pub struct Subject {
    pub definition: CollectionDefinition<'static>,
    /// The generation of each live key.
    pub generations: TableDefinition<'static, u64, u64>,
    pub metric: Metric,
    pub keys: usize,
    /// So many of them are live, as a rule.
    pub live: usize,
}

/// One lives for ever, and grows into several segments; the other is dropped again and again.
pub const SUBJECTS: [Subject; 2] = [
    Subject {
        definition: CollectionDefinition::new("lasting", DIMENSION, Metric::L2).m(8).ef_construction(60),
        generations: TableDefinition::new("generations of lasting"),
        metric: Metric::L2,
        keys: 1_000,
        live: 600,
    },
    Subject {
        definition: CollectionDefinition::new("passing", DIMENSION, Metric::Cosine)
            .m(6)
            .ef_construction(40)
            .codes(Codes::None),
        generations: TableDefinition::new("generations of passing"),
        metric: Metric::Cosine,
        keys: 250,
        live: 150,
    },
];

/// For the name of each collection that exists: the commit that it was told by, the number of its keys, and their digest.
pub const SEALS: TableDefinition<&str, (u64, u64, u64)> = TableDefinition::new("seals");

/// The generation of each live key of a collection.
pub type Generations = BTreeMap<u64, u64>;

/// The vector that a key has in a generation.
pub fn vector(subject: usize, key: u64, generation: u64) -> Vec<f32> {
    let mut dice = Dice::new(mix(subject as u64 ^ mix(key ^ mix(generation))));
    (0..DIMENSION).map(|_| dice.symmetric()).collect()
}

/// Of all pairs, in whatever order.
pub fn digest(generations: &Generations) -> u64 {
    generations.iter().fold(0, |sum, (&key, &generation)| sum ^ mix(key ^ mix(generation)))
}

fn mix(x: u64) -> u64 {
    Dice::new(x).next()
}

/// What a snapshot says that it holds: for each collection its generations, `None` where there is no such collection.
pub type Claim = [Option<Generations>; SUBJECTS.len()];

/// Reads the claim, and finds it consistent in itself and with the snapshot's number.
pub fn read(snapshot: &ReadTransaction) -> Result<Claim, Violation> {
    let tables = snapshot.list_tables().map_err(|e| e.to_string())?;
    if tables.is_empty() {
        return Ok(Claim::default());
    }
    let seals = snapshot.open_table(SEALS).map_err(|e| e.to_string())?;
    let mut claim = Claim::default();
    for (subject, generations) in SUBJECTS.iter().zip(&mut claim) {
        let name = subject.definition.name();
        let seal = seals.get(name).map_err(|e| e.to_string())?.map(|seal| seal.value());
        let Some((commit, count, sum)) = seal else { continue };
        if commit != snapshot.commit_number() {
            return Err(format!("{name}: the tables are those of commit {commit}"));
        }
        let table = snapshot.open_table(subject.generations).map_err(|e| e.to_string())?;
        let mut found = Generations::new();
        for entry in table.iter().map_err(|e| e.to_string())? {
            let (key, generation) = entry.map_err(|e| e.to_string())?;
            found.insert(key.value(), generation.value());
        }
        if (found.len() as u64, digest(&found)) != (count, sum) {
            return Err(format!("{name}: the table of generations is not the one that was sealed"));
        }
        *generations = Some(found);
    }
    Ok(claim)
}
