//! What the tests of durability share: workloads as data, the states that they lead to, a disk that records and fails,
//! a player of workloads, and the oracle that judges what is found on disk afterwards.
//!
//! `tests/crash` cuts the power at any point of a workload; `tests/faults.rs` lets every single operation fail.

#![allow(dead_code, reason = "each of the two test programs uses its part")]

#[path = "../model/dice.rs"]
pub mod dice;
pub mod observer;
pub mod oracle;
pub mod play;
pub mod state;
pub mod workload;

use std::path::Path;

use tempfile::TempDir;

/// A directory in memory where there is one: neither crashes nor faults come from the real disk here.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// An environment variable as a number, decimal or hexadecimal.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.replace('_', "").parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")))
}

/// A panic's message.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}
