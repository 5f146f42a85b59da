//! Closing and dropping the store in a sequence, and opening it again in one way or another.

use nestling::{
    CloseError, Codes, CollectionDefinition, Durability, Element, Error, Metric, Store, VectorAccess,
};

use super::Sequence;
use crate::evidence::Case;

impl Sequence {
    /// The store's handle goes while a transaction is open: the transaction does not mind.
    pub(super) fn end_transaction_without_store(&mut self) {
        self.join_readers();
        self.store = None;
        if self.dice.percent(70) {
            let durability = self.dice.pick(&[Durability::Immediate, Durability::None]);
            self.commit(durability);
            self.evidence.saw(Case::CommitAfterTheStoreIsDropped);
        } else {
            self.abort();
        }
        self.drop_and_reopen();
    }

    pub(super) fn close_and_reopen(&mut self) {
        self.join_readers();
        if !self.snapshots.is_empty() {
            match self.store.take().map(Store::close) {
                Some(Err(CloseError::ReadersAlive { store })) => self.store = Some(store),
                Some(Err(e)) => panic!("closing beside readers failed: {e}"),
                Some(Ok(())) | None => panic!("the store could be closed beside readers"),
            }
            self.evidence.saw(Case::CloseRefusedForReaders);
            self.compare_latest();
        }
        self.snapshots.clear();
        if let Some(store) = self.store.take() {
            store.close().unwrap_or_else(|e| panic!("closing failed: {e}"));
        }
        self.evidence.saw(Case::CloseAndReopen);
        self.reopen();
    }

    /// Snapshots outlive the store's handle, and keep the files locked.
    pub(super) fn drop_and_reopen(&mut self) {
        self.join_readers();
        self.store = None;
        if !self.snapshots.is_empty() {
            let refused = Store::open(self.path()).map(drop).unwrap_err();
            assert!(matches!(refused, Error::Locked { .. }), "{refused:?}");
            self.evidence.saw(Case::OpeningRefusedForReaders);
            let at = self.dice.below(self.snapshots.len());
            self.compare_snapshot(at);
        }
        self.snapshots.clear();
        self.evidence.saw(Case::DropAndReopen);
        self.reopen();
    }

    /// Nobody has the store open. What is opened is what was committed last.
    fn reopen(&mut self) {
        self.evidence.saw_if(self.non_durable, Case::ReopenAfterNonDurableCommit);
        self.non_durable = false;
        if self.dice.percent(40) {
            self.evidence.saw(Case::ReadOnlyOpening);
            self.store = Some(Store::builder().read_only().open(self.path()).unwrap());
            self.compare_latest();
            let refused = self.store().begin_write().unwrap_err();
            assert!(matches!(refused, Error::ReadOnly { .. }), "{refused:?}");
            self.store = None;
        }
        let access = self.dice.pick(&[VectorAccess::Map, VectorAccess::Copy]);
        self.evidence.saw_if(access == VectorAccess::Copy, Case::OpeningWithCopiedVectors);
        let builder = Store::builder().create(false).vector_access(access);
        self.store = Some(builder.open(self.path()).unwrap());
        if self.dice.percent(60) {
            self.compare_latest();
        }
        self.check_definitions();
    }

    /// Another definition than the stored one is refused.
    fn check_definitions(&self) {
        let transaction = self.store().begin_read().unwrap();
        for shelf in self.committed.shelves.values() {
            let spec = &shelf.spec;
            let other = if spec.metric == Metric::L2 { Metric::Dot } else { Metric::L2 };
            let other_codes = if spec.codes == Codes::None { Codes::SevenBit } else { Codes::None };
            let other_element = if spec.element == Element::I8 { Element::F16 } else { Element::I8 };
            for wrong in [
                CollectionDefinition::new(spec.name, spec.dimension, other),
                CollectionDefinition::new(spec.name, spec.dimension + 1, spec.metric),
                spec.brief_definition().m(spec.m + 1),
                spec.brief_definition().seed(spec.seed ^ 1),
                spec.brief_definition().codes(other_codes),
                spec.brief_definition().element(other_element),
            ] {
                let refused = transaction.open_collection(wrong).unwrap_err();
                assert!(matches!(refused, Error::DefinitionMismatch { .. }), "{refused:?}");
            }
        }
    }
}
