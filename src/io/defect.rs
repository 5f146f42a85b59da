//! Defects for the tests of durability to find. They are not there unless the crate is built with `--cfg nestling_defects`.

/// A way to break a promise, built into the store to prove that the tests would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Readers see a commit before it is durable.
    PublishBeforeCommit,
    /// A slot is written again by the transaction that frees it.
    ReuseInFreeingTransaction,
    /// A slot is written again although a snapshot uses it.
    ReuseUnderSnapshot,
    /// Entries are removed from the journal in one transaction, and their rows reach the tables in the next.
    FoldOutsideOfTransaction,
    /// A poisoned store goes on writing, and redb makes pending commits durable when it is dropped.
    PromoteAfterFailedSync,
}
