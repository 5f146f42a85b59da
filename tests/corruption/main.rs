//! Damage is a typed error: never a wrong answer, never a panic of ours, and `check()` finds it.
//!
//! A store is damaged in every way that disks, copies and restores are known to: bytes flipped one at a time in segments, in
//! rows and anywhere in its files, whole pages overwritten, files cut, lost, exchanged or from another day, rows lost and exchanged. After each, everything
//! that can be asked is asked: each call must give exactly the answer that the undamaged store gave, or a typed error.
//!
//! The files are patched in place and restored, and opened read-only, which changes nothing on disk. Rows are changed through redb
//! itself, on a copy of the file in memory, so that redb's own checksums are right and only ours can tell.
//!
//! ```text
//! cargo test --test corruption                                     what CI runs
//! NESTLING_FLIPS=all cargo test --test corruption small_store -- --nocapture
//!                                                                  every byte that a small store has written
//! NESTLING_FLIPS=200000 cargo test --test corruption large_store -- --nocapture
//!                                                                  so many bytes of one of more than 20 MB
//! NESTLING_FLIPS=2000 cargo test --test corruption damaged_pages -- --nocapture
//!                                                                  so many stores, with up to 16 damaged pages each
//! NESTLING_SEED=7                                                  with the above: other bits
//! ```

// Files are patched while the store has them mapped, which Windows refuses.
#![cfg(unix)]

mod anywhere;
mod asking;
mod large;
mod layout;
mod pages;
mod patch;
mod rows;
mod segments;
mod tables;
mod watch;
#[path = "../common/words.rs"]
mod words;
mod writing;
