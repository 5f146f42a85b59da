//! A collection open for writing.

use std::borrow::Cow;
use std::collections::HashMap;

use super::hits::Hit;
use super::input::check_stored;
use super::query::Query;
use super::radius::Within;
use super::read::{Keys, Vectors};
use super::writer::{CollectionWriter, RowCounts};
#[cfg(doc)]
use crate::error::Error;
use crate::error::{Result, VectorSubject};
use crate::options::Parameters;

/// A collection in a write transaction. Changes take effect at once for this transaction, and for others when it commits.
///
/// An error for which [`Error::is_input`] holds changes nothing. After any other error the transaction cannot be committed.
pub struct CollectionMut<'tx> {
    /// Present until the handle is dropped.
    writer: Option<Box<CollectionWriter>>,
    home: &'tx dyn Home,
}

/// Where a collection's changes are kept while no handle is open, and where a failure is noted.
pub(crate) trait Home {
    fn park(&self, writer: Box<CollectionWriter>);
    fn fail(&self);
    fn check_usable(&self) -> Result<()>;
}

impl std::fmt::Debug for CollectionMut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectionMut").field("name", &self.name()).field("len", &self.len()).finish()
    }
}

impl<'tx> CollectionMut<'tx> {
    pub(crate) fn new(writer: Box<CollectionWriter>, home: &'tx dyn Home) -> Self {
        Self { writer: Some(writer), home }
    }

    fn writer(&self) -> &CollectionWriter {
        self.writer.as_deref().expect("the writer is there until the handle is dropped")
    }

    /// Runs a change; a failure that may have left it half-done makes the transaction unfit to commit.
    fn change<T>(&mut self, change: impl FnOnce(&mut CollectionWriter) -> Result<T>) -> Result<T> {
        /// A change that unwinds is half-done as well; not one that an app makes while it unwinds.
        struct FailOnUnwind<'a> {
            home: &'a dyn Home,
            unwinding: bool,
        }
        impl Drop for FailOnUnwind<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() && !self.unwinding {
                    self.home.fail();
                }
            }
        }
        let _guard = FailOnUnwind { home: self.home, unwinding: std::thread::panicking() };
        self.home.check_usable()?;
        let writer = self.writer.as_deref_mut().expect("the writer is there until the handle is dropped");
        let result = change(writer);
        if result.as_ref().is_err_and(|e| !e.is_input()) {
            self.home.fail();
        }
        result
    }

    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.writer().state().name
    }

    /// The parameters it was created with, and the `ef_construction` in use.
    pub fn parameters(&self) -> &Parameters {
        &self.writer().state().parameters
    }

    /// How many vectors it holds, with this transaction's changes.
    pub fn len(&self) -> u64 {
        self.writer().state().live
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores a vector under a key; true when it replaced another.
    ///
    /// Reads and writes O(m · log n) rows.
    ///
    /// # Errors
    ///
    /// [`Error::WrongDimension`] and [`Error::InvalidVector`] leave everything as it was.
    pub fn insert(&mut self, key: u64, vector: &[f32]) -> Result<bool> {
        self.change(|writer| {
            check_stored(VectorSubject::Vector { key, position: 0 }, vector, &writer.state().parameters)?;
            writer.insert(key, vector)
        })
    }

    /// Stores many vectors; tells how many replaced another. All input is checked first, and refused whole if any of it is bad.
    /// Of equal keys the last one wins.
    ///
    /// Searches run on rayon's threads: several times as fast as one by one where there are cores, and the graph does not depend on
    /// their number. Vectors and rows of the call are in memory until the commit: import some thousands at a time.
    pub fn insert_many<V: AsRef<[f32]>>(
        &mut self,
        vectors: impl IntoIterator<Item = (u64, V)>,
    ) -> Result<u64> {
        let owned: Vec<(u64, V)> = vectors.into_iter().collect();
        // Asked for once: what is checked is what is stored.
        let vectors: Vec<(u64, &[f32])> = owned.iter().map(|(key, vector)| (*key, vector.as_ref())).collect();
        self.change(|writer| {
            let mut last = HashMap::with_capacity(vectors.len());
            for (position, (key, vector)) in vectors.iter().enumerate() {
                let subject = VectorSubject::Vector { key: *key, position };
                check_stored(subject, vector, &writer.state().parameters)?;
                last.insert(*key, position);
            }
            let vectors = vectors.iter().enumerate();
            let last = vectors.filter(|(position, (key, _))| last.get(key) == Some(position));
            writer.insert_many(last.map(|(_, &(key, vector))| (key, vector)))
        })
    }

    /// Removes a key's vector; false when there is none. Reads and writes O(m · log n) rows.
    pub fn remove(&mut self, key: u64) -> Result<bool> {
        self.change(|writer| writer.remove(key))
    }

    /// The vector of a key, as it was inserted, or as the collection's [`Element`](crate::Element) rounded it then.
    pub fn get(&self, key: u64) -> Result<Option<Cow<'_, [f32]>>> {
        self.writer().view().vector_of(key)
    }

    /// True when the key has a vector.
    pub fn contains(&self, key: u64) -> Result<bool> {
        Ok(self.writer().view().slot_of(key)?.is_some())
    }

    /// All keys, in ascending order.
    pub fn keys(&self) -> Result<Keys<'_>> {
        Ok(Keys::new(self.writer().view().keys()?.map(|entry| entry.map(|(key, _)| key))))
    }

    /// All keys with their vectors, in ascending order of keys.
    pub fn iter(&self) -> Result<Vectors<'_>> {
        Ok(Vectors::new(self.writer().view().vectors()?))
    }

    /// The `k` nearest vectors, this transaction's included.
    pub fn search(&self, vector: &[f32], k: usize) -> Result<Vec<Hit>> {
        Ok(self.query(vector).k(k).run()?.into_vec())
    }

    /// A search near a vector, to be refined and [run](Query::run).
    pub fn query<'a>(&'a self, vector: &'a [f32]) -> Query<'a> {
        Query::by_vector(self.writer().view(), vector)
    }

    /// A search near the vector of a key, which is as a rule the first of the hits itself.
    pub fn query_key(&self, key: u64) -> Query<'_> {
        Query::by_key(self.writer().view(), key)
    }

    /// Everything within a distance of a vector: a search to be refined and [run](Within::run).
    pub fn within<'a>(&'a self, vector: &'a [f32], radius: f32) -> Within<'a> {
        Within::new(self.writer().view(), vector, radius)
    }

    /// How many link rows this transaction has read and changed in the collection.
    pub fn row_counts(&self) -> RowCounts {
        self.writer().row_counts()
    }
}

impl Drop for CollectionMut<'_> {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.home.park(writer);
        }
    }
}
