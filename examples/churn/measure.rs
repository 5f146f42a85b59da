//! Stores that are compared: what they find, and how fast.

use std::path::Path;
use std::time::{Duration, Instant};

use nestling::{Collection, CollectionDefinition, Hits, Store};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::options::Options;
use crate::runbook::Live;
use crate::world::{K, World};
use crate::{Result, failure};

/// Rows per transaction when a store is filled.
const BATCH: usize = 5_000;

/// A store that holds rows of the base.
pub(crate) struct Filled {
    pub(crate) store: Store,
    pub(crate) live: Live,
}

/// What searching for the queries gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) recall: f64,
    /// Distances computed per query.
    pub(crate) distances: f64,
    pub(crate) per_second: f64,
}

impl Filled {
    /// A new store with `live` inserted in the order of its keys.
    pub(crate) fn new(path: &Path, world: &World, options: &Options, live: &Live) -> Result<Self> {
        let store = Store::builder().create_new().open(path)?;
        let entries: Vec<(u64, &[f32])> =
            live.iter().map(|(&key, &row)| (key, world.base.row(row))).collect();
        for entries in entries.chunks(BATCH) {
            let tx = store.begin_write()?;
            tx.open_collection(options.definition(world.base.width()))?
                .insert_many(entries.iter().copied())?;
            tx.commit()?;
        }
        Ok(Self { store, live: live.clone() })
    }

    /// A new store with the same vectors, inserted in random order.
    pub(crate) fn fresh(path: &Path, world: &World, options: &Options, live: &Live) -> Result<Self> {
        let mut rows: Vec<usize> = live.values().copied().collect();
        // Which key holds a row must not matter.
        rows.sort_unstable();
        rows.shuffle(&mut StdRng::seed_from_u64(options.seed));
        Self::new(path, world, options, &(0..).zip(rows).collect())
    }

    pub(crate) fn rows(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.live.values().copied().collect();
        rows.sort_unstable();
        rows
    }

    pub(crate) fn collection(&self, definition: CollectionDefinition<'_>) -> Result<Collection> {
        Ok(self.store.begin_read()?.open_collection(definition)?)
    }

    /// How many of the live vectors a search for them does not find first, themselves or copies of them.
    pub(crate) fn lost(&self, world: &World, options: &Options, ef: usize, every: usize) -> Result<usize> {
        let collection = self.collection(options.definition(world.base.width()))?;
        let entries: Vec<(u64, usize)> =
            self.live.iter().map(|(&key, &row)| (key, row)).step_by(every).collect();
        let lost = entries.into_par_iter().map(|(key, row)| -> Result<usize> {
            let hits = collection.query(world.base.row(row)).k(1).ef(ef).run()?;
            let Some(first) = hits.first() else { return Ok(1) };
            let Some(&other) = self.live.get(&first.key) else {
                return failure(format!("key {} was found and is not live", first.key));
            };
            let found = first.key == key || world.base.row(other) == world.base.row(row);
            Ok(usize::from(!found))
        });
        lost.sum()
    }
}

/// Queries that are timed together: few enough that a pass without an interruption is found for each lot.
const LOT: usize = 50;

/// Searches several stores for all queries with `ef`, in turn, lot by lot; the fastest pass of each lot counts.
pub(crate) fn compare<const N: usize>(
    stores: [&Filled; N],
    world: &World,
    options: &Options,
    ef: usize,
) -> Result<[Found; N]> {
    let queries: Vec<&[f32]> = world.queries.rows().collect();
    let mut measured = Vec::with_capacity(N);
    for store in stores {
        let collection = store.collection(options.definition(world.base.width()))?;
        let found = search(&collection, &queries, ef)?;
        measured.push((collection, found, vec![Duration::MAX; queries.len().div_ceil(LOT)]));
    }
    for _ in 0..options.passes.get() {
        for (at, lot) in queries.chunks(LOT).enumerate() {
            for (collection, _, fastest) in &mut measured {
                let started = Instant::now();
                search(collection, lot, ef)?;
                fastest[at] = started.elapsed().min(fastest[at]);
            }
        }
    }
    let mut all = stores.into_iter().zip(measured).map(|(store, (_, found, fastest))| Found {
        recall: world.recall(&found, &store.rows(), |key| store.live[&key]),
        distances: found.iter().map(|hits| hits.statistics().distances).sum::<u64>() as f64
            / queries.len() as f64,
        per_second: queries.len() as f64 / fastest.iter().sum::<Duration>().as_secs_f64(),
    });
    Ok(std::array::from_fn(|_| all.next().expect("there are as many as stores")))
}

fn search(collection: &Collection, queries: &[&[f32]], ef: usize) -> Result<Vec<Hits>> {
    queries.iter().map(|query| Ok(collection.query(query).k(K).ef(ef).run()?)).collect()
}
