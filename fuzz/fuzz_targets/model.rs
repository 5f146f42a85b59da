//! Sequences of operations on a store and on a reference of ordered maps, which must agree: see `tests/model.rs`.
//!
//! Two bytes of input are the seed of one operation.

#![no_main]

#[path = "../../tests/model/compare.rs"]
mod compare;
#[path = "../../tests/model/dice.rs"]
mod dice;
#[path = "../../tests/model/evidence.rs"]
mod evidence;
#[path = "../../tests/model/reference.rs"]
mod reference;
#[path = "../../tests/model/sequence.rs"]
mod sequence;
#[path = "../../tests/model/snapshot.rs"]
mod snapshot;
#[path = "../../tests/model/twin.rs"]
mod twin;

use libfuzzer_sys::fuzz_target;
use sequence::Operation;

/// Longer ones only take longer.
const MOST_OPERATIONS: usize = 48;

fuzz_target!(|bytes: &[u8]| {
    let seeds = bytes.as_chunks().0.iter().take(MOST_OPERATIONS);
    sequence::run_seeds(seeds.map(|seed| u64::from(u16::from_le_bytes(*seed))), &Progress);
});

/// What a sequence tells of its progress to: nobody, unless somebody looks at an input that failed.
pub struct Progress;

impl Progress {
    pub fn note(&self, index: usize, operation: Operation) {
        if std::env::var_os("NESTLING_FUZZ_ALOUD").is_some() {
            eprintln!("{index:4}  {operation:?}");
        }
    }
}
