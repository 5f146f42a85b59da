//! Nestling, as an app uses it.

use std::path::Path;

use nestling::{CollectionDefinition, Store};

use super::Peer;
use crate::data::Matrix;
use crate::{EF_CONSTRUCTION, K, M, Metric, Opening, Result, Setup};

const NAME: &str = "vectors";
const STORE: &str = "vectors.nestling";
/// Rows per transaction of the build, as in `nestling import`.
const BATCH: usize = 10_000;

pub(crate) struct Nestling {
    store: Store,
    definition: CollectionDefinition<'static>,
}

impl Peer for Nestling {
    const PACKAGE: &str = "nestling";
    const DURABLE: bool = true;

    fn elements(_: &Setup) -> &'static str {
        "7-bit codes, then f32"
    }

    fn build(setup: &Setup, directory: &Path, base: &Matrix) -> Result<Self> {
        let Self { store, definition } = Self::open(setup, directory, base.width(), Opening::Load)?;
        let rows: Vec<(u64, &[f32])> = (0..).zip(base.rows()).collect();
        for rows in rows.chunks(BATCH) {
            let tx = store.begin_write()?;
            tx.open_collection(definition)?.insert_many(rows.iter().copied())?;
            tx.commit()?;
        }
        // Searches are on a store as apps find it.
        store.close()?;
        Self::open(setup, directory, base.width(), Opening::Load)
    }

    fn open(setup: &Setup, directory: &Path, dimension: usize, _: Opening) -> Result<Self> {
        let metric = match setup.metric {
            Metric::Cosine => nestling::Metric::Cosine,
            Metric::L2 => nestling::Metric::L2,
        };
        let definition =
            CollectionDefinition::new(NAME, dimension, metric).m(M).ef_construction(EF_CONSTRUCTION);
        Ok(Self { store: Store::open(directory.join(STORE))?, definition })
    }

    fn len(&self) -> Result<usize> {
        Ok(self.store.begin_read()?.open_collection(self.definition)?.len().try_into()?)
    }

    fn search(&self, queries: &Matrix, ef: usize) -> Result<Vec<Vec<u64>>> {
        let collection = self.store.begin_read()?.open_collection(self.definition)?;
        let search = |query| -> Result<Vec<u64>> {
            let hits = collection.query(query).k(K).ef(ef).run()?;
            Ok(hits.iter().map(|hit| hit.key).collect())
        };
        queries.rows().map(search).collect()
    }

    fn insert_durably(&mut self, key: u64, vector: &[f32]) -> Result<()> {
        let tx = self.store.begin_write()?;
        tx.open_collection(self.definition)?.insert(key, vector)?;
        Ok(tx.commit()?)
    }
}
