//! What a store does and what it refuses, a property a file: each file opens with its story.
//!
//! One program, since every program of tests is built of the library, redb and all the rest again, and keeps a core waiting for its last
//! test. Tests that need a process of their own have one, beside this directory: where processes are killed, panics are counted or
//! memory is measured, and where a long form has a command of its own.
//!
//! ```text
//! cargo test --test store                 all of it
//! cargo test --test store recall::        one file
//! ```

mod background;
mod backup;
mod bad_input;
mod codes;
mod compact;
mod determinism;
mod elements;
mod filters;
mod journal;
mod layers;
mod lifecycle;
mod locality;
mod migrate;
mod misuse;
mod notes_app;
mod oldest_rust;
mod paging;
mod photos;
mod points;
mod quickstart;
mod radius;
mod recall;
mod sizing;
#[path = "../common/words.rs"]
mod words;
