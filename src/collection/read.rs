//! A collection in a snapshot.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::hits::{Hit, Hits};
use super::input::check_vector;
use super::paging::Pages;
use super::query::Query;
use super::radius::Within;
use super::state::CollectionSnapshot;
use super::view::View;
use crate::error::{Error, Result, VectorSubject};
use crate::options::Parameters;

/// A collection as of one commit: what it holds never changes. Cheap to clone and to send to other threads; it keeps its
/// snapshot, and the store's files, alive.
#[derive(Clone)]
pub struct Collection {
    snapshot: Arc<CollectionSnapshot>,
    parameters: Parameters,
    /// Keeps the snapshot's slots from being reused, and the store open.
    _pin: Arc<dyn Send + Sync>,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("name", &self.name()).field("len", &self.len()).finish()
    }
}

impl Collection {
    pub(crate) fn new(
        snapshot: Arc<CollectionSnapshot>,
        parameters: Parameters,
        pin: Arc<dyn Send + Sync>,
    ) -> Self {
        Self { snapshot, parameters, _pin: pin }
    }

    pub(super) fn view(&self) -> View<'_> {
        self.snapshot.view()
    }

    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.snapshot.state.name
    }

    /// The parameters it was created with; `ef_construction` as last stated, by the definition that this was opened with or by a writer.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How many vectors it holds.
    pub fn len(&self) -> u64 {
        self.snapshot.state.live
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pages that the graph has. They are loaded as searches come by.
    pub fn graph_pages(&self) -> usize {
        self.snapshot.graph.pages()
    }

    /// Pages of the graph that are in memory.
    pub fn graph_pages_loaded(&self) -> usize {
        self.snapshot.graph.loaded().count()
    }

    /// The vector of a key, as it was inserted, or as the collection's [`Element`](crate::Element) rounded it then. Borrowed from the mapped
    /// file where that holds f32 and the machine is little-endian.
    pub fn get(&self, key: u64) -> Result<Option<Cow<'_, [f32]>>> {
        self.snapshot.view().vector_of(key)
    }

    /// True when the key has a vector.
    pub fn contains(&self, key: u64) -> Result<bool> {
        Ok(self.snapshot.view().slot_of(key)?.is_some())
    }

    /// All keys, in ascending order.
    pub fn keys(&self) -> Result<Keys<'_>> {
        let keys = self.snapshot.view().keys()?;
        Ok(Keys(Box::new(keys.map(|entry| entry.map(|(key, _)| key)))))
    }

    /// All keys with their vectors, in ascending order of keys.
    pub fn iter(&self) -> Result<Vectors<'_>> {
        Ok(Vectors(Box::new(self.snapshot.view().vectors()?)))
    }

    /// The `k` nearest vectors, nearest first, with default settings; [`query`](Collection::query) has the others.
    pub fn search(&self, vector: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.query(vector).k(k).run()?.into_vec())
    }

    /// A search near a vector, to be refined and [run](Query::run).
    pub fn query<'a>(&'a self, vector: &'a [f32]) -> Query<'a> {
        Query::by_vector(self.snapshot.view(), vector)
    }

    /// Searches for many vectors on rayon's threads, each refined as `refine` says; results in the order of the queries, the same as
    /// one by one.
    ///
    /// ```
    /// # use nestling::{CollectionDefinition, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("app.nestling"))?;
    /// # const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);
    /// # let tx = store.begin_write()?;
    /// # tx.open_collection(POINTS)?.insert_many((0..100).map(|i| (i, [i as f32, 0.0])))?;
    /// # tx.commit()?;
    /// let points = store.begin_read()?.open_collection(POINTS)?;
    /// let results = points.search_many(&[[40.2, 0.0], [7.0, 1.0]], |query| query.k(1).recall(0.95))?;
    /// assert_eq!([results[0][0].key, results[1][0].key], [40, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// All vectors are checked first; an error names the position of the first one that is refused
    /// ([`VectorSubject::QueryAt`]). Otherwise those of [`Query::run`].
    pub fn search_many<'a, V: AsRef<[f32]> + Sync>(
        &'a self,
        vectors: &'a [V],
        refine: impl Fn(Query<'a>) -> Query<'a> + Sync,
    ) -> Result<Vec<Hits>> {
        // Asked for once: what is checked is what is searched for.
        let vectors: Vec<&[f32]> = vectors.iter().map(AsRef::as_ref).collect();
        for (position, vector) in vectors.iter().enumerate() {
            check_vector(VectorSubject::QueryAt { position }, vector, &self.parameters)?;
        }
        vectors.par_iter().map(|vector| refine(self.query(vector)).run()).collect()
    }

    /// A search near the vector of a key, which is as a rule the first of the hits itself.
    pub fn query_key(&self, key: u64) -> Query<'_> {
        Query::by_key(self.snapshot.view(), key)
    }

    /// Everything within a distance of a vector, under the collection's [`Metric`](crate::Metric): a search to be refined and
    /// [run](Within::run).
    pub fn within<'a>(&'a self, vector: &'a [f32], radius: f32) -> Within<'a> {
        Within::new(self.snapshot.view(), vector, radius)
    }

    /// All vectors from near to far, in pages of `page_size`, computed as they are asked for. See [`Pages`] for what is
    /// guaranteed.
    ///
    /// ```
    /// # use nestling::{CollectionDefinition, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path().join("app.nestling"))?;
    /// # const POINTS: CollectionDefinition = CollectionDefinition::new("points", 2, Metric::L2);
    /// # let tx = store.begin_write()?;
    /// # tx.open_collection(POINTS)?.insert_many((0..100).map(|i| (i, [i as f32, 0.0])))?;
    /// # tx.commit()?;
    /// let points = store.begin_read()?.open_collection(POINTS)?;
    /// let mut pages = points.browse(&[40.2, 0.0], 3)?;
    /// let first = pages.next().ok_or("the collection is empty")??;
    /// assert_eq!(first.iter().map(|hit| hit.key).collect::<Vec<_>>(), [40, 41, 39]);
    /// // The user scrolls.
    /// let second = pages.next().ok_or("there is no more")??;
    /// assert_eq!(second.iter().map(|hit| hit.key).collect::<Vec<_>>(), [42, 38, 43]);
    /// assert_eq!(pages.map(|page| page.map_or(0, |page| page.len())).sum::<usize>(), 94);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] for pages of 0, [`Error::WrongDimension`] and [`Error::InvalidVector`] for a query that no
    /// distance can be computed with.
    pub fn browse(&self, vector: &[f32], page_size: usize) -> Result<Pages> {
        Pages::new(self.clone(), vector, page_size)
    }
}

/// Keys in ascending order; see [`Collection::keys`].
pub struct Keys<'a>(Box<dyn Iterator<Item = Result<u64>> + 'a>);

impl std::fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl<'a> Keys<'a> {
    pub(super) fn new(keys: impl Iterator<Item = Result<u64>> + 'a) -> Self {
        Self(Box::new(keys))
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<u64, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Keys and vectors in ascending order of keys; see [`Collection::iter`].
pub struct Vectors<'a>(Box<dyn Iterator<Item = Result<KeyVector<'a>>> + 'a>);

type KeyVector<'a> = (u64, Cow<'a, [f32]>);

impl std::fmt::Debug for Vectors<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").finish_non_exhaustive()
    }
}

impl<'a> Vectors<'a> {
    pub(super) fn new(vectors: impl Iterator<Item = Result<KeyVector<'a>>> + 'a) -> Self {
        Self(Box::new(vectors))
    }
}

impl<'a> Iterator for Vectors<'a> {
    type Item = Result<KeyVector<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}
