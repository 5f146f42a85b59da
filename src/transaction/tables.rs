//! The app's own tables in a snapshot.

use std::borrow::Borrow;
use std::ops::RangeBounds;
use std::sync::Arc;

use redb::{
    AccessGuard, Key, MultimapRange, MultimapValue, Range, ReadOnlyMultimapTable, ReadOnlyTable,
    ReadableMultimapTable, ReadableTable, ReadableTableMetadata, Value,
};

use super::published::Published;
use crate::error::Result;

/// A table in a snapshot. It keeps the snapshot alive, and so does what it lends.
///
/// It has the reading methods of redb's `ReadableTable` without implementing that trait, whose signatures depend on redb's
/// features.
pub struct ReadTable<K: Key + 'static, V: Value + 'static> {
    table: ReadOnlyTable<K, V>,
    _published: Arc<Published>,
}

impl<K: Key + 'static, V: Value + 'static> ReadTable<K, V> {
    pub(super) fn new(table: ReadOnlyTable<K, V>, published: Arc<Published>) -> Self {
        Self { table, _published: published }
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

impl<K: Key + 'static, V: Key + 'static> ReadMultimapTable<K, V> {
    pub(super) fn new(table: ReadOnlyMultimapTable<K, V>, published: Arc<Published>) -> Self {
        Self { table, _published: published }
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
