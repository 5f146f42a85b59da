//! The whole store against ordered maps and brute force.
//!
//! Every store of this kind has had the same bugs reported against it: a vector that is stored but never found, an upsert of a
//! duplicate or the removal of the entry point that breaks the graph, a snapshot that changes under its reader, fewer than
//! k results. They come from interplay (a slot reused while a snapshot lives, a page shared that should have been copied, a
//! tree edge lost to pruning), which examples written by hand do not come by. So this test draws thousands of sequences
//! of a hundred and more operations, performs each on a store and on a reference of `BTreeMap`s, and compares:
//! keys and vectors bit by bit, exact searches with brute force in f64, exhaustive graph searches with exact ones,
//! snapshots with what they showed when they were taken, and everything with [`Store::check`](nestling::Store::check).
//!
//! ```text
//! cargo test --test model                                               what CI runs: DEFAULT_SEQUENCES of them
//! NESTLING_MODEL_SEQUENCES=2000 cargo test --test model                 the full run, before a release
//! NESTLING_MODEL_SEED=0x123 cargo test --test model -- --nocapture      replays one sequence, naming its operations
//! NESTLING_MODEL_BASE=7 cargo test --test model                         other sequences
//! ```
//!
//! A temporary directory in memory (`TMPDIR=/dev/shm`) makes it faster: nothing here is about durability across power cuts.

#[path = "model/compare.rs"]
mod compare;
#[path = "model/dice.rs"]
mod dice;
#[path = "model/evidence.rs"]
mod evidence;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/sequence.rs"]
mod sequence;
#[path = "model/snapshot.rs"]
mod snapshot;
#[path = "model/twin.rs"]
mod twin;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use dice::Dice;
use evidence::Evidence;
use sequence::Operation;

/// Some 30 s on two cores, most of it waiting for the disk; 2,000 take three minutes.
const DEFAULT_SEQUENCES: u64 = 300;
/// With fewer sequences than this, some of the rarer cases may not come up.
const ENOUGH_FOR_ALL_CASES: u64 = 200;

#[test]
fn a_store_behaves_like_ordered_maps_and_brute_force() {
    if let Some(seed) = number("NESTLING_MODEL_SEED") {
        let progress = Progress { aloud: true, ..Progress::default() };
        println!("{}", sequence::run(seed, &progress));
        return;
    }
    let sequences = number("NESTLING_MODEL_SEQUENCES").unwrap_or(DEFAULT_SEQUENCES);
    let base = number("NESTLING_MODEL_BASE").unwrap_or(0);
    let started = Instant::now();
    let evidence = run_all(base, sequences);
    println!("{sequences} sequences in {:.1} s\n{evidence}", started.elapsed().as_secs_f64());
    if sequences >= ENOUGH_FOR_ALL_CASES {
        assert!(evidence.missing().is_empty(), "never seen: {:?}\n{evidence}", evidence.missing());
    }
}

/// Runs the sequences on as many threads as there are cores, until one fails.
fn run_all(base: u64, sequences: u64) -> Evidence {
    let total = Mutex::new(Evidence::default());
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= sequences {
                break;
            }
            let seed = Dice::new(base.rotate_left(32) ^ index).next();
            let progress = Progress::default();
            match catch_unwind(AssertUnwindSafe(|| sequence::run(seed, &progress))) {
                Ok(evidence) => total.lock().unwrap().add(&evidence),
                Err(_) => {
                    failed.store(true, Ordering::Relaxed);
                    progress.tell_failure(seed);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    assert!(!failed.into_inner(), "a sequence failed: its seed is above");
    total.into_inner().unwrap()
}

/// How far a sequence has come.
#[derive(Default)]
pub struct Progress {
    last: Mutex<Option<(usize, Operation)>>,
    aloud: bool,
}

impl Progress {
    /// To be called before the operation is performed.
    pub fn note(&self, index: usize, operation: Operation) {
        *self.last.lock().unwrap() = Some((index, operation));
        if self.aloud {
            println!("{index:4}  {operation:?}");
        }
    }

    fn tell_failure(&self, seed: u64) {
        match *self.last.lock().unwrap() {
            Some((index, operation)) => eprintln!("failed at operation {index}, {operation:?}"),
            None => eprintln!("failed before the first operation"),
        }
        eprintln!("to replay: NESTLING_MODEL_SEED={seed:#x} cargo test --test model -- --nocapture");
    }
}

/// An environment variable as a number, decimal or hexadecimal.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")))
}
