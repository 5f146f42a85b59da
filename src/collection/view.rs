//! Reading a collection, whether from a snapshot or inside of a write transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::state::CollectionState;
use crate::error::{Error, Result};
use crate::graph::GraphSnapshot;
use crate::graph::reader::{CollectionReader, merge_keys};
use crate::hnsw::Anchors;
use crate::vectors::{SegmentSet, Slot, SlotIdentity};

/// Everything that reading takes.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a CollectionState,
    pub(crate) graph: &'a GraphSnapshot,
    pub(crate) segments: &'a SegmentSet,
    /// The tables as of the snapshot; a collection that was just created has none.
    pub(crate) reader: Option<&'a CollectionReader>,
    /// Keys that the write transaction gave a slot or took it from.
    pub(crate) pending: Option<&'a BTreeMap<u64, Option<Slot>>>,
}

impl<'a> View<'a> {
    /// Where searches start, in a collection that is not empty.
    pub(crate) fn anchors(&self) -> Result<Anchors> {
        self.state.anchors.ok_or_else(|| {
            let place = format!("collection {:?}", self.state.name);
            Error::corrupted(place, "it holds vectors and has no entry point")
        })
    }

    pub(crate) fn slot_of(&self, key: u64) -> Result<Option<Slot>> {
        if let Some(&slot) = self.pending.and_then(|pending| pending.get(&key)) {
            return Ok(slot);
        }
        self.reader.map_or(Ok(None), |reader| reader.slot_of(key))
    }

    /// The vector of a key, verified.
    pub(crate) fn vector_of(&self, key: u64) -> Result<Option<Cow<'a, [f32]>>> {
        match self.slot_of(key)? {
            Some(slot) => self.vector(key, slot).map(Some),
            None => Ok(None),
        }
    }

    /// The vector in a slot that `key` leads to, verified.
    pub(super) fn vector(&self, key: u64, slot: Slot) -> Result<Cow<'a, [f32]>> {
        let identity = self.expect_key(slot, key)?;
        self.segments.verify_vector(slot, || Ok(identity))?;
        Ok(self.segments.vector(slot).components())
    }

    /// What the slot that `key` leads to must hold.
    pub(crate) fn expect_key(&self, slot: Slot, key: u64) -> Result<SlotIdentity> {
        let identity = self.graph.node(slot)?.record.identity();
        if identity.key != key {
            return Err(Error::corrupted(
                format!("collection {:?}, key {key}", self.state.name),
                format!("it leads to slot {slot}, which holds key {}", identity.key),
            ));
        }
        Ok(identity)
    }

    /// Keys in ascending order with their slots: the snapshot's, with the transaction's own changes merged in.
    pub(crate) fn keys(&self) -> Result<impl Iterator<Item = Result<(u64, Slot)>> + 'a> {
        static NONE: BTreeMap<u64, Option<Slot>> = BTreeMap::new();
        let stored = match self.reader {
            Some(reader) => Some(reader.keys()?),
            None => None,
        };
        Ok(merge_keys(stored.into_iter().flatten(), self.pending.unwrap_or(&NONE)))
    }

    /// Keys in ascending order with their vectors.
    pub(crate) fn vectors(&self) -> Result<impl Iterator<Item = Result<(u64, Cow<'a, [f32]>)>> + 'a> {
        let view = *self;
        Ok(self.keys()?.map(move |entry| {
            let (key, slot) = entry?;
            Ok((key, view.vector(key, slot)?))
        }))
    }
}
