//! The latest commit, as readers find it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::engine::Engine;
use crate::collection::CollectionSnapshot;

/// Everything a reader needs, as of one commit: redb's snapshot, the graphs and the segments always agree.
/// Fields are in drop order: the engine, which owns the database, goes last.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) collections: BTreeMap<Arc<str>, Arc<CollectionSnapshot>>,
    pub(crate) transaction: Arc<redb::ReadTransaction>,
    pub(crate) commit: u64,
    pub(crate) engine: Arc<Engine>,
}

/// What the store and its transactions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) current: ArcSwap<Published>,
    pub(crate) engine: Arc<Engine>,
}
