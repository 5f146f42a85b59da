//! Collections of points in stores that go away, and points in clusters: what the tests of pages and of radii search in.

use nestling::{Codes, Collection, CollectionDefinition, Durability, Metric, Store};
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The collection as of the commit that filled it, and its store.
pub(crate) struct Opened {
    pub(crate) collection: Collection,
    pub(crate) store: Store,
    pub(crate) _directory: tempfile::TempDir,
}

impl Opened {
    /// A store with one collection that has the vectors under the keys 0, 1, 2…
    pub(crate) fn with(metric: Metric, codes: Codes, vectors: &[Vec<f32>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let definition = definition(metric, codes, vectors.first().map_or(32, Vec::len));
        let mut tx = store.begin_write().unwrap();
        tx.set_durability(Durability::None);
        tx.open_collection(definition).unwrap().insert_many((0..).zip(vectors)).unwrap();
        tx.commit().unwrap();
        let collection = store.begin_read().unwrap().open_collection(definition).unwrap();
        Self { collection, store, _directory: directory }
    }

    pub(crate) fn definition(&self) -> CollectionDefinition<'static> {
        let parameters = self.collection.parameters();
        definition(parameters.metric, parameters.codes, parameters.dimension)
    }

    /// The collection as of the last commit.
    pub(crate) fn now(&self) -> Collection {
        self.store.begin_read().unwrap().open_collection(self.definition()).unwrap()
    }
}

fn definition(metric: Metric, codes: Codes, dimension: usize) -> CollectionDefinition<'static> {
    CollectionDefinition::new("points", dimension, metric).codes(codes)
}

/// A point of one of a hundred clusters, with 32 components.
pub(crate) fn clustered(rng: &mut StdRng) -> Vec<f32> {
    let mut center = StdRng::seed_from_u64(rng.random_range(0..100));
    (0..32).map(|_| normal(&mut center) + 0.4 * normal(rng)).collect()
}

/// A normally distributed number, by Box and Muller.
pub(crate) fn normal(rng: &mut StdRng) -> f32 {
    let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
