//! hannoy, on LMDB with its default of a synced commit.

use std::fs;
use std::path::Path;

use hannoy::{Database, Distance, Reader, Writer};
use heed::{CommitOrAbort, Env, EnvOpenOptions};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Peer;
use crate::data::Matrix;
use crate::{EF_CONSTRUCTION, K, M, Opening, Result, Setup};

const INDEX: u16 = 0;
/// Address space for the map, which is to be larger than the file will ever be.
const MAP_SIZE: usize = 64 << 30;

pub(crate) struct Hannoy<D: Distance> {
    env: Env,
    database: Database<'static, D>,
    writer: Writer<'static, D>,
    random: StdRng,
}

impl<D: Distance> Peer for Hannoy<D> {
    const PACKAGE: &str = "hannoy";
    const DURABLE: bool = true;

    fn elements(_: &Setup) -> &'static str {
        "f32"
    }

    /// In one transaction, as hannoy's README does it.
    fn build(setup: &Setup, directory: &Path, base: &Matrix) -> Result<Self> {
        let mut peer = Self::open(setup, directory, base.width(), Opening::Load)?;
        peer.insert((0..).zip(base.rows()))?;
        // Searches are on a store as apps find it.
        drop(peer);
        Self::open(setup, directory, base.width(), Opening::Load)
    }

    fn open(_: &Setup, directory: &Path, dimension: usize, _: Opening) -> Result<Self> {
        let directory = directory.join("hannoy.lmdb");
        fs::create_dir_all(&directory)?;
        // SAFETY: the directory is this run's own, on a local disk, and no other process opens it meanwhile.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_SIZE).open(&directory)? };
        let database = env
            .create_databases_and_commit(env.write_txn()?, |opener, tx| -> heed::Result<_> {
                opener.create_database(tx, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        let writer = Writer::new(database, INDEX, dimension);
        Ok(Self { env, database, writer, random: StdRng::seed_from_u64(0) })
    }

    fn len(&self) -> Result<usize> {
        let tx = self.env.read_txn()?;
        Ok(Reader::open(&tx, INDEX, self.database)?.n_items().try_into()?)
    }

    fn search(&self, queries: &Matrix, ef: usize) -> Result<Vec<Vec<u64>>> {
        let tx = self.env.read_txn()?;
        let reader = Reader::open(&tx, INDEX, self.database)?;
        let search = |query| -> Result<Vec<u64>> {
            let found = reader.nns(K).ef_search(ef).by_vector(&tx, query)?;
            Ok(found.nns.iter().map(|&(key, _)| key.into()).collect())
        };
        queries.rows().map(search).collect()
    }

    fn insert_durably(&mut self, key: u64, vector: &[f32]) -> Result<()> {
        self.insert([(key.try_into()?, vector)])
    }
}

impl<D: Distance> Hannoy<D> {
    fn insert<'a>(&mut self, rows: impl IntoIterator<Item = (u32, &'a [f32])>) -> Result<()> {
        let mut tx = self.env.write_txn()?;
        for (key, vector) in rows {
            self.writer.add_item(&mut tx, key, vector)?;
        }
        let mut builder = self.writer.builder(&mut self.random);
        builder.ef_construction(EF_CONSTRUCTION).build::<M, { 2 * M }>(&mut tx)?;
        Ok(tx.commit()?)
    }
}
