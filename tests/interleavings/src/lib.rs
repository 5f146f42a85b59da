//! However threads meet, a snapshot is one commit, and what it names is left alone.
//!
//! A stress meets the interleavings that the scheduler happens to make, on processors that order memory better than they have to. So
//! the file by which readers, writers and what is reclaimed come to terms, `src/transaction/protocol.rs`, is compiled here
//! against [loom], which runs small models through all of the meetings that Rust's memory model allows (with at most so many
//! preemptions of a thread), and sees every access that is not ordered with a conflicting one. It is the store's own file, not a copy.
//!
//! Around it is the least that a store is: slots that are written before a commit names them and freed by the commit that
//! replaces them, a file that goes when it is dropped. What the models show:
//!
//! - a reader that has begun sees one commit, whole, for as long as it likes;
//! - a slot freed by commit n is not written to while a snapshot before n is alive, nor before n is durable;
//! - a dropped file goes neither before its drop is durable nor while a snapshot uses it, and then does go;
//! - publication never goes backwards, whoever writes;
//! - when the last reader has gone, everything that was freed may be used.
//!
//! ```text
//! cargo test --manifest-path tests/interleavings/Cargo.toml                                   what CI runs
//! LOOM_MAX_PREEMPTIONS=4 cargo test --release --manifest-path tests/interleavings/Cargo.toml  the long form
//! ```
//!
//! That they can fail is told in `tests/CAMPAIGNS.md`: faults in the protocol that were built in, and how each showed.
//!
//! [loom]: https://docs.rs/loom
#![cfg(test)]

mod models;
#[expect(dead_code, reason = "the store closes, models do not")]
#[path = "../../../src/transaction/protocol.rs"]
mod protocol;
mod store;
mod sync;
