//! Read transactions.

use std::sync::Arc;

use redb::{Key, MultimapTableDefinition, MultimapTableHandle, TableDefinition, TableHandle, Value};

use super::published::Published;
use super::tables::{ReadMultimapTable, ReadTable};
use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::graph::storage::is_reserved;
use crate::options::CollectionDefinition;

/// A snapshot of the whole store: one commit, for as long as it is held. `Send + Sync`; taking one is one atomic operation, and
/// neither blocks nor is blocked by the writer.
///
/// A snapshot held for long keeps the space of what was deleted since from being used again.
#[derive(Clone)]
pub struct ReadTransaction {
    published: Arc<Published>,
}

impl std::fmt::Debug for ReadTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadTransaction").field("commit", &self.published.commit).finish()
    }
}

impl ReadTransaction {
    pub(crate) fn new(published: Arc<Published>) -> Self {
        Self { published }
    }

    /// Opens a collection. The handle keeps the snapshot alive by itself.
    ///
    /// # Errors
    ///
    /// [`Error::CollectionNotFound`] when it does not exist in this snapshot, [`Error::DefinitionMismatch`] when it is another
    /// than the definition states.
    pub fn open_collection(&self, definition: CollectionDefinition<'_>) -> Result<Collection> {
        let snapshot = self.snapshot(definition.name())?;
        let parameters = definition.agree(&snapshot.state.parameters)?;
        Ok(Collection::new(snapshot, parameters, self.published.clone()))
    }

    /// Opens a collection as it is stored, for tools that know nothing but its name.
    ///
    /// # Errors
    ///
    /// [`Error::CollectionNotFound`] when it does not exist in this snapshot.
    pub fn open_stored_collection(&self, name: &str) -> Result<Collection> {
        let snapshot = self.snapshot(name)?;
        let parameters = snapshot.state.parameters;
        Ok(Collection::new(snapshot, parameters, self.published.clone()))
    }

    fn snapshot(&self, name: &str) -> Result<Arc<crate::collection::CollectionSnapshot>> {
        match self.published.collections.get(name) {
            Some(snapshot) => Ok(snapshot.clone()),
            None => Err(Error::CollectionNotFound { name: name.to_owned() }),
        }
    }

    /// The names of all collections, in order. They are in memory, so nothing can fail; for tables redb reads its file. What a
    /// collection is, [`open_stored_collection`](Self::open_stored_collection) tells.
    pub fn list_collections(&self) -> Vec<String> {
        self.published.collections.keys().map(|name| name.to_string()).collect()
    }

    /// Opens a table of the app's own. The handle keeps the snapshot alive by itself.
    pub fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadTable<K, V>> {
        refuse_reserved(definition.name())?;
        Ok(ReadTable::new(self.published.transaction.open_table(definition)?, self.published.clone()))
    }

    /// Opens a multimap table of the app's own. The handle keeps the snapshot alive by itself.
    pub fn open_multimap_table<K: Key + 'static, V: Key + 'static>(
        &self,
        definition: MultimapTableDefinition<'_, K, V>,
    ) -> Result<ReadMultimapTable<K, V>> {
        refuse_reserved(definition.name())?;
        Ok(ReadMultimapTable::new(
            self.published.transaction.open_multimap_table(definition)?,
            self.published.clone(),
        ))
    }

    /// The names of the app's own tables.
    pub fn list_tables(&self) -> Result<Vec<String>> {
        let tables = self.published.transaction.list_tables()?;
        Ok(tables.map(|table| table.name().to_owned()).filter(|name| !is_reserved(name)).collect())
    }

    /// The names of the app's own multimap tables.
    pub fn list_multimap_tables(&self) -> Result<Vec<String>> {
        let tables = self.published.transaction.list_multimap_tables()?;
        Ok(tables.map(|table| table.name().to_owned()).filter(|name| !is_reserved(name)).collect())
    }

    /// The number of the commit that this snapshot shows. Every commit has a higher number than the one before.
    pub fn commit_number(&self) -> u64 {
        self.published.commit
    }

    pub(crate) fn published(&self) -> &Arc<Published> {
        &self.published
    }
}

pub(super) fn refuse_reserved(name: &str) -> Result<()> {
    if is_reserved(name) { Err(Error::ReservedTableName { name: name.to_owned() }) } else { Ok(()) }
}
