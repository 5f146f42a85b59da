//! The app's own tables in a snapshot.

use std::borrow::Borrow;
use std::ops::RangeBounds;
use std::sync::Arc;

use redb::{
    AccessGuard, Key, MultimapRange, MultimapTableHandle, MultimapValue, Range, ReadOnlyMultimapTable,
    ReadOnlyTable, ReadableMultimapTable, ReadableTable, ReadableTableMetadata, TableHandle, Value,
};

use super::published::Published;
use crate::error::Result;

/// A table in a snapshot. It keeps the snapshot alive, and so does what it lends.
///
/// It has the reading methods of redb's `ReadableTable` without implementing that trait, whose signatures depend on redb's
/// features. Code that is to read in write transactions as well is written for the trait:
///
/// ```
/// use nestling::Store;
/// use nestling::redb::{ReadableTable, StorageError, TableDefinition};
///
/// const TITLES: TableDefinition<u64, &str> = TableDefinition::new("titles");
///
/// fn title(titles: &impl ReadableTable<u64, &'static str>, key: u64) -> Result<Option<String>, StorageError> {
///     Ok(titles.get(key)?.map(|title| title.value().to_owned()))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::open(dir.path().join("app.nestling"))?;
/// let tx = store.begin_write()?;
/// {
///     let mut titles = tx.open_table(TITLES)?;
///     titles.insert(7, "a walk along the beach")?;
///     assert_eq!(title(&titles, 7)?.as_deref(), Some("a walk along the beach"));
/// }
/// tx.commit()?;
/// let titles = store.begin_read()?.open_table(TITLES)?;
/// assert_eq!(title(titles.as_redb(), 7)?.as_deref(), Some("a walk along the beach"));
/// # Ok(())
/// # }
/// ```
pub struct ReadTable<K: Key + 'static, V: Value + 'static> {
    table: ReadOnlyTable<K, V>,
    _published: Arc<Published>,
}

impl<K: Key + 'static, V: Value + 'static> std::fmt::Debug for ReadTable<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadTable").field("name", &self.table.name()).finish_non_exhaustive()
    }
}

impl<K: Key + 'static, V: Value + 'static> ReadTable<K, V> {
    pub(super) fn new(table: ReadOnlyTable<K, V>, published: Arc<Published>) -> Self {
        Self { table, _published: published }
    }

    /// The table as redb has it, for code that is to read tables of write transactions as well.
    pub fn as_redb(&self) -> &impl ReadableTable<K, V> {
        &self.table
    }

    /// The value of a key.
    pub fn get<'k>(&self, key: impl Borrow<K::SelfType<'k>>) -> Result<Option<AccessGuard<'_, V>>> {
        Ok(ReadableTable::get(&self.table, key)?)
    }

    /// The entries of a range of keys, in order.
    pub fn range<'k, R>(&self, range: impl RangeBounds<R> + 'k) -> Result<Range<'_, K, V>>
    where
        R: Borrow<K::SelfType<'k>> + 'k,
    {
        Ok(ReadableTable::range(&self.table, range)?)
    }

    /// All entries, in the order of keys.
    pub fn iter(&self) -> Result<Range<'_, K, V>> {
        Ok(ReadableTable::iter(&self.table)?)
    }

    /// The entry with the lowest key.
    pub fn first(&self) -> Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, V>)>> {
        Ok(ReadableTable::first(&self.table)?)
    }

    /// The entry with the highest key.
    pub fn last(&self) -> Result<Option<(AccessGuard<'_, K>, AccessGuard<'_, V>)>> {
        Ok(ReadableTable::last(&self.table)?)
    }

    /// How many entries there are.
    pub fn len(&self) -> Result<u64> {
        Ok(self.table.len()?)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.table.is_empty()?)
    }
}

/// A multimap table in a snapshot. It keeps the snapshot alive, and so does what it lends.
pub struct ReadMultimapTable<K: Key + 'static, V: Key + 'static> {
    table: ReadOnlyMultimapTable<K, V>,
    _published: Arc<Published>,
}

impl<K: Key + 'static, V: Key + 'static> std::fmt::Debug for ReadMultimapTable<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadMultimapTable").field("name", &self.table.name()).finish_non_exhaustive()
    }
}

impl<K: Key + 'static, V: Key + 'static> ReadMultimapTable<K, V> {
    pub(super) fn new(table: ReadOnlyMultimapTable<K, V>, published: Arc<Published>) -> Self {
        Self { table, _published: published }
    }

    /// The table as redb has it, for code that is to read tables of write transactions as well: see [`ReadTable`].
    pub fn as_redb(&self) -> &impl ReadableMultimapTable<K, V> {
        &self.table
    }

    /// The values of a key, in order.
    pub fn get<'k>(&self, key: impl Borrow<K::SelfType<'k>>) -> Result<MultimapValue<'_, V>> {
        Ok(ReadableMultimapTable::get(&self.table, key)?)
    }

    /// The entries of a range of keys, in order.
    pub fn range<'k, R>(&self, range: impl RangeBounds<R> + 'k) -> Result<MultimapRange<'_, K, V>>
    where
        R: Borrow<K::SelfType<'k>> + 'k,
    {
        Ok(ReadableMultimapTable::range(&self.table, range)?)
    }

    /// All entries, in the order of keys.
    pub fn iter(&self) -> Result<MultimapRange<'_, K, V>> {
        Ok(ReadableMultimapTable::iter(&self.table)?)
    }

    /// How many pairs of key and value there are.
    pub fn len(&self) -> Result<u64> {
        Ok(self.table.len()?)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.table.is_empty()?)
    }
}
